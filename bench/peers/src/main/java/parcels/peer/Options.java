package parcels.peer;

import java.util.HashMap;
import java.util.Map;

/**
 * The options of the command line.
 *
 * @param application application.id after the prefix, also the name of the consumer group; a new name starts at the
 *     beginning of the log
 * @param records stop after this many records of hub.scans and report; 0 runs until SIGTERM
 * @param memory keep the store in memory instead of RocksDB
 * @param outputs write parcel.state, parcel.milestones, parcel.alerts and the stores' changelogs
 * @param promises evaluate {@link Promise#DEFAULT}
 */
record Options(
        String bootstrap, String prefix, String application, String stateDir, int threads, int commitMillis,
        int cacheMegabytes, long records, boolean memory, boolean outputs, boolean promises) {
    static final String USAGE = """
            usage: --bootstrap HOST:PORT --prefix PREFIX --state-dir DIR [--application NAME] [--records N]
                   [--threads 2] [--store rocks|memory] [--commit-ms 100] [--cache-mb 256] [--no-output]
                   [--promises]""";

    static Options parse(String[] arguments) {
        Map<String, String> given = new HashMap<>();
        boolean outputs = true;
        boolean promises = false;
        for (int i = 0; i < arguments.length; i++) {
            if (arguments[i].equals("--no-output")) {
                outputs = false;
            } else if (arguments[i].equals("--promises")) {
                promises = true;
            } else if (arguments[i].startsWith("--") && i + 1 < arguments.length) {
                given.put(arguments[i].substring(2), arguments[++i]);
            } else {
                throw new IllegalArgumentException("cannot read " + arguments[i]);
            }
        }
        String store = remove(given, "store", "rocks");
        if (!store.equals("rocks") && !store.equals("memory")) {
            throw new IllegalArgumentException("--store is rocks or memory, not " + store);
        }
        Options options = new Options(
                remove(given, "bootstrap", null), remove(given, "prefix", ""), remove(given, "application", "peer"),
                remove(given, "state-dir", null),
                Integer.parseInt(remove(given, "threads", "2")), Integer.parseInt(remove(given, "commit-ms", "100")),
                Integer.parseInt(remove(given, "cache-mb", "256")), Long.parseLong(remove(given, "records", "0")),
                store.equals("memory"), outputs, promises);
        if (!given.isEmpty()) {
            throw new IllegalArgumentException("unknown: --" + String.join(", --", given.keySet()));
        }
        return options;
    }

    private static String remove(Map<String, String> given, String name, String otherwise) {
        String value = given.remove(name);
        if (value == null && otherwise == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value == null ? otherwise : value;
    }
}
