"""Children of containers, sorted by the partition that their records go to."""

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled
from streams.kernel.murmur2 import partition_of

Octets = NDArray[np.uint8]
Integers = NDArray[np.int64]


@compiled
def partitions_of(text: Octets, ends: Integers, partitions: int, out: Integers) -> None:
    """Partition of each key, among `partitions`; key i is `text[ends[i] : ends[i + 1]]`."""
    for i in range(len(ends) - 1):
        out[i] = partition_of(text, ends[i], ends[i + 1] - ends[i], partitions)


@compiled
def gather(text: Octets, ends: Integers, order: Integers, out: Octets, out_ends: Integers) -> None:
    """The keys in another order, back to back, into `out`, which is as long as `text`."""
    out_ends[0] = 0
    at = 0
    for i in range(len(order)):
        for k in range(ends[order[i]], ends[order[i] + 1]):
            out[at] = text[k]
            at += 1
        out_ends[i + 1] = at
