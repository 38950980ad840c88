"""Takes the rows of parcels that retired out of a table, with their ids and the words that only they had.

Everything slides down within its array, in its order, so that nothing is copied twice and no second table is needed.
Chunks and alerts of such parcels are free already. Rows and words have other numbers afterwards: only between batches.
"""

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit
from streams.kernel.active_alerts import alert_type_of, pack_subject_and_type, subject_intern_id_of
from streams.kernel.parcel_table import (
    CHANGED_COUNT,
    HEAP_SIZE,
    INTERNED_COUNT,
    KEY_ALIGNMENT,
    NONE,
    NOT_DUE,
    RETIRED_ROW_COUNT,
    ROW_COUNT,
    ROW_RETIRED,
    ROWS_PER_BLOCK,
    SLOTS_PER_CHUNK,
    ParcelTable,
    TableArrays,
    reindex_interned,
    reindex_rows,
)

Int32Array = NDArray[np.int32]


def compact_table(table: ParcelTable) -> None:
    """Take away what retired parcels left."""
    a = table.arrays
    rows, words = np.empty(int(a.counts[ROW_COUNT]), np.int32), np.zeros(int(a.counts[INTERNED_COUNT]), np.int32)
    _mark_interned(a, words)
    _move_down(a, rows, words)
    _renumber(a, rows, words)
    a.row_index.fill(NONE)
    a.interned_index.fill(NONE)
    reindex_rows(a, a.row_index, a.row_tags)
    reindex_interned(a, a.interned_index)


@jit
def _mark_interned(a: TableArrays, words: Int32Array) -> None:
    """1 for every word that is still used."""
    for subject in range(len(a.subject_intern_ids)):
        words[a.subject_intern_ids[subject]] = 1
    for row in range(a.counts[ROW_COUNT]):
        chunk = int64(a.rows[row]["head"])
        left = int64(a.rows[row]["records"])
        while left > 0:
            for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
                words[a.slots[slot]["at"]] = 1
                words[a.slots[slot]["what"]] = 1
            left -= SLOTS_PER_CHUNK
            chunk = int64(a.next_chunk[chunk])
        told = int64(a.rows[row]["told"])
        while told != NONE:
            words[subject_intern_id_of(a.told[told]["what"])] = 1
            told = int64(a.told[told]["next"])


@jit
def _move_down(a: TableArrays, rows: Int32Array, words: Int32Array) -> None:
    """Move texts, words and rows down; `rows` and the used of `words` get their new numbers, the others NONE."""
    # Ids and words came into the heap in the order of their numbers.
    row = int64(0)
    word = int64(1)
    new_row = int64(0)
    new_word = int64(1)
    end = int64(0)
    words[0] = 0
    while row < a.counts[ROW_COUNT] or word < a.counts[INTERNED_COUNT]:
        if row < a.counts[ROW_COUNT] and (
            word >= a.counts[INTERNED_COUNT] or int64(a.rows[row]["key_at"]) * KEY_ALIGNMENT < a.words[word]["at"]
        ):
            if a.rows[row]["batch"] == ROW_RETIRED:
                rows[row] = NONE
            else:
                begin = int64(a.rows[row]["key_at"]) * KEY_ALIGNMENT
                key_at = (end + KEY_ALIGNMENT - 1) // KEY_ALIGNMENT
                end = key_at * KEY_ALIGNMENT
                for i in range(a.rows[row]["key_size"]):
                    a.heap[end + i] = a.heap[begin + i]
                end += int64(a.rows[row]["key_size"])
                a.rows[new_row] = a.rows[row]
                a.rows[new_row]["key_at"] = key_at
                a.due[new_row] = a.due[row]
                rows[row] = new_row
                new_row += 1
            row += 1
            continue
        if words[word] == 0:
            words[word] = NONE
        else:
            begin = int64(a.words[word]["at"])
            for i in range(a.words[word]["size"]):
                a.heap[end + i] = a.heap[begin + i]
            a.words[new_word] = a.words[word]
            a.words[new_word]["at"] = end
            end += int64(a.words[word]["size"])
            words[word] = new_word
            new_word += 1
        word += 1
    a.counts[ROW_COUNT] = new_row
    a.counts[INTERNED_COUNT] = new_word
    a.counts[HEAP_SIZE] = end
    a.counts[RETIRED_ROW_COUNT] = 0


@jit
def _renumber(a: TableArrays, rows: Int32Array, words: Int32Array) -> None:
    """Put the new numbers wherever the old ones stand."""
    for subject in range(len(a.subject_intern_ids)):
        a.subject_intern_ids[subject] = words[a.subject_intern_ids[subject]]
    for row in range(a.counts[ROW_COUNT]):
        chunk = int64(a.rows[row]["head"])
        left = int64(a.rows[row]["records"])
        while left > 0:
            for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
                a.slots[slot]["at"] = words[a.slots[slot]["at"]]
                a.slots[slot]["what"] = words[a.slots[slot]["what"]]
            left -= SLOTS_PER_CHUNK
            chunk = int64(a.next_chunk[chunk])
        told = int64(a.rows[row]["told"])
        while told != NONE:
            what = int64(a.told[told]["what"])
            a.told[told]["what"] = pack_subject_and_type(int64(words[subject_intern_id_of(what)]), alert_type_of(what))
            told = int64(a.told[told]["next"])
    kept = int64(0)
    for i in range(a.counts[CHANGED_COUNT]):
        if rows[a.changed[i]] != NONE:
            a.changed[kept] = rows[a.changed[i]]
            kept += 1
    a.counts[CHANGED_COUNT] = kept
    for block in range(len(a.block_due_times)):
        least = int64(NOT_DUE)
        for row in range(block * ROWS_PER_BLOCK, min(a.counts[ROW_COUNT], (block + 1) * ROWS_PER_BLOCK)):
            least = min(least, a.due[row])
        a.block_due_times[block] = least
