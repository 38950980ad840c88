"""The propagation of container events to the children, in plain Python, over the whole set of events at once.

An event that puts children in or takes them out reaches the children that it names. The emptying of a container, and
every scan of it, reaches the children that are declared to be inside by then. What a container receives from the
container around it, other than the packing itself, it passes on to its own children, if by its own records it was in
there (streams/domain/reference/containment.py). The simulator and `parcels verify` use this module; it shares no code
with the container processor, which does the same event by event.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from streams.domain.kinds import KIND_NUMBERS
from streams.domain.reference.containment import EMPTIED, ChildScan, derive_containment

_AGGREGATION_KINDS: Final = ("PACKED", "UNPACKED")


class ReferenceContainerEvent(NamedTuple):
    """A captured event of a container; `tie_breaker` orders events of the same instant and kind."""

    event_id: Hashable
    container: Hashable
    kind: str
    time: int
    site: str
    parcels: Sequence[Any] = ()
    containers: Sequence[Any] = ()
    parent: Hashable | None = None
    voids: Hashable | None = None
    tie_breaker: Any = 0

    @property
    def is_emptying(self) -> bool:
        """Does it take out everything?"""
        return self.kind == "UNPACKED" and self.parent is None and not self.parcels and not self.containers


class Propagation(NamedTuple):
    """The children that receive one event through the container that is directly around them."""

    cause: ReferenceContainerEvent
    # The containers that it came through, outermost first; the last one is around the children.
    path: tuple[Hashable, ...]
    parcels: Sequence[Any]
    containers: Sequence[Any]
    # The VOID of the event, which reaches them as well; None without one.
    void: ReferenceContainerEvent | None
    # True: the children must have it. False: it may have reached them before more was known, and does no harm.
    required: bool


class _HistoryEntry(NamedTuple):
    """An event of a container, or one that it received."""

    cause: ReferenceContainerEvent
    path: tuple[Hashable, ...]
    void: ReferenceContainerEvent | None

    @property
    def order(self) -> tuple[int, int, Any]:
        return self.cause.time, KIND_NUMBERS[self.cause.kind], self.cause.tie_breaker


class _ContainerContents(NamedTuple):
    """The children in a container, in the order of their packing; one child may be a parcel and a container."""

    parcels: dict[Any, None]
    containers: dict[Any, None]


def propagate(events: Iterable[ReferenceContainerEvent]) -> Iterator[Propagation]:
    """All that the children of all containers receive; `events` are all distinct events of a whole log."""
    own: defaultdict[Hashable, list[ReferenceContainerEvent]] = defaultdict(list)
    for event in events:
        own[event.container].append(event)
    received: defaultdict[Hashable, list[Propagation]] = defaultdict(list)
    for container in _outer_first(own):
        for propagation in _of_container(container, own[container], received.pop(container, [])):
            for child in propagation.containers:
                received[child].append(propagation)
            yield propagation


def _outer_first(own: dict[Hashable, list[ReferenceContainerEvent]]) -> list[Hashable]:
    """All containers, each after those that it may be in; containers in a cycle are left out."""
    inner = {each: {child for event in events for child in event.containers} for each, events in own.items()}
    outer_count: defaultdict[Hashable, int] = defaultdict(int)
    for children in inner.values():
        for child in children:
            outer_count[child] += 1
    ready = [each for each in (*own, *(outer_count.keys() - own.keys())) if not outer_count[each]]
    for each in ready:
        for child in inner.get(each, ()):
            outer_count[child] -= 1
            if not outer_count[child]:
                ready.append(child)
    return ready


def _of_container(
    container: Hashable, own: list[ReferenceContainerEvent], received: list[Propagation]
) -> Iterator[Propagation]:
    voids = {event.voids: event for event in own if event.kind == "VOID"}
    entries = [_HistoryEntry(event, (container,), voids.get(event.event_id)) for event in own if event.kind != "VOID"]
    aggregations = [each for each in entries if each.cause.parent is None and each.cause.kind in _AGGREGATION_KINDS]
    as_child = [each for each in entries if each.cause.parent is not None or each.cause.kind not in _AGGREGATION_KINDS]
    inferred = [_HistoryEntry(each.cause, (*each.path, container), each.void) for each in received]
    passed_on = [*as_child, *_counting(as_child, inferred)]
    scans = [each for each in passed_on if each.cause.kind not in _AGGREGATION_KINDS]
    history = sorted([*aggregations, *scans], key=lambda each: each.order)
    is_revised = any(each.void is not None for each in aggregations)
    inside = _ContainerContents({}, {})
    for entry in history:
        if entry.void is None:
            parcels, containers = _apply(entry, inside)
            yield Propagation(entry.cause, entry.path, parcels, containers, None, required=True)
            if not is_revised:
                continue
        else:
            parcels, containers = [], []
        # The children by the knowledge of that time, which included events that were declared wrong later.
        once = _apply(entry, _contents_known_then(history, entry))
        more_parcels, more_containers = (
            [each for each in children if each not in reached]
            for children, reached in zip(once, (set(parcels), set(containers)), strict=True)
        )
        if more_parcels or more_containers:
            yield Propagation(entry.cause, entry.path, more_parcels, more_containers, entry.void, required=False)


def _counting(as_child: list[_HistoryEntry], inferred: list[_HistoryEntry]) -> list[_HistoryEntry]:
    """The inferred entries of a container that count, and those that once seemed to count."""
    if not inferred:
        return []
    history = sorted([(each.order, True, each) for each in inferred] + [(each.order, False, each) for each in as_child],
                     key=itemgetter(0))  # fmt: skip
    counts = _judged(history, ignore_voids=False)
    has_voids = any(entry.void is not None for *_, entry in history)
    counted_once = _judged(history, ignore_voids=True) if has_voids else counts
    lifted = next(
        (entry.void for *_, entry in history if entry.void is not None and entry.cause.kind in _AGGREGATION_KINDS), None
    )
    found = []
    for (_, is_inferred, entry), count, once in zip(history, counts, counted_once, strict=True):
        if is_inferred and (count or (once and entry.void is not None)):
            found.append(entry)
        elif is_inferred and once and lifted is not None and lifted.time > entry.cause.time:
            found.append(entry._replace(void=lifted))
    return found


def _judged(history: Sequence[tuple[Any, bool, _HistoryEntry]], *, ignore_voids: bool) -> list[bool]:
    """Of each entry: does it count by the rules of containment?"""
    scans = [
        ChildScan(
            entry.cause.kind,
            entry.cause.site,
            str(entry.path[-2]) if is_inferred else None if entry.cause.parent is None else str(entry.cause.parent),
            inferred=is_inferred,
            voided=entry.void is not None and not ignore_voids,
            reason=EMPTIED if entry.cause.is_emptying else None,
        )
        for _, is_inferred, entry in history
    ]
    superseded = derive_containment(scans).superseded
    return [not each and not scan.voided for each, scan in zip(superseded, scans, strict=True)]


def _apply(entry: _HistoryEntry, inside: _ContainerContents) -> tuple[list[Any], list[Any]]:
    """The parcels and containers that an entry reaches, by the contents `inside`, which it changes."""
    event = entry.cause
    is_own = len(entry.path) == 1
    if is_own and event.parent is None and event.kind in _AGGREGATION_KINDS and not event.is_emptying:
        for contents, named in zip(inside, (event.parcels, event.containers), strict=True):
            if event.kind == "PACKED":
                contents |= dict.fromkeys(named)
            else:
                for child in named:
                    contents.pop(child, None)
        return list(event.parcels), list(event.containers)
    reached = list(inside.parcels), list(inside.containers)
    if is_own and event.is_emptying:
        inside.parcels.clear()
        inside.containers.clear()
    return reached


def _contents_known_then(history: Sequence[_HistoryEntry], now: _HistoryEntry) -> _ContainerContents:
    inside = _ContainerContents({}, {})
    for entry in history:
        if entry is now:
            break
        if entry.void is None or entry.void.time > now.cause.time:
            _apply(entry, inside)
    return inside
