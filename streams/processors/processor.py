"""What a worker needs of a stage: a log in, a topic of states, and what a batch makes, whatever is folded.

The tasks of a stage are alike: fence, restore, seek, go (streams/worker/partition_task.py); what differs stands here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.domain.reject_reasons import RejectReason
from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.telemetry.worker_events import WorkerEvent

# Topic (without the prefix), partition, records.
OutputBlock = tuple[str, int, RecordBlock]


@dataclass(slots=True)
class ProcessorOutput:
    """What one batch of one partition makes: plain bytes, and the figures of the batch."""

    # Records of the batch that were folded; those after them must come again.
    taken: int
    # In the order in which they are sent.
    blocks: list[OutputBlock]
    # Place in the batch and reason of each record that could not be used.
    refused: list[tuple[int, RejectReason]]
    seconds: dict[str, float]
    # Whatever else the stage has to tell of the batch once it is committed.
    figures: Any = None


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """What every stage's task knows of a batch that is in the log."""

    partition: int
    records: int
    # reason -> records quarantined.
    dead_letters: Mapping[str, int]
    # phase -> seconds.
    seconds: Mapping[str, float]
    # (seconds from append to commit, number of records that this sample stands for).
    latency_samples: Sequence[tuple[float, int]]
    lag_records: int
    lag_seconds: float


class Processor(Protocol):
    """A stage of one partition, without a broker."""

    @property
    def hub_time(self) -> int | None:
        """Largest Tick folded, ms since 1970; None before the first."""

    @property
    def pending(self) -> bool:
        """Is there something to write, whether or not records come?"""

    @property
    def due(self) -> bool:
        """Is some of that to be written now?"""

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> ProcessorOutput:
        """Fold a batch, or as much of it as a transaction has room for, and encode what follows."""

    def position(self, next_offset: int) -> PartitionPosition:
        """The position after the last batch, of which the input ends before `next_offset`."""

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Take the newest records of some keys of the topic of states, in the order of the topic."""

    def restored(self, position: PartitionPosition | None) -> None:
        """All of them were taken."""

    def make_restored_event(self, partition: int, records: int, seconds: float, position: int) -> WorkerEvent:
        """What is said when it is ready to fold."""

    def make_committed_event(self, made: ProcessorOutput, committed: CommitSummary) -> WorkerEvent:
        """What is said when a batch is in the log."""


@dataclass(frozen=True, slots=True)
class ProcessorSpec:
    """What a worker must know of a processor to run it."""

    # As on the command line.
    name: str
    # Topics are named without the prefix.
    input_topic: str
    state_topic: str
    # Topics that it writes to in the partition that it reads, beside the state topic.
    copartitioned_topics: tuple[str, ...]
    # Input topics of processors, this one perhaps included, that it writes to in any partition.
    repartition_topics: tuple[str, ...]
    # Consumer group of the workers of this processor.
    group_id: str
    # A transactional id is this prefix, a dot and the number of the partition.
    transactional_id_prefix: str
    # Partition and number of partitions -> the processor of that partition.
    create_processor: Callable[[int, int], Processor] = field(repr=False)
    max_batch_records: int
    # With more records waiting, the partition is paused.
    max_backlog_records: int
