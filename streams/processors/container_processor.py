"""The container processor of one partition, without a broker: values of hub.containers in, records of the outputs out.

A batch updates the containers at once. What follows for their children is written in chunks, so that no transaction is
larger than its limit and no container waits for the fan-out of another one. The position record keeps the fan-outs that
are not complete (`PendingFanOut`). They go on with the next batch, or without one.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from streams.domain.container_events import ContainerEvent
from streams.domain.containers import Container, ContainerLimitError
from streams.domain.double_containment import DoubleContainmentTracker
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

# Records of a transaction at most, beside a tick for each partition.
MAX_TRANSACTION_RECORDS: Final = 20_000
# Of these, what new events may write; a chunk is left for pending fan-outs.
_MAX_EVENT_RECORDS: Final = MAX_TRANSACTION_RECORDS - FAN_OUT_CHUNK_SIZE
# Limit while few records wait: what others append to hub.scans behind an open transaction is visible when it ends.
_PROMPT_TRANSACTION_RECORDS: Final = 5_000
_FEW_RECORDS: Final = 256
# With new events so many records are propagated whatever the rate limit. Half of them are for new events, so a bag
# hardly waits for a ULD.
_UNLIMITED_RECORDS: Final = 250
_RETIREMENT_MS: Final = 30 * 24 * 3_600_000
# For a container that never held anything, as most SSCCs: it is kept only for a manifest that arrives late.
_EMPTY_RETIREMENT_MS: Final = 3 * 24 * 3_600_000
_MAX_RETIREMENTS_PER_TICK: Final = 200

# Container -> its new events in a batch.
_NewEvents = dict[str, list[ContainerEvent]]


class ContainerProcessor:
    """The containers of one partition, and what batches of its records change.

    >>> processor = ContainerProcessor(partition=0, partitions=1)
    >>> processor.run([b"rubbish"]).rejects
    [(0, <RejectReason.BAD_FRAMING: 2>)]
    """

    def __init__(self, partition: int, partitions: int, rate_limiter: RateLimiter | None = None) -> None:
        """`rate_limiter`: for fan-outs while few records wait; None for no limit."""
        self.partition = partition
        self.partitions = partitions
        self.hub_time: int | None = None
        # In the order of their last activity, the latest at the end.
        self.containers: dict[str, Container] = {}
        # Of these, in the same order, those that never held anything.
        self._empty: dict[str, None] = {}
        self._fan_outs = FanOutQueue()
        self._rate_limiter = rate_limiter
        # Since when a fan-out is pending, by the clock of the rate limiter; None while there is none.
        self._pending_since: float | None = None
        self._double_containments = DoubleContainmentTracker()
        self._pending_children: PendingChildRecords | None = None
        self._tombstones = PendingTombstones()
        # Partitions of hub.scans that got inferred scans since this processor's last tick.
        self._unticked = set[int]()
        self._transaction_number = 0
        # During a restore: container -> end of the key -> child.
        self._restored_children: dict[bytes, dict[bytes, ChildRecord]] = {}

    @property
    def has_pending_output(self) -> bool:
        """Whether there are records to write, even if no more records come in."""
        return bool(self._fan_outs or self._pending_children or self._tombstones)

    @property
    def has_due_output(self) -> bool:
        """Whether some of them are to be written now."""
        if self._pending_children or self._tombstones:
            return True
        rate_limiter = self._current_rate_limiter()
        return bool(self._fan_outs) and (rate_limiter is None or rate_limiter.can_acquire)

    def position(self, next_offset: int) -> PartitionPosition:
        """The position after the last batch, of which the input ends before `next_offset`."""
        fan_outs = tuple(PendingFanOut.from_fan_out(name, fan_out) for name, fan_out in self._fan_outs)
        number = self._transaction_number
        return PartitionPosition(next_offset, self.hub_time, transaction_number=number, pending_fan_outs=fan_outs)

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> ContainerOutput:
        """Process as much of a batch as a transaction has room for, in the order given, and encode what follows.

        Args:
            payloads: values of hub.containers of this partition; None for a record without a value.
            outputs: False only updates the state, and encodes nothing.
        """
        started = time.perf_counter()
        output = ContainerOutput()
        self._transaction_number += 1
        few = len(payloads) < _FEW_RECORDS
        # 1. Apply the records, as many as there is room for.
        new_events: _NewEvents = {}
        written_ahead: tuple[str, list[ChildRecord]] = ("", [])
        room = (_PROMPT_TRANSACTION_RECORDS if few else MAX_TRANSACTION_RECORDS) - FAN_OUT_CHUNK_SIZE
        for index, record in enumerate(self._decode(payloads)):
            size = 1 if record.event is None else 1 + record.event.child_count
            must_wait = (output.processed_count and size > room) or record.container_id in self._tombstones
            if must_wait or room <= self._fan_outs.reserved_records:
                break
            if size > _MAX_EVENT_RECORDS:
                if children := self._write_ahead(payloads[index], record, _MAX_EVENT_RECORDS):
                    room, written_ahead = 0, (record.container_id, children)
                    break
                # The children of the event are written; only the container is left to be written.
                size = 1
            output.processed_count += 1
            room -= size
            self._apply(index, record, new_events, output)
        # 2. Find out what the changed containers propagate and report.
        for name in new_events:
            self._fan_outs.add(name, self.containers[name].update_propagation())
            self._double_containments.track(self.containers[name])
        if self.hub_time is not None:
            output.double_containments = self._double_containments.collect_due(self.containers, self.hub_time, room)
            room -= len(output.double_containments)
            for report in output.double_containments:
                new_events.setdefault(report.container_id, [])
        tombstones = self._tombstones.next_batch(room)
        room -= len(tombstones)
        applied = time.perf_counter()
        # 3. Fan out to the children.
        minimum = _UNLIMITED_RECORDS if payloads else 0
        rate_limiter = self._current_rate_limiter() if few and outputs else None
        chunks = self._next_chunks(max(room, 0) + FAN_OUT_CHUNK_SIZE, rate_limiter, minimum)
        for name in {*new_events, *(chunk.container_id for chunk in chunks)}:
            if name not in self._fan_outs:
                self.containers[name].drop_caches()
        # 4. Encode.
        if outputs:
            name, children = written_ahead
            states = [child_record_codec().encode(name.encode(), children), *self._states(new_events, tombstones)]
            output.blocks = [(CONTAINER_STATE_TOPIC, self.partition, block) for block in states if len(block)]
            output.blocks += encode_fan_out(chunks, self.partitions)
            output.blocks += self._ticks(output.blocks)
        for _, chunk in chunks:
            output.propagated["VOID" if chunk.void_time is not None else chunk.event.kind] += len(chunk.children)
        output.pending_fan_outs, output.containers = len(self._fan_outs), len(self.containers)
        output.phase_seconds = {"fold": applied - started, "encode": time.perf_counter() - applied}
        return output

    # Records of the batch

    def _decode(self, payloads: Sequence[bytes | None]) -> Iterator[ContainerLogRecord]:
        decoder = container_event_decoder()
        if self._pending_children is None or not payloads or payloads[0] != self._pending_children.payload:
            return decoder.decode(payloads)
        return chain([self._pending_children.record], decoder.decode(payloads[1:]))

    def _write_ahead(self, payload: bytes | None, record: ContainerLogRecord, limit: int) -> list[ChildRecord]:
        """The next child records of an event that names more children than a transaction holds.

        None are left when the event itself can be applied.
        """
        if self._pending_children is None or self._pending_children.record is not record:
            self._pending_children = PendingChildRecords(payload, record, self._children_of_new(record))
        children = self._pending_children.next_batch(limit)
        if not children:
            self._pending_children = None
        return children

    def _children_of_new(self, record: ContainerLogRecord) -> list[ChildRecord]:
        """The child records of an event; none if it is a duplicate or will be rejected."""
        event, name = record.event, record.container_id
        container = self.containers.get(name) or Container(name)
        if event is None or container.has_event(event.record_hash) or self._is_in_wrong_partition(name):
            return []
        try:
            container.check_limits(event)
        except ContainerLimitError:
            return []
        return child_records_of(container, [event])

    def _is_in_wrong_partition(self, name: str) -> bool:
        return partition_of(name.encode(), self.partitions) != self.partition

    def _apply(self, index: int, record: ContainerLogRecord, new_events: _NewEvents, output: ContainerOutput) -> None:
        if record.hub_time is not None:
            output.retired += self._apply_tick(record.hub_time, new_events)
            return
        reason = record.reason
        if record.event is not None:
            reason = self._apply_event(record.container_id, record.event, new_events, output)
        if reason != RejectReason.OK:
            output.rejects.append((index, reason))

    def _apply_event(
        self, name: str, event: ContainerEvent, new_events: _NewEvents, output: ContainerOutput
    ) -> RejectReason:
        if self._is_in_wrong_partition(name):
            return RejectReason.WRONG_PARTITION
        container = self.containers.get(name) or Container(name)
        if container.has_event(event.record_hash):
            output.duplicates += event.inferred_from is None
            return RejectReason.OK
        try:
            fan_outs = container.add_event(event)
        except ContainerLimitError:
            return RejectReason.CONTAINER_LIMIT_EXCEEDED
        # Before the first tick only the events tell the time.
        latest = max(container.last_activity, event.event_time)
        container.last_activity = latest if self.hub_time is None else self.hub_time
        self.containers.pop(name, None)
        self.containers[name] = container
        self._empty.pop(name, None)
        if not any(container.aggregation_events()):
            self._empty[name] = None
        new_events.setdefault(name, []).append(event)
        self._fan_outs.add(name, fan_outs)
        if event.inferred_from is None:
            output.events[event.site, event.kind] += 1
        else:
            output.inferred_events += 1
        return RejectReason.OK

    def _apply_tick(self, hub_time: int, new_events: Collection[str]) -> int:
        """Take over the hub time; returns how many containers retire."""
        if self.hub_time is not None and hub_time <= self.hub_time:
            return 0
        is_first, self.hub_time = self.hub_time is None, hub_time
        if is_first:
            self._sort_by_activity()
        retired = 0
        for containers, retirement_ms in ((self._empty, _EMPTY_RETIREMENT_MS), (self.containers, _RETIREMENT_MS)):
            for name in self._due_for_retirement(containers, hub_time - retirement_ms, new_events):
                self._empty.pop(name, None)
                self._tombstones.add(name, container_state_keys(self.containers.pop(name)))
                retired += 1
        return retired

    def _due_for_retirement(self, names: Iterable[str], until: int, new_events: Collection[str]) -> list[str]:
        """Some containers without activity after `until`; `names` is in the order of activity."""
        due: list[str] = []
        for name in names:
            if self.containers[name].last_activity > until or len(due) >= _MAX_RETIREMENTS_PER_TICK:
                break
            if name not in self._fan_outs and name not in new_events:
                due.append(name)
        return due

    def _sort_by_activity(self) -> None:
        """Sort the containers by their last activity, which is never later than the hub time."""
        if self.hub_time is not None:
            for container in self.containers.values():
                container.last_activity = min(container.last_activity, self.hub_time)
        self.containers = dict(sorted(self.containers.items(), key=lambda item: item[1].last_activity))
        self._empty = {
            name: None for name, container in self.containers.items() if not any(container.aggregation_events())
        }

    # Fan-out

    def _current_rate_limiter(self) -> RateLimiter | None:
        """The rate limiter; None when a fan-out has been pending for too long already."""
        limiter, since = self._rate_limiter, self._pending_since
        is_late = limiter is not None and since is not None and limiter.clock() - since > MAX_THROTTLE_SECONDS
        return None if is_late else limiter

    def _next_chunks(self, limit: int, rate_limiter: RateLimiter | None, minimum: int) -> list[ContainerFanOutChunk]:
        """Chunks of fan-outs for this transaction: `limit` records at most, and `minimum` whatever the rate limit."""
        allowed = limit if rate_limiter is None else rate_limiter.acquire(limit, minimum)
        chunks = list(self._fan_outs.next_chunks(self.containers, allowed))
        if rate_limiter is not None:
            rate_limiter.return_unused(allowed - sum(len(chunk.children) for _, chunk in chunks))
        if not self._fan_outs:
            self._pending_since = None
        elif self._pending_since is None and self._rate_limiter is not None:
            self._pending_since = self._rate_limiter.clock()
        return chunks

    # Encoding

    def _ticks(self, blocks: Sequence[OutputBlock]) -> list[OutputBlock]:
        """A tick behind the inferred scans: alerts that follow from them are sent even if no other tick comes."""
        self._unticked.update(partition for topic, partition, _ in blocks if topic == SCANS_TOPIC)
        if self.hub_time is None or self._fan_outs:
            return []
        block = RecordBlock.from_records([(b"", encode_tick(self.hub_time, "container-processor"))])
        partitions, self._unticked = sorted(self._unticked), set()
        return [(SCANS_TOPIC, partition, block) for partition in partitions]

    def _states(self, new_events: _NewEvents, tombstones: list[bytes]) -> Iterator[RecordBlock]:
        yield RecordBlock.from_records([(key, b"") for key in tombstones])
        for name, events in new_events.items():
            container = self.containers.get(name)
            # The children of larger events are written ahead.
            small = [event for event in events if event.names_children and event.child_count < _MAX_EVENT_RECORDS]
            if container is not None and small:
                yield child_record_codec().encode(name.encode(), child_records_of(container, small))
        codec = container_state_codec()
        known = (self.containers[name] for name in new_events if name in self.containers)
        yield RecordBlock.from_records([(each.container_id.encode(), codec.encode(each)) for each in known])

    # Restore

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Enter the newest records of some keys of container.state, in the order of the topic.

        Raises:
            StreamsError: one of them cannot be read. Only the worker writes there, so nothing is guessed.
        """
        keys, values = list[bytes](), list[bytes]()
        for key, value in records.items():
            name, separator, child_key = key.partition(b"\0")
            if separator:
                if value is None:
                    self._restored_children.get(name, {}).pop(child_key, None)
                else:
                    keys.append(child_key)
                    values.append(value)
            elif value is None:
                self.containers.pop(name.decode(), None)
            else:
                try:
                    self.containers[name.decode()] = container_state_codec().decode(value)
                except DecodingError as error:
                    raise self._unreadable(str(error)) from error
        for key, (name, child) in zip(keys, child_record_codec().decode(values, self._unreadable), strict=True):
            self._restored_children.setdefault(name, {})[key] = child

    def finish_restore(self, position: PartitionPosition | None) -> None:
        """End the restore, after the last records: give the containers their children and take over the position."""
        for name, children in self._restored_children.items():
            container = self.containers.get(name.decode())
            if container is not None:
                assign_children(container, children.values())
            else:
                # It was retiring, or the first event of it was being written.
                self._tombstones.add(name.decode(), [name + b"\0" + key for key in children])
        self._restored_children = {}
        if position is not None:
            self.hub_time, self._transaction_number = position.hub_time, position.transaction_number
        self._sort_by_activity()
        for container in self.containers.values():
            self._double_containments.track(container)
        if position is not None and position.pending_fan_outs:
            for pending in position.pending_fan_outs:
                fan_out = pending.to_fan_out(self.containers[pending.container_id])
                self._fan_outs.add(pending.container_id, [fan_out])
            self._pending_since = None if self._rate_limiter is None else self._rate_limiter.clock()
            self._unticked.update(range(self.partitions))

    def restored_event(self, records: int, seconds: float, offset: int) -> PartitionRestored:
        """The event for the end of the restore."""
        return PartitionRestored(self.partition, len(self.containers), records, seconds, offset, processor="containers")

    def _unreadable(self, reason: str) -> StreamsError:
        return StreamsError(f"container.state [{self.partition}] holds records that cannot be read ({reason})")
