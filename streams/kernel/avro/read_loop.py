"""The compiled loop that runs a program of `streams.kernel.avro.program` over the records of a batch.

It is one function of 400 lines: calls for its parts would cost half of its speed.
"""

from typing import Any, Final

import numpy as np

from streams.domain.jit import jit
from streams.domain.reject_reasons import RejectReason
from streams.kernel.avro.primitives import (
    BAD_INDEX,
    BAD_LENGTH,
    INT32_MAX,
    INT32_MIN,
    TRUNCATED,
    VARINT_OVERFLOW,
    is_valid_utf8,
    read_block_header,
    read_length,
    read_long,
    read_small_long,
)
from streams.kernel.avro.program import (
    ARRAY,
    BOOLEAN,
    BYTES,
    DEFAULT_ARRAY,
    DEFAULT_END,
    DEFAULT_ITEM,
    DOUBLE,
    END,
    ENUM,
    FIXED,
    FLOAT,
    INT,
    JUMP,
    LONG,
    LONG_AS_DOUBLE,
    LONG_AS_FLOAT,
    NEXT_ITEM,
    NULLABLE,
    NULLABLE_INT,
    NULLABLE_LONG,
    NULLABLE_STRING,
    RAW_BEGIN,
    RAW_END,
    SET_CONSTANT,
    SET_NULLS,
    SET_NUMBER,
    STRING,
    UNION,
)

NO_VALUE: Final = int(RejectReason.NO_VALUE)
BAD_FRAMING: Final = int(RejectReason.BAD_FRAMING)
UNKNOWN_SCHEMA: Final = int(RejectReason.UNKNOWN_SCHEMA)
TOO_LARGE: Final = int(RejectReason.TOO_LARGE)
INVALID_UTF8: Final = int(RejectReason.INVALID_UTF8)
TRAILING_BYTES: Final = int(RejectReason.TRAILING_BYTES)
UNRESOLVABLE: Final = int(RejectReason.UNRESOLVABLE)

WIRE_HEADER_BYTES: Final = 5
UINT32_MASK: Final = np.uint64(0xFFFFFFFF)


