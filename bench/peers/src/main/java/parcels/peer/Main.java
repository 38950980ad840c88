package parcels.peer;

import java.lang.management.ManagementFactory;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** Runs the topology. With --records N it prints one line of JSON after all N records are committed, and exits. */
public final class Main {
    private static final int WRONG_USAGE = 2;

    private Main() {}

    /** See {@link Options#USAGE}. */
    public static void main(String[] arguments) throws Exception {
        Options options;
        try {
            options = Options.parse(arguments);
        } catch (IllegalArgumentException error) {
            System.err.println(error.getMessage() + "\n" + Options.USAGE);
            System.exit(WRONG_USAGE);
            return;
        }
        Progress progress = new Progress(options.records());
        Properties settings = ParcelTopology.settings(options);
        KafkaStreams streams = new KafkaStreams(ParcelTopology.build(options, progress), settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                System.err.println("running");
            } else if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        progress.awaitGoal();
        double foldedSeconds = progress.secondsSinceStart();
        awaitCommit(options, settings);
        double seconds = progress.secondsSinceStart();
        double cpuSeconds = cpuSeconds();
        System.out.printf(
                Locale.ROOT,
                "{%s,\"seconds\":%.3f,\"folded_seconds\":%.3f,\"cpu_seconds\":%.3f,\"rate\":%.0f}%n",
                progress.counts(), seconds, foldedSeconds, cpuSeconds, options.records() / seconds);
        System.exit(0);
    }

    /** Waits until the committed offsets of the group are the ends of hub.scans: the last transaction is committed. */
    private static void awaitCommit(Options options, Properties settings) throws Exception {
        Properties client = new Properties();
        client.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.bootstrap());
        String group = settings.getProperty(StreamsConfig.APPLICATION_ID_CONFIG);
        try (Admin admin = Admin.create(client)) {
            Map<TopicPartition, Long> ends = ends(admin, options.prefix() + "hub.scans");
            while (!committed(admin, group).entrySet().containsAll(ends.entrySet())) {
                Thread.sleep(5);
            }
        }
    }

    private static Map<TopicPartition, Long> ends(Admin admin, String topic)
            throws InterruptedException, ExecutionException {
        Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
        admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()
                .forEach(found -> latest.put(new TopicPartition(topic, found.partition()), OffsetSpec.latest()));
        Map<TopicPartition, Long> ends = new HashMap<>();
        admin.listOffsets(latest).all().get().forEach((partition, end) -> {
            if (end.offset() > 0) {
                ends.put(partition, end.offset());
            }
        });
        return ends;
    }

    private static Map<TopicPartition, Long> committed(Admin admin, String group)
            throws InterruptedException, ExecutionException {
        Map<TopicPartition, Long> offsets = new HashMap<>();
        for (Map.Entry<TopicPartition, OffsetAndMetadata> entry :
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().entrySet()) {
            if (entry.getValue() != null) {
                offsets.put(entry.getKey(), entry.getValue().offset());
            }
        }
        return offsets;
    }

    private static double cpuSeconds() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }
}
