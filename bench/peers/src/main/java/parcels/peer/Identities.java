package parcels.peer;

import java.nio.ByteBuffer;
import org.apache.avro.util.Utf8;
import org.apache.commons.codec.digest.MurmurHash3;
import parcels.hub.Identity;

/** 16 bytes that stand for a record: MurmurHash3 x64 128, seed 0, the two halves big-endian. */
final class Identities {
    private Identities() {}

    /** Identity of a scan or an advice, and of the target that a VOID names. */
    static Identity of(Utf8 eventId) {
        return hash(eventId.getBytes(), eventId.getByteLength());
    }

    /** Identity of a VOID: its source may declare the same event_id wrong at several times. */
    static Identity ofVoid(Utf8 eventId, long eventTime) {
        int length = eventId.getByteLength();
        ByteBuffer said = ByteBuffer.allocate(length + 1 + Long.BYTES);
        said.put(eventId.getBytes(), 0, length).put((byte) 0).putLong(eventTime);
        return hash(said.array(), said.position());
    }

    static Identity hash(byte[] bytes, int length) {
        long[] halves = MurmurHash3.hash128x64(bytes, 0, length, 0);
        return new Identity(ByteBuffer.allocate(16).putLong(halves[0]).putLong(halves[1]).array());
    }
}
