/**
 * The parcel stage in Kafka Streams: the same work as this project's worker, to be measured beside it.
 *
 * <p>Reads hub.scans, keeps the state of every parcel in a store, writes parcel.state and parcel.milestones; with
 * --promises it also watches the promises of streams/domain/promises.yaml, with timers in a store of their own, and
 * writes parcel.alerts. The rules are those of schemas/ParcelState.avsc, schemas/Milestone.avsc and schemas/Alert.avsc;
 * after the same input both programs must hold the same states and have told the same alerts, which the harness checks.
 * Left out, so that it does less than the worker: anomalies, retirement, hub.throughput and the dead letters.
 */
package parcels.peer;
