"""The partition of a key: murmur2 as Kafka's Java clients compute it (`Utils.murmur2`)."""

import numpy as np

from streams.domain.jit import int64, jit

_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)
_24 = np.uint32(24)


@jit
def partition_of(buffer: np.ndarray, start: int, size: int, partitions: int) -> int:
    """Partition of the key in `buffer[start : start + size]` (uint8) among `partitions`."""
    digest = _SEED ^ np.uint32(size)
    end = start + size // 4 * 4
    while start < end:
        block = (
            np.uint32(buffer[start])
            | np.uint32(buffer[start + 1]) << np.uint32(8)
            | np.uint32(buffer[start + 2]) << np.uint32(16)
            | np.uint32(buffer[start + 3]) << np.uint32(24)
        )
        block = np.uint32(block * _M)
        block = np.uint32(block ^ (block >> _24))
        block = np.uint32(block * _M)
        digest = np.uint32(np.uint32(digest * _M) ^ block)
        start += 4
    rest = size % 4
    if rest > 2:
        digest = np.uint32(digest ^ (np.uint32(buffer[start + 2]) << np.uint32(16)))
    if rest > 1:
        digest = np.uint32(digest ^ (np.uint32(buffer[start + 1]) << np.uint32(8)))
    if rest > 0:
        digest = np.uint32(np.uint32(digest ^ np.uint32(buffer[start])) * _M)
    digest = np.uint32(np.uint32(digest ^ (digest >> np.uint32(13))) * _M)
    digest = np.uint32(digest ^ (digest >> np.uint32(15)))
    return int64(digest & np.uint32(0x7FFFFFFF)) % partitions
