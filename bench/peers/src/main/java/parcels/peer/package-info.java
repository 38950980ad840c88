/**
 * The parcel stage in Kafka Streams: the same work as this project's worker, to be measured beside it.
 *
 * <p>Reads hub.scans, keeps the state of every parcel in a store, writes parcel.state and parcel.milestones. The rules
 * are those of schemas/ParcelState.avsc and schemas/Milestone.avsc; after the same input both programs must hold the
 * same states, which the harness checks.
 */
package parcels.peer;
