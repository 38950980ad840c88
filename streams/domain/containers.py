"""One container: who was in it when, by its own events, and what its children must hear of each of them.

Plain Python about one container. The container processor (streams/processors/container_processor.py) holds many of them
and writes what follows. A container declares: each event reaches the children that it concerns, and each child decides
by its own records what of that counts (streams/domain/containment.py). So what is told may be more than what holds, and
told twice, but must not be less; it is taken back only where an event was declared wrong, or where the container
itself, by its own records, did not go through what the container around it did.

Of each event: PACKED and UNPACKED that name children (`lists`) go to these. Any other that is handed on (scans, and the
emptying) goes to the children that were inside at its time. Late knowledge is caught up: whoever turns out to have been
inside hears of what came after, until the next time that everybody left or that it was taken out.
"""

import struct
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter
from typing import Final

import mmh3

from streams.domain import kinds
from streams.domain.containment import ContainmentRecord, ContainmentResult, evaluate_containment
from streams.domain.kinds import KINDS
from streams.domain.limits import MAX_CHILDREN_PER_CONTAINER, MAX_EVENTS_PER_CONTAINER, MAX_NAMED_CHILDREN_PER_CONTAINER

Order = tuple[int, int, bytes]

_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
_LISTING: Final = frozenset({"PACKED", "UNPACKED"})
_SILENT: Final = frozenset({"PACKED", "VOID", "ADVISED"})
# Scans of the container that its children went through with it.
PROPAGATED_KINDS: Final = frozenset(
    kind for rank, kind in enumerate(KINDS) if kind not in _SILENT and not kinds.UNCONTAINED >> rank & 1
)


def identity_of(event_id: str, kind: str, event_time: int) -> bytes:
    """What tells an event from others: a VOID repeats the event_id of what it declares wrong."""
    said = event_id.encode()
    if kind == "VOID":
        said += b"\0" + struct.pack(">q", event_time)
    return struct.pack(">QQ", *mmh3.hash64(said, 0, x64arch=True, signed=False))


def pack_ids(ids: Iterable[bytes]) -> bytes:
    """Ids of children, sorted and without repeats, in one piece: a ULD has thousands, and days' worth are kept."""
    return b"\0".join(sorted(set(ids)))


def unpack_ids(packed: bytes) -> list[bytes]:
    """The ids that `pack_ids` packed."""
    return packed.split(b"\0") if packed else []


@dataclass(slots=True, eq=False)
class ContainerEvent:
    """One distinct event of a container."""

    record_hash: bytes
    event_id: str
    kind: str
    event_time: int
    utc_offset_minutes: int
    record_time: int
    site: str
    station: str
    lane: str | None
    reason: str | None
    parent_id: str | None
    voids: str | None
    inferred_from: str | None
    path: tuple[str, ...]
    # The children that it names (`pack_ids`).
    containers: bytes = b""
    parcels: bytes = b""
    # Does it name any? Known before the children are, while a container is being restored.
    lists: bool = False
    # Was it handed on, and how often was that taken back before?
    propagated: bool = False
    generation: int = 0
    # Of a packing: identity of the one before it, if it was told that the container was then in both.
    conflicting_packing: bytes | None = None
    order: Order = field(init=False)

    def __post_init__(self) -> None:
        self.order = (self.event_time, _RANK[self.kind], self.record_hash)

    @property
    def is_emptying(self) -> bool:
        """Was everything taken out?"""
        return self.kind == "UNPACKED" and not self.lists and self.parent_id is None

    @property
    def handed_on(self) -> bool:
        """Does it go to whoever was inside at its time?"""
        return self.kind in PROPAGATED_KINDS or self.is_emptying

    @property
    def root(self) -> str:
        """The event_id of what somebody really said."""
        return self.inferred_from or self.event_id

    @property
    def named(self) -> int:
        """How many children it names."""
        return sum(packed.count(b"\0") + 1 for packed in (self.containers, self.parcels) if packed)

    def children(self, *, containers: bool) -> list[bytes]:
        """The children that it names, of one sort."""
        return unpack_ids(self.containers if containers else self.parcels)


class FanOutKind(IntEnum):
    """What the children of a container get; the numbers are those of the schema's FanOutKind."""

    PROPAGATE = 1
    RETRACT = 2
    BACKFILL = 3


