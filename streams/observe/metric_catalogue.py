"""Catalogue of all metrics that a worker exports. Tests check the reference page, rules and dashboard against it."""

from typing import Final

from streams.domain.kinds import DIRECTIONS, IN_HUB_STAGES, KINDS
from streams.domain.promise_clocks import ALERT_TYPES
from streams.domain.promises import ANOMALIES
from streams.domain.reject_reasons import RejectReason
from streams.observe.metric_definition import OTHER, Label, Metric, MetricType

SITE: Final = Label("site", None, "Site from the hub description; `none` where the scan names no site.", OTHER)
# Kinds and directions have their own value for `other`.
KIND: Final = Label("kind", KINDS, "Kind of the scan or container event.", "OTHER")
DIRECTION: Final = Label(
    "direction", DIRECTIONS, "Direction of the parcel through the hub; UNKNOWN until its advice arrives.", "UNKNOWN"
)
STAGE: Final = Label(
    "stage",
    tuple(kind for number, kind in enumerate(KINDS) if IN_HUB_STAGES >> number & 1),
    "Stage of a parcel that is in the hub.",
)
REASON: Final = Label(
    "reason",
    tuple(reason.name for reason in RejectReason if reason is not RejectReason.OK),
    "Reject reason of the dead letter.",
)
PHASE: Final = Label(
    "phase",
    ("extract", "decode", "fold", "encode", "send", "commit"),
    "Phase of a batch, in this order: extract payloads from messages, decode them to columns, fold columns into "
    "states, encode states to payloads, send payloads to the producer, wait for the commit.",
)
OUTCOME: Final = Label(
    "outcome",
    ("committed", "resent", "superseded"),
    "Result according to the position record: the batch was committed; it was not, and was sent again; or another "
    "worker had written the partition meanwhile.",
)
ASSIGNMENT_CHANGE: Final = Label(
    "change",
    ("assigned", "revoked", "lost"),
    "Partitions were assigned to this worker, were revoked from it in order, or had already gone to another worker.",
)
MEMBERSHIP_LOSS_REASON: Final = Label(
    "reason",
    ("fenced_instance_id", "unreleased_instance_id", "unknown_member_id", "timeout"),
    "Another worker joined with the same group.instance.id; a predecessor still holds that id until its session ends; "
    "the group no longer knows this member; or the group did not answer.",
)
CONTAINMENT_CHANGE: Final = Label(
    "change",
    ("detected", "retracted"),
    "A double containment was detected, 15 minutes after the last event of the container; or it was retracted, because "
    "a later record disproved it.",
)
ALERT_TYPE: Final = Label(
    "type",
    ALERT_TYPES[1:],
    "Type of the alert: a promise is at risk or breached, an anomaly was detected, or an earlier alert was withdrawn.",
    "OTHER",
)
ABOUT: Final = Label(
    "condition", None, "The promises of promises.yaml by name (at most 16), and the anomalies.", ANOMALIES[0]
)
PROMISE: Final = Label("promise", None, "The promises of promises.yaml by name (at most 16).")
PARTITION: Final = Label(
    "partition", None, "Partition of the input topic (hub.scans or hub.containers) that is assigned to this worker."
)

# Service level objective of a worker: 99 % of the records are readable in parcel.state this long after their append.
SCAN_TO_STATE_SLO_SECONDS: Final = 1.0
# Service level objective of a restart: a million parcels are restored in this time.
RESTORE_SLO_SECONDS: Final = 10.0

