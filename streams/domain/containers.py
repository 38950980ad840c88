"""One container: which children were in it when, by its own events, and what the children receive of each event.

Plain Python about one container; streams/processors/container_processor.py holds many and writes their fan-outs. A
container declares: each of its events is propagated to the children that it concerns. Each child judges by its own
records whether the inferred record counts (streams/domain/containment.py). So a container may propagate more than what
holds, and the same event twice, but never less. It retracts in two cases only: the event was declared wrong, or the
container's own records show that it did not go through what the container around it did.

Late events are backfilled: a child that turns out to have been inside receives what came after, until the container was
emptied or the child was taken out.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter

from streams.domain.container_events import PROPAGATED_KINDS, ContainerEvent, Order, identity_of, pack_ids
from streams.domain.containment import ContainmentRecord, ContainmentResult, evaluate_containment
from streams.domain.limits import MAX_CHILDREN_PER_CONTAINER, MAX_EVENTS_PER_CONTAINER, MAX_NAMED_CHILDREN_PER_CONTAINER
from streams.errors import StreamsError


class FanOutKind(IntEnum):
    """What a fan-out writes for each child; the numbers are those of the schema's FanOutKind."""

    PROPAGATE = 1  # a record that is inferred from the event
    RETRACT = 2  # a VOID of that record
    BACKFILL = 3  # records inferred from the events that came after, for children whose packing became known late


@dataclass(slots=True)
class FanOut:
    """Records to be written for every child that an event concerns, and how far they are written."""

    kind: FanOutKind
    cause: ContainerEvent
    generation: int = 0
    # RETRACT: event_time of the VOID.
    void_time: int | None = None
    # BACKFILL: the event that is being written; None before the first.
    backfill_event: ContainerEvent | None = None
    # Containers come first, so that their own children are not kept waiting.
    containers_next: bool = True
    # The last child that is written; None before the first.
    last_child: bytes | None = None


@dataclass(frozen=True, slots=True)
class FanOutChunk:
    """A part of a fan-out: for each of these children a record of `event`, or a VOID of it."""

    event: ContainerEvent
    # The records take their offset, record time, site and station from it: the event itself, or the VOID of it.
    source: ContainerEvent
    generation: int
    void_time: int | None
    to_containers: bool
    children: Sequence[bytes]


class ContainerLimitError(StreamsError):
    """The container has as many events or children as it may have: the event becomes a dead letter."""


_order = attrgetter("order")