@jit
def read_records(
    buffer: Any,
    words: Any,
    sizes: Any,
    max_value_bytes: Any,
    schemas: Any,
    code: Any,
    pool: Any,
    constants: Any,
    column_starts: Any,
    root_columns: Any,
    stack: Any,
    frame_rows: Any,
    complete_frame_rows: Any,
    values: Any,
    lengths: Any,
    status: Any,
    reader_index: Any,
) -> None:
    """Run the program of its schema for each record.

    The cell of a column and row is `values[column_starts[column] + row]`. `frame_rows` counts the rows of each frame,
    `complete_frame_rows` those of the records that were read to their end. `stack` holds, for each array that is being
    read, by depth: items left in the block, end of the block or -1, first row of the items, row of the record.
    """
    schema = 0
    start = 0
    for i in range(len(sizes)):
        size = int(sizes[i])
        reader_index[i] = -1
        failed = 0
        p = start
        e = start
        if size < 0:
            failed = NO_VALUE
        else:
            e = start + size
            start = e
            if size > max_value_bytes:
                failed = TOO_LARGE
            elif size < WIRE_HEADER_BYTES or buffer[p] != 0:
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
            p += WIRE_HEADER_BYTES
            row = i
            pc = int(schemas[schema, 1])
            reader_index[i] = schemas[schema, 2]
            while True:
                operation = code[pc, 0]
                column = code[pc, 1]
                if operation == STRING:
                    n, p = read_length(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if not is_valid_utf8(buffer, words, p, n):
                        failed = INVALID_UTF8
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == NULLABLE_STRING:
                    v, p = read_small_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v > 1:
                        failed = BAD_INDEX
                        break
                    if v == code[pc, 2]:
                        if column >= 0:
                            cell = column_starts[column] + row
                            values[cell] = 0
                            lengths[cell] = -1
                        pc += 1
                        continue
                    n, p = read_length(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if not is_valid_utf8(buffer, words, p, n):
                        failed = INVALID_UTF8
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == LONG or operation == INT:  # noqa: PLR1714 - a tuple would be built at each turn
                    v, p = read_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if operation == INT and (v > INT32_MAX or v < INT32_MIN):
                        failed = VARINT_OVERFLOW
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    pc += 1
                elif operation == NULLABLE_LONG or operation == NULLABLE_INT:  # noqa: PLR1714
                    v, p = read_small_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v > 1:
                        failed = BAD_INDEX
                        break
                    if v == code[pc, 2]:
                        if column >= 0:
                            cell = column_starts[column] + row
                            values[cell] = 0
                            lengths[cell] = -1
                        pc += 1
                        continue
                    v, p = read_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if operation == NULLABLE_INT and (v > INT32_MAX or v < INT32_MIN):
                        failed = VARINT_OVERFLOW
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    pc += 1
                elif operation == ENUM:
                    v, p = read_small_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v >= code[pc, 2]:
                        failed = BAD_INDEX
                        break
                    if column >= 0:
                        if code[pc, 3] >= 0:
                            v = pool[code[pc, 3] + v]
                            if v < 0:
                                failed = UNRESOLVABLE
                                break
                        cell = column_starts[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    pc += 1
                elif operation == FIXED:
                    n = code[pc, 2]
                    if n > e - p:
                        failed = TRUNCATED
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
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
                        failed = BAD_INDEX
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        values[cell] = v
                        lengths[cell] = 0
                    p += 1
                    pc += 1
                elif operation == NULLABLE:
                    v, p = read_small_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v > 1:
                        failed = BAD_INDEX
                        break
                    if v == code[pc, 2]:
                        for k in range(code[pc, 3], code[pc, 4]):
                            cell = column_starts[pool[k]] + row
                            values[cell] = 0
                            lengths[cell] = -1
                        pc = int(code[pc, 5])
                    else:
                        pc += 1
                elif operation == SET_NUMBER:
                    cell = column_starts[column] + row
                    values[cell] = code[pc, 2]
                    lengths[cell] = 0
                    pc += 1
                elif operation == SET_NULLS:
                    for k in range(code[pc, 3], code[pc, 4]):
                        cell = column_starts[pool[k]] + row
                        values[cell] = 0
                        lengths[cell] = -1
                    pc += 1
                elif operation == ARRAY:
                    frame = code[pc, 2]
                    count, end, p = read_block_header(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if count == 0:
                        if end >= 0 and end != p:
                            failed = BAD_LENGTH
                            break
                        if frame >= 0:
                            cell = column_starts[column] + row
                            values[cell] = frame_rows[frame]
                            lengths[cell] = 0
                        pc = int(code[pc, 4])
                        continue
                    level = code[pc, 3]
                    stack[level, 0] = count
                    stack[level, 1] = end
                    stack[level, 3] = row
                    if frame >= 0:
                        row = frame_rows[frame]
                        stack[level, 2] = row
                        frame_rows[frame] = row + 1
                    pc += 1
                elif operation == NEXT_ITEM:
                    frame = code[pc, 2]
                    level = code[pc, 3]
                    left = stack[level, 0] - 1
                    if left == 0:
                        end = stack[level, 1]
                        if end >= 0 and end != p:
                            failed = BAD_LENGTH
                            break
                        left, end, p = read_block_header(words, p, e)
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
                                cell = column_starts[column] + row
                                values[cell] = first
                                lengths[cell] = frame_rows[frame] - first
                            pc += 1
                            continue
                    stack[level, 0] = left
                    if frame >= 0:
                        row = frame_rows[frame]
                        frame_rows[frame] = row + 1
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
                        cell = column_starts[column] + row
                        values[cell] = p
                        lengths[cell] = n
                    p += n
                    pc += 1
                elif operation == FLOAT:
                    if e - p < 4:
                        failed = TRUNCATED
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        single = np.uint32(words[p] & UINT32_MASK).view(np.float32)
                        values[cell] = np.float64(single).view(np.int64)
                        lengths[cell] = 0
                    p += 4
                    pc += 1
                elif operation == DOUBLE:
                    if e - p < 8:
                        failed = TRUNCATED
                        break
                    if column >= 0:
                        cell = column_starts[column] + row
                        values[cell] = np.uint64(words[p]).view(np.int64)
                        lengths[cell] = 0
                    p += 8
                    pc += 1
                elif operation == LONG_AS_FLOAT or operation == LONG_AS_DOUBLE:  # noqa: PLR1714
                    v, p = read_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if code[pc, 2] == 1 and (v > INT32_MAX or v < INT32_MIN):
                        failed = VARINT_OVERFLOW
                        break
                    cell = column_starts[column] + row
                    if operation == LONG_AS_FLOAT:
                        values[cell] = np.float64(np.float32(v)).view(np.int64)
                    else:
                        values[cell] = np.float64(v).view(np.int64)
                    lengths[cell] = 0
                    pc += 1
                elif operation == UNION:
                    v, p = read_small_long(words, p, e)
                    if p < 0:
                        failed = -p
                        break
                    if v < 0 or v >= code[pc, 3]:
                        failed = BAD_INDEX
                        break
                    pc = int(pool[code[pc, 2] + v])
                elif operation == JUMP:
                    pc = int(code[pc, 2])
                elif operation == SET_CONSTANT:
                    cell = column_starts[column] + row
                    values[cell] = constants + code[pc, 2]
                    lengths[cell] = code[pc, 3]
                    pc += 1
                elif operation == DEFAULT_ARRAY:
                    cell = column_starts[column] + row
                    values[cell] = frame_rows[code[pc, 2]]
                    lengths[cell] = code[pc, 4]
                    stack[code[pc, 3], 3] = row
                    pc += 1
                elif operation == DEFAULT_ITEM:
                    row = frame_rows[code[pc, 2]]
                    frame_rows[code[pc, 2]] = row + 1
                    pc += 1
                elif operation == DEFAULT_END:
                    row = stack[code[pc, 3], 3]
                    pc += 1
                elif operation == RAW_BEGIN:
                    stack[code[pc, 3], 0] = p
                    pc += 1
                elif operation == RAW_END:
                    cell = column_starts[column] + row
                    values[cell] = stack[code[pc, 3], 0]
                    lengths[cell] = p - stack[code[pc, 3], 0]
                    pc += 1
                else:
                    failed = UNRESOLVABLE
                    break
        status[i] = failed
        if failed != 0:
            for k in range(root_columns):
                cell = column_starts[k] + i
                values[cell] = 0
                lengths[cell] = -1
            for k in range(len(frame_rows)):
                frame_rows[k] = complete_frame_rows[k]
        else:
            for k in range(len(frame_rows)):
                complete_frame_rows[k] = frame_rows[k]
