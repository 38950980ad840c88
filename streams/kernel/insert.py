"""One record into the list of one parcel: sorted, without duplicates, voids honoured in either order of arrival."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import (
    MILESTONE_CORRECTED,
    MILESTONE_KINDS,
    MILESTONE_REACHED,
    MILESTONE_RETRACTED,
    VOID,
)
from streams.domain.record_hash import get_big_endian
from streams.kernel.containment_at import counts_in_container, depends_on_container, has_inferred
from streams.kernel.interned_records import direction_of
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, sort_key_of, time_of
from streams.kernel.parcel_table import NO_INTERN_ID, NONE, SLOTS_PER_CHUNK, TableArrays, allocate_chunk

# Outcome of an insertion.
DUPLICATE: Final = 0
INSERTED: Final = 1
# Nothing was done, because more may change than the record itself: `contained.insert_among` does it.
AFFECTS_INFERRED: Final = 2

NO_TIME: Final = -(1 << 63)


class InsertEffect(NamedTuple):
    """What an insertion changed in the first time of a stage: one array each, so that compiled code can fill it."""

    # type (0 for none), stage, event_time, previous_time, word of the evidence's place; then of the scan whose
    # number the record changes: by how many (1, or -1 for a VOID, or 0), its kind, event_time and word of its place
    numbers: NDArray[np.int64]
    # identity of the evidence: high, low
    evidence: NDArray[np.uint64]


(
    MILESTONE_TYPE,
    MILESTONE_STAGE,
    MILESTONE_TIME,
    MILESTONE_PREVIOUS_TIME,
    MILESTONE_LOCATION,
    SCAN_INCREMENT,
    SCAN_KIND,
    SCAN_TIME,
    SCAN_LOCATION,
    EFFECT_VALUES,
) = range(10)


def allocate_insert_effect() -> InsertEffect:
    """A change to be filled by `insert`."""
    return InsertEffect(np.zeros(EFFECT_VALUES, np.int64), np.zeros(2, np.uint64))


@jit_inline
def _targets(a: TableArrays, void_slot: int, high: np.uint64, low: np.uint64) -> bool:
    at = int64(a.words[a.slots[void_slot]["what"]]["at"])
    return bool(get_big_endian(a.heap, at) == high and get_big_endian(a.heap, at + 8) == low)


@jit_inline
def _sorts_after(a: TableArrays, slot: int, order: int, high: np.uint64, low: np.uint64) -> bool:
    """Does the record in `slot` come after (order, high, low)?"""
    other = sort_key_of(a.slots[slot]["stamp"])
    if other != order:
        return other > order
    if a.slots[slot]["high"] != high:
        return bool(a.slots[slot]["high"] > high)
    return bool(a.slots[slot]["low"] > low)


@jit_inline
def _put(a: TableArrays, slot: int, high: np.uint64, low: np.uint64, stamp: int, at: int, what: int) -> None:
    a.slots[slot]["high"] = high
    a.slots[slot]["low"] = low
    a.slots[slot]["stamp"] = stamp
    a.slots[slot]["at"] = at
    a.slots[slot]["what"] = what


@jit
def insert(
    a: TableArrays,
    row: int,
    high: np.uint64,
    low: np.uint64,
    stamp: int,
    at: int,
    what: int,
    alone: bool,
    change: InsertEffect,
) -> int:
    """Insert a record into `row` and tell in `change` what it means for the first time of a stage.

    Args:
        high, low: identity of the record.
        stamp: see streams/kernel/packed_key.py; without VOIDED, which is derived here.
        at, what: words, see `table.SLOT`.
        alone: False puts the record in, whatever it may mean for records that are inferred from a container.

    Returns:
        DUPLICATE, INSERTED, or, where `alone`, CONCERNS_OTHERS.
    """
    kind = kind_of(stamp)
    order = sort_key_of(stamp)
    records = int64(a.rows[row]["records"])
    change.numbers[MILESTONE_TYPE] = 0
    change.numbers[SCAN_INCREMENT] = 0
    # 1. One walk: is it known, where does it belong, is it voided, which record is the first of its kind so far?
    chunk = int64(a.rows[row]["head"])
    last = int64(NONE)
    place_chunk = int64(NONE)
    place = int64(0)
    first = int64(NONE)
    seen = int64(0)
    while seen < records:
        base = chunk * SLOTS_PER_CHUNK
        for slot in range(base, base + min(SLOTS_PER_CHUNK, records - seen)):
            if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
                return DUPLICATE
            other = int64(a.slots[slot]["stamp"])
            if kind_of(other) == VOID:
                if kind != VOID and _targets(a, slot, high, low):
                    stamp |= VOIDED
            elif first == NONE and kind_of(other) == kind and other & VOIDED == 0:
                first = slot
            if place_chunk == NONE and _sorts_after(a, slot, order, high, low):
                place_chunk = chunk
                place = slot
        seen += SLOTS_PER_CHUNK
        last = chunk
        chunk = int64(a.next_chunk[chunk])
    if alone and (place_chunk != NONE or kind == VOID) and has_inferred(a, row, place if kind != VOID else int64(NONE)):
        return AFFECTS_INFERRED
    if alone and stamp & VOIDED == 0 and depends_on_container(stamp, what):
        if not counts_in_container(a, row, place if place_chunk != NONE else int64(NONE), what, kind, at):
            stamp |= VOIDED
    # 2. Decide the milestone before slots move.
    if kind == VOID:
        _void(a, row, what, high, low, change)
        a.rows[row]["voids"] += 1
    elif stamp & VOIDED == 0 and (MILESTONE_KINDS >> kind) & 1:
        if first == NONE:
            _fill(change, MILESTONE_REACHED, kind, time_of(stamp), NO_TIME, at, high, low)
        elif _sorts_after(a, first, order, high, low):
            previous = time_of(a.slots[first]["stamp"])
            if previous != time_of(stamp):
                _fill(change, MILESTONE_CORRECTED, kind, time_of(stamp), previous, at, high, low)
        if stamp & ADVICE and change.numbers[MILESTONE_TYPE] != 0:
            change.numbers[MILESTONE_LOCATION] = NO_INTERN_ID
    if kind != VOID and stamp & (VOIDED | ADVICE) == 0:
        _count(change, 1, kind, time_of(stamp), at)
    # 3. Put it in, and move what comes after it one slot on.
    if records % SLOTS_PER_CHUNK == 0:
        fresh = allocate_chunk(a)
        if last == NONE:
            a.rows[row]["head"] = fresh
        else:
            a.next_chunk[last] = fresh
        last = fresh
    a.rows[row]["records"] = records + 1
    if place_chunk == NONE:
        _put(a, last * SLOTS_PER_CHUNK + records % SLOTS_PER_CHUNK, high, low, stamp, at, what)
    else:
        _shift_in(a, place_chunk, place, high, low, stamp, at, what, last * SLOTS_PER_CHUNK + records % SLOTS_PER_CHUNK)
    # 4. The direction is that of the latest advice that counts.
    if stamp & ADVICE or kind == VOID:
        a.rows[row]["direction"] = _direction(a, row)
    return INSERTED


@jit_inline
def _fill(
    change: InsertEffect, what: int, stage: int, time: int, previous: int, at: int, high: np.uint64, low: np.uint64
) -> None:
    change.numbers[MILESTONE_TYPE] = what
    change.numbers[MILESTONE_STAGE] = stage
    change.numbers[MILESTONE_TIME] = time
    change.numbers[MILESTONE_PREVIOUS_TIME] = previous
    change.numbers[MILESTONE_LOCATION] = at
    change.evidence[0] = high
    change.evidence[1] = low


@jit
def _shift_in(
    a: TableArrays,
    chunk: int,
    slot: int,
    high: np.uint64,
    low: np.uint64,
    stamp: int,
    at: int,
    what: int,
    end: int,
) -> None:
    """Put a record into `slot` of `chunk`, what was there into the next slot, and so on up to the free slot `end`."""
    while True:
        next_high = a.slots[slot]["high"]
        next_low = a.slots[slot]["low"]
        next_stamp = int64(a.slots[slot]["stamp"])
        next_at = int64(a.slots[slot]["at"])
        next_what = int64(a.slots[slot]["what"])
        _put(a, slot, high, low, stamp, at, what)
        if slot == end:
            return
        high = next_high
        low = next_low
        stamp = next_stamp
        at = next_at
        what = next_what
        slot += 1
        if slot % SLOTS_PER_CHUNK == 0:
            chunk = int64(a.next_chunk[chunk])
            slot = chunk * SLOTS_PER_CHUNK


@jit_inline
def _count(change: InsertEffect, by: int, kind: int, time: int, at: int) -> None:
    change.numbers[SCAN_INCREMENT] = by
    change.numbers[SCAN_KIND] = kind
    change.numbers[SCAN_TIME] = time
    change.numbers[SCAN_LOCATION] = at


@jit
def _void(a: TableArrays, row: int, target: int, high: np.uint64, low: np.uint64, change: InsertEffect) -> None:
    """Mark what a VOID (identity high, low) declares wrong, if it is known and not voided yet."""
    target_at = int64(a.words[target]["at"])
    target_high = get_big_endian(a.heap, target_at)
    target_low = get_big_endian(a.heap, target_at + 8)
    voided = _find(a, row, target_high, target_low)
    if voided == NONE:
        return
    stamp = int64(a.slots[voided]["stamp"])
    kind = kind_of(stamp)
    if kind == VOID or stamp & VOIDED:
        return
    first = _first_of(a, row, kind)
    a.slots[voided]["stamp"] = stamp | VOIDED
    if stamp & ADVICE == 0:
        _count(change, -1, kind, time_of(stamp), int64(a.slots[voided]["at"]))
    if first != voided or (MILESTONE_KINDS >> kind) & 1 == 0:
        return
    time = time_of(stamp)
    heir = _first_of(a, row, kind)
    if heir == NONE:
        _fill(change, MILESTONE_RETRACTED, kind, time, NO_TIME, NO_INTERN_ID, high, low)
    elif time_of(a.slots[heir]["stamp"]) != time:
        at = int64(a.slots[heir]["at"])
        if int64(a.slots[heir]["stamp"]) & ADVICE:
            at = NO_INTERN_ID
        heir_time = time_of(a.slots[heir]["stamp"])
        _fill(change, MILESTONE_CORRECTED, kind, heir_time, time, at, a.slots[heir]["high"], a.slots[heir]["low"])


@jit
def _find(a: TableArrays, row: int, high: np.uint64, low: np.uint64) -> int:
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
                return slot
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return NONE


@jit
def _first_of(a: TableArrays, row: int, kind: int) -> int:
    """Slot of the first record of `kind` that counts, or NONE."""
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if kind_of(stamp) == kind and stamp & VOIDED == 0:
                return slot
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return NONE


@jit
def _direction(a: TableArrays, row: int) -> int:
    """Direction by the latest advice that counts; 0 without one."""
    plan = int64(NO_INTERN_ID)
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if stamp & ADVICE and stamp & VOIDED == 0:
                plan = int64(a.slots[slot]["at"])
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return direction_of(a, plan)
