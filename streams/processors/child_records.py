"""The records of children in container.state, in pieces: one event may name more than a transaction holds.

The children of such an event are written before the event is taken: until then their records name an event that the
container does not have, which means nothing. A worker that starts in between finds the event still in the log and
writes them again. A container that retires goes first and its children after it; those without a container that a
worker finds when it starts, it takes away.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from streams.domain.container_events import ContainerEvent
from streams.domain.containers import Container
from streams.processors.container_codecs import ChildRecord, ContainerLogRecord, child_key_suffix


@dataclass(slots=True)
class PendingChildRecords:
    """The children of an event that is not taken yet."""

    payload: bytes | None
    read: ContainerLogRecord
    members: list[ChildRecord]
    written_count: int = 0

    def next(self, most: int) -> list[ChildRecord]:
        """The next of them to be written, `most` at most."""
        first, self.written_count = self.written_count, min(self.written_count + most, len(self.members))
        return self.members[first : self.written_count]

    @property
    def left(self) -> int:
        """How many are still to be written."""
        return len(self.members) - self.written_count


@dataclass(slots=True)
class PendingTombstones:
    """Keys of container.state that get a tombstone, by container, in the order in which they get it."""

    _keys: dict[str, Iterator[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._keys

    def add(self, container_id: str, keys: Iterable[bytes]) -> None:
        """Keys of a container, of which nothing else is written until they are gone."""
        self._keys[container_id] = iter(keys)

    def next(self, most: int) -> list[bytes]:
        """The next keys, `most` at most."""
        gone: list[bytes] = []
        while self._keys and len(gone) < most:
            name = next(iter(self._keys))
            some = list(islice(self._keys[name], most - len(gone)))
            gone += some
            if not some:
                del self._keys[name]
        return gone


def child_records_of(container: Container, events: Iterable[ContainerEvent]) -> list[ChildRecord]:
    """The children that these events of a container name, as they are kept once it has the events."""
    rows = []
    listings = list(dict.fromkeys([*container.aggregation_events(), *events]))
    for which in (True, False):
        named = set[bytes]().union(*(event.children(containers=which) for event in events))
        record_hashes = dict.fromkeys(sorted(named), b"")
        for event in listings:
            for child in record_hashes.keys() & set(event.children(containers=which)):
                record_hashes[child] += event.record_hash
        rows += [ChildRecord(child, which, each) for child, each in record_hashes.items()]
    return rows


def container_state_keys(container: Container) -> Iterator[bytes]:
    """The keys of all that is kept of a container, its own first."""
    own = container.container_id.encode()
    yield own
    for which, among in zip((True, False), container.all_children(), strict=True):
        for child in among:
            yield own + b"\0" + child_key_suffix(child, is_container=which)


def assign_children(container: Container, members: Iterable[ChildRecord]) -> None:
    """Give the events of a container the children that name them."""
    named: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for child, which, record_hashes in members:
        for at in range(0, len(record_hashes), 16):
            named.setdefault(record_hashes[at : at + 16], ([], []))[0 if which else 1].append(child)
    for identity, (containers, parcels) in named.items():
        if container.has_event(identity):
            container.set_children(identity, containers, parcels)
