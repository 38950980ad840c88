"""Events of a worker as plain records; each is both a metric and a log line (see streams/observe).

The worker passes each event to an `EventListener`. It knows neither Prometheus nor the logger.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streams.domain.double_containment import DoubleContainment


@dataclass(frozen=True, slots=True)
class ParcelBatchCommitted:
    """A batch of one partition of the parcel processor was committed. Sent after the commit, so once for each batch."""

    partition: int
    records: int
    # (site, kind, direction) -> distinct scans; the values are those of the domain.
    scans: Mapping[tuple[str, str, str], int]
    duplicates: int
    # Reject reason -> dead letters.
    dead_letters: Mapping[str, int]
    states: int
    milestones: int
    # Phase ("extract", "decode", "fold", "encode", "send", "commit") -> seconds.
    seconds: Mapping[str, float]
    # (seconds from append to commit, number of records that this sample stands for).
    scan_to_state: Sequence[tuple[float, int]]
    # Records of the input partition still unread, and the age of the newest record processed (0 when none is unread).
    lag_records: int
    lag_seconds: float
    # Stage -> parcels of this partition at that stage, for stages in the hub.
    parcels_by_stage: Mapping[str, int]
    # Largest tick processed, ms since 1970; None before the first.
    hub_time: int | None
    # (type, promise or anomaly) -> alerts.
    alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # Parcels removed from the table and from parcel.state.
    retired: int = 0
    # Promise -> promise clocks of this partition that are running or paused at the last tick.
    active_clocks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerBatchCommitted:
    """A batch of one partition of the container processor was committed. Sent once for each batch, after the commit."""

    partition: int
    records: int
    # (site, kind) -> distinct events that came from senders; the values are those of the domain.
    events: Mapping[tuple[str, str], int]
    # Distinct events in the batch that were inferred from an event of the parent container.
    inferred_events: int
    duplicates: int
    # Reject reason -> dead letters.
    dead_letters: Mapping[str, int]
    # Kind -> scans and container events written for the children.
    inferred_records: Mapping[str, int]
    # Fan-outs of this partition that are not written completely.
    pending_fan_outs: int
    # Containers of this partition in the table.
    containers: int
    # Containers removed from the table and from container.state.
    retired: int
    # Phase -> seconds, as in ParcelBatchCommitted.
    seconds: Mapping[str, float]
    # (seconds from append to commit, number of events that this sample stands for).
    event_to_scan: Sequence[tuple[float, int]]
    # As in ParcelBatchCommitted.
    lag_records: int
    lag_seconds: float
    # Double containments that were detected or retracted.
    double_containments: Sequence[DoubleContainment] = ()


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The process has started and joins its consumer group."""

    bootstrap: str
    group: str
    # Empty for a dynamic member.
    group_instance_id: str


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """The process has left its group; `reason` is "signal", "idle" or "error"."""

    reason: str


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    """The group assigned these partitions to this worker."""

    partitions: tuple[int, ...]
    # "parcels" or "containers".
    processor: str = "parcels"


@dataclass(frozen=True, slots=True)
class PartitionsRevoked:
    """This worker no longer owns these partitions; `lost` if the group had already given them to another worker."""

    partitions: tuple[int, ...]
    lost: bool
    processor: str = "parcels"


@dataclass(frozen=True, slots=True)
class GroupMembershipLost:
    """The worker is no longer a member of its group, and joins again.

    Values of `reason`:

    - "fenced_instance_id": another worker joined with the same group.instance.id. It may be this worker itself, after
      it was paused for longer than its session.
    - "unreleased_instance_id": a predecessor still holds the group.instance.id; this worker waits until the session of
      the predecessor ends.
    - "unknown_member_id": the group no longer knows this member.
    - "timeout": the group has not answered for too long.
    """

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class PartitionRestored:
    """The table of a partition was restored from its state topic; processing continues at `offset` of the input."""

    partition: int
    # Parcels or containers in the table.
    rows: int
    # Records of the state topic that were read.
    records: int
    seconds: float
    offset: int
    # As in ParcelBatchCommitted.
    parcels_by_stage: Mapping[str, int] = field(default_factory=dict)
    processor: str = "parcels"


@dataclass(frozen=True, slots=True)
class TransactionRecovered:
    """The unknown outcome of a transaction is now known: "committed", "resent" or "superseded"."""

    partition: int
    outcome: str
    error: str
    processor: str = "parcels"


@dataclass(frozen=True, slots=True)
class BrokerUnavailable:
    """No broker answers. Sent once, until one answers again."""

    error: str


@dataclass(frozen=True, slots=True)
class BrokerRecovered:
    """A broker answers again, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class TicksStopped:
    """These partitions have received no tick for `seconds`, after earlier ticks. Sent once, until ticks resume."""

    partitions: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class TicksResumed:
    """Every partition receives ticks again, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """Sent once a minute while the worker runs: the records processed in the last `seconds`."""

    records: int
    seconds: float
    partitions: tuple[int, ...] = field(default=())


WorkerEvent = (
    ParcelBatchCommitted
    | ContainerBatchCommitted
    | WorkerStarted
    | WorkerStopped
    | PartitionsAssigned
    | PartitionsRevoked
    | GroupMembershipLost
    | PartitionRestored
    | TransactionRecovered
    | BrokerUnavailable
    | BrokerRecovered
    | TicksStopped
    | TicksResumed
    | WorkerProgress
)
EventListener = Callable[[WorkerEvent], None]
