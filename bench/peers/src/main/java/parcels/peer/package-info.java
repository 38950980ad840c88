/**
 * The parcel processor in Kafka Streams: the same work as this project's worker, for a comparison by the benchmark.
 *
 * <p>It reads hub.scans, keeps the state of every parcel in a store, and writes parcel.state and parcel.milestones. With
 * --promises it also evaluates the promises of streams/domain/promises.yaml, with timers in a store of their own, and
 * writes parcel.alerts. The formats are those of schemas/ParcelState.avsc, schemas/Milestone.avsc and
 * schemas/Alert.avsc. After the same input both programs must hold the same states and must have raised the same
 * alerts; the harness checks this. Anomalies, retirement, hub.throughput and dead letters are left out, so this program
 * does less than the worker.
 */
package parcels.peer;
