package parcels.peer;

import java.nio.ByteBuffer;
import org.apache.avro.util.Utf8;
import org.apache.commons.codec.digest.MurmurHash3;
import parcels.hub.RecordHash;

/** Computes record hashes: MurmurHash3 x64 128, seed 0, both halves big-endian. */
final class RecordHashes {
    private RecordHashes() {}

    /** Hash of a scan or an advice, and of the record that a VOID names. */
    static RecordHash of(Utf8 eventId) {
        return hash(eventId.getBytes(), eventId.getByteLength());
    }

    /** Hash of a VOID. It includes the time, as a source may void the same event_id at several times. */
    static RecordHash ofVoid(Utf8 eventId, long eventTime) {
        int length = eventId.getByteLength();
        ByteBuffer input = ByteBuffer.allocate(length + 1 + Long.BYTES);
        input.put(eventId.getBytes(), 0, length).put((byte) 0).putLong(eventTime);
        return hash(input.array(), input.position());
    }

    static RecordHash hash(byte[] bytes, int length) {
        long[] halves = MurmurHash3.hash128x64(bytes, 0, length, 0);
        return new RecordHash(ByteBuffer.allocate(16).putLong(halves[0]).putLong(halves[1]).array());
    }
}
