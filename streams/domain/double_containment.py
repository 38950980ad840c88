"""Containers that two others claim at once: packed into one while, by their own records, they are still in another.

What two containers say of a third comes through their own partitions, in any order: the removal may be on its way when
the second packing is here. So a claim is told only after the container was not heard of for a while, by the hub's
clock; and taken back, should a removal, or a VOID of a packing, come after all. What was told stands with the event
(`ContainerEvent.conflicting_packing`), which is kept, so that it is told once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from streams.domain.containers import Container, ContainerEvent

# For so long (ms of hub time) nothing must have come.
QUIET_MS: Final = 15 * 60_000
# So many containers are looked at in one go: few are ever packed into two, and a batch must not wait for more.
MAX_PER_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class DoubleContainment:
    """A container was packed into another one while, by its own records, it was still in the one before."""

    container_id: str
    # The container that it was in, and event_id of who said so.
    first_parent: str
    first_event: str
    # The container that it was packed into then, by whose event, and when (ms since 1970).
    second_parent: str
    second_event: str
    event_time: int
    # It was told before, and by what came since it is not so.
    withdrawn: bool = False


class DoubleContainmentTracker:
    """The containers of a partition of which something may be to be told."""

    def __init__(self) -> None:
        self._open: dict[str, None] = {}

    def track(self, container: Container) -> None:
        """Its events changed, or it was restored."""
        if _may_be_in_two(container):
            self._open[container.container_id] = None

    def told(self, containers: Mapping[str, Container], hub_time: int, limit: int) -> list[DoubleContainment]:
        """What is to be told now, of so many containers at most; it is told from then on."""
        quiet = [name for name in self._open if _is_quiet(containers.get(name), hub_time)]
        found: list[DoubleContainment] = []
        for name in quiet[: max(0, min(limit, MAX_PER_BATCH))]:
            del self._open[name]
            if name in containers:
                found += _changes(containers[name])
        return found


def find_double_containments(container: Container) -> Iterator[tuple[ContainerEvent, ContainerEvent]]:
    """Of each time that it was packed while it was in something else: that packing before, and this one.

    >>> list(claims(Container("BAG")))
    []
    """
    if _may_be_in_two(container):
        own, judged = container.evaluate_containment()
        for found in judged.found_outside:
            if own[found.at].kind == "PACKED" and found.packing is not None:
                yield own[found.packing], own[found.at]


def _changes(container: Container) -> Iterable[DoubleContainment]:
    now = {second.record_hash: first for first, second in find_double_containments(container)}
    for event in container.events:
        first = now.get(event.record_hash)
        if event.conflicting_packing is not None and first is None:
            yield _said(container, container.event(event.conflicting_packing), event, withdrawn=True)
            event.conflicting_packing = None
        elif event.conflicting_packing is None and first is not None:
            event.conflicting_packing = first.record_hash
            yield _said(container, first, event, withdrawn=False)


def _said(container: Container, first: ContainerEvent, second: ContainerEvent, *, withdrawn: bool) -> DoubleContainment:
    return DoubleContainment(
        container.container_id,
        first.parent_id or "",
        first.root,
        second.parent_id or "",
        second.root,
        second.event_time,
        withdrawn,
    )


def _is_quiet(container: Container | None, hub_time: int) -> bool:
    return container is None or container.last_activity + QUIET_MS <= hub_time


def _may_be_in_two(container: Container) -> bool:
    parents = {event.parent_id for event in container.events if event.kind == "PACKED" and event.parent_id is not None}
    return len(parents) > 1
