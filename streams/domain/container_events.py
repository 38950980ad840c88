"""One event of a container: what it declares, which children it names, and which children it reaches.

A container is a bag, a ULD or a flight; its children are parcels and other containers. A PACKED or UNPACKED event
that names children reaches these children. A scan of the container, or an UNPACKED event that empties it, reaches the
children that were inside at its time.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import mmh3

from streams.domain.kinds import KIND_NUMBERS, UNCONTAINED, kind_names

# The order of events: event time, number of the kind, record_hash.
Order = tuple[int, int, bytes]

# Kinds of container event that are inferred for the children: those that the children went through with the container.
PROPAGATED_KINDS: Final = frozenset(KIND_NUMBERS) - {"PACKED", "VOID", "ADVISED"} - kind_names(UNCONTAINED)


def identity_of(event_id: str, kind: str, event_time: int) -> bytes:
    """The record hash of an event: of its event_id, and of its time for a VOID, which repeats the id that it voids."""
    text = event_id.encode()
    if kind == "VOID":
        text += b"\0" + struct.pack(">q", event_time)
    return struct.pack(">QQ", *mmh3.hash64(text, 0, x64arch=True, signed=False))


def pack_ids(ids: Iterable[bytes]) -> bytes:
    """Ids of children as one byte string, sorted and distinct; it saves memory: a ULD has thousands, kept for days."""
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
    # True where it names any. While a container is being restored, this is known before the children are.
    names_children: bool = False
    # True while its propagation to the children holds; `generation` counts the earlier ones, which were retracted.
    propagated: bool = False
    generation: int = 0
    # Of a packing: record_hash of the earlier packing, once it was reported that the container was in both (see
    # `streams/domain/double_containment.py`).
    conflicting_packing: bytes | None = None
    order: Order = field(init=False)

    def __post_init__(self) -> None:
        self.order = (self.event_time, KIND_NUMBERS[self.kind], self.record_hash)

    @property
    def is_emptying(self) -> bool:
        """Does it take out everything?"""
        return self.kind == "UNPACKED" and not self.names_children and self.parent_id is None

    @property
    def reaches_contents(self) -> bool:
        """Does it reach all children that were inside at its time?"""
        return self.kind in PROPAGATED_KINDS or self.is_emptying

    @property
    def root_event_id(self) -> str:
        """The event_id of the event that was captured; of an inferred event, that of the event it follows from."""
        return self.inferred_from or self.event_id

    @property
    def child_count(self) -> int:
        """The number of children that it names."""
        return sum(packed.count(b"\0") + 1 for packed in (self.containers, self.parcels) if packed)

    def children(self, *, containers: bool) -> list[bytes]:
        """The children that it names: the containers among them, or the parcels."""
        return unpack_ids(self.containers if containers else self.parcels)
