package parcels.peer;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;

/** The progress of all tasks; shared by the stream threads. */
final class Progress {
    private final long goal;
    private final CountDownLatch goalReached = new CountDownLatch(1);
    private final AtomicLong records = new AtomicLong();
    private final LongAdder folded = new LongAdder();
    private final LongAdder ticks = new LongAdder();
    private final LongAdder unreadable = new LongAdder();
    private volatile long startedNanos;

    /** @param goal number of records after which the run ends, including ticks and unreadable records */
    Progress(long goal) {
        this.goal = goal;
    }

    /** Notes that a record arrived; the first call starts the time measurement. */
    void started() {
        if (startedNanos == 0) {
            startedNanos = System.nanoTime();
        }
    }

    void folded() {
        folded.increment();
        count();
    }

    void ticked() {
        ticks.increment();
        count();
    }

    void unreadable() {
        unreadable.increment();
        count();
    }

    void awaitGoal() throws InterruptedException {
        goalReached.await();
    }

    double secondsSinceStart() {
        return (System.nanoTime() - startedNanos) / 1e9;
    }

    /** The counts, as members of a JSON object. */
    String counts() {
        return "\"records\":%d,\"folded\":%d,\"ticks\":%d,\"unreadable\":%d"
                .formatted(records.get(), folded.sum(), ticks.sum(), unreadable.sum());
    }

    private void count() {
        if (records.incrementAndGet() == goal) {
            goalReached.countDown();
        }
    }
}
