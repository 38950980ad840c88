"""Takes the rows of parcels that retired out of a table, with their ids and the words that only they had.

Everything slides down within its array, in its order, so that nothing is copied twice and no second table is needed.
Chunks and alerts of such parcels are free already. Rows and words have other numbers afterwards: only between batches.
"""

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, int64
from streams.kernel.active_alerts import type_in, what_of, word_in
from streams.kernel.parcel_table import (
    BLOCK,
    CHANGED,
    CHUNK,
    GONE,
    HEAP,
    KEY_ALIGN,
    NONE,
    NOT_DUE,
    RETIRED,
    ROWS,
    WORDS,
    Arrays,
    ParcelTable,
    reindex_rows,
    reindex_words,
)

Numbers = NDArray[np.int32]


def sweep(table: ParcelTable) -> None:
    """Take away what retired parcels left."""
    a = table.arrays
    rows, words = np.empty(int(a.counts[ROWS]), np.int32), np.zeros(int(a.counts[WORDS]), np.int32)
    _mark_words(a, words)
    _slide(a, rows, words)
    _renumber(a, rows, words)
    a.row_index.fill(NONE)
    a.word_index.fill(NONE)
    reindex_rows(a, a.row_index, a.row_tags)
    reindex_words(a, a.word_index)


@compiled
def _mark_words(a: Arrays, words: Numbers) -> None:
    """1 for every word that is still used."""
    for subject in range(len(a.subjects)):
        words[a.subjects[subject]] = 1
    for row in range(a.counts[ROWS]):
        chunk = int64(a.rows[row]["head"])
        left = int64(a.rows[row]["records"])
        while left > 0:
            for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
                words[a.slots[slot]["at"]] = 1
                words[a.slots[slot]["what"]] = 1
            left -= CHUNK
            chunk = int64(a.following[chunk])
        told = int64(a.rows[row]["told"])
        while told != NONE:
            words[word_in(a.told[told]["what"])] = 1
            told = int64(a.told[told]["next"])


@compiled
def _slide(a: Arrays, rows: Numbers, words: Numbers) -> None:
    """Move texts, words and rows down; `rows` and the used of `words` get their new numbers, the others NONE."""
    # Ids and words came into the heap in the order of their numbers.
    row = int64(0)
    word = int64(1)
    new_row = int64(0)
    new_word = int64(1)
    end = int64(0)
    words[0] = 0
    while row < a.counts[ROWS] or word < a.counts[WORDS]:
        if row < a.counts[ROWS] and (
            word >= a.counts[WORDS] or int64(a.rows[row]["key_at"]) * KEY_ALIGN < a.words[word]["at"]
        ):
            if a.rows[row]["batch"] == GONE:
                rows[row] = NONE
            else:
                begin = int64(a.rows[row]["key_at"]) * KEY_ALIGN
                key_at = (end + KEY_ALIGN - 1) // KEY_ALIGN
                end = key_at * KEY_ALIGN
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
    a.counts[ROWS] = new_row
    a.counts[WORDS] = new_word
    a.counts[HEAP] = end
    a.counts[RETIRED] = 0


@compiled
def _renumber(a: Arrays, rows: Numbers, words: Numbers) -> None:
    """Put the new numbers wherever the old ones stand."""
    for subject in range(len(a.subjects)):
        a.subjects[subject] = words[a.subjects[subject]]
    for row in range(a.counts[ROWS]):
        chunk = int64(a.rows[row]["head"])
        left = int64(a.rows[row]["records"])
        while left > 0:
            for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
                a.slots[slot]["at"] = words[a.slots[slot]["at"]]
                a.slots[slot]["what"] = words[a.slots[slot]["what"]]
            left -= CHUNK
            chunk = int64(a.following[chunk])
        told = int64(a.rows[row]["told"])
        while told != NONE:
            what = int64(a.told[told]["what"])
            a.told[told]["what"] = what_of(int64(words[word_in(what)]), type_in(what))
            told = int64(a.told[told]["next"])
    kept = int64(0)
    for i in range(a.counts[CHANGED]):
        if rows[a.changed[i]] != NONE:
            a.changed[kept] = rows[a.changed[i]]
            kept += 1
    a.counts[CHANGED] = kept
    for block in range(len(a.due_blocks)):
        least = int64(NOT_DUE)
        for row in range(block * BLOCK, min(a.counts[ROWS], (block + 1) * BLOCK)):
            least = min(least, a.due[row])
        a.due_blocks[block] = least
