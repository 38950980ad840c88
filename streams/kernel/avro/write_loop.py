"""The compiled loop that writes records: its instructions, and the faults of a column.

An instruction is a row (operation, column in its frame, null, next, a, b, c):

- null: the position of null in the union of the value; -1 without a union; -2 for a union without null, whose position
  0 is written;
- next: the instruction after null.
"""

from typing import Any, Final

import numpy as np

from streams.domain.jit import jit, jit_inline
from streams.kernel.avro.primitives import INT32_MAX, INT32_MIN, is_valid_utf8, write_long

(
    STRING,  # a: source
    BYTES,  # a: source, b: 1 if no length is written
    LONG,
    INT,
    ENUM,  # a: number of symbols
    FIXED,  # a: source, b: bytes
    NULLABLE_RECORD,
    ARRAY,  # a: frame, b: depth, c: instruction after the last item
    NEXT_ITEM,  # b: depth, c: first instruction of an item
    BOOLEAN,
    FLOAT,
    DOUBLE,
    ZERO_BYTE,
    END,
) = range(14)

# Bytes that an instruction may write without a check of the room: a union's position and a number, rounded up.
OUTPUT_SLACK_BYTES: Final = 32

FAULT_MESSAGES: Final = {
    1: "is null, and the schema has no null there",
    2: "does not fit an int of 32 bits",
    3: "is not 0 or 1, as a boolean must be",
    4: "is not the number of a word of the enum",
    5: "points outside its source",
    6: "has another length than the fixed type",
    7: "is not UTF-8",
    8: "points outside the frame of its items",
    9: "has a negative length other than -1",
    10: "does not fit a float of 32 bits",
}
(
    UNEXPECTED_NULL,
    NOT_INT,
    NOT_BOOLEAN,
    NOT_SYMBOL,
    OUTSIDE_SOURCE,
    WRONG_FIXED_LENGTH,
    NOT_UTF8,
    ITEMS_OUTSIDE_FRAME,
    NEGATIVE_LENGTH,
    NOT_FLOAT,
) = range(1, 11)
OUTPUT_FULL: Final = -1


@jit_inline
def copy_bytes(out: Any, out_words: Any, o: Any, octets: Any, words: Any, p: Any, n: Any) -> None:
    """Copy `n` bytes from `p` of a source to `o`, where eight more are free: the bytes in excess are overwritten."""
    k = 0
    while k < n:
        if p + k < len(words):
            out_words[o + k] = words[p + k]
            k += 8
        else:
            out[o + k] = octets[p + k]
            k += 1


