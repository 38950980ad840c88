package parcels.peer;

import java.util.HashSet;
import java.util.Objects;
import java.util.Set;
import org.apache.avro.util.Utf8;
import parcels.hub.Entry;
import parcels.hub.Kind;

/** What a parcel is in while its records are told in their order; the rules are those of streams/domain/containment.py. */
final class Inside {
    private Utf8 container;
    /** Of what it is in; null where that is not known. */
    private Utf8 site;
    private boolean known;
    /** Is it in there by a packing of its own? */
    private boolean byOwn;
    /** Containers of which the last word about the parcel is that it was put in. */
    private final Set<Utf8> declared = new HashSet<>();

    /** Does the record count only while the parcel is in its container? */
    static boolean isFromContainer(Entry entry) {
        Kind kind = entry.getKind();
        return entry.getInferred() && entry.getContainerId() != null && kind != Kind.PACKED && kind != Kind.VOID;
    }

    boolean counts(Entry entry) {
        if (!isFromContainer(entry) || !known) {
            return true;
        }
        Utf8 named = entry.getContainerId();
        return Objects.equals(container, named) && (!byOwn || declared.contains(named) || namesTheParcel(entry));
    }

    private static boolean namesTheParcel(Entry entry) {
        Utf8 reason = entry.getAt().getReason();
        return entry.getKind() == Kind.UNPACKED && (reason == null || !reason.toString().equals("EMPTIED"));
    }

    /** What a container says of the parcel, whether or not it counts. */
    void hear(Entry entry) {
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

    /** A packing that was declared wrong: it is known that the parcel was not packed there. */
    void tellVoided(Entry entry) {
        known |= entry.getKind() == Kind.PACKED && entry.getContainerId() != null;
    }

    /** A scan that counts; returns whether it contradicts what the parcel was said to be in. */
    boolean tell(Entry entry) {
        Kind kind = entry.getKind();
        Utf8 named = entry.getContainerId();
        if (Kinds.LOOSE.contains(kind)) {
            known = true;
            container = null;
            site = null;
            return false;
        }
        if (kind == Kind.PACKED && named != null) {
            known = true;
            container = named;
            byOwn = !entry.getInferred();
            site = entry.getAt().getSite();
            return false;
        }
        if (Kinds.OFFICE.contains(kind)) {
            return false;
        }
        if (named != null && named.equals(container)) {
            site = kind == Kind.DISPATCHED ? null : entry.getAt().getSite();
            return false;
        }
        if (!entry.getInferred() && site != null && !site.equals(entry.getAt().getSite())) {
            container = null;
            site = null;
            return true;
        }
        return false;
    }
}
