package parcels.peer;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Optional;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.util.Utf8;
import parcels.hub.Advice;
import parcels.hub.Kind;
import parcels.hub.Plan;
import parcels.hub.Scan;
import parcels.hub.ScanDetails;
import parcels.hub.TimelineEntry;

/** Reads values of hub.scans: scans and advices, as entries of a timeline. */
final class HubRecords {
    static final int SCAN_ID = 1;
    static final int ADVICE_ID = 2;
    static final int TICK_ID = 3;

    /** The limits of streams/domain/limits.py. */
    private static final int PARCEL_ID_BYTES = 128;
    private static final int EVENT_ID_BYTES = 1024;
    private static final int WORD_BYTES = 255;
    private static final int RECORD_BYTES = 64 * 1024;
    private static final long EARLIEST_MS = -2_208_988_800_000L;
    private static final long LATEST_MS = 7_258_118_400_000L;
    private static final int UTC_OFFSET_MINUTES = 14 * 60;
    private static final byte DELETE = 127;

    private final AvroCodec<Scan> scans = new AvroCodec<>(Scan.class, SCAN_ID);
    private final AvroCodec<Advice> advices = new AvroCodec<>(Advice.class, ADVICE_ID);

    /** One record of one parcel, as an entry of its timeline. */
    record Observation(Utf8 parcelId, TimelineEntry entry) {}

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
            // The exceptions that Avro throws for malformed bytes, including a length beyond its limits.
            return Optional.empty();
        }
    }

    private static Optional<Observation> ofScan(Scan scan) {
        Utf8 eventId = scan.getEventId();
        Utf8 voids = scan.getVoids();
        boolean isVoid = scan.getKind() == Kind.VOID;
        if (!isParcelId(scan.getParcelId()) || !isEventId(eventId) || !inBounds(scan.getEventTime())
                || !inBounds(scan.getRecordTime())
                || Math.abs(scan.getUtcOffsetMinutes()) > UTC_OFFSET_MINUTES
                || !isWord(scan.getSite()) || !isWord(scan.getStation()) || !isWord(scan.getLane())
                || !isWord(scan.getReason()) || !isWord(scan.getContainerId())
                || !isText(scan.getInferredFrom()) || !isText(scan.getDeviceId())
                || isVoid != (voids != null && voids.getByteLength() > 0) || isVoid && !isEventId(voids)) {
            return Optional.empty();
        }
        ScanDetails details = new ScanDetails(scan.getSite(), scan.getStation(), scan.getLane(), scan.getReason());
        TimelineEntry entry = new TimelineEntry();
        entry.setRecordHash(isVoid ? RecordHashes.ofVoid(eventId, scan.getEventTime()) : RecordHashes.of(eventId));
        entry.setKind(scan.getKind());
        entry.setEventTime(scan.getEventTime());
        entry.setUtcOffsetMinutes(scan.getUtcOffsetMinutes());
        entry.setInferred(scan.getInferredFrom() != null);
        entry.setDetails(details);
        entry.setContainerId(scan.getContainerId());
        entry.setVoids(isVoid ? RecordHashes.of(voids) : null);
        return Optional.of(new Observation(scan.getParcelId(), entry));
    }

    private static Optional<Observation> ofAdvice(Advice advice) {
        if (!isParcelId(advice.getParcelId()) || !isEventId(advice.getEventId()) || !inBounds(advice.getEventTime())
                || !inBounds(advice.getRecordTime())
                || !isWord(advice.getService()) || !isWord(advice.getOrigin()) || !isWord(advice.getDestination())
                || !isWord(advice.getPlannedLane()) || !isWord(advice.getOwner())
                || advice.getPromisedAt() != null && !inBounds(advice.getPromisedAt())) {
            return Optional.empty();
        }
        TimelineEntry entry = new TimelineEntry();
        entry.setRecordHash(RecordHashes.of(advice.getEventId()));
        entry.setKind(Kind.ADVISED);
        entry.setEventTime(advice.getEventTime());
        entry.setPlan(new Plan(
                advice.getDirection(), advice.getService(), advice.getOrigin(), advice.getDestination(),
                advice.getPlannedLane(), advice.getOwner()));
        entry.setPromisedAt(advice.getPromisedAt());
        return Optional.of(new Observation(advice.getParcelId(), entry));
    }

    private static boolean isParcelId(Utf8 text) {
        int length = text.getByteLength();
        if (length < 1 || length > PARCEL_ID_BYTES || !isText(text)) {
            return false;
        }
        byte[] bytes = text.getBytes();
        for (int i = 0; i < length; i++) {
            if (bytes[i] >= 0 && bytes[i] < ' ' || bytes[i] == DELETE) {
                return false;
            }
            // U+0080 to U+009F are control characters as well.
            if (bytes[i] == (byte) 0xC2 && i + 1 < length && bytes[i + 1] < (byte) 0xA0) {
                return false;
            }
        }
        return true;
    }

    private static boolean isEventId(Utf8 text) {
        return text.getByteLength() >= 1 && text.getByteLength() <= EVENT_ID_BYTES && isText(text);
    }

    private static boolean isWord(Utf8 text) {
        return text == null || text.getByteLength() <= WORD_BYTES && isText(text);
    }

    static boolean inBounds(long time) {
        return time >= EARLIEST_MS && time < LATEST_MS;
    }

    /** Whether the bytes are valid UTF-8, which Avro does not check. Nearly all texts are ASCII, which is checked first. */
    private static boolean isText(Utf8 text) {
        if (text == null) {
            return true;
        }
        byte[] bytes = text.getBytes();
        for (int i = 0; i < text.getByteLength(); i++) {
            if (bytes[i] < 0) {
                return isUtf8(ByteBuffer.wrap(bytes, 0, text.getByteLength()));
            }
        }
        return true;
    }

    private static boolean isUtf8(ByteBuffer bytes) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(bytes);
            return true;
        } catch (CharacterCodingException malformed) {
            return false;
        }
    }
}
