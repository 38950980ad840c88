"""The child records of container.state, in pieces: one event may name more children than a transaction holds.

The children of such an event are written ahead, before the event is applied. Until then their records name an event
that the container does not have, and so mean nothing. A worker that starts in between finds the event still in the log
and writes them again. A container that retires is removed first and its children after it. A worker that finds children
without a container when it starts removes them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from streams.domain.container_events import ContainerEvent
from streams.domain.containers import Container
from streams.kernel.frames import HASH_BYTES
from streams.processors.container_codecs import ChildRecord, ContainerLogRecord, child_key_suffix


@dataclass(slots=True)
class PendingChildRecords:
    """The child records of an event that is not applied yet."""

    # Value and decoded record of the event.
    payload: bytes | None
    record: ContainerLogRecord
    child_records: list[ChildRecord]
    written_count: int = 0

    def next_batch(self, limit: int) -> list[ChildRecord]:
        """The next of them to be written, `limit` at most."""
        first, self.written_count = self.written_count, min(self.written_count + limit, len(self.child_records))
        return self.child_records[first : self.written_count]

    @property
    def remaining(self) -> int:
        """How many are still to be written."""
        return len(self.child_records) - self.written_count


@dataclass(slots=True)
class PendingTombstones:
    """Keys of container.state that are to get a tombstone, by container, in the order in which they get it."""

    _keys: dict[str, Iterator[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._keys

    def add(self, container_id: str, keys: Iterable[bytes]) -> None:
        """Add the keys of a container, of which nothing else is written before they are gone."""
        self._keys[container_id] = iter(keys)

    def next_batch(self, limit: int) -> list[bytes]:
        """The next keys, `limit` at most."""
        batch: list[bytes] = []
        while self._keys and len(batch) < limit:
            name = next(iter(self._keys))
            keys = list(islice(self._keys[name], limit - len(batch)))
            batch += keys
            if not keys:
                del self._keys[name]
        return batch


def child_records_of(container: Container, events: Iterable[ContainerEvent]) -> list[ChildRecord]:
    """The child records for all children that these events of a container name.

    Each record lists every event of the container that names the child, these included.
    """
    records = []
    aggregation_events = list(dict.fromkeys([*container.aggregation_events(), *events]))
    for is_container in (True, False):
        named = set[bytes]().union(*(event.children(containers=is_container) for event in events))
        record_hashes = dict.fromkeys(sorted(named), b"")
        for event in aggregation_events:
            for child in record_hashes.keys() & set(event.children(containers=is_container)):
                record_hashes[child] += event.record_hash
        records += [ChildRecord(child, is_container, hashes) for child, hashes in record_hashes.items()]
    return records


def container_state_keys(container: Container) -> Iterator[bytes]:
    """The keys of all records of a container in container.state, its own first."""
    own = container.container_id.encode()
    yield own
    for is_container, children in zip((True, False), container.all_children(), strict=True):
        for child in children:
            yield own + b"\0" + child_key_suffix(child, is_container=is_container)


def assign_children(container: Container, child_records: Iterable[ChildRecord]) -> None:
    """Give the events of a container the children that name them."""
    children: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for child, is_container, record_hashes in child_records:
        for start in range(0, len(record_hashes), HASH_BYTES):
            containers, parcels = children.setdefault(record_hashes[start : start + HASH_BYTES], ([], []))
            (containers if is_container else parcels).append(child)
    for record_hash, (containers, parcels) in children.items():
        if container.has_event(record_hash):
            container.set_children(record_hash, containers, parcels)
