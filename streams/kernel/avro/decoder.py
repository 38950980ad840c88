"""Decoding of Avro values into columns, with one compiled call for a whole batch.

Every read is checked against the end of its record. A record that cannot be read gets the reason as its status and
leaves no values or items behind. It cannot change the row of another record.
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
    """One frame of a batch; `streams.kernel.avro.layout` says what the numbers mean."""

    rows: int
    # int64[columns, rows] and int32[columns, rows], contiguous.
    values: Any
    lengths: Any


@dataclass(frozen=True, slots=True)
class DecodedColumns:
    """A decoded batch. Row i of the root frame is payload i."""

    rows: int
    # uint8[rows]: numbers of `RejectReason`, 0 where the record could be read.
    status: Any
    # int8[rows]: index of the reader schema, -1 where it is not known.
    reader_index: Any
    # uint8[:], read-only: all payloads, then the constants of defaults. Strings, bytes and fixed are positions in it.
    buffer: Any
    frames: list[FrameColumns]


class ColumnDecoder:
    """Reads Confluent-framed Avro values of known schemas into columns."""

    def __init__(
        self,
        layout: Layout,
        reader_schemas: Sequence[Mapping[str, Any]],
        writer_schemas: Mapping[int, tuple[Mapping[str, Any], int]],
        *,
        max_value_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        """writer_schemas: schema id -> (writer schema, index of its reader schema in `reader_schemas`).

        A field for which `layout` has no column is checked and skipped.
        Raises Misconfigured for schemas that the kernel does not support or that do not resolve.
        """
        if not 0 < max_value_bytes < 2**31:
            raise Misconfigured(f"the limit of a value must be between 1 byte and 2 GiB, not {max_value_bytes}")
        layout.require_columns_of(reader_schemas)
        program = DecoderProgram()
        starts = []
        for schema_id, (writer, reader_index) in sorted(writer_schemas.items()):
            try:
                first_instruction = compile_resolution(program, layout, writer, reader_schemas[reader_index])
            except Misconfigured as error:
                raise Misconfigured(f"schema id {schema_id}: {error}") from None
            starts.append((schema_id, first_instruction, reader_index))
        self.layout = layout
        self._max_value_bytes = max_value_bytes
        # int64[schemas, 3]: id, first instruction, index of the reader schema.
        self._schemas = np.array(starts, np.int64).reshape(len(starts), 3)
        self._code = program.code_array()
        self._pool = np.array([*program.operand_pool, 0], np.int64)
        self._buffer_end = bytes(PADDING_BYTES) + bytes(program.constants) + bytes(PADDING_BYTES)
        self._stack_depth = program.max_depth + 1
        self._min_item_bytes = program.min_item_bytes
        self._default_items = sorted(program.default_items.items())
        self._widths = [len(frame.columns) for frame in layout.frames]
        # For each column over all frames: the index of its frame, and its own index within it.
        self._frame_indexes = np.repeat(np.arange(len(layout.frames)), self._widths).astype(np.int64)
        self._column_indexes = np.concatenate([np.arange(width) for width in self._widths]).astype(np.int64)

    def decode(self, payloads: Sequence[bytes | None]) -> DecodedColumns:
        """The columns of a batch of values; None is a record without a value.

        Never fails because of the content of a value. Memory: the values themselves, 12 bytes for each column and row,
        and address space for as many items as the bytes could hold. It is reserved but not touched, so not used.
        """
        rows = len(payloads)
        sizes = np.empty(rows, np.int64)
        try:
            joined = b"".join((*payloads, self._buffer_end))  # type: ignore[arg-type]
            sizes[:] = np.fromiter(map(len, payloads), np.int64, rows)  # type: ignore[arg-type]
        except TypeError:
            joined = b"".join((*(payload or b"" for payload in payloads), self._buffer_end))
            sizes[:] = [-1 if payload is None else len(payload) for payload in payloads]
        payload_bytes = len(joined) - len(self._buffer_end)
        # Rows of each frame: as many items as the bytes can hold, one that was begun and failed, and the defaults.
        capacities = [rows] + [0] * (len(self._widths) - 1)
        for frame in range(1, len(capacities)):
            if frame in self._min_item_bytes:
                capacities[frame] = payload_bytes // self._min_item_bytes[frame] + 1
            for (child, parent), count in self._default_items:
                if child == frame:
                    capacities[frame] += capacities[parent] * count
        frame_cells = [width * capacity for width, capacity in zip(self._widths, capacities, strict=True)]
        frame_starts = np.array([0, *np.cumsum(frame_cells)])
        column_starts = (
            frame_starts[self._frame_indexes] + self._column_indexes * np.array(capacities)[self._frame_indexes]
        )
        values = np.empty(frame_starts[-1], np.int64)
        lengths = np.empty(frame_starts[-1], np.int32)
        status = np.empty(rows, np.uint8)
        reader_index = np.empty(rows, np.int8)
        frame_rows = np.zeros(len(capacities), np.int64)
        buffer = np.frombuffer(joined, np.uint8)
        read_records(
            buffer,
            overlapping_words(joined),
            sizes,
            self._max_value_bytes,
            self._schemas,
            self._code,
            self._pool,
            payload_bytes + PADDING_BYTES,
            column_starts,
            self._widths[0],
            np.zeros((self._stack_depth, 4), np.int64),
            frame_rows,
            np.zeros(len(capacities), np.int64),
            values,
            lengths,
            status,
            reader_index,
        )
        frames = [FrameColumns(rows, *_views(values, lengths, 0, self._widths[0], rows))]
        for frame in range(1, len(capacities)):
            start, width, count = int(frame_starts[frame]), self._widths[frame], int(frame_rows[frame])
            _close_gaps(values, lengths, start, width, capacities[frame], count)
            frames.append(FrameColumns(count, *_views(values, lengths, start, width, count)))
        return DecodedColumns(rows, status, reader_index, buffer, frames)


def _views(values: Any, lengths: Any, start: int, width: int, rows: int) -> tuple[Any, Any]:
    cells = slice(start, start + width * rows)
    return values[cells].reshape(width, rows), lengths[cells].reshape(width, rows)


@jit
def _close_gaps(values: Any, lengths: Any, start: Any, width: Any, capacity: Any, rows: Any) -> None:
    """Move the columns of a frame together, so that each has `rows` cells instead of `capacity`."""
    for column in range(1, width):
        for row in range(rows):
            values[start + column * rows + row] = values[start + column * capacity + row]
            lengths[start + column * rows + row] = lengths[start + column * capacity + row]
