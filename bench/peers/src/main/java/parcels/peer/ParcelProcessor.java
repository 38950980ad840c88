package parcels.peer;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import parcels.hub.Alert;
import parcels.hub.Milestone;
import parcels.hub.ParcelState;
import parcels.hub.Tick;
import parcels.peer.HubRecords.Observation;
import parcels.peer.ParcelFold.Change;

/**
 * One task's work: record in, state, milestone and, where promises are watched, alerts out.
 *
 * <p>The store holds the framed bytes of parcel.state, so that a state is encoded once for the store, its changelog and
 * the output. With promises the instant for which the parcel's timer was set stands before them, so that a change knows
 * which timer to take away. A Tick that finds nothing to tell sets the next timer and leaves the state as it is; that
 * timer is not known then, and at worst looks at the parcel once too often.
 */
final class ParcelProcessor implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "parcels";
    static final String TIMERS = "timers";
    static final String STATE_SINK = "state";
    static final String MILESTONE_SINK = "milestones";
    static final String ALERT_SINK = "alerts";
    private static final int STATE_ID = 8;
    private static final int MILESTONE_ID = 5;
    private static final int ALERT_ID = 7;

    private final Progress progress;
    private final boolean outputs;
    private final HubRecords records = new HubRecords();
    private final ParcelFold fold = new ParcelFold();
    private final AvroCodec<ParcelState> states = new AvroCodec<>(ParcelState.class, STATE_ID);
    private final AvroCodec<Milestone> milestones = new AvroCodec<>(Milestone.class, MILESTONE_ID);
    private final AvroCodec<Tick> ticks = new AvroCodec<>(Tick.class, HubRecords.TICK_ID);
    private final AvroCodec<Alert> alerts = new AvroCodec<>(Alert.class, ALERT_ID);
    private final List<Alert> said = new ArrayList<>();
    // Null when no promises are watched.
    private final Clocks clocks;
    private Timers timers;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, byte[]> parcels;

    ParcelProcessor(Progress progress, boolean outputs, boolean promises) {
        this.progress = progress;
        this.outputs = outputs;
        this.clocks = promises ? new Clocks(Promise.DEFAULT) : null;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        this.parcels = context.getStateStore(STORE);
        if (clocks != null) {
            this.timers = new Timers(context.getStateStore(TIMERS));
        }
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        progress.started();
        if (AvroCodec.schemaId(record.value()) == HubRecords.TICK_ID) {
            if (clocks != null) {
                tick(record.value(), record.timestamp());
            }
            progress.ticked();
            return;
        }
        Optional<Observation> read = record.value() == null ? Optional.empty() : records.read(record.value());
        if (read.isEmpty()) {
            progress.unreadable();
            return;
        }
        fold(read.get(), record.timestamp());
        progress.folded();
    }

    private void fold(Observation observation, long timestamp) {
        byte[] key = bytes(observation.parcelId());
        Bytes storeKey = Bytes.wrap(key);
        byte[] stored = parcels.get(storeKey);
        ParcelState parcel = stored == null ? unknown(observation.parcelId()) : read(stored);
        Optional<Change> change = fold.add(parcel, observation.entry());
        if (change.isEmpty()) {
            return;
        }
        long instant = clocks == null ? Clocks.OPEN : follow(parcel, key, stored);
        byte[] state = keep(storeKey, parcel, instant);
        if (outputs) {
            context.forward(new Record<>(key, state, timestamp), STATE_SINK);
            for (Milestone milestone : change.get().milestones()) {
                context.forward(new Record<>(key, milestones.write(milestone), timestamp), MILESTONE_SINK);
            }
        }
    }

    /** Derives the clocks and moves the parcel's timer; returns what it is set for. */
    private long follow(ParcelState parcel, byte[] key, byte[] stored) {
        long due = clocks.follow(parcel, timers.hubTime());
        long instant = due > timers.hubTime() ? due : timers.nextTick();
        long set = stored == null ? Clocks.OPEN : ByteBuffer.wrap(stored).getLong();
        boolean waits = set >= timers.nextTick() && set != Clocks.OPEN;
        if (waits && set == instant) {
            return instant;
        }
        if (waits) {
            timers.cancel(set, key);
        }
        if (instant != Clocks.OPEN) {
            timers.set(instant, key);
        }
        return instant;
    }

    private void tick(byte[] value, long timestamp) {
        long now;
        try {
            now = ticks.read(value).getHubTime();
        } catch (IOException | AvroRuntimeException unreadable) {
            return;
        }
        if (now < timers.hubTime() || !HubRecords.inBounds(now)) {
            return;
        }
        boolean again = now == timers.hubTime();
        for (byte[] key : timers.advance(now)) {
            Bytes storeKey = Bytes.wrap(key);
            ParcelState parcel = read(parcels.get(storeKey));
            boolean changed = clocks.tell(parcel, now, said);
            long instant = clocks.due();
            if (instant != Clocks.OPEN) {
                timers.set(Math.max(instant, now), key);
            }
            if (changed) {
                byte[] state = keep(storeKey, parcel, instant);
                if (outputs) {
                    context.forward(new Record<>(key, state, timestamp), STATE_SINK);
                    for (Alert alert : said) {
                        context.forward(new Record<>(key, alerts.write(alert), timestamp), ALERT_SINK);
                    }
                }
                said.clear();
            } else if (again) {
                // The timer that it took would seem to be set still: the time is the same.
                keep(storeKey, parcel, instant);
            }
        }
    }

    /** Puts the state into the store, with promises behind the instant; returns its bytes. */
    private byte[] keep(Bytes storeKey, ParcelState parcel, long instant) {
        byte[] state = states.write(parcel);
        parcels.put(storeKey, clocks == null ? state
                : ByteBuffer.allocate(Long.BYTES + state.length).putLong(instant).put(state).array());
        return state;
    }

    private ParcelState read(byte[] stored) {
        try {
            return states.read(stored, clocks == null ? 0 : Long.BYTES);
        } catch (IOException error) {
            throw new IllegalStateException("the store holds bytes that this program did not write", error);
        }
    }

    private static ParcelState unknown(Utf8 parcelId) {
        ParcelState parcel = new ParcelState();
        parcel.setParcelId(parcelId);
        parcel.setKinds(new ArrayList<>());
        parcel.setScans(new ArrayList<>());
        parcel.setJourneys(1);
        parcel.setClocks(new ArrayList<>());
        parcel.setAlerts(new ArrayList<>());
        return parcel;
    }

    private static byte[] bytes(Utf8 text) {
        return Arrays.copyOf(text.getBytes(), text.getByteLength());
    }
}
