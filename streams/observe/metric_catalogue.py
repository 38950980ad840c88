"""Every metric that a worker exports, in one list: the code, the reference page, the rules and the dashboard follow it.

Names follow the practices of Prometheus: one prefix, base units, `_total` on counters; `sum()` over all labels of a
metric means something. Labels take their values from closed sets, so that no sender can make the worker export a
series of his own; a parcel is never a label.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from streams.domain.kinds import DIRECTIONS, IN_HUB_STAGES, KINDS
from streams.domain.promise_clocks import ALERT_TYPES
from streams.domain.promises import ANOMALIES
from streams.domain.reject_reasons import RejectReason

PREFIX: Final = "parcel_"
OTHER: Final = "other"


class MetricType(StrEnum):
    """How a metric moves; the words of the exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and all the values it can have; whatever else comes is shown as `other`.

    `values` is None where the set is known only when the worker starts; `doc` then says what bounds it.
    """

    name: str
    values: tuple[str, ...] | None
    doc: str
    other: str = OTHER


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is called, what it measures, and in which unit ("" for a plain number)."""

    name: str
    type: MetricType
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    # Upper edges of a histogram's buckets, in `unit`, without +Inf.
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which Prometheus stores the samples of this metric."""
        if self.type is MetricType.HISTOGRAM:
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


SITE: Final = Label("site", None, "Sites of the hub description; `none` where the scan names no site.", OTHER)
# Kinds and directions have a word of their own for what is not known.
KIND: Final = Label("kind", KINDS, "What the scan says happened.", "OTHER")
DIRECTION: Final = Label(
    "direction", DIRECTIONS, "Which way the parcel passes the hub; UNKNOWN before its advice.", "UNKNOWN"
)
STAGE: Final = Label(
    "stage",
    tuple(kind for number, kind in enumerate(KINDS) if IN_HUB_STAGES >> number & 1),
    "Stages at which a parcel is in the hub.",
)
REASON: Final = Label(
    "reason",
    tuple(reason.name for reason in RejectReason if reason is not RejectReason.OK),
    "Why the record could not be used.",
)
PHASE: Final = Label(
    "phase",
    ("take", "decode", "fold", "encode", "send", "commit"),
    "Part of the batch's path: messages to payloads, payloads to columns, columns to states, states to payloads, "
    "payloads to the producer, and the wait for the commit.",
)
OUTCOME: Final = Label(
    "outcome",
    ("committed", "sent_again", "restored"),
    "What the position said: the batch was in, it was not and went again, or somebody else had gone on.",
)
ASSIGNMENT_CHANGE: Final = Label(
    "change",
    ("assigned", "revoked", "lost"),
    "Given to this worker, taken from it in order, or found to be another's already.",
)
MEMBERSHIP_LOSS: Final = Label(
    "loss",
    ("fenced", "held", "unknown", "unanswered"),
    "Another came under its name, the name is a predecessor's until its session ends, the group forgot the worker, "
    "or it never answered.",
)
VERDICT: Final = Label(
    "verdict",
    ("found", "withdrawn"),
    "It was so, a quarter of an hour after the last word about the container; or, by what came later, it was not.",
)
ALERT: Final = Label(
    "alert",
    ALERT_TYPES[1:],
    "What it says: at risk, breached, odd (ANOMALY), or not so after all (WITHDRAWN).",
    "OTHER",
)
ABOUT: Final = Label(
    "condition", None, "The promises of promises.yaml by name (at most 16), and the anomalies.", ANOMALIES[0]
)
PROMISE: Final = Label("promise", None, "The promises of promises.yaml by name (at most 16).")
PARTITION: Final = Label(
    "partition", None, "Partitions of the log (hub.scans or hub.containers) that this worker holds."
)

# The promise of the worker: 99 % of the records readable in parcel.state this long after their append.
SCAN_TO_STATE_SLO_SECONDS: Final = 1.0
# The promise of a restart: a million parcels restored in this time.
RESTORE_SLO_SECONDS: Final = 10.0

SCANS: Final = Metric(
    "parcel_scans_total",
    MetricType.COUNTER,
    "scans",
    "Distinct scans, VOIDs among them, folded into the state of a parcel; advices and ticks are not scans.",
    (SITE, KIND, DIRECTION),
)
RECORDS: Final = Metric(
    "parcel_records_total",
    MetricType.COUNTER,
    "records",
    "Records of hub.scans that this worker is done with: scans, ticks, duplicates and dead letters.",
)
DUPLICATES: Final = Metric(
    "parcel_duplicates_total",
    MetricType.COUNTER,
    "records",
    "Records ignored because the parcel already has one with the same event_id.",
)
DEAD_LETTERS: Final = Metric(
    "parcel_dead_letters_total",
    MetricType.COUNTER,
    "records",
    "Records that could not be used and went to hub.scans.dlq.",
    (REASON,),
)
STATES: Final = Metric(
    "parcel_states_written_total",
    MetricType.COUNTER,
    "records",
    "States written to parcel.state: one for each parcel that a batch touched.",
)
MILESTONES: Final = Metric(
    "parcel_milestones_written_total",
    MetricType.COUNTER,
    "records",
    "Milestones written to parcel.milestones: a stage reached, corrected or lost.",
)
ALERTS: Final = Metric(
    "parcel_alerts_total",
    MetricType.COUNTER,
    "alerts",
    "Alerts written to parcel.alerts.",
    (ALERT, ABOUT),
)
CLOCKS: Final = Metric(
    "parcel_clocks",
    MetricType.GAUGE,
    "clocks",
    "Clocks that run or stand still, over the partitions of this worker, as of the last tick.",
    (PROMISE,),
)
RETIRED_PARCELS: Final = Metric(
    "parcel_retired_parcels_total",
    MetricType.COUNTER,
    "parcels",
    "Parcels that left the table and parcel.state, long after the last record of them.",
)
SCAN_TO_STATE: Final = Metric(
    "parcel_scan_to_state_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "From the append of a record to hub.scans until the commit that makes its parcel's state readable; sampled, each "
    "sample weighted by the records that it stands for.",
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
    "Distinct events of containers, VOIDs among them, that somebody made; what follows from them is not counted here.",
    (SITE, KIND),
)
INFERRED_RECORDS: Final = Metric(
    "parcel_inferred_records_total",
    MetricType.COUNTER,
    "records",
    "Records written for what was inside a container when something happened to it: scans and events of containers.",
    (KIND,),
)
EVENT_TO_SCAN: Final = Metric(
    "parcel_event_to_scan_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "From the append of a record to hub.containers until the commit of the first of what follows from it; sampled as "
    "parcel_scan_to_state_seconds is.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 900.0),
)
CONTAINERS: Final = Metric(
    "parcel_containers",
    MetricType.GAUGE,
    "containers",
    "Containers known, over the partitions of hub.containers that this worker holds.",
)
PENDING_FAN_OUTS: Final = Metric(
    "parcel_fan_outs_pending",
    MetricType.GAUGE,
    "fan-outs",
    "Events of containers of which something is still to be written, over the partitions of this worker.",
)
CONTAINER_LAG_SECONDS: Final = Metric(
    "parcel_container_lag_seconds",
    MetricType.GAUGE,
    "seconds",
    "Age of the newest record of hub.containers folded while others are unread; 0 when none is.",
    (PARTITION,),
)
RETIRED_CONTAINERS: Final = Metric(
    "parcel_retired_containers_total",
    MetricType.COUNTER,
    "containers",
    "Containers that left container.state, long after the last event of them.",
)
DOUBLE_CONTAINMENTS: Final = Metric(
    "parcel_containers_in_two_total",
    MetricType.COUNTER,
    "containers",
    "Times that a container was packed into another one while, by its own records, it was still in the one before.",
    (VERDICT,),
)
LAST_BATCH: Final = Metric(
    "parcel_last_batch_timestamp_seconds",
    MetricType.GAUGE,
    "seconds",
    "When the last batch was committed, seconds since 1970; 0 before the first. `time() -` it is the silence.",
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
    "Age of the newest record folded while others are unread; 0 when none is.",
    (PARTITION,),
)
IN_HUB_PARCELS: Final = Metric(
    "parcel_in_hub_parcels",
    MetricType.GAUGE,
    "parcels",
    "Parcels in the hub by the stage they are at, over the partitions of this worker.",
    (STAGE,),
)
HUB_TIME: Final = Metric(
    "parcel_hub_timestamp_seconds",
    MetricType.GAUGE,
    "seconds",
    "The clock of the log: largest tick folded, seconds since 1970; 0 before the first.",
)
PARTITIONS: Final = Metric(
    "parcel_partitions",
    MetricType.GAUGE,
    "partitions",
    "Partitions of hub.scans that this worker holds.",
)
REBALANCES: Final = Metric(
    "parcel_rebalances_total",
    MetricType.COUNTER,
    "times",
    "Times that the group gave partitions to this worker or took them.",
    (ASSIGNMENT_CHANGE,),
)
MEMBERSHIPS_LOST: Final = Metric(
    "parcel_memberships_lost_total",
    MetricType.COUNTER,
    "times",
    "Times that this worker lost its place in the group and asked for a new one.",
    (MEMBERSHIP_LOSS,),
)
RESTORE_SECONDS: Final = Metric(
    "parcel_restore_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time to restore the table of one partition from parcel.state; the count is the number of restores.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, RESTORE_SLO_SECONDS, 30.0, 60.0, 300.0),
)
RESTORED_PARCELS: Final = Metric(
    "parcel_restored_parcels_total",
    MetricType.COUNTER,
    "parcels",
    "Parcels restored from parcel.state.",
)
TRANSACTION_RECOVERIES: Final = Metric(
    "parcel_refences_total",
    MetricType.COUNTER,
    "transactions",
    "Transactions whose outcome was unknown, by what it turned out to be.",
    (OUTCOME,),
)
BROKER_AWAY: Final = Metric(
    "parcel_broker_away",
    MetricType.GAUGE,
    "",
    "1 while no Kafka broker answers this worker, else 0.",
)
TICKS_STOPPED: Final = Metric(
    "parcel_ticks_stopped",
    MetricType.GAUGE,
    "",
    "1 while a partition of this worker has had no Tick for 15 s after having had some, else 0: no deadline passes.",
)
BUILD_INFO: Final = Metric(
    "parcel_build_info",
    MetricType.GAUGE,
    "",
    "Always 1; the labels say what runs.",
    (
        Label("version", None, "Version of this package; one value a process."),
        Label("python", None, "Version of Python; one value a process."),
        Label("librdkafka", None, "Version of the Kafka client library; one value a process."),
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
    CLOCKS,
    RETIRED_PARCELS,
    SCAN_TO_STATE,
    LAG_RECORDS,
    LAG_SECONDS,
    BATCH_SECONDS,
    TRANSACTION_SECONDS,
    PHASE_SECONDS,
    CONTAINER_EVENTS,
    INFERRED_RECORDS,
    EVENT_TO_SCAN,
    CONTAINERS,
    PENDING_FAN_OUTS,
    CONTAINER_LAG_SECONDS,
    RETIRED_CONTAINERS,
    DOUBLE_CONTAINMENTS,
    LAST_BATCH,
    IN_HUB_PARCELS,
    HUB_TIME,
    PARTITIONS,
    REBALANCES,
    MEMBERSHIPS_LOST,
    RESTORE_SECONDS,
    RESTORED_PARCELS,
    TRANSACTION_RECOVERIES,
    BROKER_AWAY,
    TICKS_STOPPED,
    BUILD_INFO,
)

# Exported beside them by the Prometheus client about the process (on Linux), and by Prometheus about each scrape.
PROCESS_METRICS: Final[dict[str, str]] = {
    "process_cpu_seconds_total": "Processor time of the worker.",
    "process_resident_memory_bytes": "Memory of the worker.",
    "process_virtual_memory_bytes": "Address space of the worker.",
    "process_start_time_seconds": "When the worker started, seconds since 1970.",
    "process_open_fds": "Open files and sockets of the worker.",
    "process_max_fds": "How many it may open.",
}
SCRAPE_METRICS: Final[dict[str, str]] = {"up": "1 when Prometheus could scrape the worker, else 0."}