@jit
def write_records(
    rows: Any,
    values: Any,
    lengths: Any,
    code: Any,
    head: Any,
    stack: Any,
    offsets: Any,
    state: Any,
    out: Any,
    out_words: Any,
    octets_0: Any,
    words_0: Any,
    octets_1: Any,
    words_1: Any,
    octets_2: Any,
    words_2: Any,
    octets_3: Any,
    words_3: Any,
) -> None:
    """Write rows from `state[0]` on; stop before a row for which `out` has no room, or at a row with a fault.

    `stack` holds, for each array that is being written, by depth: items left, row of the record, frame of the record.
    """
    full = len(out) - OUTPUT_SLACK_BYTES
    o = int(state[1])
    fault = 0
    pc = 0
    row = 0
    for i in range(int(state[0]), rows):
        frame = 0
        numbers = values[0]
        sizes = lengths[0]
        row = i
        pc = 0
        if o > full:
            fault = OUTPUT_FULL
        else:
            for k in range(len(head)):
                out[o + k] = head[k]
            o += len(head)
        while fault == 0:
            if o > full:
                fault = OUTPUT_FULL
                break
            operation = code[pc, 0]
            column = code[pc, 1]
            v = np.int64(0)
            n = np.int64(0)
            if column >= 0:
                v = numbers[column, row]
                n = np.int64(sizes[column, row])
                null = code[pc, 2]
                if n < 0:
                    if n != -1:
                        fault = NEGATIVE_LENGTH
                        break
                    if null < 0:
                        fault = UNEXPECTED_NULL
                        break
                    out[o] = null << 1
                    o += 1
                    pc = int(code[pc, 3])
                    continue
                if null != -1:
                    out[o] = 2 if null == 0 else 0
                    o += 1
            if operation == LONG:
                o = write_long(out, out_words, o, v)
            elif operation == INT:
                if v > INT32_MAX or v < INT32_MIN:
                    fault = NOT_INT
                    break
                o = write_long(out, out_words, o, v)
            elif operation == ENUM:
                if v < 0 or v >= code[pc, 4]:
                    fault = NOT_SYMBOL
                    break
                o = write_long(out, out_words, o, v)
            elif operation == STRING or operation == BYTES or operation == FIXED:  # noqa: PLR1714 - no tuple each turn
                if operation == FIXED and n != code[pc, 5]:
                    fault = WRONG_FIXED_LENGTH
                    break
                if o + n > full:
                    fault = OUTPUT_FULL
                    break
                # The length is written although the bytes may be refused: a refused row ends the batch.
                if operation != FIXED and not (operation == BYTES and code[pc, 5] == 1):
                    o = write_long(out, out_words, o, n)
                source = code[pc, 4]
                octets = octets_0
                words = words_0
                if source == 1:
                    octets = octets_1
                    words = words_1
                elif source == 2:
                    octets = octets_2
                    words = words_2
                elif source == 3:
                    octets = octets_3
                    words = words_3
                if v < 0 or v > len(octets) - n:
                    fault = OUTSIDE_SOURCE
                    break
                if operation == STRING and not is_valid_utf8(octets, words, v, n):
                    fault = NOT_UTF8
                    break
                copy_bytes(out, out_words, o, octets, words, v, n)
                o += int(n)
            elif operation == NEXT_ITEM:
                level = code[pc, 5]
                left = stack[level, 0] - 1
                if left > 0:
                    stack[level, 0] = left
                    row += 1
                    pc = int(code[pc, 6])
                    continue
                out[o] = 0
                o += 1
                row = int(stack[level, 1])
                frame = int(stack[level, 2])
                numbers = values[frame]
                sizes = lengths[frame]
            elif operation == ARRAY:
                if n == 0:
                    out[o] = 0
                    o += 1
                    pc = int(code[pc, 6])
                    continue
                child = int(code[pc, 4])
                if v < 0 or v > values[child].shape[1] - n:
                    fault = ITEMS_OUTSIDE_FRAME
                    break
                o = write_long(out, out_words, o, n)
                level = code[pc, 5]
                stack[level, 0] = n
                stack[level, 1] = row
                stack[level, 2] = frame
                frame = child
                row = int(v)
                numbers = values[frame]
                sizes = lengths[frame]
            elif operation == BOOLEAN:
                if v < 0 or v > 1:
                    fault = NOT_BOOLEAN
                    break
                out[o] = v
                o += 1
            elif operation == FLOAT:
                wide = np.int64(v).view(np.float64)
                single = np.float32(wide)
                if np.isinf(single) and not np.isinf(wide):
                    fault = NOT_FLOAT
                    break
                out_words[o] = np.uint64(np.float32(single).view(np.uint32))
                o += 4
            elif operation == DOUBLE:
                out_words[o] = np.int64(v).view(np.uint64)
                o += 8
            elif operation == ZERO_BYTE:
                out[o] = 0
                o += 1
            elif operation == END:
                break
            pc += 1
        if fault != 0:
            # The caller writes the whole row again into a larger buffer, or nothing of it.
            state[0] = i
            state[1] = offsets[i]
            state[2] = fault
            state[3] = pc
            state[4] = row
            return
        offsets[i + 1] = o
    state[0] = rows
    state[1] = o
    state[2] = 0
