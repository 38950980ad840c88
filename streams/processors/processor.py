"""What a worker needs of a processor, whichever it is: an input topic, a state topic, and the output of a batch.

The tasks of all processors are alike: fence, restore, seek, process (streams/worker/partition_task.py). A processor is
registered by its `ProcessorSpec` (streams/processors/registry.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.domain.reject_reasons import RejectReason
from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.telemetry.worker_events import WorkerEvent

# Topic (without the prefix), partition, records.
OutputBlock = tuple[str, int, RecordBlock]


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """What a worker knows of a committed batch, whichever processor it went through."""

    partition: int
    records: int
    # Reject reason -> dead letters.
    dead_letters: Mapping[str, int]
    # Phase -> seconds.
    phase_seconds: Mapping[str, float]
    # (seconds from append to commit, number of records that this sample stands for).
    latency_samples: Sequence[tuple[float, int]]
    lag_records: int
    lag_seconds: float


class ProcessorOutput(Protocol):
    """What one batch of one partition leads to: encoded records, and counts for its event."""

    @property
    def processed_count(self) -> int:
        """Records of the batch that were processed; those after them must be given again."""

    @property
    def blocks(self) -> list[OutputBlock]:
        """Records to write, in the order in which they are sent."""

    @property
    def rejects(self) -> list[tuple[int, RejectReason]]:
        """Index in the batch and reason of each record that could not be used."""

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Phase -> seconds."""

    def committed_event(self, summary: CommitSummary) -> WorkerEvent:
        """The event for the commit of this batch."""


class Processor(Protocol):
    """A processor of one partition, without a broker: state, and what batches of records change."""

    @property
    def hub_time(self) -> int | None:
        """Largest tick processed, ms since 1970; None before the first."""

    @property
    def has_pending_output(self) -> bool:
        """Whether there are records to write, even if no more records come in."""

    @property
    def has_due_output(self) -> bool:
        """Whether some of the pending records are to be written now."""

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> ProcessorOutput:
        """Process a batch, or as much of it as a transaction has room for, and encode what follows."""

    def position(self, next_offset: int) -> PartitionPosition:
        """The position after the last batch, of which the input ends before `next_offset`."""

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Enter the newest records of some keys of the state topic, in the order of the topic."""

    def finish_restore(self, position: PartitionPosition | None) -> None:
        """End the restore, after the last records: take over the position."""

    def restored_event(self, records: int, seconds: float, offset: int) -> WorkerEvent:
        """The event for the end of the restore, which read so many records; `offset`: where the input goes on."""


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
