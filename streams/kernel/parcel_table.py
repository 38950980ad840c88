"""The parcel table: every distinct record of every parcel of one partition, in a few flat arrays.

A parcel is a row; its records are slots of 32 bytes, kept sorted by (event_time, kind, identity) in chunks of three
that are linked to a list. Texts (parcel ids, places, plans, containers) are bytes in one heap; those that repeat are
words, stored once. Memory: 28 bytes a row, 12 for its due times (streams/kernel/due_index.py), 32 a slot, 4 a
chunk, 5 to 13 a row for the index, 32 for each alert that stands, and the texts (`python -m bench memory` measures it).

The arrays grow before a batch (`ParcelTable.reserve`), never inside compiled code.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import KINDS
from streams.domain.promises import MAX_PROMISES
from streams.domain.record_hash import hash64

ByteArray = NDArray[np.uint8]
Int64Array = NDArray[np.int64]

# Slots a chunk; one is lost on average, two at most. Two, three, four and five are equally fast within a few percent.
SLOTS_PER_CHUNK: Final = 3
NONE: Final = -1  # no row, no chunk
ROW_RETIRED: Final = -2  # as the last batch of a row: the parcel retired, and nothing came of it since
NO_INTERN_ID: Final = 0
KEY_ALIGNMENT: Final = 4

ROW: Final = np.dtype(
    [
        ("key_at", np.int32),  # of the parcel_id, in units of KEY_ALIGN bytes of the heap
        ("head", np.int32),  # first chunk
        ("records", np.int32),  # distinct records: the version of the state
        ("batch", np.int32),  # last batch that touched the row
        ("told", np.int32),  # first of the alerts that stand: streams/kernel/active_alerts.py
        ("running", np.uint16),  # promises whose clock ran or stood still at the last Tick, one bit each
        ("voids", np.uint16),  # how many of the records are voids
        ("key_size", np.uint8),
        ("stage", np.uint8),  # as last published, for the gauges
        ("direction", np.uint8),
    ],
    align=True,
)
SLOT: Final = np.dtype(
    [
        ("high", np.uint64),  # identity
        ("low", np.uint64),
        ("stamp", np.int64),  # time, kind, offset and flags: streams/kernel/packed_key.py
        ("at", np.int32),  # word: an encoded Where, or for an advice an encoded Plan
        ("what", np.int32),  # word: container_id; for a void the target's identity; for an advice promised_at
    ]
)
INTERNED: Final = np.dtype([("at", np.int64), ("size", np.int32), ("hash", np.uint32)])

# An alert that stands: it was told and not withdrawn.
ACTIVE_ALERT: Final = np.dtype(
    [
        ("high", np.uint64),  # its id
        ("low", np.uint64),
        ("since", np.int64),  # what it is about: when the clock started, or the first evidence
        ("what", np.int32),  # word of the promise's or the anomaly's name, and the type in the two lowest bits
        ("next", np.int32),  # the parcel's next one, or NONE; of a free one, the next free one
    ]
)

# Counters of a table, by position in `Arrays.counts`.
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
NEVER: Final = -(1 << 63)
# Rows that share one smallest due time.
ROWS_PER_BLOCK: Final = 1024
NOT_DUE: Final = (1 << 63) - 1
_LARGE: Final = 1 << 20  # bytes
# Records that are looked up together: streams/kernel/prefetch.py. What they need fits into a core's first cache.
PREFETCH_WINDOW: Final = 32


class TableArrays(NamedTuple):
    """What compiled code sees of a table."""

    rows: NDArray[np.void]
    slots: NDArray[np.void]
    next_chunk: NDArray[np.int32]  # chunk -> next chunk of the same parcel; of a free chunk, the next free one
    heap: ByteArray
    words: NDArray[np.void]
    row_index: NDArray[np.int32]  # open addressing, a power of two long; NONE where empty
    row_tags: ByteArray  # eight bits of the hash beside each, so that most wrong rows are never looked at
    interned_index: NDArray[np.int32]
    due: Int64Array  # after which instant the row is due; NEVER from a change to the next Tick, NOT_DUE for never
    block_due_times: Int64Array  # no more than the smallest of each block of rows
    changed: NDArray[np.int32]  # rows that changed since the last Tick, in the order of their first change
    told: NDArray[np.void]
    running: Int64Array  # clocks of each promise that ran or stood still at the last Tick
    subject_intern_ids: NDArray[np.int32]  # words of the names of the promises and, after them, of the anomalies
    counts: Int64Array
    stages: Int64Array  # parcels in the hub at each stage, as last published; entry 0 is not kept
    seed: NDArray[np.uint64]
    scratch: ByteArray
    prefetch_cursor: Int64Array  # places that a look ahead is at


class ParcelTable:
    """The parcels of one partition. Not safe for use from several threads at once."""

    def __init__(self, subjects: Sequence[str] = ()) -> None:
        """`subjects`: names of what alerts are about."""
        counts = np.zeros(TABLE_COUNTERS, np.int64)
        counts[FREE_CHUNK] = counts[FREE_ALERT] = NONE
        counts[INTERNED_COUNT] = 1  # word 0 is "none"
        counts[HUB_TIME] = NEVER
        self.arrays = TableArrays(
            rows=np.zeros(1024, ROW),
            slots=np.zeros(1024 * SLOTS_PER_CHUNK, SLOT),
            next_chunk=np.zeros(1024, np.int32),
            heap=np.zeros(1 << 16, np.uint8),
            words=np.zeros(1024, INTERNED),
            row_index=np.full(2048, NONE, np.int32),
            row_tags=np.zeros(2048, np.uint8),
            interned_index=np.full(2048, NONE, np.int32),
            due=np.zeros(1024, np.int64),
            block_due_times=np.full(1024 // ROWS_PER_BLOCK, NOT_DUE, np.int64),
            changed=np.zeros(1024, np.int32),
            told=np.zeros(64, ACTIVE_ALERT),
            running=np.zeros(min(len(subjects), MAX_PROMISES), np.int64),
            subject_intern_ids=np.zeros(len(subjects), np.int32),
            counts=counts,
            stages=np.zeros(len(KINDS), np.int64),
            seed=np.array([secrets.randbits(64)], np.uint64),
            scratch=np.zeros(1 << 13, np.uint8),
            prefetch_cursor=np.zeros(PREFETCH_WINDOW, np.int64),
        )
        for place, name in enumerate(subjects):
            size = len(name.encode())
            self.arrays.scratch[:size] = np.frombuffer(name.encode(), np.uint8)
            self.arrays.subject_intern_ids[place] = intern_bytes(self.arrays, self.arrays.scratch, 0, size)

    def __len__(self) -> int:
        """Number of parcels."""
        return int(self.arrays.counts[ROW_COUNT] - self.arrays.counts[RETIRED_ROW_COUNT])

    @property
    def rows(self) -> int:
        """Number of rows, those of parcels that retired among them."""
        return int(self.arrays.counts[ROW_COUNT])

    @property
    def retired(self) -> int:
        """Number of rows whose parcel retired."""
        return int(self.arrays.counts[RETIRED_ROW_COUNT])

    @property
    def hub_time(self) -> int | None:
        """Largest Tick folded, ms since 1970; None before the first."""
        time = int(self.arrays.counts[HUB_TIME])
        return None if time == NEVER else time

    def set_hub_time(self, hub_time: int | None) -> None:
        """Set the largest Tick folded; None when there was none."""
        self.arrays.counts[HUB_TIME] = NEVER if hub_time is None else hub_time

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, spare room included."""
        return sum(array.nbytes for array in self.arrays)

    def reserve(self, parcels: int, records: int, chunks: int, text_bytes: int) -> None:
        """Make room for a batch that brings at most so many new parcels, records, chunks and bytes of text.

        Large arrays grow in place, by a thirty-second at least: the C library moves pages, it does not copy them.
        """
        a = self.arrays
        rows, heap = int(a.counts[ROW_COUNT]) + parcels, int(a.counts[HEAP_SIZE]) + text_bytes + KEY_ALIGNMENT * parcels
        # A record brings two words at most.
        words = int(a.counts[INTERNED_COUNT]) + 2 * records
        following = _grown(a.next_chunk, int(a.counts[CHUNK_COUNT]) + chunks)
        due = _grown(a.due, rows)
        blocks = len(a.block_due_times)
        due_blocks = _grown(a.block_due_times, -(-len(due) // ROWS_PER_BLOCK))
        due_blocks[blocks:] = NOT_DUE
        self.arrays = a = a._replace(
            rows=_grown(a.rows, rows),
            due=due,
            block_due_times=due_blocks,
            changed=_grown(a.changed, rows),
            next_chunk=following,
            slots=_grown(a.slots, len(following) * SLOTS_PER_CHUNK),
            heap=_grown(a.heap, heap),
            words=_grown(a.words, words),
        )
        if rows * 5 > len(a.row_index) * 4:
            size = _power_of_two(-(-rows * 5 // 4))
            index, tags = np.full(size, NONE, np.int32), np.zeros(size, np.uint8)
            reindex_rows(a, index, tags)
            self.arrays = a = a._replace(row_index=index, row_tags=tags)
        if words * 5 > len(a.interned_index) * 4:
            index = np.full(_power_of_two(-(-words * 5 // 4)), NONE, np.int32)
            reindex_interned(a, index)
            self.arrays = a._replace(interned_index=index)

    def reserve_alerts(self, more: int) -> None:
        """Make room for so many more alerts that stand."""
        self.arrays = self.arrays._replace(
            told=_grown(self.arrays.told, int(self.arrays.counts[ACTIVE_ALERT_COUNT]) + more)
        )


_Array = TypeVar("_Array", bound=NDArray[Any])


def _grown(array: _Array, wanted: int) -> _Array:
    if wanted <= len(array):
        return array
    # Large arrays grow in small steps: what is spare counts as memory of a parcel.
    step = len(array) // 32 if array.nbytes > _LARGE else len(array)
    array.resize(max(wanted, len(array) + step), refcheck=False)
    return array


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


@jit_inline
def allocate_chunk(a: TableArrays) -> int:
    """Take a free chunk; `ParcelTable.reserve` made sure that there is one."""
    chunk = int64(a.counts[FREE_CHUNK])
    if chunk == NONE:
        chunk = int64(a.counts[CHUNK_COUNT])
        a.counts[CHUNK_COUNT] = chunk + 1
    else:
        a.counts[FREE_CHUNK] = a.next_chunk[chunk]
    a.next_chunk[chunk] = NONE
    return chunk


@jit
def clear_row(a: TableArrays, row: int) -> None:
    """Give a row's chunks back; the row stays, without records."""
    chunk = int64(a.rows[row]["head"])
    while chunk != NONE:
        after = int64(a.next_chunk[chunk])
        a.next_chunk[chunk] = a.counts[FREE_CHUNK]
        a.counts[FREE_CHUNK] = chunk
        chunk = after
    a.rows[row]["head"] = NONE
    a.rows[row]["records"] = 0
    a.rows[row]["voids"] = 0
    a.rows[row]["direction"] = 0


@jit_inline
def _same(left: ByteArray, left_at: int, right: ByteArray, right_at: int, size: int) -> bool:
    for i in range(size):
        if left[left_at + i] != right[right_at + i]:
            return False
    return True


@jit
def find_or_add_row(a: TableArrays, buffer: ByteArray, at: int, size: int) -> int:
    """Row of the parcel whose id is `buffer[at : at + size]`; a new one without records if it is not known."""
    hashed = hash64(buffer, at, size, a.seed[0])
    tag = np.uint8(hashed >> np.uint64(56))
    mask = len(a.row_index) - 1
    place = int64(hashed & np.uint64(mask))
    while True:
        row = int64(a.row_index[place])
        if row == NONE:
            break
        if (
            a.row_tags[place] == tag
            and a.rows[row]["key_size"] == size
            and _same(a.heap, int64(a.rows[row]["key_at"]) * KEY_ALIGNMENT, buffer, at, size)
        ):
            return row
        place = (place + 1) & mask
    row = int64(a.counts[ROW_COUNT])
    a.counts[ROW_COUNT] = row + 1
    a.row_index[place] = row
    a.row_tags[place] = tag
    key_at = (int64(a.counts[HEAP_SIZE]) + KEY_ALIGNMENT - 1) // KEY_ALIGNMENT
    for i in range(size):
        a.heap[key_at * KEY_ALIGNMENT + i] = buffer[at + i]
    a.counts[HEAP_SIZE] = key_at * KEY_ALIGNMENT + size
    a.rows[row]["key_at"] = key_at
    a.rows[row]["key_size"] = size
    a.rows[row]["head"] = NONE
    a.rows[row]["told"] = NONE
    a.rows[row]["running"] = 0
    a.rows[row]["records"] = 0
    a.rows[row]["voids"] = 0
    a.rows[row]["batch"] = NONE
    a.rows[row]["stage"] = 0
    a.due[row] = NOT_DUE
    a.rows[row]["direction"] = 0
    return row


@jit
def intern_bytes(a: TableArrays, buffer: ByteArray, at: int, size: int) -> int:
    """Number of the word `buffer[at : at + size]`; a new one if it is not known."""
    hashed = hash64(buffer, at, size, a.seed[0])
    short = np.uint32(hashed >> np.uint64(32))
    mask = len(a.interned_index) - 1
    place = int64(hashed & np.uint64(mask))
    while True:
        word = int64(a.interned_index[place])
        if word == NONE:
            break
        if (
            a.words[word]["hash"] == short
            and a.words[word]["size"] == size
            and _same(a.heap, int64(a.words[word]["at"]), buffer, at, size)
        ):
            return word
        place = (place + 1) & mask
    word = int64(a.counts[INTERNED_COUNT])
    a.counts[INTERNED_COUNT] = word + 1
    a.interned_index[place] = word
    start = int64(a.counts[HEAP_SIZE])
    for i in range(size):
        a.heap[start + i] = buffer[at + i]
    a.counts[HEAP_SIZE] = start + size
    a.words[word]["at"] = start
    a.words[word]["size"] = size
    a.words[word]["hash"] = short
    return word


@jit
def reindex_rows(a: TableArrays, index: NDArray[np.int32], tags: ByteArray) -> None:
    """Enter every row into the empty `index` and `tags`."""
    mask = len(index) - 1
    for row in range(a.counts[ROW_COUNT]):
        at = int64(a.rows[row]["key_at"]) * KEY_ALIGNMENT
        hashed = hash64(a.heap, at, int64(a.rows[row]["key_size"]), a.seed[0])
        place = int64(hashed & np.uint64(mask))
        while index[place] != NONE:
            place = (place + 1) & mask
        index[place] = row
        tags[place] = np.uint8(hashed >> np.uint64(56))


@jit
def reindex_interned(a: TableArrays, index: NDArray[np.int32]) -> None:
    """Enter every word into the empty `index`."""
    mask = len(index) - 1
    for word in range(1, a.counts[INTERNED_COUNT]):
        hashed = hash64(a.heap, int64(a.words[word]["at"]), int64(a.words[word]["size"]), a.seed[0])
        place = int64(hashed & np.uint64(mask))
        while index[place] != NONE:
            place = (place + 1) & mask
        index[place] = word
