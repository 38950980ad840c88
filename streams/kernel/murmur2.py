"""Which partition a key belongs to: murmur2 as Kafka's Java clients compute it (`Utils.murmur2`)."""

import numpy as np

from streams.domain.jit import int64, jit

_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)
_24 = np.uint32(24)


@jit
def partition_of(buffer: np.ndarray, at: int, size: int, partitions: int) -> int:
    """Partition of the key in `buffer[at : at + size]` (uint8) among `partitions`."""
    word = _SEED ^ np.uint32(size)
    end = at + size // 4 * 4
    while at < end:
        part = (
            np.uint32(buffer[at])
            | np.uint32(buffer[at + 1]) << np.uint32(8)
            | np.uint32(buffer[at + 2]) << np.uint32(16)
            | np.uint32(buffer[at + 3]) << np.uint32(24)
        )
        part = np.uint32(part * _M)
        part = np.uint32(part ^ (part >> _24))
        part = np.uint32(part * _M)
        word = np.uint32(np.uint32(word * _M) ^ part)
        at += 4
    rest = size % 4
    if rest > 2:
        word = np.uint32(word ^ (np.uint32(buffer[at + 2]) << np.uint32(16)))
    if rest > 1:
        word = np.uint32(word ^ (np.uint32(buffer[at + 1]) << np.uint32(8)))
    if rest > 0:
        word = np.uint32(np.uint32(word ^ np.uint32(buffer[at])) * _M)
    word = np.uint32(np.uint32(word ^ (word >> np.uint32(13))) * _M)
    word = np.uint32(word ^ (word >> np.uint32(15)))
    return int64(word & np.uint32(0x7FFFFFFF)) % partitions
