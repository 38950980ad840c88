"""What children of containers get, as records: columns for all of a transaction at once, no object a child.

A child that is a parcel gets a scan in hub.scans, a container an event in hub.containers; each in the partition of its
own id. What a record says is what was said of the container around it, so most columns are one value for thousands.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.containers import FanOutChunk
from streams.domain.containment import EMPTIED
from streams.domain.inferred_ids import INFERRED_ID_BYTES, generation_suffix, write_inferred_ids
from streams.domain.kinds import KINDS, VOID
from streams.formats.record_block import RecordBlock
from streams.formats.schemas import load_schemas
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.partitioning import compute_partitions, reorder_keys
from streams.processors.processor import OutputBlock

_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
# The buffers that texts come from.
_SAID, _CHILDREN, _IDS = range(3)
_ABSENT: Final = -1


class ContainerFanOutChunk(NamedTuple):
    """A part of a fan-out, and the container that it is of."""

    container_id: str
    portion: FanOutChunk


class _ChildEventEncoder:
    """Encoder of the records of one topic."""

    def __init__(self, topic: str, schema: str, child: str) -> None:
        schemas = load_schemas()
        self.topic = topic
        self.child = child
        sources = {"event_id": _IDS, "voids": _IDS, child: _CHILDREN}
        self.encoder = ColumnEncoder(schemas.current(schema), schemas.id(schema), sources=sources)
        self.columns = {column.path: place for place, column in enumerate(self.encoder.layout.frames[0].columns)}


@cache
def _scans() -> _ChildEventEncoder:
    return _ChildEventEncoder(SCANS_TOPIC, "Scan", "parcel_id")


@cache
def _events() -> _ChildEventEncoder:
    return _ChildEventEncoder(CONTAINERS_TOPIC, "ContainerEvent", "container_id")


def encode_fan_out(inferred: Sequence[ContainerFanOutChunk], partitions: int) -> list[OutputBlock]:
    """The records of all these, those of a topic and partition in their order."""
    made: list[OutputBlock] = []
    for records, which in ((_events(), True), (_scans(), False)):
        some = [each for each in inferred if each.portion.to_containers is which]
        if some:
            made += _encoded(records, some, partitions)
    return made


def _encoded(
    records: _ChildEventEncoder, inferred: Sequence[ContainerFanOutChunk], partitions: int
) -> Iterator[OutputBlock]:
    # 1. The children, by partition; within one, as they come.
    children = [child for each in inferred for child in each.portion.children]
    rows = len(children)
    given_ends = np.zeros(rows + 1, np.int64)
    np.cumsum(np.fromiter(map(len, children), np.int64, rows), out=given_ends[1:])
    given = np.frombuffer(b"".join(children), np.uint8)
    where = np.empty(rows, np.int64)
    compute_partitions(given, given_ends, partitions, where)
    order = np.argsort(where, kind="stable")
    text, ends = np.empty(len(given), np.uint8), np.empty(rows + 1, np.int64)
    reorder_keys(given, given_ends, order, text, ends)
    # 2. What is said of each portion, and which portion each child belongs to.
    said = _ChunkColumns(inferred)
    of = np.repeat(np.arange(len(inferred)), [len(each.portion.children) for each in inferred])[order]
    sizes = np.diff(ends).astype(np.int32)
    ids = np.empty(rows * INFERRED_ID_BYTES, np.uint8)
    (cause_at, cause_size), (tail_at, tail_size) = said.columns["cause"], said.columns["tail"]
    scratch = np.empty(int(cause_size.max()) + int(tail_size.max()) + int(sizes.max()) + 1, np.uint8)
    write_inferred_ids(
        said.text, cause_at[of], cause_size[of], tail_at[of], tail_size[of], text, ends[:-1], sizes, scratch, ids
    )
    # 3. One column after the other.
    values = np.zeros((len(records.columns), rows), np.int64)
    lengths = np.zeros(values.shape, np.int32)
    own = np.arange(rows, dtype=np.int64) * INFERRED_ID_BYTES
    for name, place in records.columns.items():
        if name == records.child:
            values[place], lengths[place] = ends[:-1], sizes
        elif name == "event_id":
            values[place], lengths[place] = own, INFERRED_ID_BYTES
        elif name == "voids":
            values[place], lengths[place] = own, said.columns["voids"][1][of]
        elif name == "weight_g":
            lengths[place] = _ABSENT
        elif name in said.columns:
            value, length = said.columns[name]
            values[place], lengths[place] = value[of], length[of]
    frames = [(values, lengths), *(said.path_items(frame.path) for frame in records.encoder.layout.frames[1:])]
    octets, value_ends = records.encoder.encode(rows, frames, (said.text, text, ids))
    # 4. A block a partition: views of the same bytes.
    bounds = np.searchsorted(where[order], np.arange(partitions + 1))
    for partition, (first, end) in enumerate(zip(bounds.tolist(), bounds[1:].tolist(), strict=False)):
        if end > first:
            block = RecordBlock(text, ends[first : end + 1], octets, value_ends[first : end + 1])
            yield records.topic, partition, block


class _ChunkColumns:
    """What is said of each portion: columns with a row for each, and the texts that they point into."""

    def __init__(self, inferred: Sequence[ContainerFanOutChunk]) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._known: dict[str | bytes, tuple[int, int]] = {}
        rows = [self._row(each) for each in inferred]
        self._path_items: list[tuple[int, int]] = []
        for row, each in zip(rows, inferred, strict=True):
            path = (*each.portion.source.path, each.container_id)
            row["path"] = (len(self._path_items), len(path))
            self._path_items += [self._put(name) for name in path]
        self.text = np.frombuffer(b"".join(self._parts), np.uint8)
        self.columns: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int32]]] = {
            name: (
                np.array([row[name][0] for row in rows], np.int64),
                np.array([row[name][1] for row in rows], np.int32),
            )
            for name in rows[0]
        }

    def path_items(self, frame: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The items of an array: there are none but in paths."""
        items = self._path_items if frame == "path[]" else []
        return (
            np.array([[at for at, _ in items]], np.int64).reshape(1, len(items)),
            np.array([[size for _, size in items]], np.int32).reshape(1, len(items)),
        )

    def _row(self, inferred: ContainerFanOutChunk) -> dict[str, tuple[int, int]]:
        portion = inferred.portion
        event, said, void = portion.event, portion.source, portion.void_time is not None
        reason = said.reason
        if said.is_emptying:
            reason = EMPTIED
        kind = VOID if void else _RANK[event.kind]
        around = self._put(inferred.container_id)
        return {
            "cause": self._put(event.event_id),
            "tail": self._put(generation_suffix(portion.generation)),
            "kind": (kind, 0),
            "event_time": (event.event_time if portion.void_time is None else portion.void_time, 0),
            "utc_offset_minutes": (said.utc_offset_minutes, 0),
            "record_time": (said.record_time, 0),
            "site": self._put(said.site),
            "station": self._put(said.station),
            "lane": self._put(said.lane),
            "reason": self._put(reason),
            # Of a scan the container directly around the parcel, of an event the one around the container.
            "container_id": around,
            "parent_id": around,
            "voids": (0, INFERRED_ID_BYTES if void else _ABSENT),
            "inferred_from": self._put(said.root_event_id),
        }

    def _put(self, text: str | bytes | None) -> tuple[int, int]:
        """Place of a text, and its size."""
        if text is None:
            return 0, _ABSENT
        place = self._known.get(text)
        if place is None:
            octets = text.encode() if isinstance(text, str) else text
            place = self._known[text] = self._size, len(octets)
            self._parts.append(octets)
            self._size += len(octets)
        return place
