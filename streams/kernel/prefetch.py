"""A look ahead: what is needed next of the table is fetched into the core's caches, for many parcels at once.

A record needs ten places of a table that is larger than any cache, most of them known only from the one before: by
itself it waits for memory ten times. Here the parcels of a window go from place to place together, so that they wait
together. Nothing is decided here: what is looked at may be another parcel's, and is looked at again when it counts.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, inlined, int64
from streams.domain.limits import PARCEL_ID_BYTES
from streams.domain.record_hash import hash64
from streams.kernel.parcel_table import CHUNK, KEY_ALIGN, NONE, WINDOW, Arrays, Bytes, Integers

# Chunks of a parcel beyond the first: four hold the records of an ordinary journey.
_MORE_CHUNKS: Final = 4


@inlined
def _look_at(a: Arrays, chunk: int) -> int:
    """Both cache lines of a chunk, and which chunk comes after it."""
    first = int64(a.slots[chunk * CHUNK]["stamp"])
    return first + int64(a.slots[chunk * CHUNK + CHUNK - 1]["stamp"]) + int64(a.following[chunk])


@compiled
def _look_at_rows(a: Arrays, count: int) -> int:
    """The ids and records of the rows in `a.ahead`, step by step. What was read must be of use, or it is left out."""
    seen = int64(0)
    for i in range(count):
        row = int64(a.ahead[i])
        if row != NONE:
            seen += int64(a.rows[row]["head"])
    for i in range(count):
        row = int64(a.ahead[i])
        if row != NONE:
            seen += int64(a.heap[int64(a.rows[row]["key_at"]) * KEY_ALIGN])
            chunk = int64(a.rows[row]["head"])
            a.ahead[i] = chunk
            if chunk != NONE:
                seen += _look_at(a, chunk)
    for _ in range(_MORE_CHUNKS):
        for i in range(count):
            if a.ahead[i] != NONE:
                chunk = int64(a.following[a.ahead[i]])
                a.ahead[i] = chunk
                if chunk != NONE:
                    seen += _look_at(a, chunk)
    return seen


@compiled
def look_ahead(a: Arrays, buffer: Bytes, at: Integers, sizes: NDArray[np.int32], first: int, end: int) -> None:
    """Look at the parcels of the records from `first` until `end`, at most WINDOW of them.

    Args:
        buffer: of a decoded batch.
        at, sizes: where each record's parcel_id is in it; a size that is not positive for none, as where the decoder
            could not go on.
    """
    mask = len(a.row_index) - 1
    seen = int64(0)
    for i in range(first, end):
        a.ahead[i - first] = NONE
        if 0 < sizes[i] <= PARCEL_ID_BYTES:
            hashed = hash64(buffer, at[i], int64(sizes[i]), a.seed[0])
            place = int64(hashed & np.uint64(mask))
            a.ahead[i - first] = place << 8 | int64(hashed >> np.uint64(56))
            seen += int64(a.row_index[place]) + int64(a.row_tags[place])
    for i in range(end - first):
        if a.ahead[i] != NONE:
            tag = int64(a.ahead[i]) & 255
            place = int64(a.ahead[i]) >> 8
            row = int64(a.row_index[place])
            while row != NONE and a.row_tags[place] != tag:
                place = (place + 1) & mask
                row = int64(a.row_index[place])
            a.ahead[i] = row
            if row != NONE:
                seen += int64(a.due[row])
    seen += _look_at_rows(a, end - first)
    a.ahead[0] = seen


@compiled
def look_at_rows(a: Arrays, rows: NDArray[np.int32], count: int) -> None:
    """Look at the first `count` rows of `rows`, of which the states are to be encoded: they fit into a core's cache."""
    for first in range(0, count, WINDOW):
        size = min(WINDOW, count - first)
        for i in range(size):
            a.ahead[i] = rows[first + i]
        a.ahead[0] = _look_at_rows(a, size)
