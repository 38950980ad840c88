"""One record into the list of one parcel: sorted, without duplicates, voids honoured in either order of arrival."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import (
    MILESTONES,
    STAGE_CORRECTED,
    STAGE_LOST,
    STAGE_REACHED,
    VOID,
)
from streams.domain.record_hash import get_big_endian
from streams.kernel.containment_at import counts_at, has_inferred, is_from_container
from streams.kernel.interned_records import direction_of
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, order_of, time_of
from streams.kernel.parcel_table import CHUNK, NO_WORD, NONE, Arrays, chunk_from

# Outcome of an insertion.
DUPLICATE: Final = 0
INSERTED: Final = 1
# Nothing was done, because more may change than the record itself: `contained.insert_among` does it.
CONCERNS_OTHERS: Final = 2

NO_TIME: Final = -(1 << 63)


class Change(NamedTuple):
    """What an insertion changed in the first time of a stage: one array each, so that compiled code can fill it."""

    # type (0 for none), stage, event_time, previous_time, word of the evidence's place; then of the scan whose
    # number the record changes: by how many (1, or -1 for a VOID, or 0), its kind, event_time and word of its place
    numbers: NDArray[np.int64]
    # identity of the evidence: high, low
    evidence: NDArray[np.uint64]


TYPE, STAGE, TIME, PREVIOUS, AT, SCANS, SCAN_KIND, SCAN_TIME, SCAN_AT, NUMBERS = range(10)


def blank_change() -> Change:
    """A change to be filled by `insert`."""
    return Change(np.zeros(NUMBERS, np.int64), np.zeros(2, np.uint64))


@inlined
def _targets(a: Arrays, void_slot: int, high: np.uint64, low: np.uint64) -> bool:
    at = int64(a.words[a.slots[void_slot]["what"]]["at"])
    return bool(get_big_endian(a.heap, at) == high and get_big_endian(a.heap, at + 8) == low)


@inlined
def _sorts_after(a: Arrays, slot: int, order: int, high: np.uint64, low: np.uint64) -> bool:
    """Does the record in `slot` come after (order, high, low)?"""
    other = order_of(a.slots[slot]["stamp"])
    if other != order:
        return other > order
    if a.slots[slot]["high"] != high:
        return bool(a.slots[slot]["high"] > high)
    return bool(a.slots[slot]["low"] > low)


@inlined
def _put(a: Arrays, slot: int, high: np.uint64, low: np.uint64, stamp: int, at: int, what: int) -> None:
    a.slots[slot]["high"] = high
    a.slots[slot]["low"] = low
    a.slots[slot]["stamp"] = stamp
    a.slots[slot]["at"] = at
    a.slots[slot]["what"] = what


@compiled
def insert(
    a: Arrays, row: int, high: np.uint64, low: np.uint64, stamp: int, at: int, what: int, alone: bool, change: Change
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
    order = order_of(stamp)
    records = int64(a.rows[row]["records"])
    change.numbers[TYPE] = 0
    change.numbers[SCANS] = 0
    # 1. One walk: is it known, where does it belong, is it voided, which record is the first of its kind so far?
    chunk = int64(a.rows[row]["head"])
    last = int64(NONE)
    place_chunk = int64(NONE)
    place = int64(0)
    first = int64(NONE)
    seen = int64(0)
    while seen < records:
        base = chunk * CHUNK
        for slot in range(base, base + min(CHUNK, records - seen)):
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
        seen += CHUNK
        last = chunk
        chunk = int64(a.following[chunk])
    if alone and (place_chunk != NONE or kind == VOID) and has_inferred(a, row, place if kind != VOID else int64(NONE)):
        return CONCERNS_OTHERS
    if alone and stamp & VOIDED == 0 and is_from_container(stamp, what):
        if not counts_at(a, row, place if place_chunk != NONE else int64(NONE), what, kind, at):
            stamp |= VOIDED
    # 2. Decide the milestone before slots move.
    if kind == VOID:
        _void(a, row, what, high, low, change)
        a.rows[row]["voids"] += 1
    elif stamp & VOIDED == 0 and (MILESTONES >> kind) & 1:
        if first == NONE:
            _fill(change, STAGE_REACHED, kind, time_of(stamp), NO_TIME, at, high, low)
        elif _sorts_after(a, first, order, high, low):
            previous = time_of(a.slots[first]["stamp"])
            if previous != time_of(stamp):
                _fill(change, STAGE_CORRECTED, kind, time_of(stamp), previous, at, high, low)
        if stamp & ADVICE and change.numbers[TYPE] != 0:
            change.numbers[AT] = NO_WORD
    if kind != VOID and stamp & (VOIDED | ADVICE) == 0:
        _count(change, 1, kind, time_of(stamp), at)
    # 3. Put it in, and move what comes after it one slot on.
    if records % CHUNK == 0:
        fresh = chunk_from(a)
        if last == NONE:
            a.rows[row]["head"] = fresh
        else:
            a.following[last] = fresh
        last = fresh
    a.rows[row]["records"] = records + 1
    if place_chunk == NONE:
        _put(a, last * CHUNK + records % CHUNK, high, low, stamp, at, what)
    else:
        _shift_in(a, place_chunk, place, high, low, stamp, at, what, last * CHUNK + records % CHUNK)
    # 4. The direction is that of the latest advice that counts.
    if stamp & ADVICE or kind == VOID:
        a.rows[row]["direction"] = _direction(a, row)
    return INSERTED


@inlined
def _fill(
    change: Change, what: int, stage: int, time: int, previous: int, at: int, high: np.uint64, low: np.uint64
) -> None:
    change.numbers[TYPE] = what
    change.numbers[STAGE] = stage
    change.numbers[TIME] = time
    change.numbers[PREVIOUS] = previous
    change.numbers[AT] = at
    change.evidence[0] = high
    change.evidence[1] = low


@compiled
def _shift_in(
    a: Arrays,
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
        if slot % CHUNK == 0:
            chunk = int64(a.following[chunk])
            slot = chunk * CHUNK


@inlined
def _count(change: Change, by: int, kind: int, time: int, at: int) -> None:
    change.numbers[SCANS] = by
    change.numbers[SCAN_KIND] = kind
    change.numbers[SCAN_TIME] = time
    change.numbers[SCAN_AT] = at


@compiled
def _void(a: Arrays, row: int, target: int, high: np.uint64, low: np.uint64, change: Change) -> None:
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
    if first != voided or (MILESTONES >> kind) & 1 == 0:
        return
    time = time_of(stamp)
    heir = _first_of(a, row, kind)
    if heir == NONE:
        _fill(change, STAGE_LOST, kind, time, NO_TIME, NO_WORD, high, low)
    elif time_of(a.slots[heir]["stamp"]) != time:
        at = int64(a.slots[heir]["at"])
        if int64(a.slots[heir]["stamp"]) & ADVICE:
            at = NO_WORD
        heir_time = time_of(a.slots[heir]["stamp"])
        _fill(change, STAGE_CORRECTED, kind, heir_time, time, at, a.slots[heir]["high"], a.slots[heir]["low"])


@compiled
def _find(a: Arrays, row: int, high: np.uint64, low: np.uint64) -> int:
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
                return slot
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return NONE


@compiled
def _first_of(a: Arrays, row: int, kind: int) -> int:
    """Slot of the first record of `kind` that counts, or NONE."""
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if kind_of(stamp) == kind and stamp & VOIDED == 0:
                return slot
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return NONE


@compiled
def _direction(a: Arrays, row: int) -> int:
    """Direction by the latest advice that counts; 0 without one."""
    plan = int64(NO_WORD)
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if stamp & ADVICE and stamp & VOIDED == 0:
                plan = int64(a.slots[slot]["at"])
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return direction_of(a, plan)
