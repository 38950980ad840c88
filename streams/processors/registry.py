"""The stages that a worker runs: what is parcels' own, and what is containers' own, beside the folding itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from streams.domain.promises import Promises
from streams.formats.position import Position
from streams.formats.topics import ALERTS, CONTAINER_STATE, CONTAINERS, MILESTONES, SCANS, STATE, THROUGHPUT
from streams.processors.container_processor import ContainerStage
from streams.processors.parcel_processor import ParcelStage
from streams.processors.processor import Committed, Kind, Made, Name
from streams.processors.rate_limiter import Pace
from streams.telemetry.worker_events import BatchCommitted, ContainersCommitted, Happening, PartitionRestored

NAMES: Final[tuple[Name, ...]] = get_args(Name)
# Consumer groups: one a stage, so that the partitions of each are spread over its workers by themselves.
GROUP: Final = "parcels.parcel-stage"
CONTAINERS_GROUP: Final = "parcels.container-stage"


def stage_kind(name: Name, promises: Promises) -> Kind:
    """The stage of that name; `promises`: what is watched about parcels."""
    if name == "containers":
        pace = Pace()
        return Kind(
            name="containers",
            input=CONTAINERS,
            states=CONTAINER_STATE,
            outputs=(),
            logs=(SCANS, CONTAINERS),
            group=CONTAINERS_GROUP,
            writer="parcels.container-stage",
            make=lambda partition, partitions: Containers(partition, partitions, pace),
            largest_batch=512,
            largest_backlog=2_000,
        )
    return Kind(
        name="parcels",
        input=SCANS,
        states=STATE,
        outputs=(MILESTONES, ALERTS, THROUGHPUT),
        logs=(),
        group=GROUP,
        writer="parcels.parcel-stage",
        make=lambda partition, partitions: Parcels(partition, partitions, promises),
        largest_batch=50_000,
        largest_backlog=200_000,
    )


class Parcels:
    """Scans in, the state of every parcel out."""

    pending: Final = False
    due: Final = False

    def __init__(self, partition: int, partitions: int, promises: Promises) -> None:
        self._partition = partition
        self._stage = ParcelStage(partition, partitions, promises)
        self._digest = promises.digest()

    @property
    def hub_time(self) -> int | None:
        """Largest Tick folded."""
        return self._stage.table.hub_time

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> Made:
        """Fold a batch, all of it."""
        out = self._stage.run(payloads, outputs=outputs)
        blocks = [
            (topic, self._partition, block)
            for topic, block in (
                (STATE, out.retired),
                (STATE, out.states),
                (MILESTONES, out.milestones),
                (ALERTS, out.alerts),
                (THROUGHPUT, out.throughput),
            )
        ]
        return Made(len(payloads), blocks, out.refused, out.seconds, out)

    def position(self, next_offset: int) -> Position:
        """The position after the last batch."""
        return Position(next_offset, self.hub_time, self._digest)

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Take states and tombstones into the table."""
        if retired := [key for key, value in records.items() if value is None]:
            self._stage.restore_retired(retired)
        if states := [value for value in records.values() if value is not None]:
            self._stage.restore(states)

    def restored(self, position: Position | None) -> None:
        """Take over the hub's time."""
        if position is not None:
            self._stage.restore_hub_time(position.hub_time)

    def tell_restored(self, partition: int, records: int, seconds: float, position: int) -> Happening:
        """The table is back."""
        return PartitionRestored(
            partition=partition,
            parcels=len(self._stage.table),
            records=records,
            seconds=seconds,
            position=position,
            parcels_by_stage=self._stage.parcels_by_stage(),
        )

    def tell_committed(self, made: Made, committed: Committed) -> Happening:
        """A batch of scans is in the log."""
        out: Any = made.figures
        return BatchCommitted(
            partition=committed.partition,
            records=committed.records,
            scans=out.scans,
            duplicates=out.duplicates,
            dead_letters=committed.dead_letters,
            states=len(out.states),
            milestones=len(out.milestones),
            seconds=committed.seconds,
            scan_to_state=committed.waited,
            lag_records=committed.lag_records,
            lag_seconds=committed.lag_seconds,
            parcels_by_stage=out.parcels_by_stage,
            hub_time=out.hub_time,
            alerts=out.told,
            retired=len(out.retired),
            clocks=out.clocks,
        )


class Containers(ContainerStage):
    """Container events in, what follows for everything inside out."""

    def tell_restored(self, partition: int, records: int, seconds: float, position: int) -> Happening:
        """The containers are back."""
        return PartitionRestored(partition, len(self.containers), records, seconds, position, stage="containers")

    def tell_committed(self, made: Made, committed: Committed) -> Happening:
        """A batch of events is in the log, and a part of what follows."""
        out: Any = made.figures
        return ContainersCommitted(
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
            event_to_scan=committed.waited,
            lag_records=committed.lag_records,
            lag_seconds=committed.lag_seconds,
            in_two=out.in_two,
        )
