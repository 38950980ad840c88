"""A look ahead: what is needed next of the table is fetched into the core's caches, for many parcels at once.

A record needs ten places of a table that is larger than any cache, most of them known only from the one before: by
itself it waits for memory ten times. Here the parcels of a window go from place to place together, so that they wait
together. Nothing is decided here: what is looked at may be another parcel's, and is looked at again when it counts.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.limits import MAX_PARCEL_ID_BYTES
from streams.domain.record_hash import hash64
from streams.kernel.parcel_table import (
    KEY_ALIGNMENT,
    NONE,
    PREFETCH_WINDOW,
    SLOTS_PER_CHUNK,
    ByteArray,
    Int64Array,
    TableArrays,
)

# Chunks of a parcel beyond the first: four hold the records of an ordinary journey.
_MORE_CHUNKS: Final = 4


@jit_inline
def _prefetch_chunk(a: TableArrays, chunk: int) -> int:
    """Both cache lines of a chunk, and which chunk comes after it."""
    first = int64(a.slots[chunk * SLOTS_PER_CHUNK]["stamp"])
    return first + int64(a.slots[chunk * SLOTS_PER_CHUNK + SLOTS_PER_CHUNK - 1]["stamp"]) + int64(a.next_chunk[chunk])


@jit
def _prefetch_row_chunks(a: TableArrays, count: int) -> int:
    """The ids and records of the rows in `a.ahead`, step by step. What was read must be of use, or it is left out."""
    seen = int64(0)
    for i in range(count):
        row = int64(a.prefetch_cursor[i])
        if row != NONE:
            seen += int64(a.rows[row]["head"])
    for i in range(count):
        row = int64(a.prefetch_cursor[i])
        if row != NONE:
            seen += int64(a.heap[int64(a.rows[row]["key_at"]) * KEY_ALIGNMENT])
            chunk = int64(a.rows[row]["head"])
            a.prefetch_cursor[i] = chunk
            if chunk != NONE:
                seen += _prefetch_chunk(a, chunk)
    for _ in range(_MORE_CHUNKS):
        for i in range(count):
            if a.prefetch_cursor[i] != NONE:
                chunk = int64(a.next_chunk[a.prefetch_cursor[i]])
                a.prefetch_cursor[i] = chunk
                if chunk != NONE:
                    seen += _prefetch_chunk(a, chunk)
    return seen


@jit
def prefetch_records(
    a: TableArrays, buffer: ByteArray, at: Int64Array, sizes: NDArray[np.int32], first: int, end: int
) -> None:
    """Look at the parcels of the records from `first` until `end`, at most WINDOW of them.

    Args:
        buffer: of a decoded batch.
        at, sizes: where each record's parcel_id is in it; a size that is not positive for none, as where the decoder
            could not go on.
    """
    mask = len(a.row_index) - 1
    seen = int64(0)
    for i in range(first, end):
        a.prefetch_cursor[i - first] = NONE
        if 0 < sizes[i] <= MAX_PARCEL_ID_BYTES:
            hashed = hash64(buffer, at[i], int64(sizes[i]), a.seed[0])
            place = int64(hashed & np.uint64(mask))
            a.prefetch_cursor[i - first] = place << 8 | int64(hashed >> np.uint64(56))
            seen += int64(a.row_index[place]) + int64(a.row_tags[place])
    for i in range(end - first):
        if a.prefetch_cursor[i] != NONE:
            tag = int64(a.prefetch_cursor[i]) & 255
            place = int64(a.prefetch_cursor[i]) >> 8
            row = int64(a.row_index[place])
            while row != NONE and a.row_tags[place] != tag:
                place = (place + 1) & mask
                row = int64(a.row_index[place])
            a.prefetch_cursor[i] = row
            if row != NONE:
                seen += int64(a.due[row])
    seen += _prefetch_row_chunks(a, end - first)
    a.prefetch_cursor[0] = seen


@jit
def prefetch_rows(a: TableArrays, rows: NDArray[np.int32], count: int) -> None:
    """Look at the first `count` rows of `rows`, of which the states are to be encoded: they fit into a core's cache."""
    for first in range(0, count, PREFETCH_WINDOW):
        size = min(PREFETCH_WINDOW, count - first)
        for i in range(size):
            a.prefetch_cursor[i] = rows[first + i]
        a.prefetch_cursor[0] = _prefetch_row_chunks(a, size)
