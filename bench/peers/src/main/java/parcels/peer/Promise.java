package parcels.peer;

import java.time.Duration;
import java.util.EnumSet;
import java.util.List;
import parcels.hub.Direction;
import parcels.hub.Kind;

/**
 * One promise: the time between two scans of a parcel does not exceed a limit.
 *
 * @param direction direction of the parcels to which it applies; null for all parcels
 * @param renews kinds that restart the clock while it runs, and do not start it otherwise
 * @param restarts whether every scan of {@code starts} restarts the clock
 * @param riskParts ten-thousandths of the limit after which the promise is at risk; 0 for never
 * @param pauses whether a customs hold with a reason pauses the clock until the release
 */
record Promise(
        String name, Direction direction, EnumSet<Kind> starts, EnumSet<Kind> stops, EnumSet<Kind> renews,
        boolean restarts, long limitMillis, int riskParts, boolean pauses) {
    private static final int AT_80_PERCENT = 8_000;
    private static final EnumSet<Kind> NO_KINDS = EnumSet.noneOf(Kind.class);

    /** The promises of streams/domain/promises.yaml. The harness compares the outputs of both programs. */
    static final List<Promise> DEFAULT = List.of(
            new Promise(
                    "unload", null, EnumSet.of(Kind.ARRIVED),
                    EnumSet.of(Kind.UNLOADED, Kind.UNPACKED, Kind.INDUCTED, Kind.SORTED),
                    NO_KINDS, false, hours(3), AT_80_PERCENT, false),
            new Promise(
                    "sort", null, EnumSet.of(Kind.UNLOADED),
                    EnumSet.of(Kind.SORTED, Kind.LOADED, Kind.DISPATCHED),
                    NO_KINDS, false, hours(6), AT_80_PERCENT, false),
            new Promise(
                    "customs", null, EnumSet.of(Kind.CUSTOMS_PRESENTED),
                    EnumSet.of(Kind.CUSTOMS_RELEASED, Kind.CUSTOMS_REFUSED),
                    NO_KINDS, false, hours(24), AT_80_PERCENT, false),
            new Promise(
                    "dispatch", null, EnumSet.of(Kind.UNLOADED),
                    EnumSet.of(Kind.DISPATCHED, Kind.DELIVERED, Kind.RETURNED),
                    NO_KINDS, false, hours(24), AT_80_PERCENT, true),
            new Promise(
                    "door", Direction.IMPORT, EnumSet.of(Kind.ARRIVED), EnumSet.of(Kind.DELIVERED),
                    NO_KINDS, false, hours(72), AT_80_PERCENT, true),
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
