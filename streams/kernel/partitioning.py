"""The partitions of many keys at once, and the keys reordered by partition: for the children of containers."""

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import jit
from streams.kernel.murmur2 import partition_of

ByteArray = NDArray[np.uint8]
Int64Array = NDArray[np.int64]


@jit
def compute_partitions(key_bytes: ByteArray, key_ends: Int64Array, partitions: int, key_partitions: Int64Array) -> None:
    """Partition of each key, among `partitions`; key i is `key_bytes[key_ends[i] : key_ends[i + 1]]`."""
    for i in range(len(key_ends) - 1):
        key_partitions[i] = partition_of(key_bytes, key_ends[i], key_ends[i + 1] - key_ends[i], partitions)


@jit
def reorder_keys(
    key_bytes: ByteArray,
    key_ends: Int64Array,
    order: Int64Array,
    reordered_bytes: ByteArray,
    reordered_ends: Int64Array,
) -> None:
    """Copy the keys in another order, back to back, to `reordered_bytes`, which is as long as `key_bytes`."""
    reordered_ends[0] = 0
    end = 0
    for i in range(len(order)):
        for j in range(key_ends[order[i]], key_ends[order[i] + 1]):
            reordered_bytes[end] = key_bytes[j]
            end += 1
        reordered_ends[i + 1] = end