@dataclass(slots=True)
class FanOut:
    """Something that is to be written for every child concerned, and how far that is done."""

    kind: FanOutKind
    cause: ContainerEvent
    generation: int = 0
    # RETRACT: event_time of the VOID.
    void_time: int | None = None
    # BACKFILL: the event that is being propagated; None before the first.
    backfill_event: ContainerEvent | None = None
    # Containers come first, so that their own children are not kept waiting.
    containers_next: bool = True
    last_child: bytes | None = None


@dataclass(frozen=True, slots=True)
class FanOutChunk:
    """What some children get: a record of `event`, or a VOID of it."""

    event: ContainerEvent
    # Who said so, when and where: the event, or the VOID of it.
    said: ContainerEvent
    generation: int
    void_time: int | None
    containers: bool
    children: Sequence[bytes]


class ContainerLimitExceeded(Exception):
    """The container has as many events or children as it may have."""


_order = attrgetter("order")


class Container:
    """Everything known of one container."""

    __slots__ = ("_inside", "_known", "_lists", "_voids", "container_id", "events", "last_activity")

    def __init__(self, container_id: str) -> None:
        self.container_id = container_id
        # In their order.
        self.events: list[ContainerEvent] = []
        # Hub time when the last of them came.
        self.last_activity = 0
        self._known: dict[bytes, ContainerEvent] = {}
        # Identity of what is declared wrong -> the first VOID of it.
        self._voids: dict[bytes, ContainerEvent] = {}
        # Packings, removals and emptyings that count, in their order; None where it must be found out again.
        self._lists: list[ContainerEvent] | None = None
        # How many of these, and who was inside after them: containers, parcels.
        self._inside: tuple[int, tuple[list[bytes], list[bytes]]] | None = None

    def has_event(self, identity: bytes) -> bool:
        """Is there an event of that identity?"""
        return identity in self._known

    def name(self, identity: bytes, containers: Iterable[bytes], parcels: Iterable[bytes]) -> None:
        """Give an event that was restored the children that it names."""
        event = self._known[identity]
        event.containers, event.parcels = pack_ids(containers), pack_ids(parcels)
        self._lists = self._inside = None

    def event(self, identity: bytes) -> ContainerEvent:
        """The event of that identity. Raises KeyError."""
        return self._known[identity]

    def voided_by(self, event: ContainerEvent) -> ContainerEvent | None:
        """The VOID that declares an event wrong."""
        return self._voids.get(event.record_hash) if event.kind != "VOID" else None

    # What an event means for the children

    def take(self, event: ContainerEvent) -> list[FanOut]:
        """Take a new event; returns what follows at once. What its scans mean is said by `settle`.

        Raises:
            Full: nothing was taken.
        """
        self.check_limits(event)
        if event.kind == "VOID":
            target = self._known.get(_target(event))
            again = _target(event) in self._voids
            self.enter(event)
            return [] if target is None or again else self._on_void(event, target)
        self.enter(event)
        if not event.lists:
            return []
        void = self.voided_by(event)
        if event.kind == "UNPACKED" and void is not None:
            return []
        event.propagated = void is None
        if void is not None:
            # A child that is known not to have been put in takes nothing from this container: it must hear both.
            event.generation = 1
            return [FanOut(FanOutKind.PROPAGATE, event), FanOut(FanOutKind.RETRACT, event, void_time=void.event_time)]
        catch_up = [FanOut(FanOutKind.BACKFILL, event)] if event.kind == "PACKED" and self._goes_on(event) else []
        return [FanOut(FanOutKind.PROPAGATE, event), *catch_up]

    def settle(self) -> list[FanOut]:
        """What follows from its scans and emptyings, after some events were taken: whatever counts must be told."""
        steps: list[FanOut] = []
        aside = self._set_aside()
        # Most parcels with an SSCC never hold anything: whatever they may turn out to hold is caught up then.
        holds = any(event.lists for event in self.events)
        for event in self.events:
            if not event.handed_on:
                continue
            void = self.voided_by(event)
            counts = void is None and event.record_hash not in aside
            if counts and not event.propagated:
                event.propagated = True
                steps += [FanOut(FanOutKind.PROPAGATE, event, event.generation)] if holds else []
            elif event.propagated and not counts:
                event.propagated = False
                time = event.event_time if void is None else void.event_time
                steps += [FanOut(FanOutKind.RETRACT, event, event.generation, time)] if holds else []
                event.generation += 1
        return steps

    def enter(self, event: ContainerEvent) -> None:
        """Put an event in its place, without consequences."""
        insort(self.events, event, key=_order)
        if event.kind == "VOID":
            known = self._voids.setdefault(_target(event), event)
            if event.order < known.order:
                self._voids[_target(event)] = event
        self._known[event.record_hash] = event
        if event.kind == "VOID" or event.lists or event.is_emptying:
            self._lists = self._inside = None

    def _on_void(self, void: ContainerEvent, target: ContainerEvent) -> list[FanOut]:
        steps = []
        if target.lists and target.propagated:
            target.propagated, target.generation = False, 1
            steps.append(FanOut(FanOutKind.RETRACT, target, void_time=void.event_time))
        if target.kind == "UNPACKED" and (target.lists or target.is_emptying) and self._goes_on(target):
            # They were inside after all.
            steps.append(FanOut(FanOutKind.BACKFILL, target))
        return steps

    def _goes_on(self, event: ContainerEvent) -> bool:
        return any(later.handed_on for later in self._after(event.order))

    def _after(self, order: Order) -> Iterator[ContainerEvent]:
        first = bisect_left(self.events, order, key=_order)
        return (event for event in self.events[first:] if event.order != order)

    def check_limits(self, event: ContainerEvent) -> None:
        """Is there room for a new event?

        Raises:
            Full: there is none.
        """
        if len(self.events) >= MAX_EVENTS_PER_CONTAINER:
            raise ContainerLimitExceeded
        if (
            event.lists
            and event.named + sum(each.named for each in self.aggregation_events()) > MAX_NAMED_CHILDREN_PER_CONTAINER
        ):
            raise ContainerLimitExceeded
        if event.kind == "PACKED" and event.lists:
            named = [each for each in self.events if each.kind == "PACKED"]
            if sum(each.named for each in (*named, event)) > MAX_CHILDREN_PER_CONTAINER:
                # A child may be a parcel and a container; it is one thing that takes room.
                after = {
                    child
                    for which in (True, False)
                    for child in (
                        *self.contents_before(event.order, containers=which),
                        *event.children(containers=which),
                    )
                }
                if len(after) > MAX_CHILDREN_PER_CONTAINER:
                    raise ContainerLimitExceeded

    # What it went through itself

    def _set_aside(self) -> set[bytes]:
        """Identities of inferred events that do not hold by the container's own records."""
        if not any(event.inferred_from is not None and event.kind in PROPAGATED_KINDS for event in self.events):
            return set()
        own, judged = self.evaluate_containment()
        return {event.record_hash for event, aside in zip(own, judged.superseded, strict=True) if aside}

    def around(self) -> Iterator[tuple[ContainerEvent, str | None]]:
        """Its own records, and after each what it was inside."""
        own, judged = self.evaluate_containment()
        return zip(own, judged.inside, strict=True)

    def evaluate_containment(self) -> tuple[list[ContainerEvent], ContainmentResult]:
        """Its own records, and what they say together."""
        # What was put into it or taken out says nothing of where it is itself.
        own = [
            event
            for event in self.events
            if event.kind not in ("VOID", "ADVISED") and not event.lists and not event.is_emptying
        ]
        told = [
            ContainmentRecord(
                event.kind,
                event.site,
                event.parent_id,
                event.inferred_from is not None,
                self.voided_by(event) is not None,
                event.reason,
            )
            for event in own
        ]
        return own, evaluate_containment(told)

    # Who was inside

    def contents_before(self, order: Order, *, containers: bool) -> list[bytes]:
        """The containers or the parcels declared to be inside before `order`, sorted."""
        if self._lists is None:
            self._lists = [e for e in self.events if (e.lists or e.is_emptying) and self.voided_by(e) is None]
        applied = bisect_left(self._lists, order, key=_order)
        if self._inside is None or self._inside[0] != applied:
            self._inside = (applied, _inside_after(self._lists[:applied]))
        return self._inside[1][0 if containers else 1]

    def rest(self) -> None:
        """Let go of what can be found out again from the events: most containers are not heard of for hours."""
        self._lists = self._inside = None

    def aggregation_events(self) -> Iterator[ContainerEvent]:
        """The events that name children, in their order."""
        return (event for event in self.events if event.lists)

    def members(self) -> tuple[set[bytes], set[bytes]]:
        """Containers and parcels that were ever named."""
        containers, parcels = set[bytes](), set[bytes]()
        for event in self.aggregation_events():
            containers.update(event.children(containers=True))
            parcels.update(event.children(containers=False))
        return containers, parcels

    def portion(self, step: FanOut, limit: int) -> tuple[FanOutChunk | None, bool]:
        """The next part of a step, for so many children at most, and whether it was the last; None where there is none.

        What is written is what holds now: others may have come since the step was due.
        """
        event = self._event_of(step)
        if event is None:
            return None, True
        audience = self._audience(step, event)
        first = 0 if step.last_child is None else bisect_right(audience, step.last_child)
        children = audience[first : first + limit]
        made = None
        if children:
            void_time = self._void_time(step, event)
            said = event if void_time is None else self.voided_by(event) or event
            made = FanOutChunk(event, said, step.generation, void_time, step.containers_next, children)
        if first + limit < len(audience):
            step.last_child = children[-1]
            return made, False
        return made, self._is_last(step, event)

    def _event_of(self, step: FanOut) -> ContainerEvent | None:
        """What the step is about now; None when nothing of it holds any more."""
        cause = step.cause
        if step.kind == FanOutKind.RETRACT:
            return cause
        if step.kind == FanOutKind.PROPAGATE:
            # What was taken back meanwhile need not be told to the others; a packing must.
            still = cause.propagated and cause.generation == step.generation
            return cause if still or (cause.kind == "PACKED" and cause.lists) else None
        if step.backfill_event is None:
            step.backfill_event = self._next_handed_on(cause.order)
        return step.backfill_event

    def _next_handed_on(self, order: Order) -> ContainerEvent | None:
        return next((e for e in self._after(order) if e.handed_on and (e.propagated or e.generation)), None)

    def _audience(self, step: FanOut, event: ContainerEvent) -> list[bytes]:
        """Who of one sort it concerns, sorted."""
        if event.lists:
            return event.children(containers=step.containers_next)
        inside = self.contents_before(event.order, containers=step.containers_next)
        if step.kind != FanOutKind.BACKFILL:
            return inside
        if step.cause.lists:
            late = step.cause.children(containers=step.containers_next)
        else:
            late = self.contents_before(step.cause.order, containers=step.containers_next)
        return sorted(set(inside).intersection(late))

    def _void_time(self, step: FanOut, event: ContainerEvent) -> int | None:
        """Event time of the VOID that is to be written; None where the event itself is."""
        if step.kind != FanOutKind.BACKFILL:
            return step.void_time
        # First what was taken back of it: they may have heard of it when they were thought to be inside before.
        if event.propagated and step.generation == event.generation:
            return None
        void = self.voided_by(event)
        return void.event_time if void is not None and step.generation == event.generation - 1 else event.event_time

    def _is_last(self, step: FanOut, event: ContainerEvent) -> bool:
        """Go on to the parcels, or to what comes next; True when nothing does."""
        step.last_child = None
        step.containers_next = not step.containers_next
        if not step.containers_next:
            return False
        if step.kind != FanOutKind.BACKFILL:
            return True
        step.generation += 1
        if step.generation >= event.generation + event.propagated:
            step.generation = 0
            step.backfill_event = self._next_handed_on(event.order)
        return step.backfill_event is None


def _target(void: ContainerEvent) -> bytes:
    return identity_of(void.voids or "", "", 0)


def _inside_after(lists: Sequence[ContainerEvent]) -> tuple[list[bytes], list[bytes]]:
    start = next((place for place in range(len(lists), 0, -1) if lists[place - 1].is_emptying), 0)
    left = lists[start:]
    if len(left) == 1 and left[0].kind == "PACKED":
        return left[0].children(containers=True), left[0].children(containers=False)
    inside: tuple[set[bytes], set[bytes]] = set(), set()
    for event in left:
        for among, named in zip(
            inside, (event.children(containers=True), event.children(containers=False)), strict=True
        ):
            (among.update if event.kind == "PACKED" else among.difference_update)(named)
    return sorted(inside[0]), sorted(inside[1])
