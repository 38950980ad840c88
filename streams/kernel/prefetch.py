"""Prefetching: reads what the next records need of the table, so that it is in the core's caches when they are folded.

A record needs ten cache lines of a table that is larger than any cache, and the address of most of them is known only
from the one before. On its own, a record waits for memory ten times. Here the records of a window read each step
together, so that their waits overlap. Prefetching has no effect on results: it may read the row of another parcel by
mistake, and the fold finds the right row itself.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.limits import MAX_PARCEL_ID_BYTES
from streams.domain.record_hash import hash64
from streams.kernel.parcel_table import (
    KEY_ALIGNMENT,
    NO_CHUNK,
    NO_ROW,
    PREFETCH_WINDOW,
    SLOTS_PER_CHUNK,
    ByteArray,
    Int64Array,
    TableArrays,
)

# Chunks of a parcel after its first: with it, they hold the records of an ordinary journey.
_MORE_CHUNKS: Final = 4


@jit_inline
def _prefetch_chunk(a: TableArrays, chunk: int) -> int:
    """Read both cache lines of a chunk and the number of the next chunk; returns the sum of what was read."""
    first = int64(a.slots[chunk * SLOTS_PER_CHUNK]["packed_key"])
    return (
        first + int64(a.slots[chunk * SLOTS_PER_CHUNK + SLOTS_PER_CHUNK - 1]["packed_key"]) + int64(a.next_chunk[chunk])
    )


@jit
def _prefetch_row_chunks(a: TableArrays, count: int) -> int:
    """Read the ids and records of the first `count` rows in `a.prefetch_cursor`, step by step.

    Returns:
        The sum of what was read; the compiler would remove reads whose result is not used.
    """
    read_sum = int64(0)
    for i in range(count):
        row = int64(a.prefetch_cursor[i])
        if row != NO_ROW:
            read_sum += int64(a.rows[row]["first_chunk"])
    for i in range(count):
        row = int64(a.prefetch_cursor[i])
        if row != NO_ROW:
            read_sum += int64(a.heap[int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT])
            chunk = int64(a.rows[row]["first_chunk"])
            a.prefetch_cursor[i] = chunk
            if chunk != NO_CHUNK:
                read_sum += _prefetch_chunk(a, chunk)
    for _ in range(_MORE_CHUNKS):
        for i in range(count):
            # From here on the cursor holds chunks; it stays NO_ROW, which is NO_CHUNK, where there was no row.
            if a.prefetch_cursor[i] != NO_CHUNK:
                chunk = int64(a.next_chunk[a.prefetch_cursor[i]])
                a.prefetch_cursor[i] = chunk
                if chunk != NO_CHUNK:
                    read_sum += _prefetch_chunk(a, chunk)
    return read_sum


@jit
def prefetch_records(
    a: TableArrays, buffer: ByteArray, starts: Int64Array, sizes: NDArray[np.int32], first: int, end: int
) -> None:
    """Prefetch the parcels of the records from `first` until `end`, at most PREFETCH_WINDOW of them.

    Args:
        buffer: of a decoded batch.
        starts, sizes: position of each record's parcel_id in it; a size of 0 or less where there is none, as in a
            record that the decoder rejected.
    """
    mask = len(a.row_index) - 1
    read_sum = int64(0)
    for i in range(first, end):
        a.prefetch_cursor[i - first] = NO_ROW
        if 0 < sizes[i] <= MAX_PARCEL_ID_BYTES:
            hashed = hash64(buffer, starts[i], int64(sizes[i]), a.seed[0])
            bucket = int64(hashed & np.uint64(mask))
            a.prefetch_cursor[i - first] = bucket << 8 | int64(hashed >> np.uint64(56))
            read_sum += int64(a.row_index[bucket]) + int64(a.row_tags[bucket])
    for i in range(end - first):
        if a.prefetch_cursor[i] != NO_ROW:
            tag = int64(a.prefetch_cursor[i]) & 255
            bucket = int64(a.prefetch_cursor[i]) >> 8
            row = int64(a.row_index[bucket])
            while row != NO_ROW and a.row_tags[bucket] != tag:
                bucket = (bucket + 1) & mask
                row = int64(a.row_index[bucket])
            a.prefetch_cursor[i] = row
            if row != NO_ROW:
                read_sum += int64(a.due_times[row])
    read_sum += _prefetch_row_chunks(a, end - first)
    a.prefetch_cursor[0] = read_sum


@jit
def prefetch_rows(a: TableArrays, rows: NDArray[np.int32], count: int) -> None:
    """Prefetch the first `count` of `rows`, whose states are encoded next: they fit into a core's cache."""
    for first in range(0, count, PREFETCH_WINDOW):
        size = min(PREFETCH_WINDOW, count - first)
        for i in range(size):
            a.prefetch_cursor[i] = rows[first + i]
        a.prefetch_cursor[0] = _prefetch_row_chunks(a, size)
