"""The records of a fan-out, encoded for a whole transaction at once, column by column, with no object for any child.

A child that is a parcel gets a scan in hub.scans, a child that is a container an event in hub.containers; each in the
partition of its own id. Most of a record is that of the container's event, so most columns repeat one value for
thousands of rows.
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

_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}
# The buffers that texts come from: those of the chunks, the ids of the children, the inferred event ids.
_CHUNKS, _CHILDREN, _IDS = range(3)
_ABSENT: Final = -1


class ContainerFanOutChunk(NamedTuple):
    """A chunk of a fan-out, and the container that it comes from."""

    container_id: str
    chunk: FanOutChunk


class _ChildEventEncoder:
    """Encoder of the records of one topic; `child_field`: the field that holds the id of the child."""

    def __init__(self, topic: str, schema: str, child_field: str) -> None:
        schemas = load_schemas()
        self.topic = topic
        self.child_field = child_field
        sources = {"event_id": _IDS, "voids": _IDS, child_field: _CHILDREN}
        self.encoder = ColumnEncoder(schemas.current(schema), schemas.id(schema), sources=sources)
        self.columns = {column.path: index for index, column in enumerate(self.encoder.layout.frames[0].columns)}


@cache
def _scan_encoder() -> _ChildEventEncoder:
    return _ChildEventEncoder(SCANS_TOPIC, "Scan", "parcel_id")


@cache
def _container_event_encoder() -> _ChildEventEncoder:
    return _ChildEventEncoder(CONTAINERS_TOPIC, "ContainerEvent", "container_id")


def encode_fan_out(chunks: Sequence[ContainerFanOutChunk], partitions: int) -> list[OutputBlock]:
    """The records of all chunks, those of a topic and partition in the order of the chunks."""
    blocks: list[OutputBlock] = []
    for encoder, to_containers in ((_container_event_encoder(), True), (_scan_encoder(), False)):
        own_chunks = [each for each in chunks if each.chunk.to_containers is to_containers]
        if own_chunks:
            blocks += _encode(encoder, own_chunks, partitions)
    return blocks


def _encode(
    encoder: _ChildEventEncoder, chunks: Sequence[ContainerFanOutChunk], partitions: int
) -> Iterator[OutputBlock]:
    # 1. The ids of the children, by partition; within one, in the order of the chunks.
    children = [child for each in chunks for child in each.chunk.children]
    rows = len(children)
    given_ends = np.zeros(rows + 1, np.int64)
    np.cumsum(np.fromiter(map(len, children), np.int64, rows), out=given_ends[1:])
    given = np.frombuffer(b"".join(children), np.uint8)
    partition_of_row = np.empty(rows, np.int64)
    compute_partitions(given, given_ends, partitions, partition_of_row)
    order = np.argsort(partition_of_row, kind="stable")
    text, ends = np.empty(len(given), np.uint8), np.empty(rows + 1, np.int64)
    reorder_keys(given, given_ends, order, text, ends)
    # 2. The columns of the chunks, the chunk of each child, and the inferred event ids.
    per_chunk = _ChunkColumns(chunks)
    chunk_of = np.repeat(np.arange(len(chunks)), [len(each.chunk.children) for each in chunks])[order]
    sizes = np.diff(ends).astype(np.int32)
    ids = np.empty(rows * INFERRED_ID_BYTES, np.uint8)
    (cause_start, cause_size), (suffix_start, suffix_size) = (per_chunk.columns[name] for name in ("cause", "suffix"))
    scratch = np.empty(int(cause_size.max()) + int(suffix_size.max()) + int(sizes.max()) + 1, np.uint8)
    write_inferred_ids(
        per_chunk.text,
        cause_start[chunk_of],
        cause_size[chunk_of],
        suffix_start[chunk_of],
        suffix_size[chunk_of],
        text,
        ends[:-1],
        sizes,
        scratch,
        ids,
    )
    # 3. One column of the records after the other.
    values = np.zeros((len(encoder.columns), rows), np.int64)
    lengths = np.zeros(values.shape, np.int32)
    id_starts = np.arange(rows, dtype=np.int64) * INFERRED_ID_BYTES
    for name, column in encoder.columns.items():
        if name == encoder.child_field:
            values[column], lengths[column] = ends[:-1], sizes
        elif name == "event_id":
            values[column], lengths[column] = id_starts, INFERRED_ID_BYTES
        elif name == "voids":
            values[column], lengths[column] = id_starts, per_chunk.columns["voids"][1][chunk_of]
        elif name == "weight_g":
            lengths[column] = _ABSENT
        elif name in per_chunk.columns:
            value, length = per_chunk.columns[name]
            values[column], lengths[column] = value[chunk_of], length[chunk_of]
    frames = [(values, lengths), *(per_chunk.array_items(frame.path) for frame in encoder.encoder.layout.frames[1:])]
    encoded, encoded_ends = encoder.encoder.encode(rows, frames, (per_chunk.text, text, ids))
    # 4. A block for each partition: views of the same bytes.
    bounds = np.searchsorted(partition_of_row[order], np.arange(partitions + 1))
    for partition, (first, end) in enumerate(zip(bounds.tolist(), bounds[1:].tolist(), strict=False)):
        if end > first:
            block = RecordBlock(text, ends[first : end + 1], encoded, encoded_ends[first : end + 1])
            yield encoder.topic, partition, block


class _ChunkColumns:
    """Columns with a row for each chunk, and the texts that they point into."""

    def __init__(self, chunks: Sequence[ContainerFanOutChunk]) -> None:
        self._texts: list[bytes] = []
        self._size = 0
        # Text -> its start and size.
        self._positions: dict[str | bytes, tuple[int, int]] = {}
        rows = [self._row(each) for each in chunks]
        self._path_items: list[tuple[int, int]] = []
        for row, each in zip(rows, chunks, strict=True):
            path = (*each.chunk.source.path, each.container_id)
            row["path"] = (len(self._path_items), len(path))
            self._path_items += [self._add_text(name) for name in path]
        self.text = np.frombuffer(b"".join(self._texts), np.uint8)
        self.columns: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int32]]] = {
            name: (
                np.array([row[name][0] for row in rows], np.int64),
                np.array([row[name][1] for row in rows], np.int32),
            )
            for name in rows[0]
        }

    def array_items(self, frame_path: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The items of an array field: only paths have any."""
        items = self._path_items if frame_path == "path[]" else []
        return (
            np.array([[start for start, _ in items]], np.int64).reshape(1, len(items)),
            np.array([[size for _, size in items]], np.int32).reshape(1, len(items)),
        )

    def _row(self, container_chunk: ContainerFanOutChunk) -> dict[str, tuple[int, int]]:
        """Value and length of each column."""
        chunk = container_chunk.chunk
        event, source, is_void = chunk.event, chunk.source, chunk.void_time is not None
        container_id = self._add_text(container_chunk.container_id)
        return {
            "cause": self._add_text(event.event_id),
            "suffix": self._add_text(generation_suffix(chunk.generation)),
            "kind": (VOID if is_void else _KIND_NUMBERS[event.kind], 0),
            "event_time": (event.event_time if chunk.void_time is None else chunk.void_time, 0),
            "utc_offset_minutes": (source.utc_offset_minutes, 0),
            "record_time": (source.record_time, 0),
            "site": self._add_text(source.site),
            "station": self._add_text(source.station),
            "lane": self._add_text(source.lane),
            "reason": self._add_text(EMPTIED if source.is_emptying else source.reason),
            # The container directly around the child: a scan has it in one field, a container event in the other.
            "container_id": container_id,
            "parent_id": container_id,
            "voids": (0, INFERRED_ID_BYTES if is_void else _ABSENT),
            "inferred_from": self._add_text(source.root_event_id),
        }

    def _add_text(self, text: str | bytes | None) -> tuple[int, int]:
        """Start and size of a text."""
        if text is None:
            return 0, _ABSENT
        position = self._positions.get(text)
        if position is None:
            encoded = text.encode() if isinstance(text, str) else text
            position = self._positions[text] = self._size, len(encoded)
            self._texts.append(encoded)
            self._size += len(encoded)
        return position
