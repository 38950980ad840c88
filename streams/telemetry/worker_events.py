"""What happens in a worker, as plain records: each is both a metric and a log line (see streams/observe).

The worker hands each of them to a `EventListener`; it knows neither Prometheus nor the logger.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streams.domain.double_containment import DoubleContainment


@dataclass(frozen=True, slots=True)
class ParcelBatchCommitted:
    """A batch of one partition is in the log: everything of it is visible. Told after the commit, so once a batch."""

    partition: int
    records: int
    # (site, kind, direction) -> distinct scans, by the words of the domain.
    scans: Mapping[tuple[str, str, str], int]
    duplicates: int
    # reason -> records quarantined.
    dead_letters: Mapping[str, int]
    states: int
    milestones: int
    # phase ("decode", "fold", "encode", "send", "commit") -> seconds.
    seconds: Mapping[str, float]
    # (seconds from append to commit, number of records that this sample stands for).
    scan_to_state: Sequence[tuple[float, int]]
    # Records of the input partition still unread, and the age of the newest one folded (0 when none is unread).
    lag_records: int
    lag_seconds: float
    # stage -> parcels of this partition at that stage, for stages in the hub.
    parcels_by_stage: Mapping[str, int]
    # Largest Tick folded, ms since 1970; None before the first.
    hub_time: int | None
    # (type, promise or anomaly) -> alerts.
    alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # Parcels that left the table and parcel.state.
    retired: int = 0
    # promise -> clocks of this partition that run or stand still, at the last Tick.
    clocks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerBatchCommitted:
    """A batch of one partition of the container stage is in the log. Told after the commit, so once a batch."""

    partition: int
    records: int
    # (site, kind) -> distinct events that somebody really made, by the words of the domain.
    events: Mapping[tuple[str, str], int]
    # Distinct events that follow from the container around.
    inferred_events: int
    duplicates: int
    # reason -> records quarantined.
    dead_letters: Mapping[str, int]
    # kind -> scans and events written for whatever was inside.
    told: Mapping[str, int]
    # Fan-outs that are not written to their end, and containers known, of this partition.
    pending: int
    containers: int
    # Containers that left the table and container.state.
    retired: int
    # phase -> seconds, as in BatchCommitted.
    seconds: Mapping[str, float]
    # (seconds from append to commit, number of events that this sample stands for).
    event_to_scan: Sequence[tuple[float, int]]
    lag_records: int
    lag_seconds: float
    # Containers found to be in two at once, or not to be so after all.
    in_two: Sequence[DoubleContainment] = ()


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The process is up and joins its group."""

    bootstrap: str
    group: str
    instance: str


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """The process left its group; `why` is "signal", "idle" or the error."""

    why: str


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    """The group gave these partitions to this worker."""

    partitions: tuple[int, ...]
    # parcels or containers.
    stage: str = "parcels"


@dataclass(frozen=True, slots=True)
class PartitionsRevoked:
    """These partitions left this worker; `lost` when the group had already given them to another."""

    partitions: tuple[int, ...]
    lost: bool
    stage: str = "parcels"


@dataclass(frozen=True, slots=True)
class GroupMembershipLost:
    """The worker's place in the group is gone, and it asks for a new one.

    `reason`: "fenced", somebody came under its name (it may be itself, after it stood still for longer than its
    session); "held", its name is still a predecessor's, and it waits until that one's session ends; "unknown", the
    group has forgotten it; "unanswered", the group has not answered for long.
    """

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class PartitionRestored:
    """The table of a partition is back from its topic of states; folding goes on at `position`."""

    partition: int
    # Parcels, or containers.
    parcels: int
    records: int
    seconds: float
    position: int
    # As in BatchCommitted.
    parcels_by_stage: Mapping[str, int] = field(default_factory=dict)
    stage: str = "parcels"


@dataclass(frozen=True, slots=True)
class TransactionRecovered:
    """A transaction's outcome was unknown and is known now: "committed", "sent_again" or "restored"."""

    partition: int
    outcome: str
    error: str
    stage: str = "parcels"


@dataclass(frozen=True, slots=True)
class BrokerUnavailable:
    """No broker answers. Told once until one answers again."""

    error: str


@dataclass(frozen=True, slots=True)
class BrokerRecovered:
    """A broker answers again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class TicksStopped:
    """No Tick came into these partitions for so long, and some had come before. Told once until they come again."""

    partitions: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class TicksResumed:
    """Ticks come into every partition again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """Told once a minute in steady running: what the worker did since the last time."""

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