SCANS: Final = Metric(
    "parcel_scans_total",
    MetricType.COUNTER,
    "scans",
    "Distinct scans folded into parcel states, VOIDs included; advices and ticks are not counted.",
    (SITE, KIND, DIRECTION),
)
RECORDS: Final = Metric(
    "parcel_records_total",
    MetricType.COUNTER,
    "records",
    "Records of hub.scans that this worker has processed: scans, advices, ticks, duplicates and dead letters.",
)
DUPLICATES: Final = Metric(
    "parcel_duplicates_total",
    MetricType.COUNTER,
    "records",
    "Records ignored because the parcel already has a record with the same event_id.",
)
DEAD_LETTERS: Final = Metric(
    "parcel_dead_letters_total",
    MetricType.COUNTER,
    "records",
    "Records that could not be used and were written to hub.dlq.",
    (REASON,),
)
STATES: Final = Metric(
    "parcel_states_written_total",
    MetricType.COUNTER,
    "records",
    "States written to parcel.state: one for each parcel that a batch changed.",
)
MILESTONES: Final = Metric(
    "parcel_milestones_written_total",
    MetricType.COUNTER,
    "records",
    "Milestones written to parcel.milestones: a stage was reached, corrected or retracted.",
)
ALERTS: Final = Metric(
    "parcel_alerts_total",
    MetricType.COUNTER,
    "alerts",
    "Alerts written to parcel.alerts.",
    (ALERT_TYPE, ABOUT),
)
PROMISE_CLOCKS: Final = Metric(
    "parcel_promise_clocks",
    MetricType.GAUGE,
    "clocks",
    "Promise clocks that are running or paused at the last tick, over the partitions of this worker.",
    (PROMISE,),
)
RETIRED_PARCELS: Final = Metric(
    "parcel_retired_parcels_total",
    MetricType.COUNTER,
    "parcels",
    "Parcels removed from the table and from parcel.state, long after their last record.",
)
SCAN_TO_STATE: Final = Metric(
    "parcel_scan_to_state_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time from the append of a record to hub.scans until the commit that makes the state of its parcel readable. "
    "Sampled: each sample is weighted by the records that it stands for.",
    buckets=(
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.15,
        0.2,
        0.3,
        0.5,
        SCAN_TO_STATE_SLO_SECONDS,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
        300.0,
        900.0,
        3600.0,
    ),
)
BATCH_SECONDS: Final = Metric(
    "parcel_batch_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time of one batch of one partition, all phases together.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
TRANSACTION_SECONDS: Final = Metric(
    "parcel_transaction_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time of one transaction: the phases send and commit of a batch.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
PHASE_SECONDS: Final = Metric(
    "parcel_phase_seconds_total",
    MetricType.COUNTER,
    "seconds",
    "Time spent in each phase of the batches.",
    (PHASE,),
)
CONTAINER_EVENTS: Final = Metric(
    "parcel_container_events_total",
    MetricType.COUNTER,
    "events",
    "Distinct container events from senders, VOIDs included; inferred events are not counted.",
    (SITE, KIND),
)
INFERRED_RECORDS: Final = Metric(
    "parcel_inferred_records_total",
    MetricType.COUNTER,
    "records",
    "Inferred scans and container events, written for the children of a container because of an event of the "
    "container.",
    (KIND,),
)
CONTAINER_EVENT_TO_SCAN: Final = Metric(
    "parcel_container_event_to_scan_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time from the append of a record to hub.containers until the commit of the first records inferred from it. "
    "Sampled like parcel_scan_to_state_seconds.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 900.0),
)
CONTAINERS: Final = Metric(
    "parcel_containers",
    MetricType.GAUGE,
    "containers",
    "Containers in the table, over the partitions of hub.containers that are assigned to this worker.",
)
PENDING_FAN_OUTS: Final = Metric(
    "parcel_fan_outs_pending",
    MetricType.GAUGE,
    "fan-outs",
    "Fan-outs that are not written completely, over the partitions of this worker.",
)
CONTAINER_LAG_SECONDS: Final = Metric(
    "parcel_container_lag_seconds",
    MetricType.GAUGE,
    "seconds",
    "Age of the newest processed record of hub.containers while there are unread ones; 0 when there are none.",
    (PARTITION,),
)
RETIRED_CONTAINERS: Final = Metric(
    "parcel_retired_containers_total",
    MetricType.COUNTER,
    "containers",
    "Containers removed from the table and from container.state, long after their last event.",
)
DOUBLE_CONTAINMENTS: Final = Metric(
    "parcel_double_containments_total",
    MetricType.COUNTER,
    "containers",
    "Double containments: a container was packed into another one while, according to its own records, it was "
    "still in the previous one.",
    (CONTAINMENT_CHANGE,),
)
LAST_BATCH: Final = Metric(
    "parcel_last_batch_timestamp_seconds",
    MetricType.GAUGE,
    "seconds",
    "Time of the last commit, in seconds since 1970; 0 before the first. `time() - ` this metric is the time "
    "without a commit.",
)
LAG_RECORDS: Final = Metric(
    "parcel_lag_records",
    MetricType.GAUGE,
    "records",
    "Records of the partition still unread after the last batch.",
    (PARTITION,),
)
LAG_SECONDS: Final = Metric(
    "parcel_lag_seconds",
    MetricType.GAUGE,
    "seconds",
    "Age of the newest processed record of hub.scans while there are unread ones; 0 when there are none.",
    (PARTITION,),
)
IN_HUB_PARCELS: Final = Metric(
    "parcel_in_hub_parcels",
    MetricType.GAUGE,
    "parcels",
    "Parcels in the hub by stage, over the partitions of this worker.",
    (STAGE,),
)
HUB_TIME: Final = Metric(
    "parcel_hub_timestamp_seconds",
    MetricType.GAUGE,
    "seconds",
    "Hub time: the largest tick processed, in seconds since 1970; 0 before the first.",
)
ASSIGNED_PARTITIONS: Final = Metric(
    "parcel_assigned_partitions",
    MetricType.GAUGE,
    "partitions",
    "Partitions of hub.scans assigned to this worker.",
)
REBALANCES: Final = Metric(
    "parcel_rebalances_total",
    MetricType.COUNTER,
    "times",
    "Times that the consumer group assigned partitions to this worker or took them away.",
    (ASSIGNMENT_CHANGE,),
)
GROUP_MEMBERSHIP_LOSSES: Final = Metric(
    "parcel_group_membership_losses_total",
    MetricType.COUNTER,
    "times",
    "Times that this worker lost its membership of the consumer group and joined again.",
    (MEMBERSHIP_LOSS_REASON,),
)
RESTORE_SECONDS: Final = Metric(
    "parcel_restore_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time to restore the table of one partition from its state topic; the count is the number of restores.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, RESTORE_SLO_SECONDS, 30.0, 60.0, 300.0),
)
RESTORED_PARCELS: Final = Metric(
    "parcel_restored_parcels_total",
    MetricType.COUNTER,
    "parcels",
    "Parcels restored from parcel.state.",
)
TRANSACTION_RECOVERIES: Final = Metric(
    "parcel_transaction_recoveries_total",
    MetricType.COUNTER,
    "transactions",
    "Transactions whose outcome was unknown, by the outcome that the recovery found.",
    (OUTCOME,),
)
KAFKA_UNAVAILABLE: Final = Metric(
    "parcel_kafka_unavailable",
    MetricType.GAUGE,
    "",
    "1 while no Kafka broker answers this worker, else 0.",
)
TICKS_STOPPED: Final = Metric(
    "parcel_ticks_stopped",
    MetricType.GAUGE,
    "",
    "1 while a partition of this worker has received no tick for 15 s after earlier ticks, else 0. No deadline "
    "passes then.",
)
BUILD_INFO: Final = Metric(
    "parcel_build_info",
    MetricType.GAUGE,
    "",
    "Always 1; the labels hold the versions.",
    (
        Label("version", None, "Version of this package; one value for each process."),
        Label("python", None, "Version of Python; one value for each process."),
        Label("librdkafka", None, "Version of the Kafka client library; one value for each process."),
    ),
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    SCANS,
    RECORDS,
    DUPLICATES,
    DEAD_LETTERS,
    STATES,
    MILESTONES,
    ALERTS,
    PROMISE_CLOCKS,
    RETIRED_PARCELS,
    SCAN_TO_STATE,
    LAG_RECORDS,
    LAG_SECONDS,
    BATCH_SECONDS,
    TRANSACTION_SECONDS,
    PHASE_SECONDS,
    CONTAINER_EVENTS,
    INFERRED_RECORDS,
    CONTAINER_EVENT_TO_SCAN,
    CONTAINERS,
    PENDING_FAN_OUTS,
    CONTAINER_LAG_SECONDS,
    RETIRED_CONTAINERS,
    DOUBLE_CONTAINMENTS,
    LAST_BATCH,
    IN_HUB_PARCELS,
    HUB_TIME,
    ASSIGNED_PARTITIONS,
    REBALANCES,
    GROUP_MEMBERSHIP_LOSSES,
    RESTORE_SECONDS,
    RESTORED_PARCELS,
    TRANSACTION_RECOVERIES,
    KAFKA_UNAVAILABLE,
    TICKS_STOPPED,
    BUILD_INFO,
)

# Added by the Prometheus client about the process (on Linux), and by Prometheus about each scrape.
PROCESS_METRICS: Final[dict[str, str]] = {
    "process_cpu_seconds_total": "Processor time of the worker.",
    "process_resident_memory_bytes": "Memory of the worker.",
    "process_virtual_memory_bytes": "Address space of the worker.",
    "process_start_time_seconds": "Start time of the worker, in seconds since 1970.",
    "process_open_fds": "Open files and sockets of the worker.",
    "process_max_fds": "Largest number of files and sockets that the worker may open.",
}
SCRAPE_METRICS: Final[dict[str, str]] = {"up": "1 when Prometheus could scrape the worker, else 0."}