class Container:
    """Everything known of one container."""

    __slots__ = ("_aggregations", "_contents", "_events_by_hash", "_voids", "container_id", "events", "last_activity")

    def __init__(self, container_id: str) -> None:
        self.container_id = container_id
        # In their order.
        self.events: list[ContainerEvent] = []
        # Hub time when the newest of them arrived.
        self.last_activity = 0
        self._events_by_hash: dict[bytes, ContainerEvent] = {}
        # Identity of the event that is declared wrong -> the first VOID of it.
        self._voids: dict[bytes, ContainerEvent] = {}
        # A cache: packings, removals and emptyings that count, in their order; None where it must be built again.
        self._aggregations: list[ContainerEvent] | None = None
        # A cache: a number of aggregations, and the children inside after them: containers, parcels.
        self._contents: tuple[int, tuple[list[bytes], list[bytes]]] | None = None

    def has_event(self, record_hash: bytes) -> bool:
        """Is there an event of that record_hash?"""
        return record_hash in self._events_by_hash

    def set_children(self, record_hash: bytes, containers: Iterable[bytes], parcels: Iterable[bytes]) -> None:
        """Give a restored event the children that it names."""
        event = self._events_by_hash[record_hash]
        event.containers, event.parcels = pack_ids(containers), pack_ids(parcels)
        self.drop_caches()

    def event(self, record_hash: bytes) -> ContainerEvent:
        """The event of that record_hash. Raises KeyError."""
        return self._events_by_hash[record_hash]

    def voided_by(self, event: ContainerEvent) -> ContainerEvent | None:
        """The VOID that declares an event wrong."""
        return self._voids.get(event.record_hash) if event.kind != "VOID" else None

    # What an event means for the children

    def add_event(self, event: ContainerEvent) -> list[FanOut]:
        """Add a new event and return the fan-outs that follow at once; those of scans come from `update_propagation`.

        Raises:
            ContainerLimitError: the event was not added.
        """
        self.check_limits(event)
        if event.kind == "VOID":
            target = self._events_by_hash.get(_target(event))
            is_repeated = _target(event) in self._voids
            self.insert_event(event)
            return [] if target is None or is_repeated else self._on_void(event, target)
        self.insert_event(event)
        if not event.names_children:
            return []
        void = self.voided_by(event)
        if event.kind == "UNPACKED" and void is not None:
            return []
        event.propagated = void is None
        if void is not None:
            # A child of which a packing is known accepts inferred records of that container only. So it must learn of
            # the packing that was declared wrong as well: it receives both the packing and the VOID.
            event.generation = 1
            return [FanOut(FanOutKind.PROPAGATE, event), FanOut(FanOutKind.RETRACT, event, void_time=void.event_time)]
        needs_backfill = event.kind == "PACKED" and self._has_later_propagation(event)
        return [FanOut(FanOutKind.PROPAGATE, event), *([FanOut(FanOutKind.BACKFILL, event)] if needs_backfill else [])]

    def update_propagation(self) -> list[FanOut]:
        """The fan-outs of its scans and emptyings after events were added: all that counts must be propagated."""
        fan_outs: list[FanOut] = []
        superseded = self._superseded_hashes()
        # Most parcels with an SSCC never hold anything. Should one turn out to hold children, they get a backfill.
        has_children = any(event.names_children for event in self.events)
        for event in self.events:
            if not event.reaches_contents:
                continue
            void = self.voided_by(event)
            counts = void is None and event.record_hash not in superseded
            if counts and not event.propagated:
                event.propagated = True
                fan_outs += [FanOut(FanOutKind.PROPAGATE, event, event.generation)] if has_children else []
            elif event.propagated and not counts:
                event.propagated = False
                time = event.event_time if void is None else void.event_time
                fan_outs += [FanOut(FanOutKind.RETRACT, event, event.generation, time)] if has_children else []
                event.generation += 1
        return fan_outs

    def insert_event(self, event: ContainerEvent) -> None:
        """Insert an event in order, without any fan-out."""
        insort(self.events, event, key=_order)
        if event.kind == "VOID":
            first = self._voids.setdefault(_target(event), event)
            if event.order < first.order:
                self._voids[_target(event)] = event
        self._events_by_hash[event.record_hash] = event
        if event.kind == "VOID" or event.names_children or event.is_emptying:
            self.drop_caches()

    def _on_void(self, void: ContainerEvent, target: ContainerEvent) -> list[FanOut]:
        fan_outs = []
        if target.names_children and target.propagated:
            target.propagated, target.generation = False, 1
            fan_outs.append(FanOut(FanOutKind.RETRACT, target, void_time=void.event_time))
        is_removal = target.kind == "UNPACKED" and (target.names_children or target.is_emptying)
        if is_removal and self._has_later_propagation(target):
            # The children were inside after all.
            fan_outs.append(FanOut(FanOutKind.BACKFILL, target))
        return fan_outs

    def _has_later_propagation(self, event: ContainerEvent) -> bool:
        return any(later.reaches_contents for later in self._events_after(event.order))

    def _events_after(self, order: Order) -> Iterator[ContainerEvent]:
        first = bisect_left(self.events, order, key=_order)
        return (event for event in self.events[first:] if event.order != order)

    def check_limits(self, event: ContainerEvent) -> None:
        """Check that there is room for a new event.

        Raises:
            ContainerLimitError: there is none.
        """
        if len(self.events) >= MAX_EVENTS_PER_CONTAINER:
            raise ContainerLimitError
        if event.names_children:
            named = event.child_count + sum(each.child_count for each in self.aggregation_events())
            if named > MAX_NAMED_CHILDREN_PER_CONTAINER:
                raise ContainerLimitError
        if event.kind == "PACKED" and event.names_children:
            packings = [each for each in self.events if each.kind == "PACKED"]
            if sum(each.child_count for each in (*packings, event)) > MAX_CHILDREN_PER_CONTAINER:
                # A child may be a parcel and a container; it takes the room of one.
                after = {
                    child
                    for containers in (True, False)
                    for child in (
                        *self.contents_before(event.order, containers=containers),
                        *event.children(containers=containers),
                    )
                }
                if len(after) > MAX_CHILDREN_PER_CONTAINER:
                    raise ContainerLimitError

    # The container as a child of the containers around it

    def _superseded_hashes(self) -> set[bytes]:
        """Identities of inferred events that do not count by the container's own records."""
        if not any(event.inferred_from is not None and event.kind in PROPAGATED_KINDS for event in self.events):
            return set()
        events, result = self.evaluate_containment()
        return {event.record_hash for event, superseded in zip(events, result.superseded, strict=True) if superseded}

    def containment_history(self) -> Iterator[tuple[ContainerEvent, str | None]]:
        """Its records as a child, and the container that it is in after each."""
        events, result = self.evaluate_containment()
        return zip(events, result.containers_after, strict=True)

    def evaluate_containment(self) -> tuple[list[ContainerEvent], ContainmentResult]:
        """Its records as a child, and the verdict of the rules of containment on them."""
        # Events about its own children do not locate the container itself.
        events = [
            event
            for event in self.events
            if event.kind not in ("VOID", "ADVISED") and not event.names_children and not event.is_emptying
        ]
        records = [
            ContainmentRecord(
                event.kind,
                event.site,
                event.parent_id,
                event.inferred_from is not None,
                self.voided_by(event) is not None,
                event.reason,
            )
            for event in events
        ]
        return events, evaluate_containment(records)

    # Its children

    def contents_before(self, order: Order, *, containers: bool) -> list[bytes]:
        """The children declared to be inside before `order`: the containers or the parcels among them, sorted."""
        if self._aggregations is None:
            self._aggregations = [
                event
                for event in self.events
                if (event.names_children or event.is_emptying) and self.voided_by(event) is None
            ]
        applied = bisect_left(self._aggregations, order, key=_order)
        if self._contents is None or self._contents[0] != applied:
            self._contents = (applied, _contents_after(self._aggregations[:applied]))
        return self._contents[1][0 if containers else 1]

    def drop_caches(self) -> None:
        """Free what can be built again from the events: most containers get no event for hours."""
        self._aggregations = self._contents = None

    def aggregation_events(self) -> Iterator[ContainerEvent]:
        """The events that name children, in their order."""
        return (event for event in self.events if event.names_children)

    def all_children(self) -> tuple[set[bytes], set[bytes]]:
        """Containers and parcels that any event names."""
        containers, parcels = set[bytes](), set[bytes]()
        for event in self.aggregation_events():
            containers.update(event.children(containers=True))
            parcels.update(event.children(containers=False))
        return containers, parcels

    # Fan-outs, chunk by chunk

    def next_chunk(self, fan_out: FanOut, limit: int) -> tuple[FanOutChunk | None, bool]:
        """The next part of a fan-out, for at most `limit` children, and whether it was the last part.

        The chunk is None where nothing is to be written. A chunk holds what is right now: other events may have come
        since the fan-out was due.
        """
        event = self._current_event(fan_out)
        if event is None:
            return None, True
        audience = self._audience(fan_out, event)
        first = 0 if fan_out.last_child is None else bisect_right(audience, fan_out.last_child)
        children = audience[first : first + limit]
        chunk = None
        if children:
            void_time = self._void_time(fan_out, event)
            source = event if void_time is None else self.voided_by(event) or event
            chunk = FanOutChunk(event, source, fan_out.generation, void_time, fan_out.containers_next, children)
        if first + limit < len(audience):
            fan_out.last_child = children[-1]
            return chunk, False
        return chunk, self._advance(fan_out, event)

    def _current_event(self, fan_out: FanOut) -> ContainerEvent | None:
        """The event that the fan-out writes now; None when nothing of it holds any more."""
        cause = fan_out.cause
        if fan_out.kind == FanOutKind.RETRACT:
            return cause
        if fan_out.kind == FanOutKind.PROPAGATE:
            # An event that was retracted meanwhile need not reach the remaining children; a packing must.
            is_current = cause.propagated and cause.generation == fan_out.generation
            return cause if is_current or (cause.kind == "PACKED" and cause.names_children) else None
        if fan_out.backfill_event is None:
            fan_out.backfill_event = self._next_propagated(cause.order)
        return fan_out.backfill_event

    def _next_propagated(self, order: Order) -> ContainerEvent | None:
        return next(
            (e for e in self._events_after(order) if e.reaches_contents and (e.propagated or e.generation)), None
        )

    def _audience(self, fan_out: FanOut, event: ContainerEvent) -> list[bytes]:
        """The containers or the parcels that the event concerns, sorted."""
        if event.names_children:
            return event.children(containers=fan_out.containers_next)
        inside = self.contents_before(event.order, containers=fan_out.containers_next)
        if fan_out.kind != FanOutKind.BACKFILL:
            return inside
        if fan_out.cause.names_children:
            late = fan_out.cause.children(containers=fan_out.containers_next)
        else:
            late = self.contents_before(fan_out.cause.order, containers=fan_out.containers_next)
        return sorted(set(inside).intersection(late))

    def _void_time(self, fan_out: FanOut, event: ContainerEvent) -> int | None:
        """Event time of the VOID that is to be written; None where the event itself is."""
        if fan_out.kind != FanOutKind.BACKFILL:
            return fan_out.void_time
        # First the generations that were retracted: the children may have received them when they were thought to be
        # inside before.
        if event.propagated and fan_out.generation == event.generation:
            return None
        void = self.voided_by(event)
        return void.event_time if void is not None and fan_out.generation == event.generation - 1 else event.event_time

    def _advance(self, fan_out: FanOut, event: ContainerEvent) -> bool:
        """Move on to the parcels, the next generation or the next event; True when nothing is left."""
        fan_out.last_child = None
        fan_out.containers_next = not fan_out.containers_next
        if not fan_out.containers_next:
            return False
        if fan_out.kind != FanOutKind.BACKFILL:
            return True
        fan_out.generation += 1
        if fan_out.generation >= event.generation + event.propagated:
            fan_out.generation = 0
            fan_out.backfill_event = self._next_propagated(event.order)
        return fan_out.backfill_event is None


def _target(void: ContainerEvent) -> bytes:
    return identity_of(void.voids or "", "", 0)


def _contents_after(aggregations: Sequence[ContainerEvent]) -> tuple[list[bytes], list[bytes]]:
    start = next((index for index in range(len(aggregations), 0, -1) if aggregations[index - 1].is_emptying), 0)
    since_emptying = aggregations[start:]
    if len(since_emptying) == 1 and since_emptying[0].kind == "PACKED":
        return since_emptying[0].children(containers=True), since_emptying[0].children(containers=False)
    inside: tuple[set[bytes], set[bytes]] = set(), set()
    for event in since_emptying:
        named = event.children(containers=True), event.children(containers=False)
        for contents, children in zip(inside, named, strict=True):
            (contents.update if event.kind == "PACKED" else contents.difference_update)(children)
    return sorted(inside[0]), sorted(inside[1])
