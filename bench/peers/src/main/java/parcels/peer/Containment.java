package parcels.peer;

import java.util.HashSet;
import java.util.Objects;
import java.util.Set;
import org.apache.avro.util.Utf8;
import parcels.hub.Kind;
import parcels.hub.TimelineEntry;

/**
 * The container that a parcel is in, derived from its records in the order of the timeline.
 *
 * <p>The rules are those of streams/domain/containment.py.
 */
final class Containment {
    private Utf8 container;
    /** Site of that container; null if it is not known. */
    private Utf8 site;
    /** Whether a record decides what the parcel is in. */
    private boolean known;
    /** Whether the parcel was packed by a scan of its own. */
    private boolean byOwn;
    /** Containers whose last declaration about the parcel is that it was put in. */
    private final Set<Utf8> declared = new HashSet<>();

    /** Whether the record counts only while the parcel is in its container. */
    static boolean isFromContainer(TimelineEntry entry) {
        Kind kind = entry.getKind();
        return entry.getInferred() && entry.getContainerId() != null && kind != Kind.PACKED && kind != Kind.VOID;
    }

    /** Whether the record counts according to the records before it. */
    boolean counts(TimelineEntry entry) {
        if (!isFromContainer(entry) || !known) {
            return true;
        }
        Utf8 named = entry.getContainerId();
        return Objects.equals(container, named) && (!byOwn || declared.contains(named) || namesTheParcel(entry));
    }

    private static boolean namesTheParcel(TimelineEntry entry) {
        Utf8 reason = entry.getDetails().getReason();
        return entry.getKind() == Kind.UNPACKED && (reason == null || !reason.toString().equals("EMPTIED"));
    }

    /** Takes in the declaration of a container about the parcel, whether or not it counts. */
    void applyDeclaration(TimelineEntry entry) {
        Utf8 named = entry.getContainerId();
        if (!entry.getInferred() || named == null) {
            return;
        }
        if (entry.getKind() == Kind.PACKED) {
            declared.add(named);
        } else if (entry.getKind() == Kind.UNPACKED) {
            declared.remove(named);
        }
    }

    /** Takes in a voided record. A voided packing shows that the parcel was not packed there. */
    void applyVoided(TimelineEntry entry) {
        known |= entry.getKind() == Kind.PACKED && entry.getContainerId() != null;
    }

    /** Takes in a scan that counts; returns whether it contradicts the container that the parcel was in. */
    boolean apply(TimelineEntry entry) {
        Kind kind = entry.getKind();
        Utf8 named = entry.getContainerId();
        if (Kinds.UNCONTAINED.contains(kind)) {
            known = true;
            container = null;
            site = null;
            return false;
        }
        if (kind == Kind.PACKED && named != null) {
            known = true;
            container = named;
            byOwn = !entry.getInferred();
            site = entry.getDetails().getSite();
            return false;
        }
        if (Kinds.NO_LOCATION.contains(kind)) {
            return false;
        }
        if (named != null && named.equals(container)) {
            site = kind == Kind.DISPATCHED ? null : entry.getDetails().getSite();
            return false;
        }
        if (!entry.getInferred() && site != null && !site.equals(entry.getDetails().getSite())) {
            container = null;
            site = null;
            return true;
        }
        return false;
    }
}
