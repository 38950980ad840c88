"""Identities: 128 bits that stand for an event_id, or for what a derived record says.

MurmurHash3 x64 128 with seed 0 (Austin Appleby, public domain), written as its two 64-bit halves, each big-endian.
It is not a secret and not a signature: whoever can write a parcel's scans can repeat their event_ids as well.
"""

import numpy as np

from streams.domain.jit import jit, jit_inline

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_FIVE = np.uint64(5)
_ADD1 = np.uint64(0x52DCE729)
_ADD2 = np.uint64(0x38495AB5)
_MIX1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX2 = np.uint64(0xC4CEB9FE1A85EC53)
_33 = np.uint64(33)


@jit_inline
def _rotated(word: np.uint64, left: int) -> np.uint64:
    return (word << np.uint64(left)) | (word >> np.uint64(64 - left))


@jit_inline
def _mixed(word: np.uint64) -> np.uint64:
    word ^= word >> _33
    word *= _MIX1
    word ^= word >> _33
    word *= _MIX2
    return word ^ (word >> _33)


@jit_inline
def _load(buffer: np.ndarray, at: int, count: int) -> np.uint64:
    """`count` (0 to 8) bytes as a little-endian number."""
    word = np.uint64(0)
    for i in range(count):
        word |= np.uint64(buffer[at + i]) << np.uint64(8 * i)
    return word


@jit_inline
def _load8(buffer: np.ndarray, at: int) -> np.uint64:
    """Eight bytes as a little-endian number: written out, so that LLVM makes one load of it."""
    return (
        np.uint64(buffer[at])
        | np.uint64(buffer[at + 1]) << np.uint64(8)
        | np.uint64(buffer[at + 2]) << np.uint64(16)
        | np.uint64(buffer[at + 3]) << np.uint64(24)
        | np.uint64(buffer[at + 4]) << np.uint64(32)
        | np.uint64(buffer[at + 5]) << np.uint64(40)
        | np.uint64(buffer[at + 6]) << np.uint64(48)
        | np.uint64(buffer[at + 7]) << np.uint64(56)
    )


@jit
def record_hash(buffer: np.ndarray, at: int, size: int) -> tuple[np.uint64, np.uint64]:
    """Identity of `size` bytes of `buffer` (uint8) from position `at`: the high and the low half."""
    one = np.uint64(0)
    two = np.uint64(0)
    end = at + size // 16 * 16
    while at < end:
        one ^= _rotated(_load8(buffer, at) * _C1, 31) * _C2
        one = (_rotated(one, 27) + two) * _FIVE + _ADD1
        two ^= _rotated(_load8(buffer, at + 8) * _C2, 33) * _C1
        two = (_rotated(two, 31) + one) * _FIVE + _ADD2
        at += 16
    rest = size % 16
    if rest > 8:
        two ^= _rotated(_load(buffer, at + 8, rest - 8) * _C2, 33) * _C1
    if rest > 0:
        one ^= _rotated(_load(buffer, at, min(rest, 8)) * _C1, 31) * _C2
    one ^= np.uint64(size)
    two ^= np.uint64(size)
    one += two
    two += one
    one = _mixed(one)
    two = _mixed(two)
    one += two
    two += one
    return one, two


@jit
def hash64(buffer: np.ndarray, at: int, size: int, seed: np.uint64) -> np.uint64:
    """A fast 64-bit hash for the tables in memory; `seed` is random per process, so that nobody can aim at a slot."""
    word = seed ^ (np.uint64(size) * _MIX2)
    end = at + size // 8 * 8
    while at < end:
        word = (word ^ _load8(buffer, at)) * _MIX1
        word ^= word >> _33
        at += 8
    word = (word ^ _load(buffer, at, size % 8)) * _MIX2
    return _mixed(word)


@jit_inline
def put_big_endian(target: np.ndarray, at: int, word: np.uint64) -> None:
    """Write `word` as 8 bytes, most significant first."""
    for i in range(8):
        target[at + i] = np.uint8((word >> np.uint64(56 - 8 * i)) & np.uint64(255))


@jit_inline
def get_big_endian(source: np.ndarray, at: int) -> np.uint64:
    """Read 8 bytes, most significant first."""
    word = np.uint64(0)
    for i in range(8):
        word = (word << np.uint64(8)) | np.uint64(source[at + i])
    return word
