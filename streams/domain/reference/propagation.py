"""What the events of containers say about what is in them: plain Python, over the whole set of events at once.

An event that puts something in or takes something out is handed to the children that it names; the emptying of a
container, and every scan of it, to whatever is declared inside by then. What a container is handed itself it hands on,
if by its own story it was in there (streams/domain/containment.py), but for the packing itself. The simulator and
`parcels verify` are made of this; it shares nothing with the stage that does the same event by event.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from streams.domain.containment import ContainmentRecord, evaluate_containment
from streams.domain.kinds import KINDS

_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
_PACKS: Final = ("PACKED", "UNPACKED")


class ReferenceContainerEvent(NamedTuple):
    """Something that somebody said of a container; `rank` decides among events of the same instant and kind."""

    event_id: Hashable
    container: Hashable
    kind: str
    time: int
    site: str
    parcels: Sequence[Any] = ()
    containers: Sequence[Any] = ()
    parent: Hashable | None = None
    voids: Hashable | None = None
    rank: Any = 0

    @property
    def is_emptying(self) -> bool:
        """Does it take out everything?"""
        return self.kind == "UNPACKED" and self.parent is None and not self.parcels and not self.containers


class Propagation(NamedTuple):
    """What some children get of one event, through the container that is directly around them."""

    cause: ReferenceContainerEvent
    # The containers that it came through, outermost first; the last one is around the children.
    path: tuple[Hashable, ...]
    parcels: Sequence[Any]
    containers: Sequence[Any]
    # What declares it wrong.
    void: ReferenceContainerEvent | None
    # Must they have it? If not, it may have been handed to them before more was known, and does no harm.
    required: bool


class _HistoryEntry(NamedTuple):
    """An event of a container, or one that it was handed."""

    cause: ReferenceContainerEvent
    path: tuple[Hashable, ...]
    void: ReferenceContainerEvent | None

    @property
    def order(self) -> tuple[int, int, Any]:
        return self.cause.time, _RANK[self.cause.kind], self.cause.rank


class _ContainerContents(NamedTuple):
    """What is in a container, in the order in which it was put in; the same thing may be a parcel and a container."""

    parcels: dict[Any, None]
    containers: dict[Any, None]


def propagate(events: Iterable[ReferenceContainerEvent]) -> Iterator[Propagation]:
    """All that the children of all containers get; `events` are all distinct and of a whole log."""
    own: defaultdict[Hashable, list[ReferenceContainerEvent]] = defaultdict(list)
    for event in events:
        own[event.container].append(event)
    received: defaultdict[Hashable, list[Propagation]] = defaultdict(list)
    for container in _outer_first(own):
        for handed in _of_container(container, own[container], received.pop(container, [])):
            for child in handed.containers:
                received[child].append(handed)
            yield handed


def _outer_first(own: dict[Hashable, list[ReferenceContainerEvent]]) -> list[Hashable]:
    """All containers, each behind those that it may be in; those that go round in a circle are left out."""
    inner = {each: {child for event in events for child in event.containers} for each, events in own.items()}
    above: defaultdict[Hashable, int] = defaultdict(int)
    for children in inner.values():
        for child in children:
            above[child] += 1
    ready = [each for each in (*own, *(above.keys() - own.keys())) if not above[each]]
    for each in ready:
        for child in inner.get(each, ()):
            above[child] -= 1
            if not above[child]:
                ready.append(child)
    return ready


def _of_container(
    container: Hashable, own: list[ReferenceContainerEvent], received: list[Propagation]
) -> Iterator[Propagation]:
    wrong = {event.voids: event for event in own if event.kind == "VOID"}
    said = [_HistoryEntry(event, (container,), wrong.get(event.event_id)) for event in own if event.kind != "VOID"]
    aggregations = [each for each in said if each.cause.parent is None and each.cause.kind in _PACKS]
    story = [each for each in said if each.cause.parent is not None or each.cause.kind not in _PACKS]
    handed = [_HistoryEntry(each.cause, (*each.path, container), each.void) for each in received]
    scans = [each for each in [*story, *_counting(story, handed)] if each.cause.kind not in _PACKS]
    happenings = sorted([*aggregations, *scans], key=lambda each: each.order)
    revised = any(each.void is not None for each in aggregations)
    inside = _ContainerContents({}, {})
    for happening in happenings:
        if happening.void is None:
            parcels, containers = _reached(happening, inside)
            yield Propagation(happening.cause, happening.path, parcels, containers, None, required=True)
            if not revised:
                continue
        else:
            parcels, containers = [], []
        # As it was known then, what is now known to be wrong included.
        more = _reached(happening, _known_then(happenings, happening))
        more_parcels, more_containers = (
            [each for each in part if each not in seen]
            for part, seen in zip(more, (set(parcels), set(containers)), strict=True)
        )
        if more_parcels or more_containers:
            void = happening.void
            yield Propagation(happening.cause, happening.path, more_parcels, more_containers, void, required=False)


def _counting(story: list[_HistoryEntry], handed: list[_HistoryEntry]) -> list[_HistoryEntry]:
    """Of what a container was handed, what it was there for; and what it was taken to be there for once."""
    if not handed:
        return []
    told = sorted([(each.order, True, each) for each in handed] + [(each.order, False, each) for each in story],
                  key=itemgetter(0))  # fmt: skip
    counts = _judged(told, as_first_said=False)
    first = _judged(told, as_first_said=True) if any(each.void is not None for *_, each in told) else counts
    lifted = next((each.void for *_, each in told if each.void is not None and each.cause.kind in _PACKS), None)
    found = []
    for (_, is_handed, each), good, once in zip(told, counts, first, strict=True):
        if is_handed and (good or (once and each.void is not None)):
            found.append(each)
        elif is_handed and once and lifted is not None and lifted.time > each.cause.time:
            found.append(each._replace(void=lifted))
    return found


def _judged(told: Sequence[tuple[Any, bool, _HistoryEntry]], *, as_first_said: bool) -> list[bool]:
    records = [
        ContainmentRecord(
            each.cause.kind,
            each.cause.site,
            str(each.path[-2]) if is_handed else None if each.cause.parent is None else str(each.cause.parent),
            inferred=is_handed,
            voided=each.void is not None and not as_first_said,
            reason="EMPTIED" if each.cause.is_emptying else None,
        )
        for _, is_handed, each in told
    ]
    aside = evaluate_containment(records).superseded
    return [not each and not record.voided for each, record in zip(aside, records, strict=True)]


def _reached(happening: _HistoryEntry, inside: _ContainerContents) -> tuple[list[Any], list[Any]]:
    """Whom a happening is handed to, parcels and containers, by what is `inside`, which it changes."""
    event = happening.cause
    if len(happening.path) == 1 and event.parent is None and event.kind in _PACKS and not event.is_emptying:
        for among, named in zip(inside, (event.parcels, event.containers), strict=True):
            if event.kind == "PACKED":
                among |= dict.fromkeys(named)
            else:
                for child in named:
                    among.pop(child, None)
        return list(event.parcels), list(event.containers)
    reached = list(inside.parcels), list(inside.containers)
    if len(happening.path) == 1 and event.is_emptying:
        inside.parcels.clear()
        inside.containers.clear()
    return reached


def _known_then(happenings: Sequence[_HistoryEntry], now: _HistoryEntry) -> _ContainerContents:
    inside = _ContainerContents({}, {})
    for each in happenings:
        if each is now:
            break
        if each.void is None or each.void.time > now.cause.time:
            _reached(each, inside)
    return inside
