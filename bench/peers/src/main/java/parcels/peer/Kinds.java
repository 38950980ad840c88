package parcels.peer;

import java.util.EnumSet;
import java.util.Set;
import parcels.hub.Kind;

/** Sets of kinds, as in streams/domain/kinds.py. */
final class Kinds {
    /** Kinds that change the stage of the parcel; the latest of them is its stage. */
    static final Set<Kind> MOVES = EnumSet.of(
            Kind.ADVISED, Kind.ARRIVED, Kind.UNLOADED, Kind.UNPACKED, Kind.INDUCTED, Kind.SORTED, Kind.PACKED,
            Kind.LOADED, Kind.DISPATCHED, Kind.DELIVERED, Kind.RETURNED, Kind.LOST);

    static final Set<Kind> CUSTOMS = EnumSet.of(
            Kind.CUSTOMS_PRESENTED, Kind.CUSTOMS_HELD, Kind.CUSTOMS_RELEASED, Kind.CUSTOMS_REFUSED);

    /** Kinds whose first time is a milestone. */
    static final Set<Kind> MILESTONES = union(MOVES, CUSTOMS);

    /** Kinds that do not locate the parcel. */
    static final Set<Kind> NO_LOCATION = union(CUSTOMS, EnumSet.of(Kind.OTHER, Kind.ADVISED, Kind.LOST, Kind.VOID));

    /** Kinds that are done to a parcel outside of any container. */
    static final Set<Kind> UNCONTAINED = EnumSet.of(
            Kind.UNPACKED, Kind.INDUCTED, Kind.SORTED, Kind.NO_READ, Kind.RECIRCULATED, Kind.DELIVERED, Kind.RETURNED);

    /** Kinds whose lane is the parcel's lane. */
    static final Set<Kind> LANE = EnumSet.of(Kind.SORTED, Kind.LOADED);

    private Kinds() {}

    private static Set<Kind> union(Set<Kind> some, Set<Kind> others) {
        EnumSet<Kind> all = EnumSet.copyOf(some);
        all.addAll(others);
        return all;
    }
}
