"""Identities: 128-bit hashes of an event_id, or of the content of a derived record.

MurmurHash3 x64 128 with seed 0 (Austin Appleby, public domain), written as its two 64-bit halves, each big-endian.
It is neither a secret nor a signature: a sender that can write scans of a parcel can also repeat their event_ids.
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
def _load(buffer: np.ndarray, offset: int, count: int) -> np.uint64:
    """`count` (0 to 8) bytes as a little-endian number."""
    word = np.uint64(0)
    for i in range(count):
        word |= np.uint64(buffer[offset + i]) << np.uint64(8 * i)
    return word


@jit_inline
def _load8(buffer: np.ndarray, offset: int) -> np.uint64:
    """Eight bytes as a little-endian number; written out, so that LLVM compiles it to one load."""
    return (
        np.uint64(buffer[offset])
        | np.uint64(buffer[offset + 1]) << np.uint64(8)
        | np.uint64(buffer[offset + 2]) << np.uint64(16)
        | np.uint64(buffer[offset + 3]) << np.uint64(24)
        | np.uint64(buffer[offset + 4]) << np.uint64(32)
        | np.uint64(buffer[offset + 5]) << np.uint64(40)
        | np.uint64(buffer[offset + 6]) << np.uint64(48)
        | np.uint64(buffer[offset + 7]) << np.uint64(56)
    )


@jit
def record_hash(buffer: np.ndarray, offset: int, size: int) -> tuple[np.uint64, np.uint64]:
    """Identity of `size` bytes of `buffer` (uint8) from `offset` on: the high and the low half."""
    h1 = np.uint64(0)
    h2 = np.uint64(0)
    end = offset + size // 16 * 16
    while offset < end:
        h1 ^= _rotated(_load8(buffer, offset) * _C1, 31) * _C2
        h1 = (_rotated(h1, 27) + h2) * _FIVE + _ADD1
        h2 ^= _rotated(_load8(buffer, offset + 8) * _C2, 33) * _C1
        h2 = (_rotated(h2, 31) + h1) * _FIVE + _ADD2
        offset += 16
    rest = size % 16
    if rest > 8:
        h2 ^= _rotated(_load(buffer, offset + 8, rest - 8) * _C2, 33) * _C1
    if rest > 0:
        h1 ^= _rotated(_load(buffer, offset, min(rest, 8)) * _C1, 31) * _C2
    h1 ^= np.uint64(size)
    h2 ^= np.uint64(size)
    h1 += h2
    h2 += h1
    h1 = _mixed(h1)
    h2 = _mixed(h2)
    h1 += h2
    h2 += h1
    return h1, h2


@jit
def hash64(buffer: np.ndarray, offset: int, size: int, seed: np.uint64) -> np.uint64:
    """A fast 64-bit hash for tables in memory; `seed` is random per process, so that no sender can aim at a slot."""
    word = seed ^ (np.uint64(size) * _MIX2)
    end = offset + size // 8 * 8
    while offset < end:
        word = (word ^ _load8(buffer, offset)) * _MIX1
        word ^= word >> _33
        offset += 8
    word = (word ^ _load(buffer, offset, size % 8)) * _MIX2
    return _mixed(word)


@jit_inline
def put_big_endian(target: np.ndarray, offset: int, word: np.uint64) -> None:
    """Write `word` as 8 bytes, most significant first."""
    for i in range(8):
        target[offset + i] = np.uint8((word >> np.uint64(56 - 8 * i)) & np.uint64(255))


@jit_inline
def get_big_endian(source: np.ndarray, offset: int) -> np.uint64:
    """Read 8 bytes, most significant first."""
    word = np.uint64(0)
    for i in range(8):
        word = (word << np.uint64(8)) | np.uint64(source[offset + i])
    return word
