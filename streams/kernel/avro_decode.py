"""Avro payloads in, columns out: one compiled call for a whole batch.

Every read is checked against the end of its record. A record that cannot be read gets the reason as its status and
leaves nothing behind; it cannot touch another record's row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streams.domain.compiled import borrowing
from streams.domain.limits import RECORD_BYTES
from streams.domain.reasons import Reason
from streams.errors import Misconfigured
from streams.kernel import avro_program as op
from streams.kernel.avro_bytes import (
    BAD_CHOICE,
    BAD_LENGTH,
    BAD_NUMBER,
    LARGEST_INT,
    PAD,
    SMALLEST_INT,
    TRUNCATED,
    is_text,
    read_block,
    read_length,
    read_long,
    read_small,
    words_of,
)
from streams.kernel.avro_layout import Layout

NO_VALUE: Final = int(Reason.NO_VALUE)
BAD_FRAMING: Final = int(Reason.BAD_FRAMING)
UNKNOWN_SCHEMA: Final = int(Reason.UNKNOWN_SCHEMA)
TOO_LARGE: Final = int(Reason.TOO_LARGE)
BAD_TEXT: Final = int(Reason.BAD_TEXT)
TRAILING_BYTES: Final = int(Reason.TRAILING_BYTES)
UNRESOLVABLE: Final = int(Reason.UNRESOLVABLE)

FRAMING: Final = 5
FOUR_BYTES: Final = np.uint64(0xFFFFFFFF)

STRING, NULLABLE_STRING, LONG, NULLABLE_LONG = op.STRING, op.NULLABLE_STRING, op.LONG, op.NULLABLE_LONG
INT, NULLABLE_INT, ENUM, FIXED, BOOLEAN = op.INT, op.NULLABLE_INT, op.ENUM, op.FIXED, op.BOOLEAN
FLOAT, DOUBLE, BYTES, LONG_AS_FLOAT, LONG_AS_DOUBLE = op.FLOAT, op.DOUBLE, op.BYTES, op.LONG_AS_FLOAT, op.LONG_AS_DOUBLE
NULLABLE, NULLS, ARRAY, NEXT, UNION, JUMP = op.NULLABLE, op.NULLS, op.ARRAY, op.NEXT, op.UNION, op.JUMP
NUMBER, CONSTANT, DEFAULT_ARRAY, DEFAULT_ITEM, DEFAULT_END = (
    op.NUMBER,
    op.CONSTANT,
    op.DEFAULT_ARRAY,
    op.DEFAULT_ITEM,
    op.DEFAULT_END,
)
FAIL, END, RAW_BEGIN, RAW_END = op.FAIL, op.END, op.RAW_BEGIN, op.RAW_END


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """One frame of a batch; the meaning of the numbers is told in `streams.kernel.avro_layout`."""

    rows: int
    # int64[columns, rows] and int32[columns, rows], contiguous.
    values: Any
    lengths: Any


@dataclass(frozen=True, slots=True)
class Columns:
    """A decoded batch. Row i of the root frame is payload i."""

    rows: int
    # uint8[rows]: numbers of `Reason`, 0 where the record could be read.
    status: Any
    # int8[rows]: index of the reader schema, -1 where it is not known.
    record: Any
    # uint8[:], read-only: all payloads, then what defaults need. Positions of strings, bytes and fixed count in it.
    buffer: Any
    frames: list[FrameColumns]


class Decoder:
    """Reads Confluent-framed Avro values of known schemas into columns."""

    def __init__(
        self,
        layout: Layout,
        readers: Sequence[Mapping[str, Any]],
        writers: Mapping[int, tuple[Mapping[str, Any], int]],
        *,
        limit: int = RECORD_BYTES,
    ) -> None:
        """writers: schema id -> (writer's schema, index of its reader in `readers`). limit: bytes of a value at most.

        A field for which `layout` has no column is checked and skipped.
        Raises Misconfigured for schemas that the kernel does not support or that do not resolve.
        """
        if not 0 < limit < 2**31:
            raise Misconfigured(f"the limit of a value must be between 1 byte and 2 GiB, not {limit}")
        program = op.Program()
        starts = []
        for schema_id, (writer, reader) in sorted(writers.items()):
            try:
                starts.append((schema_id, op.compile_writer(program, layout, writer, readers[reader]), reader))
            except Misconfigured as error:
                raise Misconfigured(f"schema id {schema_id}: {error}") from None
        self.layout = layout
        self._limit = limit
        # int64[schemas, 3]: id, first instruction, index of the reader.
        self._schemas = np.array(starts, np.int64).reshape(len(starts), 3)
        self._code = program.array()
        self._pool = np.array([*program.pool, 0], np.int64)
        self._tail = bytes(PAD) + bytes(program.constants) + bytes(PAD)
        self._depth = program.depth + 1
        self._item_bytes = program.item_bytes
        self._added = sorted(program.added.items())
        self._widths = [len(frame.columns) for frame in layout.frames]
        # For each column over all frames: its frame and its number there.
        self._frame_of = np.repeat(np.arange(len(layout.frames)), self._widths).astype(np.int64)
        self._place_of = np.concatenate([np.arange(width) for width in self._widths]).astype(np.int64)

    def decode(self, payloads: Sequence[bytes | None]) -> Columns:
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
        _decode(
            buffer,
            words_of(joined),
            sizes,
            self._limit,
            self._schemas,
            self._code,
            self._pool,
            total + PAD,
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
        return Columns(rows, status, record, buffer, frames)


def _views(values: Any, lengths: Any, start: int, width: int, rows: int) -> tuple[Any, Any]:
    cells = slice(start, start + width * rows)
    return values[cells].reshape(width, rows), lengths[cells].reshape(width, rows)


@borrowing
def _close_up(values: Any, lengths: Any, start: Any, width: Any, room: Any, rows: Any) -> None:
    """Move the columns of a frame together, so that each has `rows` cells instead of `room`."""
    for column in range(1, width):
        for row in range(rows):
            values[start + column * rows + row] = values[start + column * room + row]
            lengths[start + column * rows + row] = lengths[start + column * room + row]


@borrowing
def _decode(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one interpreter loop; calls for its parts would cost half its speed
    buffer: Any,
    words: Any,
    sizes: Any,
    limit: Any,
    schemas: Any,
    code: Any,
    pool: Any,
    constants: Any,
    base: Any,
    root_columns: Any,
    stack: Any,
    used: Any,
    before: Any,
    values: Any,
    lengths: Any,
    status: Any,
    record: Any,
) -> None:
    """Run each record's program. `values[base[column] + row]` is a cell; `used` counts the rows of each frame, `before`
    those of whole records. `stack` holds of each array being read, by depth: items left in the block, end of the block
    or -1, first row, row of its record.
    """
    schema = 0
    start = 0
    for i in range(len(sizes)):
        size = int(sizes[i])
        record[i] = -1
        failed = 0
        p = start
        e = start
        if size < 0:
            failed = NO_VALUE
        else:
            e = start + size
            start = e
            if size > limit:
                failed = TOO_LARGE
            elif size < FRAMING or buffer[p] != 0:
                failed = BAD_FRAMING
            else:
                schema_id = (
                    (int(buffer[p + 1]) << 24)
                    | (int(buffer[p + 2]) << 16)
                    | (int(buffer[p + 3]) << 8)
                    | int(buffer[p + 4])
                )
                if schema >= len(schemas) or schemas[schema, 0] != schema_id:
                    schema = 0
                    while schema < len(schemas) and schemas[schema, 0] != schema_id:
                        schema += 1
                if schema == len(schemas):
                    failed = UNKNOWN_SCHEMA
        if failed == 0:
            p += FRAMING
            row = i
            pc = int(schemas[schema, 1])
            record[i] = schemas[schema, 2]
            while True:
                operation = code[pc, 0]
                column = code[pc, 1]
                if operation == STRING:
                    n, p = read_length(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if not is_text(buffer, words, p, n):
                        failed = BAD_TEXT
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == NULLABLE_STRING:
                    v, p = read_small(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v > 1:
                        failed = BAD_CHOICE
                        break
                    if v == code[pc, 2]:
                        if column >= 0:
                            cell = base[column] + row
                            values[cell] = 0
                            lengths[cell] = -1
                        pc += 1
                        continue
                    n, p = read_length(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if not is_text(buffer, words, p, n):
                        failed = BAD_TEXT
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == LONG or operation == INT:  # noqa: PLR1714 - a tuple would be built at each turn
                    v, p = read_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if operation == INT and (v > LARGEST_INT or v < SMALLEST_INT):
                        failed = BAD_NUMBER
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    pc += 1
                elif operation == NULLABLE_LONG or operation == NULLABLE_INT:  # noqa: PLR1714
                    v, p = read_small(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v > 1:
                        failed = BAD_CHOICE
                        break
                    if v == code[pc, 2]:
                        if column >= 0:
                            cell = base[column] + row
                            values[cell] = 0
                            lengths[cell] = -1
                        pc += 1
                        continue
                    v, p = read_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if operation == NULLABLE_INT and (v > LARGEST_INT or v < SMALLEST_INT):
                        failed = BAD_NUMBER
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    pc += 1
                elif operation == ENUM:
                    v, p = read_small(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v >= code[pc, 2]:
                        failed = BAD_CHOICE
                        break
                    if column >= 0:
                        if code[pc, 3] >= 0:
                            v = pool[code[pc, 3] + v]
                            if v < 0:
                                failed = UNRESOLVABLE
                                break
                        cell = base[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    pc += 1
                elif operation == FIXED:
                    n = code[pc, 2]
                    if n > e - p:
                        failed = TRUNCATED
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == BOOLEAN:
                    if p >= e:
                        failed = TRUNCATED
                        break
                    v = np.int64(buffer[p])
                    if v > 1:
                        failed = BAD_CHOICE
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    p += 1
                    pc += 1
                elif operation == NULLABLE:
                    v, p = read_small(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v > 1:
                        failed = BAD_CHOICE
                        break
                    if v == code[pc, 2]:
                        for k in range(code[pc, 3], code[pc, 4]):
                            cell = base[pool[k]] + row
                            values[cell] = 0
                            lengths[cell] = -1
                        pc = int(code[pc, 5])
                    else:
                        pc += 1
                elif operation == NUMBER:
                    cell = base[column] + row
                    values[cell] = code[pc, 2]
                    lengths[cell] = 0
                    pc += 1
                elif operation == NULLS:
                    for k in range(code[pc, 3], code[pc, 4]):
                        cell = base[pool[k]] + row
                        values[cell] = 0
                        lengths[cell] = -1
                    pc += 1
                elif operation == ARRAY:
                    frame = code[pc, 2]
                    count, end, p = read_block(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if count == 0:
                        if end >= 0 and end != p:
                            failed = BAD_LENGTH
                            break
                        if frame >= 0:
                            cell = base[column] + row
                            values[cell] = used[frame]
                            lengths[cell] = 0
                        pc = int(code[pc, 4])
                        continue
                    level = code[pc, 3]
                    stack[level, 0] = count
                    stack[level, 1] = end
                    stack[level, 3] = row
                    if frame >= 0:
                        row = used[frame]
                        stack[level, 2] = row
                        used[frame] = row + 1
                    pc += 1
                elif operation == NEXT:
                    frame = code[pc, 2]
                    level = code[pc, 3]
                    left = stack[level, 0] - 1
                    if left == 0:
                        end = stack[level, 1]
                        if end >= 0 and end != p:
                            failed = BAD_LENGTH
                            break
                        left, end, p = read_block(words, p, e)
                        if p < 0:
                            failed = -p
                            break
                        stack[level, 1] = end
                        if left == 0:
                            if end >= 0 and end != p:
                                failed = BAD_LENGTH
                                break
                            row = stack[level, 3]
                            if frame >= 0:
                                first = stack[level, 2]
                                cell = base[column] + row
                                values[cell] = first
                                lengths[cell] = used[frame] - first
                            pc += 1
                            continue
                    stack[level, 0] = left
                    if frame >= 0:
                        row = used[frame]
                        used[frame] = row + 1
                    pc = int(code[pc, 4])
                elif operation == END:
                    if p != e:
                        failed = TRAILING_BYTES
                    break
                elif operation == BYTES:
                    n, p = read_length(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == FLOAT:
                    if e - p < 4:
                        failed = TRUNCATED
                        break
                    if column >= 0:
                        cell = base[column] + row
                        single = np.uint32(words[p] & FOUR_BYTES).view(np.float32)
                        values[cell] = np.float64(single).view(np.int64)
                        lengths[cell] = 0
                    p += 4
                    pc += 1
                elif operation == DOUBLE:
                    if e - p < 8:
                        failed = TRUNCATED
                        break
                    if column >= 0:
                        cell = base[column] + row
                        values[cell] = np.uint64(words[p]).view(np.int64)
                        lengths[cell] = 0
                    p += 8
                    pc += 1
                elif operation == LONG_AS_FLOAT or operation == LONG_AS_DOUBLE:  # noqa: PLR1714
                    v, p = read_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if code[pc, 2] == 1 and (v > LARGEST_INT or v < SMALLEST_INT):
                        failed = BAD_NUMBER
                        break
                    cell = base[column] + row
                    if operation == LONG_AS_FLOAT:
                        values[cell] = np.float64(np.float32(v)).view(np.int64)
                    else:
                        values[cell] = np.float64(v).view(np.int64)
                    lengths[cell] = 0
                    pc += 1
                elif operation == UNION:
                    v, p = read_small(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v >= code[pc, 3]:
                        failed = BAD_CHOICE
                        break
                    pc = int(pool[code[pc, 2] + v])
                elif operation == JUMP:
                    pc = int(code[pc, 2])
                elif operation == CONSTANT:
                    cell = base[column] + row
                    values[cell] = constants + code[pc, 2]
                    lengths[cell] = code[pc, 3]
                    pc += 1
                elif operation == DEFAULT_ARRAY:
                    cell = base[column] + row
                    values[cell] = used[code[pc, 2]]
                    lengths[cell] = code[pc, 4]
                    stack[code[pc, 3], 3] = row
                    pc += 1
                elif operation == DEFAULT_ITEM:
                    row = used[code[pc, 2]]
                    used[code[pc, 2]] = row + 1
                    pc += 1
                elif operation == DEFAULT_END:
                    row = stack[code[pc, 3], 3]
                    pc += 1
                elif operation == RAW_BEGIN:
                    stack[code[pc, 3], 0] = p
                    pc += 1
                elif operation == RAW_END:
                    cell = base[column] + row
                    values[cell] = stack[code[pc, 3], 0]
                    lengths[cell] = p - stack[code[pc, 3], 0]
                    pc += 1
                else:
                    failed = UNRESOLVABLE
                    break
        status[i] = failed
        if failed != 0:
            for k in range(root_columns):
                cell = base[k] + i
                values[cell] = 0
                lengths[cell] = -1
            for k in range(len(used)):
                used[k] = before[k]
        else:
            for k in range(len(used)):
                before[k] = used[k]
