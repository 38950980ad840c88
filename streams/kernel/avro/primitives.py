"""Compiled functions that read and write the numbers and texts of the Avro binary encoding.

They read or write eight bytes at once through `words`: a view of a byte array as overlapping 64-bit little-endian
numbers, one for each byte, so that `words[p]` is the eight bytes from `p` on. A caller that reads at `p` must make sure
that `p + 8` is within the array. The decoder's buffer ends with PADDING_BYTES spare bytes for that.

A read returns (value, next position). A next position below 0 is the negated number of a `RejectReason`.

Short names, as everywhere in the kernel: `p` a position, `e` the end of the record, `n` a length, `o` a position in the
output, `w` eight bytes, `u` an unsigned and `v` a signed number.
"""

from typing import Any, Final

import numpy as np

from streams.domain.jit import jit, jit_inline
from streams.domain.reject_reasons import RejectReason

TRUNCATED: Final = int(RejectReason.TRUNCATED)
VARINT_OVERFLOW: Final = int(RejectReason.VARINT_OVERFLOW)
BAD_LENGTH: Final = int(RejectReason.BAD_LENGTH)
BAD_INDEX: Final = int(RejectReason.BAD_INDEX)

PADDING_BYTES: Final = 16

ZERO: Final = np.uint64(0)
ONE: Final = np.uint64(1)
SEVEN: Final = np.uint64(7)
LOW_6_BITS: Final = np.uint64(0x3F)
LOW_7_BITS: Final = np.uint64(0x7F)
CONTINUATION_BIT: Final = np.uint64(0x80)
LOW_BIT_OF_EACH_BYTE: Final = np.uint64(0x0101010101010101)
BYTE_MASK: Final = np.uint64(255)
HIGH_BIT_OF_EACH_BYTE: Final = np.uint64(0x8080808080808080)
OVER_2_BYTES: Final = np.uint64(1 << 14)
OVER_3_BYTES: Final = np.uint64(1 << 21)
OVER_4_BYTES: Final = np.uint64(1 << 28)
OVER_5_BYTES: Final = np.uint64(1 << 35)
OVER_6_BYTES: Final = np.uint64(1 << 42)
OVER_7_BYTES: Final = np.uint64(1 << 49)
OVER_8_BYTES: Final = np.uint64(1 << 56)
# Masks of the three steps that pack eight groups of seven bits into 56 bits, and of the steps back.
EVEN_7: Final = np.uint64(0x007F007F007F007F)
ODD_7: Final = np.uint64(0x7F007F007F007F00)
EVEN_14: Final = np.uint64(0x00003FFF00003FFF)
ODD_14: Final = np.uint64(0x3FFF00003FFF0000)
EVEN_28: Final = np.uint64(0x000000000FFFFFFF)
ODD_28: Final = np.uint64(0x0FFFFFFF00000000)
SHIFT_2: Final = np.uint64(2)
SHIFT_4: Final = np.uint64(4)
INT32_MAX: Final = 2**31 - 1
INT32_MIN: Final = -(2**31)


def overlapping_words(array: Any) -> Any:
    """The view `words` of a contiguous uint8 array; empty where the array has fewer than eight bytes."""
    return np.ndarray((max(len(array) - 7, 0),), np.uint64, array, 0, (1,))


@jit_inline
def zigzag_decode(u: Any) -> Any:
    """The signed number of a zigzag-coded uint64."""
    return np.int64(u >> ONE) ^ -np.int64(u & ONE)


@jit_inline
def read_long(words: Any, p: Any, e: Any) -> Any:
    """Read an int or a long at `p`, of a record that ends before `e`."""
    w = words[p]
    if (w & CONTINUATION_BIT) == ZERO:
        if p >= e:
            return np.int64(0), np.int64(-TRUNCATED)
        return zigzag_decode(w & LOW_7_BITS), np.int64(p + 1)
    stops = ~w & HIGH_BIT_OF_EACH_BYTE
    if stops == ZERO:
        return read_multibyte_long(words, p, e)
    # Number of bytes up to the first one without a continuation bit: the remainder sums one bit for each byte.
    n = np.int64((((stops & (~stops + ONE)) - ONE) & LOW_BIT_OF_EACH_BYTE) % BYTE_MASK)
    if n > e - p:
        return np.int64(0), np.int64(-TRUNCATED)
    w = w & (stops ^ (stops - ONE)) & ~HIGH_BIT_OF_EACH_BYTE
    w = (w & EVEN_7) | ((w & ODD_7) >> ONE)
    w = (w & EVEN_14) | ((w & ODD_14) >> SHIFT_2)
    w = (w & EVEN_28) | ((w & ODD_28) >> SHIFT_4)
    return zigzag_decode(w), np.int64(p + n)


@jit
def read_multibyte_long(words: Any, p: Any, e: Any) -> Any:
    """`read_long` byte by byte, for every valid length: at most ten bytes, with a value that fits 64 bits."""
    u = ZERO
    shift = ZERO
    for k in range(10):
        if p + k >= e:
            return np.int64(0), np.int64(-TRUNCATED)
        byte = words[p + k] & BYTE_MASK
        if k == 9 and byte > ONE:
            break
        u |= (byte & LOW_7_BITS) << shift
        if byte < CONTINUATION_BIT:
            return zigzag_decode(u), np.int64(p + k + 1)
        shift += SEVEN
    return np.int64(0), np.int64(-VARINT_OVERFLOW)


