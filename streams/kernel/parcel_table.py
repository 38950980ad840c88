"""The parcel table: every distinct record of every parcel of one partition, in a few flat arrays.

A parcel is a row. Each of its records is a slot of 32 bytes. The slots of a row are sorted by (event_time, kind, record
hash) and stored in a linked list of chunks, three slots a chunk. Parcel ids, locations, plans and container ids are
bytes in one heap. Bytes that repeat are interned: stored once and referred to by a number, the intern id.

Memory: 28 bytes a row, 12 for its due times (streams/kernel/due_index.py), 32 a slot, 4 a chunk, 5 to 13 a row for the
hash index, 32 for each active alert, and the heap (`python -m bench memory` measures it).

The arrays grow before a batch (`ParcelTable.reserve`), never inside compiled code.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import KINDS
from streams.domain.promise_clocks import NO_TIME
from streams.domain.promises import MAX_PROMISES
from streams.domain.record_hash import hash64

ByteArray = NDArray[np.uint8]
Int64Array = NDArray[np.int64]

# A row wastes one slot on average, two at most. Two, three, four and five slots are equally fast within a few percent.
SLOTS_PER_CHUNK: Final = 3
# Alignment of the parcel ids in the heap, in bytes.
KEY_ALIGNMENT: Final = 4
# Rows that share one smallest due time.
ROWS_PER_BLOCK: Final = 1024
# Records whose rows are prefetched together (streams/kernel/prefetch.py): their data fits into a core's L1 cache.
PREFETCH_WINDOW: Final = 32

NO_ROW: Final = -1
NO_CHUNK: Final = -1
NO_ALERT_INDEX: Final = -1
NO_INTERN_ID: Final = 0
EMPTY_BUCKET: Final = -1  # in `interned_index`
# Values of a row's `last_batch`.
NO_BATCH: Final = -1
ROW_RETIRED: Final = -2  # the parcel retired and has no new record since
# Values of a row's due time.
DUE_AT_NEXT_TICK: Final = -(1 << 63)  # the row changed since the last Tick
NOT_DUE: Final = (1 << 63) - 1

ROW: Final = np.dtype(
    [
        ("key_heap_offset", np.int32),  # of the parcel_id, in units of KEY_ALIGNMENT bytes
        ("first_chunk", np.int32),
        ("records", np.int32),  # number of distinct records: the version of the state
        ("last_batch", np.int32),  # number of the last batch that changed the row
        ("first_alert", np.int32),  # first active alert of the parcel: streams/kernel/active_alerts.py
        ("running_clock_bits", np.uint16),  # promises whose clock ran or was paused at the last Tick, one bit each
        ("voids", np.uint16),  # number of records that are voids
        ("key_size", np.uint8),
        ("stage", np.uint8),  # as last published, for the gauges
        ("direction", np.uint8),
    ],
    align=True,
)
SLOT: Final = np.dtype(
    [
        ("high", np.uint64),  # record hash
        ("low", np.uint64),
        ("packed_key", np.int64),  # time, kind, UTC offset and flags: streams/kernel/packed_key.py
        ("location_or_plan", np.int32),  # intern id: the encoded location of a scan, or the encoded plan of an advice
        ("detail", np.int32),  # intern id: container_id; of a void, the hash of its target; of an advice, promised_at
    ]
)
INTERNED: Final = np.dtype([("heap_offset", np.int64), ("size", np.int32), ("hash", np.uint32)])
# An active alert: published and not withdrawn.
ACTIVE_ALERT: Final = np.dtype(
    [
        ("high", np.uint64),  # alert id
        ("low", np.uint64),
        ("since", np.int64),  # start of the clock, or time of the first evidence
        ("subject_and_type", np.int32),  # intern id of the promise or anomaly; the two lowest bits are the type
        ("next", np.int32),  # next alert of the parcel or NO_ALERT_INDEX; of a free entry, the next free entry
    ]
)

# Indexes into `TableArrays.counts`.
(
    ROW_COUNT,
    CHUNK_COUNT,
    FREE_CHUNK,
    HEAP_SIZE,
    INTERNED_COUNT,
    HUB_TIME,
    CHANGED_COUNT,
    EVALUATED_COUNT,
    ACTIVE_ALERT_COUNT,
    FREE_ALERT,
    RETIRED_ROW_COUNT,
    TABLE_COUNTERS,
) = range(12)
_LARGE_ARRAY_BYTES: Final = 1 << 20


class TableArrays(NamedTuple):
    """The arrays of a table, as compiled code receives them."""

    rows: NDArray[np.void]
    slots: NDArray[np.void]
    next_chunk: NDArray[np.int32]  # chunk -> next chunk of the same parcel; of a free chunk, the next free chunk
    heap: ByteArray
    interned: NDArray[np.void]
    row_index: NDArray[np.int32]  # hash index with open addressing, a power of two long; NO_ROW where empty
    row_tags: ByteArray  # eight bits of the hash of each entry of `row_index`: most wrong rows are never read
    interned_index: NDArray[np.int32]  # the same for interned bytes; EMPTY_BUCKET where empty
    due_times: Int64Array  # the row is due at the first Tick after this time; DUE_AT_NEXT_TICK; NOT_DUE
    block_due_times: Int64Array  # lower bound of the due times in each block of rows
    changed_rows: NDArray[np.int32]  # rows that changed since the last Tick, in the order of their first change
    active_alerts: NDArray[np.void]
    running_clocks: Int64Array  # number of clocks of each promise that ran or were paused at the last Tick
    subject_intern_ids: NDArray[np.int32]  # intern ids of the names of the promises, then of the anomalies
    counts: Int64Array
    parcels_by_stage: Int64Array  # parcels in the hub at each stage, as last published; entry 0 has no meaning
    seed: NDArray[np.uint64]
    scratch: ByteArray
    prefetch_cursor: Int64Array  # see streams/kernel/prefetch.py


class ParcelTable:
    """The parcels of one partition. Not safe for use from several threads at once."""

    def __init__(self, subjects: Sequence[str] = ()) -> None:
        """`subjects`: names of the promises and anomalies that alerts are about."""
        counts = np.zeros(TABLE_COUNTERS, np.int64)
        counts[FREE_CHUNK] = NO_CHUNK
        counts[FREE_ALERT] = NO_ALERT_INDEX
        counts[INTERNED_COUNT] = 1  # intern id 0 is NO_INTERN_ID
        counts[HUB_TIME] = NO_TIME
        self.arrays = TableArrays(
            rows=np.zeros(1024, ROW),
            slots=np.zeros(1024 * SLOTS_PER_CHUNK, SLOT),
            next_chunk=np.zeros(1024, np.int32),
            heap=np.zeros(1 << 16, np.uint8),
            interned=np.zeros(1024, INTERNED),
            row_index=np.full(2048, NO_ROW, np.int32),
            row_tags=np.zeros(2048, np.uint8),
            interned_index=np.full(2048, EMPTY_BUCKET, np.int32),
            due_times=np.zeros(1024, np.int64),
            block_due_times=np.full(1024 // ROWS_PER_BLOCK, NOT_DUE, np.int64),
            changed_rows=np.zeros(1024, np.int32),
            active_alerts=np.zeros(64, ACTIVE_ALERT),
            running_clocks=np.zeros(min(len(subjects), MAX_PROMISES), np.int64),
            subject_intern_ids=np.zeros(len(subjects), np.int32),
            counts=counts,
            parcels_by_stage=np.zeros(len(KINDS), np.int64),
            seed=np.array([secrets.randbits(64)], np.uint64),
            scratch=np.zeros(1 << 13, np.uint8),
            prefetch_cursor=np.zeros(PREFETCH_WINDOW, np.int64),
        )
        for subject, name in enumerate(subjects):
            size = len(name.encode())
            self.arrays.scratch[:size] = np.frombuffer(name.encode(), np.uint8)
            self.arrays.subject_intern_ids[subject] = intern_bytes(self.arrays, self.arrays.scratch, 0, size)

    def __len__(self) -> int:
        """Number of parcels."""
        return int(self.arrays.counts[ROW_COUNT] - self.arrays.counts[RETIRED_ROW_COUNT])

    @property
    def row_count(self) -> int:
        """Number of rows, including those of retired parcels."""
        return int(self.arrays.counts[ROW_COUNT])

    @property
    def retired_row_count(self) -> int:
        """Number of rows of retired parcels."""
        return int(self.arrays.counts[RETIRED_ROW_COUNT])

    @property
    def hub_time(self) -> int | None:
        """Time of the largest Tick folded, ms since 1970; None before the first."""
        time = int(self.arrays.counts[HUB_TIME])
        return None if time == NO_TIME else time

    def set_hub_time(self, hub_time: int | None) -> None:
        """Set the time of the largest Tick folded; None for no Tick."""
        self.arrays.counts[HUB_TIME] = NO_TIME if hub_time is None else hub_time

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, including unused capacity."""
        return sum(array.nbytes for array in self.arrays)

    def reserve(self, parcels: int, records: int, chunks: int, text_bytes: int) -> None:
        """Make room for a batch that adds at most so many parcels, records, chunks and bytes of text.

        Large arrays grow in place by at least 1/32: the C library remaps their pages and does not copy them.
        """
        a = self.arrays
        rows, heap = int(a.counts[ROW_COUNT]) + parcels, int(a.counts[HEAP_SIZE]) + text_bytes + KEY_ALIGNMENT * parcels
        # A record adds two intern ids at most.
        intern_ids = int(a.counts[INTERNED_COUNT]) + 2 * records
        next_chunk = _grown(a.next_chunk, int(a.counts[CHUNK_COUNT]) + chunks)
        due_times = _grown(a.due_times, rows)
        blocks = len(a.block_due_times)
        block_due_times = _grown(a.block_due_times, -(-len(due_times) // ROWS_PER_BLOCK))
        block_due_times[blocks:] = NOT_DUE
        self.arrays = a = a._replace(
            rows=_grown(a.rows, rows),
            due_times=due_times,
            block_due_times=block_due_times,
            changed_rows=_grown(a.changed_rows, rows),
            next_chunk=next_chunk,
            slots=_grown(a.slots, len(next_chunk) * SLOTS_PER_CHUNK),
            heap=_grown(a.heap, heap),
            interned=_grown(a.interned, intern_ids),
        )
        if rows * 5 > len(a.row_index) * 4:
            size = _power_of_two(-(-rows * 5 // 4))
            index, tags = np.full(size, NO_ROW, np.int32), np.zeros(size, np.uint8)
            reindex_rows(a, index, tags)
            self.arrays = a = a._replace(row_index=index, row_tags=tags)
        if intern_ids * 5 > len(a.interned_index) * 4:
            index = np.full(_power_of_two(-(-intern_ids * 5 // 4)), EMPTY_BUCKET, np.int32)
            reindex_interned(a, index)
            self.arrays = a._replace(interned_index=index)

    def reserve_alerts(self, alerts: int) -> None:
        """Make room for so many more active alerts."""
        self.arrays = self.arrays._replace(
            active_alerts=_grown(self.arrays.active_alerts, int(self.arrays.counts[ACTIVE_ALERT_COUNT]) + alerts)
        )


_Array = TypeVar("_Array", bound=NDArray[Any])


def _grown(array: _Array, size: int) -> _Array:
    if size <= len(array):
        return array
    # Large arrays grow in small steps, because unused capacity adds to the memory of each parcel.
    step = len(array) // 32 if array.nbytes > _LARGE_ARRAY_BYTES else len(array)
    array.resize(max(size, len(array) + step), refcheck=False)
    return array


def _power_of_two(minimum: int) -> int:
    return 1 << (minimum - 1).bit_length()


@jit_inline
def allocate_chunk(a: TableArrays) -> int:
    """Take a free chunk. `ParcelTable.reserve` guarantees that there is one."""
    chunk = int64(a.counts[FREE_CHUNK])
    if chunk == NO_CHUNK:
        chunk = int64(a.counts[CHUNK_COUNT])
        a.counts[CHUNK_COUNT] = chunk + 1
    else:
        a.counts[FREE_CHUNK] = a.next_chunk[chunk]
    a.next_chunk[chunk] = NO_CHUNK
    return chunk


@jit_inline
def next_slot(a: TableArrays, row: int, i: int, slot: int) -> int:
    """Slot of record `i` of a row, in sorted order; `slot`: that of record `i - 1`, any number where `i` is 0."""
    if i == 0:
        return int64(a.rows[row]["first_chunk"]) * SLOTS_PER_CHUNK
    if i % SLOTS_PER_CHUNK != 0:
        return slot + 1
    return int64(a.next_chunk[slot // SLOTS_PER_CHUNK]) * SLOTS_PER_CHUNK


@jit
def clear_row(a: TableArrays, row: int) -> None:
    """Remove all records of a row and free its chunks."""
    chunk = int64(a.rows[row]["first_chunk"])
    while chunk != NO_CHUNK:
        next_chunk = int64(a.next_chunk[chunk])
        a.next_chunk[chunk] = a.counts[FREE_CHUNK]
        a.counts[FREE_CHUNK] = chunk
        chunk = next_chunk
    a.rows[row]["first_chunk"] = NO_CHUNK
    a.rows[row]["records"] = 0
    a.rows[row]["voids"] = 0
    a.rows[row]["direction"] = 0


@jit_inline
def _same(left: ByteArray, left_start: int, right: ByteArray, right_start: int, size: int) -> bool:
    for i in range(size):
        if left[left_start + i] != right[right_start + i]:
            return False
    return True


@jit
def find_or_add_row(a: TableArrays, buffer: ByteArray, start: int, size: int) -> int:
    """Row of the parcel whose id is `buffer[start : start + size]`; a new row without records if there is none."""
    hashed = hash64(buffer, start, size, a.seed[0])
    tag = np.uint8(hashed >> np.uint64(56))
    mask = len(a.row_index) - 1
    bucket = int64(hashed & np.uint64(mask))
    while True:
        row = int64(a.row_index[bucket])
        if row == NO_ROW:
            break
        if (
            a.row_tags[bucket] == tag
            and a.rows[row]["key_size"] == size
            and _same(a.heap, int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT, buffer, start, size)
        ):
            return row
        bucket = (bucket + 1) & mask
    row = int64(a.counts[ROW_COUNT])
    a.counts[ROW_COUNT] = row + 1
    a.row_index[bucket] = row
    a.row_tags[bucket] = tag
    key_heap_offset = (int64(a.counts[HEAP_SIZE]) + KEY_ALIGNMENT - 1) // KEY_ALIGNMENT
    for i in range(size):
        a.heap[key_heap_offset * KEY_ALIGNMENT + i] = buffer[start + i]
    a.counts[HEAP_SIZE] = key_heap_offset * KEY_ALIGNMENT + size
    a.rows[row]["key_heap_offset"] = key_heap_offset
    a.rows[row]["key_size"] = size
    a.rows[row]["first_chunk"] = NO_CHUNK
    a.rows[row]["first_alert"] = NO_ALERT_INDEX
    a.rows[row]["running_clock_bits"] = 0
    a.rows[row]["records"] = 0
    a.rows[row]["voids"] = 0
    a.rows[row]["last_batch"] = NO_BATCH
    a.rows[row]["stage"] = 0
    a.due_times[row] = NOT_DUE
    a.rows[row]["direction"] = 0
    return row


@jit
def intern_bytes(a: TableArrays, buffer: ByteArray, start: int, size: int) -> int:
    """Intern id of the bytes `buffer[start : start + size]`; a new one if they are not interned yet."""
    hashed = hash64(buffer, start, size, a.seed[0])
    hash_high = np.uint32(hashed >> np.uint64(32))
    mask = len(a.interned_index) - 1
    bucket = int64(hashed & np.uint64(mask))
    while True:
        intern_id = int64(a.interned_index[bucket])
        if intern_id == EMPTY_BUCKET:
            break
        if (
            a.interned[intern_id]["hash"] == hash_high
            and a.interned[intern_id]["size"] == size
            and _same(a.heap, int64(a.interned[intern_id]["heap_offset"]), buffer, start, size)
        ):
            return intern_id
        bucket = (bucket + 1) & mask
    intern_id = int64(a.counts[INTERNED_COUNT])
    a.counts[INTERNED_COUNT] = intern_id + 1
    a.interned_index[bucket] = intern_id
    heap_offset = int64(a.counts[HEAP_SIZE])
    for i in range(size):
        a.heap[heap_offset + i] = buffer[start + i]
    a.counts[HEAP_SIZE] = heap_offset + size
    a.interned[intern_id]["heap_offset"] = heap_offset
    a.interned[intern_id]["size"] = size
    a.interned[intern_id]["hash"] = hash_high
    return intern_id


@jit
def reindex_rows(a: TableArrays, index: NDArray[np.int32], tags: ByteArray) -> None:
    """Add every row to the empty `index` and `tags`."""
    mask = len(index) - 1
    for row in range(a.counts[ROW_COUNT]):
        key_start = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
        hashed = hash64(a.heap, key_start, int64(a.rows[row]["key_size"]), a.seed[0])
        bucket = int64(hashed & np.uint64(mask))
        while index[bucket] != NO_ROW:
            bucket = (bucket + 1) & mask
        index[bucket] = row
        tags[bucket] = np.uint8(hashed >> np.uint64(56))


@jit
def reindex_interned(a: TableArrays, index: NDArray[np.int32]) -> None:
    """Add all interned bytes to the empty `index`."""
    mask = len(index) - 1
    for intern_id in range(1, a.counts[INTERNED_COUNT]):
        hashed = hash64(
            a.heap, int64(a.interned[intern_id]["heap_offset"]), int64(a.interned[intern_id]["size"]), a.seed[0]
        )
        bucket = int64(hashed & np.uint64(mask))
        while index[bucket] != EMPTY_BUCKET:
            bucket = (bucket + 1) & mask
        index[bucket] = intern_id
