package parcels.peer;

import java.time.Duration;
import java.util.EnumSet;
import java.util.List;
import parcels.hub.Direction;
import parcels.hub.Kind;

/**
 * One promise: between two scans of a parcel passes no more than so much time.
 *
 * @param direction of the parcels that it is made for; null: all of them
 * @param renews kinds that start the clock anew while it runs, and do not start it else
 * @param restarts every scan of {@code starts} starts the clock anew
 * @param riskParts ten thousandths of the limit after which it is at risk; 0: never
 * @param pauses a customs hold with a reason stops the clock until the release
 */
record Promise(
        String name, Direction direction, EnumSet<Kind> starts, EnumSet<Kind> stops, EnumSet<Kind> renews,
        boolean restarts, long limitMillis, int riskParts, boolean pauses) {
    private static final int MOST = 8_000;
    private static final EnumSet<Kind> NOTHING = EnumSet.noneOf(Kind.class);

    /** The same as streams/domain/promises.yaml; the harness compares what both programs make of them. */
    static final List<Promise> DEFAULT = List.of(
            new Promise(
                    "unload", null, EnumSet.of(Kind.ARRIVED),
                    EnumSet.of(Kind.UNLOADED, Kind.UNPACKED, Kind.INDUCTED, Kind.SORTED),
                    NOTHING, false, hours(3), MOST, false),
            new Promise(
                    "sort", null, EnumSet.of(Kind.UNLOADED),
                    EnumSet.of(Kind.SORTED, Kind.LOADED, Kind.DISPATCHED),
                    NOTHING, false, hours(6), MOST, false),
            new Promise(
                    "customs", null, EnumSet.of(Kind.CUSTOMS_PRESENTED),
                    EnumSet.of(Kind.CUSTOMS_RELEASED, Kind.CUSTOMS_REFUSED),
                    NOTHING, false, hours(24), MOST, false),
            new Promise(
                    "dispatch", null, EnumSet.of(Kind.UNLOADED),
                    EnumSet.of(Kind.DISPATCHED, Kind.DELIVERED, Kind.RETURNED),
                    NOTHING, false, hours(24), MOST, true),
            new Promise(
                    "door", Direction.IMPORT, EnumSet.of(Kind.ARRIVED), EnumSet.of(Kind.DELIVERED),
                    NOTHING, false, hours(72), MOST, true),
            new Promise(
                    "silence", null,
                    EnumSet.of(
                            Kind.ARRIVED, Kind.UNLOADED, Kind.INDUCTED, Kind.SORTED, Kind.NO_READ, Kind.RECIRCULATED,
                            Kind.LOADED),
                    EnumSet.of(Kind.DISPATCHED, Kind.DELIVERED, Kind.RETURNED, Kind.LOST),
                    EnumSet.of(Kind.UNPACKED, Kind.PACKED), true, hours(18), 0, true));

    private static long hours(int hours) {
        return Duration.ofHours(hours).toMillis();
    }
}