@jit_inline
def read_small_long(words: Any, p: Any, e: Any) -> Any:
    """`read_long` for numbers that nearly always have one byte: lengths, positions in unions and enums."""
    w = words[p]
    if (w & CONTINUATION_BIT) == ZERO:
        if p >= e:
            return np.int64(0), np.int64(-TRUNCATED)
        return zigzag_decode(w & LOW_7_BITS), np.int64(p + 1)
    return read_multibyte_long(words, p, e)


@jit_inline
def read_length(words: Any, p: Any, e: Any) -> Any:
    """Read the length of a string or of bytes, and check that so many bytes follow."""
    n, p = read_small_long(words, p, e)
    if p >= 0 and (n < 0 or n > e - p):
        return np.int64(0), np.int64(-BAD_LENGTH)
    return n, p


@jit_inline
def read_block_header(words: Any, p: Any, e: Any) -> Any:
    """Read the head of a block of array or map items: (items, end of the block or -1 if unknown, next position).

    An item has at least one byte, so a count beyond the rest of the record is wrong.
    """
    count, p = read_small_long(words, p, e)
    end = np.int64(-1)
    if p < 0:
        return np.int64(0), end, p
    if count < 0:
        if count < p - e:
            return np.int64(0), end, np.int64(-BAD_LENGTH)
        count = -count
        size, p = read_small_long(words, p, e)
        if p < 0:
            return np.int64(0), end, p
        if size < 0 or size > e - p:
            return np.int64(0), end, np.int64(-BAD_LENGTH)
        end = p + size
    if count > e - p:
        return np.int64(0), end, np.int64(-BAD_LENGTH)
    return count, end, p


@jit_inline
def is_valid_utf8(octets: Any, words: Any, p: Any, n: Any) -> Any:
    """True if the `n` bytes at `p` are UTF-8 (RFC 3629: no surrogates, no overlong forms)."""
    seen = ZERO
    if n >= 8:
        last = p + n - 8
        for q in range(p, last, 8):
            seen |= words[q]
        seen |= words[last]
    elif n == 0:
        return True
    elif p < len(words):
        seen = words[p] & ((ONE << np.uint64(8 * n)) - ONE)
    else:
        for q in range(p, p + n):
            seen |= np.uint64(octets[q])
    if (seen & HIGH_BIT_OF_EACH_BYTE) == ZERO:
        return True
    return is_valid_utf8_bytewise(octets, p, n)


@jit
def is_valid_utf8_bytewise(octets: Any, p: Any, n: Any) -> Any:
    """`is_valid_utf8` for any bytes, character by character."""
    e = p + n
    while p < e:
        lead = int(octets[p])
        p += 1
        if lead < 0x80:
            continue
        # Number of bytes that follow, and the valid range of the first of them (RFC 3629, section 4).
        low = 0x80
        high = 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if more > e - p:
            return False
        for _ in range(more):
            byte = int(octets[p])
            if byte < low or byte > high:
                return False
            low = 0x80
            high = 0xBF
            p += 1
    return True


@jit_inline
def write_long(out: Any, out_words: Any, o: Any, value: Any) -> Any:
    """Write an int or a long at `o`, where sixteen bytes are free; returns the position after it."""
    v = np.int64(value)
    u = np.int64((v << np.int64(1)) ^ (v >> np.int64(63))).view(np.uint64)
    if u < CONTINUATION_BIT:
        out[o] = np.uint8(u)
        return o + 1
    return write_multibyte_long(out, out_words, o, u)


@jit_inline
def write_multibyte_long(out: Any, out_words: Any, o: Any, u: Any) -> Any:
    """`write_long` of a zigzag-coded number of two bytes or more."""
    if u >= OVER_8_BYTES:
        while u >= CONTINUATION_BIT:
            out[o] = np.uint8((u & LOW_7_BITS) | CONTINUATION_BIT)
            u >>= SEVEN
            o += 1
        out[o] = np.uint8(u)
        return o + 1
    # A sum of comparisons: the processor would mispredict the end of a loop.
    n = 2 + np.int64(u >= OVER_2_BYTES) + np.int64(u >= OVER_3_BYTES) + np.int64(u >= OVER_4_BYTES)
    n += np.int64(u >= OVER_5_BYTES) + np.int64(u >= OVER_6_BYTES) + np.int64(u >= OVER_7_BYTES)
    w = (u & EVEN_28) | ((u << SHIFT_4) & ODD_28)
    w = (w & EVEN_14) | ((w << SHIFT_2) & ODD_14)
    w = (w & EVEN_7) | ((w << ONE) & ODD_7)
    out_words[o] = w | (HIGH_BIT_OF_EACH_BYTE & ((ONE << np.uint64(8 * (n - 1))) - ONE))
    return o + n
