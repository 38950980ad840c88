"""Children of containers, sorted by the partition that their records go to."""

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import jit
from streams.kernel.murmur2 import partition_of

ByteArray = NDArray[np.uint8]
Int64Array = NDArray[np.int64]


@jit
def compute_partitions(text: ByteArray, ends: Int64Array, partitions: int, out: Int64Array) -> None:
    """Partition of each key, among `partitions`; key i is `text[ends[i] : ends[i + 1]]`."""
    for i in range(len(ends) - 1):
        out[i] = partition_of(text, ends[i], ends[i + 1] - ends[i], partitions)


@jit
def reorder_keys(text: ByteArray, ends: Int64Array, order: Int64Array, out: ByteArray, out_ends: Int64Array) -> None:
    """The keys in another order, back to back, into `out`, which is as long as `text`."""
    out_ends[0] = 0
    at = 0
    for i in range(len(order)):
        for k in range(ends[order[i]], ends[order[i] + 1]):
            out[at] = text[k]
            at += 1
        out_ends[i + 1] = at
