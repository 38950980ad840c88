package parcels.peer;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Optional;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import parcels.hub.Milestone;
import parcels.hub.ParcelState;
import parcels.peer.HubRecords.Observation;
import parcels.peer.ParcelFold.Change;

/**
 * One task's work: record in, state and milestone out.
 *
 * <p>The store holds the framed bytes of parcel.state, so that a state is encoded once for the store, its changelog and
 * the output.
 */
final class ParcelProcessor implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "parcels";
    static final String STATE_SINK = "state";
    static final String MILESTONE_SINK = "milestones";
    private static final int STATE_ID = 4;
    private static final int MILESTONE_ID = 5;

    private final Progress progress;
    private final boolean outputs;
    private final HubRecords records = new HubRecords();
    private final ParcelFold fold = new ParcelFold();
    private final AvroCodec<ParcelState> states = new AvroCodec<>(ParcelState.class, STATE_ID);
    private final AvroCodec<Milestone> milestones = new AvroCodec<>(Milestone.class, MILESTONE_ID);
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, byte[]> parcels;

    ParcelProcessor(Progress progress, boolean outputs) {
        this.progress = progress;
        this.outputs = outputs;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        this.parcels = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        progress.started();
        if (AvroCodec.schemaId(record.value()) == HubRecords.TICK_ID) {
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
        ParcelState parcel = load(storeKey, observation.parcelId());
        Optional<Change> change = fold.add(parcel, observation.entry());
        if (change.isEmpty()) {
            return;
        }
        byte[] state = states.write(parcel);
        parcels.put(storeKey, state);
        if (outputs) {
            context.forward(new Record<>(key, state, timestamp), STATE_SINK);
            Optional<Milestone> milestone = change.get().milestone();
            if (milestone.isPresent()) {
                context.forward(new Record<>(key, milestones.write(milestone.get()), timestamp), MILESTONE_SINK);
            }
        }
    }

    private ParcelState load(Bytes key, Utf8 parcelId) {
        byte[] stored = parcels.get(key);
        if (stored != null) {
            try {
                return states.read(stored);
            } catch (IOException error) {
                throw new IllegalStateException("the store holds bytes that this program did not write", error);
            }
        }
        ParcelState parcel = new ParcelState();
        parcel.setParcelId(parcelId);
        parcel.setKinds(new ArrayList<>());
        parcel.setScans(new ArrayList<>());
        return parcel;
    }

    private static byte[] bytes(Utf8 text) {
        return Arrays.copyOf(text.getBytes(), text.getByteLength());
    }
}
