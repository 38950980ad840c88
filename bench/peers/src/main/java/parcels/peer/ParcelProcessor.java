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
 * The processor of one task. It reads records and writes states, milestones and, with promises, alerts.
 *
 * <p>The store holds the framed bytes of parcel.state, so that a state is encoded once for the store, its changelog and
 * the output. With promises these bytes are preceded by the instant of the parcel's timer, so that a change knows which
 * timer to cancel. A Tick that raises no alert sets the next timer and does not write the state. The stored instant is
 * outdated then; at worst the parcel is evaluated once more than necessary.
 */
final class ParcelProcessor implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "parcels";
    static final String TIMERS = "timers";
    static final String STATE_SINK = "state";
    static final String MILESTONE_SINK = "milestones";
    static final String ALERT_SINK = "alerts";
    private static final int STATE_ID = 4;
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
    private final List<Alert> newAlerts = new ArrayList<>();
    // Null without promises.
    private final ClockEvaluator clocks;
    private Timers timers;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, byte[]> parcels;

    ParcelProcessor(Progress progress, boolean outputs, boolean promises) {
        this.progress = progress;
        this.outputs = outputs;
        this.clocks = promises ? new ClockEvaluator(Promise.DEFAULT) : null;
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
        ParcelState parcel = stored == null ? emptyState(observation.parcelId()) : read(stored);
        Optional<Change> change = fold.add(parcel, observation.entry());
        if (change.isEmpty()) {
            return;
        }
        long instant = clocks == null ? ClockEvaluator.OPEN : updateClocks(parcel, key, stored);
        byte[] state = store(storeKey, parcel, instant);
        if (outputs) {
            context.forward(new Record<>(key, state, timestamp), STATE_SINK);
            for (Milestone milestone : change.get().milestones()) {
                context.forward(new Record<>(key, milestones.write(milestone), timestamp), MILESTONE_SINK);
            }
        }
    }

    /** Derives the clocks and moves the timer of the parcel; returns the instant of the timer. */
    private long updateClocks(ParcelState parcel, byte[] key, byte[] stored) {
        long due = clocks.update(parcel, timers.hubTime());
        long instant = due > timers.hubTime() ? due : timers.nextTick();
        long set = stored == null ? ClockEvaluator.OPEN : ByteBuffer.wrap(stored).getLong();
        boolean isPending = set >= timers.nextTick() && set != ClockEvaluator.OPEN;
        if (isPending && set == instant) {
            return instant;
        }
        if (isPending) {
            timers.cancel(set, key);
        }
        if (instant != ClockEvaluator.OPEN) {
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
            boolean changed = clocks.applyTick(parcel, now, newAlerts);
            long instant = clocks.due();
            if (instant != ClockEvaluator.OPEN) {
                timers.set(Math.max(instant, now), key);
            }
            if (changed) {
                byte[] state = store(storeKey, parcel, instant);
                if (outputs) {
                    context.forward(new Record<>(key, state, timestamp), STATE_SINK);
                    for (Alert alert : newAlerts) {
                        context.forward(new Record<>(key, alerts.write(alert), timestamp), ALERT_SINK);
                    }
                }
                newAlerts.clear();
            } else if (again) {
                // The hub time is the same, so the timer that fired would still look pending.
                store(storeKey, parcel, instant);
            }
        }
    }

    /** Writes the state into the store, with promises preceded by the instant; returns the bytes of the state. */
    private byte[] store(Bytes storeKey, ParcelState parcel, long instant) {
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

    private static ParcelState emptyState(Utf8 parcelId) {
        ParcelState parcel = new ParcelState();
        parcel.setParcelId(parcelId);
        parcel.setKinds(new ArrayList<>());
        parcel.setTimeline(new ArrayList<>());
        parcel.setJourneys(1);
        parcel.setClocks(new ArrayList<>());
        parcel.setActiveAlerts(new ArrayList<>());
        return parcel;
    }

    private static byte[] bytes(Utf8 text) {
        return Arrays.copyOf(text.getBytes(), text.getByteLength());
    }
}
