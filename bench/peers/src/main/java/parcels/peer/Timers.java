package parcels.peer;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * The timers of parcels: a store whose keys are an instant and a parcel_id, in the order of time.
 *
 * <p>Timers are read when a Tick passes, not in a wall-clock or stream-time punctuation. A Tick has the same offset in
 * the log for every run, so every run raises the same alerts, and no punctuator scans the store in between. A Tick reads
 * the keys between the previous Tick and itself. Older keys are deleted and never read again, because a range that began
 * before them would have to skip their tombstones. The store also keeps the hub time, so that a task that is restored on
 * another instance continues from it.
 */
final class Timers {
    private static final Bytes HUB_TIME = Bytes.wrap(new byte[] {0});
    private static final byte[] SET = {1};
    private static final byte[] NO_PARCEL = {};

    private final KeyValueStore<Bytes, byte[]> store;
    private long hubTime;
    // No timer is earlier than this. It saves the range query of a Tick at which nothing is due.
    private long earliest = ClockEvaluator.NEVER;

    Timers(KeyValueStore<Bytes, byte[]> store) {
        this.store = store;
        byte[] stored = store.get(HUB_TIME);
        hubTime = stored == null ? ClockEvaluator.NEVER : ByteBuffer.wrap(stored).getLong();
    }

    /** The largest Tick so far. */
    long hubTime() {
        return hubTime;
    }

    /** An instant before the next Tick, even if that Tick has the same time as the previous one. */
    long nextTick() {
        return hubTime == ClockEvaluator.NEVER ? hubTime : hubTime - 1;
    }

    /** Sets a timer: the first Tick after {@code instant} evaluates the parcel. */
    void set(long instant, byte[] parcelId) {
        store.put(key(instant, parcelId), SET);
        earliest = Math.min(earliest, instant);
    }

    /** Cancels the timer of the parcel for that instant. */
    void cancel(long instant, byte[] parcelId) {
        store.delete(key(instant, parcelId));
    }

    /** Advances the hub time to {@code now}; removes and returns the ids of the parcels that were due before it. */
    List<byte[]> advance(long now) {
        List<byte[]> due = new ArrayList<>();
        if (earliest < now) {
            List<Bytes> expired = new ArrayList<>();
            earliest = ClockEvaluator.OPEN;
            try (KeyValueIterator<Bytes, byte[]> timers = store.range(key(nextTick(), NO_PARCEL), null)) {
                while (timers.hasNext()) {
                    Bytes timer = timers.next().key;
                    byte[] key = timer.get();
                    long instant = ByteBuffer.wrap(key).getLong() ^ Long.MIN_VALUE;
                    if (instant >= now) {
                        earliest = instant;
                        break;
                    }
                    expired.add(timer);
                    due.add(Arrays.copyOfRange(key, Long.BYTES, key.length));
                }
            }
            expired.forEach(store::delete);
        }
        hubTime = now;
        store.put(HUB_TIME, ByteBuffer.allocate(Long.BYTES).putLong(now).array());
        return due;
    }

    /** A key whose byte order is the order of time. */
    private static Bytes key(long instant, byte[] parcelId) {
        byte[] key = ByteBuffer.allocate(Long.BYTES + parcelId.length)
                .putLong(instant ^ Long.MIN_VALUE).put(parcelId).array();
        return Bytes.wrap(key);
    }
}
