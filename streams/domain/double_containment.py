"""Double containment: a container was packed into a second one while, by its own records, it is still in the first.

Packing and removal come through the partitions of the two outer containers, in any order: the removal may be on its
way when the second packing is here. So a double containment is reported only after the container had no event for a
while, by the hub's time. The report is withdrawn if a removal, or a VOID of a packing, comes after all. It is kept with
the event (`ContainerEvent.conflicting_packing`) in `container.state`, so that it is made once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from streams.domain.container_events import ContainerEvent
from streams.domain.containers import Container

# How long (ms of hub time) a container must have had no event before it is reported.
QUIET_MS: Final = 15 * 60_000
# How many containers are examined in one go: few are ever in two, and a batch must not wait for more.
MAX_PER_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class DoubleContainment:
    """A container was packed into another one while, by its own records, it was still in the one before."""

    container_id: str
    # The container that it was in, and the event_id of its packing.
    first_parent: str
    first_event: str
    # The container that it was packed into then, the event_id of that packing, and its time (ms since 1970).
    second_parent: str
    second_event: str
    event_time: int
    # True: it was reported before, and later events show that it was not so.
    withdrawn: bool = False


class DoubleContainmentTracker:
    """The containers of a partition that may be in two others."""

    def __init__(self) -> None:
        self._candidates: dict[str, None] = {}

    def track(self, container: Container) -> None:
        """Note a container whose events changed, or which was restored."""
        if _has_two_parents(container):
            self._candidates[container.container_id] = None

    def collect_due(self, containers: Mapping[str, Container], hub_time: int, limit: int) -> list[DoubleContainment]:
        """The reports and withdrawals that are due, of at most `limit` containers; they count as made."""
        due = [name for name in self._candidates if _is_quiet(containers.get(name), hub_time)]
        found: list[DoubleContainment] = []
        for name in due[: max(0, min(limit, MAX_PER_BATCH))]:
            del self._candidates[name]
            if name in containers:
                found += _update_reports(containers[name])
        return found


def find_double_containments(container: Container) -> Iterator[tuple[ContainerEvent, ContainerEvent]]:
    """The packings of a container while it was in another one, each after the packing before it.

    >>> list(find_double_containments(Container("BAG")))
    []
    """
    if _has_two_parents(container):
        events, result = container.evaluate_containment()
        for evidence in result.found_outside:
            if events[evidence.record_index].kind == "PACKED" and evidence.packing_index is not None:
                yield events[evidence.packing_index], events[evidence.record_index]


def _update_reports(container: Container) -> Iterable[DoubleContainment]:
    first_packings = {second.record_hash: first for first, second in find_double_containments(container)}
    for event in container.events:
        first = first_packings.get(event.record_hash)
        if event.conflicting_packing is not None and first is None:
            yield _report(container, container.event(event.conflicting_packing), event, withdrawn=True)
            event.conflicting_packing = None
        elif event.conflicting_packing is None and first is not None:
            event.conflicting_packing = first.record_hash
            yield _report(container, first, event, withdrawn=False)


def _report(
    container: Container, first: ContainerEvent, second: ContainerEvent, *, withdrawn: bool
) -> DoubleContainment:
    return DoubleContainment(
        container.container_id,
        first.parent_id or "",
        first.root_event_id,
        second.parent_id or "",
        second.root_event_id,
        second.event_time,
        withdrawn,
    )


def _is_quiet(container: Container | None, hub_time: int) -> bool:
    return container is None or container.last_activity + QUIET_MS <= hub_time


def _has_two_parents(container: Container) -> bool:
    parents = {event.parent_id for event in container.events if event.kind == "PACKED" and event.parent_id is not None}
    return len(parents) > 1
