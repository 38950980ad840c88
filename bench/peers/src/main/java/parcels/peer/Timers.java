package parcels.peer;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Which parcels a Tick has to look at: a store whose keys are an instant and a parcel_id, in the order of time.
 *
 * <p>Read when a Tick passes, neither at wall-clock nor at stream-time punctuation: the Tick is in the log at the same
 * place for everybody, so the same alerts come out of every run, and no punctuator looks at the store in between. A Tick
 * reads the keys between the last Tick and itself. Older keys are deleted and never read again: a range that
 * began before them would wade through their tombstones. The store also keeps the hub's time, so that a task that is
 * restored elsewhere goes on where it stood.
 */
final class Timers {
    private static final Bytes HUB_TIME = Bytes.wrap(new byte[] {0});
    private static final byte[] SET = {1};
    private static final byte[] NOBODY = {};

    private final KeyValueStore<Bytes, byte[]> store;
    private long hubTime;
    // The first of the timers is no earlier than this; it spares a Tick with nothing due its range.
    private long earliest = Clocks.NEVER;

    Timers(KeyValueStore<Bytes, byte[]> store) {
        this.store = store;
        byte[] kept = store.get(HUB_TIME);
        hubTime = kept == null ? Clocks.NEVER : ByteBuffer.wrap(kept).getLong();
    }

    /** The largest Tick so far. */
    long hubTime() {
        return hubTime;
    }

    /** The instant that the next Tick is after, though it has the same time as the last one. */
    long nextTick() {
        return hubTime == Clocks.NEVER ? hubTime : hubTime - 1;
    }

    /** The first Tick after {@code instant} has to look at the parcel. */
    void set(long instant, byte[] parcelId) {
        store.put(key(instant, parcelId), SET);
        earliest = Math.min(earliest, instant);
    }

    /** No Tick has to look at the parcel because of that instant. */
    void cancel(long instant, byte[] parcelId) {
        store.delete(key(instant, parcelId));
    }

    /** The hub's time goes on to {@code now}: takes and returns the ids of the parcels that were due before it. */
    List<byte[]> advance(long now) {
        List<byte[]> due = new ArrayList<>();
        if (earliest < now) {
            List<Bytes> gone = new ArrayList<>();
            earliest = Clocks.OPEN;
            try (KeyValueIterator<Bytes, byte[]> timers = store.range(key(nextTick(), NOBODY), null)) {
                while (timers.hasNext()) {
                    Bytes timer = timers.next().key;
                    byte[] key = timer.get();
                    long instant = ByteBuffer.wrap(key).getLong() ^ Long.MIN_VALUE;
                    if (instant >= now) {
                        earliest = instant;
                        break;
                    }
                    gone.add(timer);
                    due.add(Arrays.copyOfRange(key, Long.BYTES, key.length));
                }
            }
            gone.forEach(store::delete);
        }
        hubTime = now;
        store.put(HUB_TIME, ByteBuffer.allocate(Long.BYTES).putLong(now).array());
        return due;
    }

    /** Bytes that stand in the order of time. */
    private static Bytes key(long instant, byte[] parcelId) {
        byte[] key = ByteBuffer.allocate(Long.BYTES + parcelId.length)
                .putLong(instant ^ Long.MIN_VALUE).put(parcelId).array();
        return Bytes.wrap(key);
    }
}
