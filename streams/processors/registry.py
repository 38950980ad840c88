"""The stages that a worker runs: what is parcels' own, and what is containers' own, beside the folding itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streams.domain.promises import Promises
from streams.formats.position import PartitionPosition
from streams.formats.topics import (
    ALERTS_TOPIC,
    CONTAINER_STATE_TOPIC,
    CONTAINERS_TOPIC,
    MILESTONES_TOPIC,
    PARCEL_STATE_TOPIC,
    SCANS_TOPIC,
    THROUGHPUT_TOPIC,
)
from streams.processors.container_processor import ContainerProcessor
from streams.processors.parcel_processor import ParcelProcessor
from streams.processors.processor import CommitSummary, ProcessorOutput, ProcessorSpec
from streams.processors.rate_limiter import RateLimiter
from streams.telemetry.worker_events import (
    ContainerBatchCommitted,
    ParcelBatchCommitted,
    PartitionRestored,
    WorkerEvent,
)

# Consumer groups: one for each processor, so that its partitions are spread over the workers that run it.
PARCELS_GROUP: Final = "parcels.parcel-stage"
CONTAINERS_GROUP: Final = "parcels.container-stage"

# Makes the spec of a processor for the promises to watch.
SpecFactory = Callable[[Promises], ProcessorSpec]


def parcel_processor_spec(promises: Promises) -> ProcessorSpec:
    """Scans in; states, milestones, alerts and counts of parcels out."""
    return ProcessorSpec(
        name="parcels",
        input_topic=SCANS_TOPIC,
        state_topic=PARCEL_STATE_TOPIC,
        copartitioned_topics=(MILESTONES_TOPIC, ALERTS_TOPIC, THROUGHPUT_TOPIC),
        repartition_topics=(),
        group_id=PARCELS_GROUP,
        transactional_id_prefix="parcels.parcel-stage",
        create_processor=lambda partition, partitions: ParcelProcessorAdapter(partition, partitions, promises),
        max_batch_records=50_000,
        max_backlog_records=200_000,
    )


def container_processor_spec(_: Promises) -> ProcessorSpec:
    """Container events in; inferred scans and events of everything inside out."""
    # Shared by all partitions of a worker.
    rate_limiter = RateLimiter()
    return ProcessorSpec(
        name="containers",
        input_topic=CONTAINERS_TOPIC,
        state_topic=CONTAINER_STATE_TOPIC,
        copartitioned_topics=(),
        repartition_topics=(SCANS_TOPIC, CONTAINERS_TOPIC),
        group_id=CONTAINERS_GROUP,
        transactional_id_prefix="parcels.container-stage",
        create_processor=lambda partition, partitions: ContainerProcessorAdapter(partition, partitions, rate_limiter),
        max_batch_records=512,
        max_backlog_records=2_000,
    )


_FACTORIES: Final[dict[str, SpecFactory]] = {"parcels": parcel_processor_spec, "containers": container_processor_spec}


def processor_names() -> tuple[str, ...]:
    """Names of all processors, in the order in which a process runs them."""
    return tuple(_FACTORIES)


def processor_spec(name: str, promises: Promises) -> ProcessorSpec:
    """The spec of a processor.

    Args:
        name: one of `processor_names()`.
        promises: the promises to watch.

    Raises:
        KeyError: no processor has this name.
    """
    return _FACTORIES[name](promises)


def register_processor(name: str, factory: SpecFactory) -> None:
    """Add a processor to those that a worker process can run."""
    if name in _FACTORIES:
        raise ValueError(f"there is a processor {name!r} already")
    _FACTORIES[name] = factory


class ParcelProcessorAdapter:
    """Scans in, the state of every parcel out."""

    pending: Final = False
    due: Final = False

    def __init__(self, partition: int, partitions: int, promises: Promises) -> None:
        self._partition = partition
        self._stage = ParcelProcessor(partition, partitions, promises)
        self._digest = promises.digest()

    @property
    def hub_time(self) -> int | None:
        """Largest Tick folded."""
        return self._stage.table.hub_time

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> ProcessorOutput:
        """Fold a batch, all of it."""
        out = self._stage.run(payloads, outputs=outputs)
        blocks = [
            (topic, self._partition, block)
            for topic, block in (
                (PARCEL_STATE_TOPIC, out.retired),
                (PARCEL_STATE_TOPIC, out.states),
                (MILESTONES_TOPIC, out.milestones),
                (ALERTS_TOPIC, out.alerts),
                (THROUGHPUT_TOPIC, out.throughput),
            )
        ]
        return ProcessorOutput(len(payloads), blocks, out.refused, out.seconds, out)

    def position(self, next_offset: int) -> PartitionPosition:
        """The position after the last batch."""
        return PartitionPosition(next_offset, self.hub_time, self._digest)

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Take states and tombstones into the table."""
        if retired := [key for key, value in records.items() if value is None]:
            self._stage.restore_tombstones(retired)
        if states := [value for value in records.values() if value is not None]:
            self._stage.restore(states)

    def restored(self, position: PartitionPosition | None) -> None:
        """Take over the hub's time."""
        if position is not None:
            self._stage.restore_hub_time(position.hub_time)

    def make_restored_event(self, partition: int, records: int, seconds: float, position: int) -> WorkerEvent:
        """The table is back."""
        return PartitionRestored(
            partition=partition,
            parcels=len(self._stage.table),
            records=records,
            seconds=seconds,
            position=position,
            parcels_by_stage=self._stage.parcels_by_stage(),
        )

    def make_committed_event(self, made: ProcessorOutput, committed: CommitSummary) -> WorkerEvent:
        """A batch of scans is in the log."""
        out: Any = made.figures
        return ParcelBatchCommitted(
            partition=committed.partition,
            records=committed.records,
            scans=out.scans,
            duplicates=out.duplicates,
            dead_letters=committed.dead_letters,
            states=len(out.states),
            milestones=len(out.milestones),
            seconds=committed.seconds,
            scan_to_state=committed.latency_samples,
            lag_records=committed.lag_records,
            lag_seconds=committed.lag_seconds,
            parcels_by_stage=out.parcels_by_stage,
            hub_time=out.hub_time,
            alerts=out.told,
            retired=len(out.retired),
            clocks=out.clocks,
        )


class ContainerProcessorAdapter(ContainerProcessor):
    """Container events in, what follows for everything inside out."""

    def make_restored_event(self, partition: int, records: int, seconds: float, position: int) -> WorkerEvent:
        """The containers are back."""
        return PartitionRestored(partition, len(self.containers), records, seconds, position, stage="containers")

    def make_committed_event(self, made: ProcessorOutput, committed: CommitSummary) -> WorkerEvent:
        """A batch of events is in the log, and a part of what follows."""
        out: Any = made.figures
        return ContainerBatchCommitted(
            partition=committed.partition,
            records=committed.records,
            events=out.events,
            inferred_events=out.inferred_events,
            duplicates=out.duplicates,
            dead_letters=committed.dead_letters,
            told=out.told,
            pending=out.pending,
            containers=out.containers,
            retired=out.retired,
            seconds=committed.seconds,
            event_to_scan=committed.latency_samples,
            lag_records=committed.lag_records,
            lag_seconds=committed.lag_seconds,
            in_two=out.in_two,
        )
