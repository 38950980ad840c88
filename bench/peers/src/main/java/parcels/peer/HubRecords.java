package parcels.peer;

import java.io.IOException;
import java.util.Optional;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.util.Utf8;
import parcels.hub.Advice;
import parcels.hub.Entry;
import parcels.hub.Kind;
import parcels.hub.Plan;
import parcels.hub.Scan;
import parcels.hub.Where;

/** Values of hub.scans: each is a scan, an advice or a tick, or cannot be used. */
final class HubRecords {
    static final int SCAN_ID = 1;
    static final int ADVICE_ID = 2;
    static final int TICK_ID = 3;

    /** Bounds of streams/domain/limits.py. */
    private static final int PARCEL_ID_BYTES = 128;
    private static final int EVENT_ID_BYTES = 1024;
    private static final int WORD_BYTES = 255;
    private static final int RECORD_BYTES = 64 * 1024;
    private static final long EARLIEST_MS = -2_208_988_800_000L;
    private static final long LATEST_MS = 7_258_118_400_000L;
    private static final int UTC_OFFSET_MINUTES = 14 * 60;

    private final AvroCodec<Scan> scans = new AvroCodec<>(Scan.class, SCAN_ID);
    private final AvroCodec<Advice> advices = new AvroCodec<>(Advice.class, ADVICE_ID);

    /** One record about one parcel, as an entry of its timeline. */
    record Observation(Utf8 parcelId, Entry entry) {}

    /** Reads a scan or an advice; empty if the value is unreadable or breaks a bound. */
    Optional<Observation> read(byte[] value) {
        if (value.length > RECORD_BYTES) {
            return Optional.empty();
        }
        try {
            return switch (AvroCodec.schemaId(value)) {
                case SCAN_ID -> ofScan(scans.read(value));
                case ADVICE_ID -> ofAdvice(advices.read(value));
                default -> Optional.empty();
            };
        } catch (IOException | AvroRuntimeException | IndexOutOfBoundsException | NegativeArraySizeException
                | OutOfMemoryError | UnsupportedOperationException unreadable) {
            // What Avro throws at bytes that are no record; a length beyond its limits is among them.
            return Optional.empty();
        }
    }

    private static Optional<Observation> ofScan(Scan scan) {
        Utf8 eventId = scan.getEventId();
        boolean isVoid = scan.getKind() == Kind.VOID;
        if (!known(scan.getParcelId(), eventId, scan.getEventTime(), scan.getRecordTime())
                || Math.abs(scan.getUtcOffsetMinutes()) > UTC_OFFSET_MINUTES
                || !words(scan.getSite(), scan.getStation(), scan.getLane(), scan.getReason(), scan.getContainerId())
                || isVoid != (scan.getVoids() != null)) {
            return Optional.empty();
        }
        Where where = new Where(scan.getSite(), scan.getStation(), scan.getLane(), scan.getReason());
        Entry entry = new Entry();
        entry.setIdentity(isVoid ? Identities.ofVoid(eventId, scan.getEventTime()) : Identities.of(eventId));
        entry.setKind(scan.getKind());
        entry.setEventTime(scan.getEventTime());
        entry.setUtcOffsetMinutes(scan.getUtcOffsetMinutes());
        entry.setInferred(scan.getInferredFrom() != null);
        entry.setAt(where);
        entry.setContainerId(scan.getContainerId());
        entry.setVoids(isVoid ? Identities.of(scan.getVoids()) : null);
        return Optional.of(new Observation(scan.getParcelId(), entry));
    }

    private static Optional<Observation> ofAdvice(Advice advice) {
        if (!known(advice.getParcelId(), advice.getEventId(), advice.getEventTime(), advice.getRecordTime())
                || !words(advice.getService(), advice.getOrigin(), advice.getDestination(), advice.getPlannedLane(),
                        advice.getOwner())
                || advice.getPromisedAt() != null && !inBounds(advice.getPromisedAt())) {
            return Optional.empty();
        }
        Entry entry = new Entry();
        entry.setIdentity(Identities.of(advice.getEventId()));
        entry.setKind(Kind.ADVISED);
        entry.setEventTime(advice.getEventTime());
        entry.setPlan(new Plan(
                advice.getDirection(), advice.getService(), advice.getOrigin(), advice.getDestination(),
                advice.getPlannedLane(), advice.getOwner()));
        entry.setPromisedAt(advice.getPromisedAt());
        return Optional.of(new Observation(advice.getParcelId(), entry));
    }

    private static boolean known(Utf8 parcelId, Utf8 eventId, long eventTime, long recordTime) {
        int parcelBytes = parcelId.getByteLength();
        int eventBytes = eventId.getByteLength();
        if (parcelBytes < 1 || parcelBytes > PARCEL_ID_BYTES || eventBytes < 1 || eventBytes > EVENT_ID_BYTES
                || !inBounds(eventTime) || !inBounds(recordTime)) {
            return false;
        }
        byte[] bytes = parcelId.getBytes();
        for (int i = 0; i < parcelBytes; i++) {
            if (bytes[i] >= 0 && bytes[i] < ' ' || bytes[i] == 127) {
                return false;
            }
        }
        return true;
    }

    private static boolean inBounds(long time) {
        return time >= EARLIEST_MS && time < LATEST_MS;
    }

    private static boolean words(Utf8... words) {
        for (Utf8 word : words) {
            if (word != null && word.getByteLength() > WORD_BYTES) {
                return false;
            }
        }
        return true;
    }
}
