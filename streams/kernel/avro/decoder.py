"""Avro payloads in, columns out: one compiled call for a whole batch.

Every read is checked against the end of its record. A record that cannot be read gets the reason as its status and
leaves nothing behind; it cannot touch another record's row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streams.domain.jit import jit
from streams.domain.limits import MAX_RECORD_BYTES
from streams.errors import Misconfigured
from streams.kernel.avro.compiler import compile_resolution
from streams.kernel.avro.layout import Layout
from streams.kernel.avro.primitives import PADDING_BYTES, overlapping_words
from streams.kernel.avro.program import DecoderProgram
from streams.kernel.avro.read_loop import read_records


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """One frame of a batch; the meaning of the numbers is told in `streams.kernel.avro.layout`."""

    rows: int
    # int64[columns, rows] and int32[columns, rows], contiguous.
    values: Any
    lengths: Any


@dataclass(frozen=True, slots=True)
class DecodedColumns:
    """A decoded batch. Row i of the root frame is payload i."""

    rows: int
    # uint8[rows]: numbers of `Reason`, 0 where the record could be read.
    status: Any
    # int8[rows]: index of the reader schema, -1 where it is not known.
    record: Any
    # uint8[:], read-only: all payloads, then what defaults need. Positions of strings, bytes and fixed count in it.
    buffer: Any
    frames: list[FrameColumns]


class ColumnDecoder:
    """Reads Confluent-framed Avro values of known schemas into columns."""

    def __init__(
        self,
        layout: Layout,
        readers: Sequence[Mapping[str, Any]],
        writers: Mapping[int, tuple[Mapping[str, Any], int]],
        *,
        limit: int = MAX_RECORD_BYTES,
    ) -> None:
        """writers: schema id -> (writer's schema, index of its reader in `readers`). limit: bytes of a value at most.

        A field for which `layout` has no column is checked and skipped.
        Raises Misconfigured for schemas that the kernel does not support or that do not resolve.
        """
        if not 0 < limit < 2**31:
            raise Misconfigured(f"the limit of a value must be between 1 byte and 2 GiB, not {limit}")
        layout.check(readers)
        program = DecoderProgram()
        starts = []
        for schema_id, (writer, reader) in sorted(writers.items()):
            try:
                starts.append((schema_id, compile_resolution(program, layout, writer, readers[reader]), reader))
            except Misconfigured as error:
                raise Misconfigured(f"schema id {schema_id}: {error}") from None
        self.layout = layout
        self._limit = limit
        # int64[schemas, 3]: id, first instruction, index of the reader.
        self._schemas = np.array(starts, np.int64).reshape(len(starts), 3)
        self._code = program.array()
        self._pool = np.array([*program.operand_pool, 0], np.int64)
        self._tail = bytes(PADDING_BYTES) + bytes(program.constants) + bytes(PADDING_BYTES)
        self._depth = program.max_depth + 1
        self._item_bytes = program.min_item_bytes
        self._added = sorted(program.added.items())
        self._widths = [len(frame.columns) for frame in layout.frames]
        # For each column over all frames: its frame and its number there.
        self._frame_of = np.repeat(np.arange(len(layout.frames)), self._widths).astype(np.int64)
        self._place_of = np.concatenate([np.arange(width) for width in self._widths]).astype(np.int64)

    def decode(self, payloads: Sequence[bytes | None]) -> DecodedColumns:
        """The columns of a batch of values; None is a record without a value.

        Never fails because of what the values hold. Memory: the values themselves, 12 bytes a column and row, and
        reserved (but untouched, so not used) address space for as many items as the bytes could hold.
        """
        rows = len(payloads)
        sizes = np.empty(rows, np.int64)
        try:
            joined = b"".join((*payloads, self._tail))  # type: ignore[arg-type]
            sizes[:] = np.fromiter(map(len, payloads), np.int64, rows)  # type: ignore[arg-type]
        except TypeError:
            joined = b"".join((*(payload or b"" for payload in payloads), self._tail))
            sizes[:] = [-1 if payload is None else len(payload) for payload in payloads]
        total = len(joined) - len(self._tail)
        # Row capacity of each frame: no more items than the bytes can hold, one begun in vain, and the defaults.
        room = [rows] + [0] * (len(self._widths) - 1)
        for frame in range(1, len(room)):
            if frame in self._item_bytes:
                room[frame] = total // self._item_bytes[frame] + 1
            for (child, parent), count in self._added:
                if child == frame:
                    room[frame] += room[parent] * count
        cells = np.array([0, *np.cumsum([width * size for width, size in zip(self._widths, room, strict=True)])])
        base = cells[self._frame_of] + self._place_of * np.array(room)[self._frame_of]
        values = np.empty(cells[-1], np.int64)
        lengths = np.empty(cells[-1], np.int32)
        status = np.empty(rows, np.uint8)
        record = np.empty(rows, np.int8)
        used = np.zeros(len(room), np.int64)
        buffer = np.frombuffer(joined, np.uint8)
        read_records(
            buffer,
            overlapping_words(joined),
            sizes,
            self._limit,
            self._schemas,
            self._code,
            self._pool,
            total + PADDING_BYTES,
            base,
            self._widths[0],
            np.zeros((self._depth, 4), np.int64),
            used,
            np.zeros(len(room), np.int64),
            values,
            lengths,
            status,
            record,
        )
        frames = [FrameColumns(rows, *_views(values, lengths, 0, self._widths[0], rows))]
        for frame in range(1, len(room)):
            start, width, count = int(cells[frame]), self._widths[frame], int(used[frame])
            _close_up(values, lengths, start, width, room[frame], count)
            frames.append(FrameColumns(count, *_views(values, lengths, start, width, count)))
        return DecodedColumns(rows, status, record, buffer, frames)


def _views(values: Any, lengths: Any, start: int, width: int, rows: int) -> tuple[Any, Any]:
    cells = slice(start, start + width * rows)
    return values[cells].reshape(width, rows), lengths[cells].reshape(width, rows)


@jit
def _close_up(values: Any, lengths: Any, start: Any, width: Any, room: Any, rows: Any) -> None:
    """Move the columns of a frame together, so that each has `rows` cells instead of `room`."""
    for column in range(1, width):
        for row in range(rows):
            values[start + column * rows + row] = values[start + column * room + row]
            lengths[start + column * rows + row] = lengths[start + column * room + row]
