"""The container stage of one partition, without a broker: payloads of hub.containers in, records of the outputs out.

A batch is folded into the containers at once; what their children must hear is written in portions, so that no
transaction is larger than its limit and no container waits for another one's fan-out. What is left stands in the
position (`FanOut`), and goes on with the next batch, or without one.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from streams.domain.container_events import ContainerEvent
from streams.domain.containers import Container, ContainerLimitError
from streams.domain.double_containment import DoubleContainment, DoubleContainmentTracker
from streams.domain.reject_reasons import RejectReason
from streams.errors import StreamsError
from streams.formats.position import PartitionPosition, PendingFanOut
from streams.formats.record_block import RecordBlock
from streams.formats.record_decoder import DecodingError
from streams.formats.tick import encode_tick
from streams.formats.topics import CONTAINER_STATE_TOPIC, SCANS_TOPIC, partition_of
from streams.processors.child_records import (
    PendingChildRecords,
    PendingTombstones,
    assign_children,
    child_records_of,
    container_state_keys,
)
from streams.processors.container_codecs import (
    ChildRecord,
    ContainerLogRecord,
    child_record_codec,
    container_event_decoder,
    container_state_codec,
)
from streams.processors.container_output import ContainerOutput
from streams.processors.fan_out_queue import FAN_OUT_CHUNK_SIZE, FanOutQueue
from streams.processors.fan_out_records import ContainerFanOutChunk, encode_fan_out
from streams.processors.processor import OutputBlock
from streams.processors.rate_limiter import MAX_THROTTLE_SECONDS, RateLimiter
from streams.telemetry.worker_events import PartitionRestored

# Records of a transaction at most, beside a Tick a partition; a PORTION of them is for what is left of fan-outs.
MAX_TRANSACTION_RECORDS: Final = 20_000
# And while so few records wait: what others append to hub.scans behind an open transaction is visible when it ends.
_PROMPT_TRANSACTION: Final = 5_000
_FEW: Final = 256
# With new events so many are told whatever the pace is, half of them of what is new: a bag hardly waits for a ULD.
_NOT_PACED: Final = 250
_RETIRES_MS: Final = 30 * 24 * 3_600_000
# One that never held anything, as most SSCCs: it is kept only for a manifest that comes late.
_EMPTY_RETIRES_MS: Final = 3 * 24 * 3_600_000
_RETIRES_AT_A_TIME: Final = 200


@dataclass(slots=True)
class ContainerBatchStats:
    """The figures of one batch of one partition."""

    # (site, kind) -> distinct events that somebody really made.
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Distinct events inferred from a container around.
    inferred_events: int = 0
    duplicates: int = 0
    # kind -> scans and events written for children.
    told: Counter[str] = field(default_factory=Counter)
    # Fan-outs that are not written to their end.
    pending: int = 0
    containers: int = 0
    retired: int = 0
    # Containers found to be in two at once.
    in_two: list[DoubleContainment] = field(default_factory=list)


class ContainerProcessor:
    """The containers of one partition, and what a batch of their records makes of them.

    >>> stage = ContainerStage(partition=0, partitions=1)
    >>> stage.run([b"rubbish"]).refused
    [(0, <Reason.BAD_FRAMING: 2>)]
    """

    def __init__(self, partition: int, partitions: int, pace: RateLimiter | None = None) -> None:
        """`pace`: at which children are told while little else waits; None is as fast as it can."""
        self.partition = partition
        self.partitions = partitions
        self.hub_time: int | None = None
        # Those that were touched last are at the end.
        self.containers: dict[str, Container] = {}
        # Of these, in the same order, those that nothing was ever put into.
        self._empty: dict[str, None] = {}
        self._left = FanOutQueue()
        self._pace = pace
        # Since when there is something left, by the clock of the pace; None while there is not.
        self._left_since: float | None = None
        self._claims = DoubleContainmentTracker()
        self._ahead: PendingChildRecords | None = None
        self._retiring = PendingTombstones()
        # Partitions of hub.scans that got something since the last Tick.
        self._unticked = set[int]()
        self._step = 0
        # While restoring: container -> end of the key -> child.
        self._members: dict[bytes, dict[bytes, ChildRecord]] = {}

    @property
    def pending(self) -> bool:
        """Is there something to write, whether or not records come?"""
        return bool(self._left or self._ahead or self._retiring)

    @property
    def due(self) -> bool:
        """Is some of it to be written now?"""
        pace = self._pace_now()
        return bool(self._ahead or self._retiring) or (bool(self._left) and (pace is None or pace.can_acquire))

    def _pace_now(self) -> RateLimiter | None:
        """The pace to keep; None when what is left waits for too long already."""
        pace, since = self._pace, self._left_since
        return None if pace is None or (since is not None and pace.clock() - since > MAX_THROTTLE_SECONDS) else pace

    def position(self, next_offset: int) -> PartitionPosition:
        """The position after the last batch."""
        left = tuple(PendingFanOut.from_fan_out(name, step) for name, step in self._left)
        return PartitionPosition(next_offset, self.hub_time, transaction_number=self._step, pending_fan_outs=left)

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> ContainerOutput:
        """Fold as much of a batch as a transaction has room for, in the order given, and encode what follows.

        Args:
            payloads: values of hub.containers of this partition; None for a record without a value.
            outputs: False folds only, and encodes nothing.
        """
        started = time.perf_counter()
        figures = ContainerBatchStats()
        refused: list[tuple[int, RejectReason]] = []
        self._step += 1
        taken = 0
        touched: dict[str, list[ContainerEvent]] = {}
        few = len(payloads) < _FEW
        room = (_PROMPT_TRANSACTION if few else MAX_TRANSACTION_RECORDS) - FAN_OUT_CHUNK_SIZE
        part: list[ChildRecord] = []
        whole = MAX_TRANSACTION_RECORDS - FAN_OUT_CHUNK_SIZE
        ahead_of = ""
        for place, read in enumerate(self._read(payloads)):
            size = 1 if read.event is None else 1 + read.event.child_count
            waits = (taken and size > room) or read.container_id in self._retiring
            if waits or room <= self._left.reserved_records:
                break
            if size > whole and (part := self._write_ahead(payloads[place], read, whole)):
                room, ahead_of = 0, read.container_id
                break
            taken += 1
            # Of an event that was written ahead only the container is left to be written.
            room -= 1 if size > whole else size
            if read.hub_time is not None:
                figures.retired += self._on_tick(read.hub_time, touched)
            elif read.event is None:
                refused.append((place, read.reason))
            elif (reason := self._take(read.container_id, read.event, touched, figures)) != RejectReason.OK:
                refused.append((place, reason))
        for name in touched:
            self._left.add(name, self.containers[name].update_propagation())
            self._claims.track(self.containers[name])
        if self.hub_time is not None:
            figures.in_two = self._claims.collect_due(self.containers, self.hub_time, room)
            room -= len(figures.in_two)
            for claim in figures.in_two:
                touched.setdefault(claim.container_id, [])
        gone = self._retiring.next(room)
        room -= len(gone)
        folded = time.perf_counter()
        least = _NOT_PACED if payloads else 0
        inferred = self._tell(max(room, 0) + FAN_OUT_CHUNK_SIZE, self._pace_now() if few and outputs else None, least)
        for name in {*touched, *(each.container_id for each in inferred)}:
            if name not in self._left:
                self.containers[name].drop_caches()
        blocks: list[OutputBlock] = []
        if outputs:
            states = [child_record_codec().encode(ahead_of.encode(), part), *self._states(touched, gone)]
            blocks = [(CONTAINER_STATE_TOPIC, self.partition, block) for block in states if len(block)]
            blocks += encode_fan_out(inferred, self.partitions)
            blocks += self._ticks(blocks)
        for _, portion in inferred:
            figures.told["VOID" if portion.void_time is not None else portion.event.kind] += len(portion.children)
        figures.pending, figures.containers = len(self._left), len(self.containers)
        seconds = {"fold": folded - started, "encode": time.perf_counter() - folded}
        return ContainerOutput(self.partition, taken, blocks, refused, seconds, figures)

    def _tell(self, most: int, pace: RateLimiter | None, least: int) -> list[ContainerFanOutChunk]:
        """What is told now: `most` records at most, and at this pace, but `least` whatever the pace is."""
        allowed = most if pace is None else pace.take(most, least)
        inferred = list(self._left.next_chunks(self.containers, allowed))
        if pace is not None:
            pace.return_unused(allowed - sum(len(portion.children) for _, portion in inferred))
        if not self._left:
            self._left_since = None
        elif self._left_since is None and self._pace is not None:
            self._left_since = self._pace.clock()
        return inferred

    def _ticks(self, blocks: Sequence[OutputBlock]) -> list[OutputBlock]:
        """After what was inferred a Tick of the time: what follows from it is told, even if no other Tick comes."""
        self._unticked.update(partition for topic, partition, _ in blocks if topic == SCANS_TOPIC)
        if self.hub_time is None or self._left:
            return []
        block = RecordBlock.from_records([(b"", encode_tick(self.hub_time, "container-processor"))])
        partitions, self._unticked = sorted(self._unticked), set()
        return [(SCANS_TOPIC, partition, block) for partition in partitions]

    # Folding

    def _read(self, payloads: Sequence[bytes | None]) -> Iterator[ContainerLogRecord]:
        reads = container_event_decoder()
        if self._ahead is None or not payloads or payloads[0] != self._ahead.payload:
            return reads.read(payloads)
        return chain([self._ahead.read], reads.read(payloads[1:]))

    def _write_ahead(self, payload: bytes | None, read: ContainerLogRecord, most: int) -> list[ChildRecord]:
        """The next children of an event that names more than a transaction holds; none when it can be taken."""
        if self._ahead is None or self._ahead.read is not read:
            self._ahead = PendingChildRecords(payload, read, self._members_of_new(read))
        part = self._ahead.next(most)
        if not part:
            self._ahead = None
        return part

    def _members_of_new(self, read: ContainerLogRecord) -> list[ChildRecord]:
        event, container = read.event, self.containers.get(read.container_id) or Container(read.container_id)
        if event is None or container.has_event(event.record_hash) or self._is_astray(read.container_id):
            return []
        try:
            container.check_limits(event)
        except ContainerLimitError:
            return []
        return child_records_of(container, [event])

    def _is_astray(self, name: str) -> bool:
        return partition_of(name.encode(), self.partitions) != self.partition

    def _take(
        self, name: str, event: ContainerEvent, touched: dict[str, list[ContainerEvent]], figures: ContainerBatchStats
    ) -> RejectReason:
        if self._is_astray(name):
            return RejectReason.WRONG_PARTITION
        container = self.containers.get(name) or Container(name)
        if container.has_event(event.record_hash):
            figures.duplicates += event.inferred_from is None
            return RejectReason.OK
        try:
            steps = container.add_event(event)
        except ContainerLimitError:
            return RejectReason.CONTAINER_LIMIT_EXCEEDED
        # Before the first Tick nobody knows the time but the events.
        latest = max(container.last_activity, event.event_time)
        container.last_activity = latest if self.hub_time is None else self.hub_time
        self.containers.pop(name, None)
        self.containers[name] = container
        self._empty.pop(name, None)
        if not any(container.aggregation_events()):
            self._empty[name] = None
        touched.setdefault(name, []).append(event)
        self._left.add(name, steps)
        if event.inferred_from is None:
            figures.events[event.site, event.kind] += 1
        else:
            figures.inferred_events += 1
        return RejectReason.OK

    def _on_tick(self, hub_time: int, touched: Collection[str]) -> int:
        """Take over the time; returns how many containers retire."""
        if self.hub_time is not None and hub_time <= self.hub_time:
            return 0
        is_first, self.hub_time = self.hub_time is None, hub_time
        if is_first:
            self._in_time()
        retired = 0
        for among, after in ((self._empty, _EMPTY_RETIRES_MS), (self.containers, _RETIRES_MS)):
            for name in self._due(among, hub_time - after, touched):
                self._empty.pop(name, None)
                self._retiring.add(name, container_state_keys(self.containers.pop(name)))
                retired += 1
        return retired

    def _due(self, among: Iterable[str], until: int, touched: Collection[str]) -> list[str]:
        """Some that were not touched after `until`."""
        due: list[str] = []
        for name in among:
            if self.containers[name].last_activity > until or len(due) >= _RETIRES_AT_A_TIME:
                break
            if name not in self._left and name not in touched:
                due.append(name)
        return due

    def _in_time(self) -> None:
        """Who was touched last comes last, and nobody later than now, whatever was said before the first Tick."""
        if self.hub_time is not None:
            for container in self.containers.values():
                container.last_activity = min(container.last_activity, self.hub_time)
        self.containers = dict(sorted(self.containers.items(), key=lambda item: item[1].last_activity))
        self._empty = {
            name: None for name, container in self.containers.items() if not any(container.aggregation_events())
        }

    # Encoding

    def _states(self, touched: dict[str, list[ContainerEvent]], gone: list[bytes]) -> Iterator[RecordBlock]:
        yield RecordBlock.from_records([(key, b"") for key in gone])
        for name, events in touched.items():
            container = self.containers.get(name)
            # Those that name more are written ahead.
            few = [
                event
                for event in events
                if event.names_children and event.child_count < MAX_TRANSACTION_RECORDS - FAN_OUT_CHUNK_SIZE
            ]
            if container is not None and few:
                yield child_record_codec().encode(name.encode(), child_records_of(container, few))
        states = container_state_codec()
        known = (self.containers[name] for name in touched if name in self.containers)
        yield RecordBlock.from_records(
            [(container.container_id.encode(), states.encode(container)) for container in known]
        )

    # Restoring

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Take the newest records of some keys of container.state, in the order of the topic.

        Raises:
            StreamsError: one of them cannot be read; nobody but the worker writes there, so nothing is guessed.
        """
        keys, children = list[bytes](), list[bytes]()
        for key, value in records.items():
            name, between, child = key.partition(b"\0")
            if between:
                if value is None:
                    self._members.get(name, {}).pop(child, None)
                else:
                    keys.append(child)
                    children.append(value)
            elif value is None:
                self.containers.pop(name.decode(), None)
            else:
                try:
                    self.containers[name.decode()] = container_state_codec().decoded(value)
                except DecodingError as error:
                    raise self._unreadable(str(error)) from error
        for key, (name, member) in zip(keys, child_record_codec().decoded(children, self._unreadable), strict=True):
            self._members.setdefault(name, {})[key] = member

    def restored(self, position: PartitionPosition | None) -> None:
        """All records were taken: put them together, and take over what the position tells."""
        for name, members in self._members.items():
            container = self.containers.get(name.decode())
            if container is not None:
                assign_children(container, members.values())
            else:
                # It was retiring, or the first event of it was being written.
                self._retiring.add(name.decode(), [name + b"\0" + key for key in members])
        self._members = {}
        if position is not None:
            self.hub_time, self._step = position.hub_time, position.transaction_number
        self._in_time()
        for container in self.containers.values():
            self._claims.track(container)
        if position is not None:
            for left in position.pending_fan_outs:
                self._left.add(left.container_id, [left.to_fan_out(self.containers[left.container_id])])
            if position.pending_fan_outs:
                self._left_since = None if self._pace is None else self._pace.clock()
                self._unticked.update(range(self.partitions))

    def restored_event(self, records: int, seconds: float, offset: int) -> PartitionRestored:
        """The event for the end of the restore."""
        return PartitionRestored(self.partition, len(self.containers), records, seconds, offset, processor="containers")

    def _unreadable(self, why: str) -> StreamsError:
        return StreamsError(f"container.state [{self.partition}] holds records that cannot be read ({why})")
