"""Compaction of a parcel table: removes the rows of retired parcels, their ids and the bytes that only they interned.

Entries move down within their array and keep their order. So each is copied once at most and no second table is needed.
The chunks and alerts of retired parcels are already free. Rows and intern ids have new numbers afterwards: a table is
compacted between batches only.
"""

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit
from streams.domain.promise_clocks import NO_SLOT
from streams.kernel.active_alerts import alert_type_of, pack_subject_and_type, subject_intern_id_of
from streams.kernel.parcel_table import (
    CHANGED_COUNT,
    EMPTY_BUCKET,
    HEAP_SIZE,
    INTERNED_COUNT,
    KEY_ALIGNMENT,
    NO_ALERT_INDEX,
    NO_ROW,
    NOT_DUE,
    RETIRED_ROW_COUNT,
    ROW_COUNT,
    ROW_RETIRED,
    ROWS_PER_BLOCK,
    ParcelTable,
    TableArrays,
    next_slot,
    reindex_interned,
    reindex_rows,
)

Int32Array = NDArray[np.int32]


def compact_table(table: ParcelTable) -> None:
    """Remove the rows of retired parcels, their ids and the bytes that only they interned."""
    a = table.arrays
    new_rows = np.empty(int(a.counts[ROW_COUNT]), np.int32)
    new_intern_ids = np.zeros(int(a.counts[INTERNED_COUNT]), np.int32)
    _mark_interned(a, new_intern_ids)
    _move_down(a, new_rows, new_intern_ids)
    _renumber(a, new_rows, new_intern_ids)
    a.row_index.fill(NO_ROW)
    a.interned_index.fill(EMPTY_BUCKET)
    reindex_rows(a, a.row_index, a.row_tags)
    reindex_interned(a, a.interned_index)


@jit
def _mark_interned(a: TableArrays, in_use: Int32Array) -> None:
    """Set `in_use` to 1 for every intern id that is still used."""
    for subject in range(len(a.subject_intern_ids)):
        in_use[a.subject_intern_ids[subject]] = 1
    for row in range(a.counts[ROW_COUNT]):
        slot = int64(NO_SLOT)
        for i in range(int64(a.rows[row]["records"])):
            slot = next_slot(a, row, i, slot)
            in_use[a.slots[slot]["location_or_plan"]] = 1
            in_use[a.slots[slot]["detail"]] = 1
        alert = int64(a.rows[row]["first_alert"])
        while alert != NO_ALERT_INDEX:
            in_use[subject_intern_id_of(a.active_alerts[alert]["subject_and_type"])] = 1
            alert = int64(a.active_alerts[alert]["next"])


@jit
def _move_down(a: TableArrays, new_rows: Int32Array, new_intern_ids: Int32Array) -> None:
    """Move heap bytes, interned entries and rows down.

    Args:
        new_rows: filled with the new number of each row; NO_ROW for a row that is removed.
        new_intern_ids: 1 for each intern id in use, else 0; replaced by the new intern id.
    """
    # Parcel ids and interned bytes are in the heap in the order of their numbers.
    row = int64(0)
    intern_id = int64(1)
    new_row = int64(0)
    new_intern_id = int64(1)
    end = int64(0)
    new_intern_ids[0] = 0
    while row < a.counts[ROW_COUNT] or intern_id < a.counts[INTERNED_COUNT]:
        if row < a.counts[ROW_COUNT] and (
            intern_id >= a.counts[INTERNED_COUNT]
            or int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT < a.interned[intern_id]["heap_offset"]
        ):
            if a.rows[row]["last_batch"] == ROW_RETIRED:
                new_rows[row] = NO_ROW
            else:
                start = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
                key_heap_offset = (end + KEY_ALIGNMENT - 1) // KEY_ALIGNMENT
                end = key_heap_offset * KEY_ALIGNMENT
                for i in range(a.rows[row]["key_size"]):
                    a.heap[end + i] = a.heap[start + i]
                end += int64(a.rows[row]["key_size"])
                a.rows[new_row] = a.rows[row]
                a.rows[new_row]["key_heap_offset"] = key_heap_offset
                a.due_times[new_row] = a.due_times[row]
                new_rows[row] = new_row
                new_row += 1
            row += 1
            continue
        if new_intern_ids[intern_id] != 0:
            start = int64(a.interned[intern_id]["heap_offset"])
            for i in range(a.interned[intern_id]["size"]):
                a.heap[end + i] = a.heap[start + i]
            a.interned[new_intern_id] = a.interned[intern_id]
            a.interned[new_intern_id]["heap_offset"] = end
            end += int64(a.interned[intern_id]["size"])
            new_intern_ids[intern_id] = new_intern_id
            new_intern_id += 1
        intern_id += 1
    a.counts[ROW_COUNT] = new_row
    a.counts[INTERNED_COUNT] = new_intern_id
    a.counts[HEAP_SIZE] = end
    a.counts[RETIRED_ROW_COUNT] = 0


@jit
def _renumber(a: TableArrays, new_rows: Int32Array, new_intern_ids: Int32Array) -> None:
    """Replace old rows and intern ids by the new ones."""
    for subject in range(len(a.subject_intern_ids)):
        a.subject_intern_ids[subject] = new_intern_ids[a.subject_intern_ids[subject]]
    for row in range(a.counts[ROW_COUNT]):
        slot = int64(NO_SLOT)
        for i in range(int64(a.rows[row]["records"])):
            slot = next_slot(a, row, i, slot)
            a.slots[slot]["location_or_plan"] = new_intern_ids[a.slots[slot]["location_or_plan"]]
            a.slots[slot]["detail"] = new_intern_ids[a.slots[slot]["detail"]]
        alert = int64(a.rows[row]["first_alert"])
        while alert != NO_ALERT_INDEX:
            subject_and_type = int64(a.active_alerts[alert]["subject_and_type"])
            a.active_alerts[alert]["subject_and_type"] = pack_subject_and_type(
                int64(new_intern_ids[subject_intern_id_of(subject_and_type)]), alert_type_of(subject_and_type)
            )
            alert = int64(a.active_alerts[alert]["next"])
    kept = int64(0)
    for i in range(a.counts[CHANGED_COUNT]):
        if new_rows[a.changed_rows[i]] != NO_ROW:
            a.changed_rows[kept] = new_rows[a.changed_rows[i]]
            kept += 1
    a.counts[CHANGED_COUNT] = kept
    for block in range(len(a.block_due_times)):
        earliest = int64(NOT_DUE)
        for row in range(block * ROWS_PER_BLOCK, min(a.counts[ROW_COUNT], (block + 1) * ROWS_PER_BLOCK)):
            earliest = min(earliest, a.due_times[row])
        a.block_due_times[block] = earliest
