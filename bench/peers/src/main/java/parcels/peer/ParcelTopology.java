package parcels.peer;

import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The topology and its settings. They favour throughput: large fetches, large batches, and a cache for most states. */
final class ParcelTopology {
    private static final String SOURCE = "scans";
    private static final String PROCESSOR = "fold";

    private ParcelTopology() {}

    static Topology build(Options options, Progress progress) {
        Topology topology = new Topology();
        topology.addSource(
                SOURCE, new ByteArrayDeserializer(), new ByteArrayDeserializer(), options.prefix() + "hub.scans");
        topology.addProcessor(PROCESSOR, () -> new ParcelProcessor(progress, options.outputs(), options.promises()), SOURCE);
        topology.addStateStore(store(options, ParcelProcessor.STORE).withCachingEnabled(), PROCESSOR);
        if (options.promises()) {
            // No cache, as a timer is written once and read once. With a cache the same log took at least 1/8 more CPU time.
            topology.addStateStore(store(options, ParcelProcessor.TIMERS), PROCESSOR);
        }
        if (options.outputs()) {
            topology.addSink(
                    ParcelProcessor.STATE_SINK, options.prefix() + "parcel.state",
                    new ByteArraySerializer(), new ByteArraySerializer(), PROCESSOR);
            topology.addSink(
                    ParcelProcessor.MILESTONE_SINK, options.prefix() + "parcel.milestones",
                    new ByteArraySerializer(), new ByteArraySerializer(), PROCESSOR);
            if (options.promises()) {
                topology.addSink(
                        ParcelProcessor.ALERT_SINK, options.prefix() + "parcel.alerts",
                        new ByteArraySerializer(), new ByteArraySerializer(), PROCESSOR);
            }
        }
        return topology;
    }

    private static StoreBuilder<KeyValueStore<Bytes, byte[]>> store(Options options, String name) {
        KeyValueBytesStoreSupplier supplier =
                options.memory() ? Stores.inMemoryKeyValueStore(name) : Stores.persistentKeyValueStore(name);
        StoreBuilder<KeyValueStore<Bytes, byte[]>> builder =
                Stores.keyValueStoreBuilder(supplier, Serdes.Bytes(), Serdes.ByteArray());
        return options.outputs() ? builder.withLoggingEnabled(Map.of()) : builder.withLoggingDisabled();
    }

    static Properties settings(Options options) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, applicationId(options));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.bootstrap());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, options.stateDir());
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, options.threads());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, options.commitMillis());
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, (long) options.cacheMegabytes() << 20);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 8 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
        return settings;
    }

    /** The application id, which is also the name of the consumer group. */
    static String applicationId(Options options) {
        return options.prefix() + options.application();
    }
}
