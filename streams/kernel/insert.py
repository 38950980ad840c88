"""Inserts one record into the sorted slots of its parcel and determines the effect on milestones and scan counts.

A record that the parcel already has is a duplicate. A VOID takes effect whether it arrives before or after its target.
"""

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
from streams.domain.promise_clocks import NO_SLOT, NO_TIME
from streams.domain.record_hash import get_big_endian
from streams.kernel.containment_at import counts_in_container, depends_on_container, has_inferred, voids_record
from streams.kernel.interned_records import direction_of
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, sort_key_of, time_of
from streams.kernel.parcel_table import NO_INTERN_ID, SLOTS_PER_CHUNK, TableArrays, allocate_chunk, next_slot

# Outcomes of `insert`.
DUPLICATE: Final = 0
INSERTED: Final = 1
# The record was not inserted, because it may change which inferred records count: see insert_and_apply_containment.
AFFECTS_INFERRED: Final = 2


class InsertEffect(NamedTuple):
    """What an insertion changes: the milestone and the scan count. Arrays, so that compiled code can fill them."""

    values: NDArray[np.int64]
    # record hash of the milestone's evidence: high, low
    evidence: NDArray[np.uint64]


# Indexes into `InsertEffect.values`.
(
    MILESTONE_TYPE,  # 0 for no milestone
    MILESTONE_STAGE,
    MILESTONE_TIME,
    MILESTONE_PREVIOUS_TIME,
    MILESTONE_LOCATION,  # intern id of the location of the evidence
    SCAN_INCREMENT,  # change of the scan count: 1, -1 for a VOID, or 0
    SCAN_KIND,
    SCAN_TIME,
    SCAN_LOCATION,  # intern id
    EFFECT_VALUES,
) = range(10)


def allocate_insert_effect() -> InsertEffect:
    """An effect for `insert` to fill."""
    return InsertEffect(np.zeros(EFFECT_VALUES, np.int64), np.zeros(2, np.uint64))


@jit_inline
def _sorts_after(a: TableArrays, slot: int, sort_key: int, high: np.uint64, low: np.uint64) -> bool:
    """Does the record in `slot` sort after (sort_key, high, low)?"""
    slot_key = sort_key_of(a.slots[slot]["packed_key"])
    if slot_key != sort_key:
        return slot_key > sort_key
    if a.slots[slot]["high"] != high:
        return bool(a.slots[slot]["high"] > high)
    return bool(a.slots[slot]["low"] > low)


@jit_inline
def _write_slot(
    a: TableArrays, slot: int, high: np.uint64, low: np.uint64, packed_key: int, location_or_plan: int, detail: int
) -> None:
    a.slots[slot]["high"] = high
    a.slots[slot]["low"] = low
    a.slots[slot]["packed_key"] = packed_key
    a.slots[slot]["location_or_plan"] = location_or_plan
    a.slots[slot]["detail"] = detail


@jit
def insert(
    a: TableArrays,
    row: int,
    high: np.uint64,
    low: np.uint64,
    packed_key: int,
    location_or_plan: int,
    detail: int,
    check_inferred: bool,
    effect: InsertEffect,
) -> int:
    """Insert a record into `row` and set `effect` to what it changes.

    Args:
        high, low: record hash.
        packed_key: see streams/kernel/packed_key.py; without VOIDED, which is derived here.
        location_or_plan, detail: intern ids, see `parcel_table.SLOT`.
        check_inferred: True to return AFFECTS_INFERRED where the record may change which inferred records count; False
            to insert the record in any case.

    Returns:
        DUPLICATE, INSERTED or, only if `check_inferred`, AFFECTS_INFERRED.
    """
    kind = kind_of(packed_key)
    sort_key = sort_key_of(packed_key)
    records = int64(a.rows[row]["records"])
    effect.values[MILESTONE_TYPE] = 0
    effect.values[SCAN_INCREMENT] = 0
    # 1. In one pass: is it a duplicate, which slot does it belong into, is it voided, which record is the first of its
    #    kind so far?
    insert_slot = int64(NO_SLOT)
    first_slot = int64(NO_SLOT)
    slot = int64(NO_SLOT)
    for i in range(records):
        slot = next_slot(a, row, i, slot)
        if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
            return DUPLICATE
        other_key = int64(a.slots[slot]["packed_key"])
        if kind_of(other_key) == VOID:
            if kind != VOID and voids_record(a, slot, high, low):
                packed_key |= VOIDED
        elif first_slot == NO_SLOT and kind_of(other_key) == kind and other_key & VOIDED == 0:
            first_slot = slot
        if insert_slot == NO_SLOT and _sorts_after(a, slot, sort_key, high, low):
            insert_slot = slot
    if (
        check_inferred
        and (insert_slot != NO_SLOT or kind == VOID)
        and has_inferred(a, row, insert_slot if kind != VOID else int64(NO_SLOT))
    ):
        return AFFECTS_INFERRED
    if check_inferred and packed_key & VOIDED == 0 and depends_on_container(packed_key, detail):
        if not counts_in_container(a, row, insert_slot, detail, kind, location_or_plan):
            packed_key |= VOIDED
    # 2. Determine the milestone before slots move.
    if kind == VOID:
        _apply_void(a, row, detail, high, low, effect)
        a.rows[row]["voids"] += 1
    elif packed_key & VOIDED == 0 and (MILESTONE_KINDS >> kind) & 1:
        if first_slot == NO_SLOT:
            _set_milestone(effect, MILESTONE_REACHED, kind, time_of(packed_key), NO_TIME, location_or_plan, high, low)
        elif _sorts_after(a, first_slot, sort_key, high, low):
            previous_time = time_of(a.slots[first_slot]["packed_key"])
            if previous_time != time_of(packed_key):
                _set_milestone(
                    effect, MILESTONE_CORRECTED, kind, time_of(packed_key), previous_time, location_or_plan, high, low
                )
        if packed_key & ADVICE and effect.values[MILESTONE_TYPE] != 0:
            effect.values[MILESTONE_LOCATION] = NO_INTERN_ID
    if kind != VOID and packed_key & (VOIDED | ADVICE) == 0:
        _set_scan_count(effect, 1, kind, time_of(packed_key), location_or_plan)
    # 3. Insert the record and move the records after it by one slot.
    free_slot = slot + 1
    if records % SLOTS_PER_CHUNK == 0:
        new_chunk = allocate_chunk(a)
        if records == 0:
            a.rows[row]["first_chunk"] = new_chunk
        else:
            a.next_chunk[slot // SLOTS_PER_CHUNK] = new_chunk
        free_slot = new_chunk * SLOTS_PER_CHUNK
    a.rows[row]["records"] = records + 1
    if insert_slot == NO_SLOT:
        _write_slot(a, free_slot, high, low, packed_key, location_or_plan, detail)
    else:
        _insert_at_slot(a, insert_slot, free_slot, high, low, packed_key, location_or_plan, detail)
    # 4. The direction is that of the latest advice that counts.
    if packed_key & ADVICE or kind == VOID:
        a.rows[row]["direction"] = _direction(a, row)
    return INSERTED


@jit_inline
def _set_milestone(
    effect: InsertEffect,
    milestone_type: int,
    stage: int,
    time: int,
    previous_time: int,
    location: int,
    high: np.uint64,
    low: np.uint64,
) -> None:
    effect.values[MILESTONE_TYPE] = milestone_type
    effect.values[MILESTONE_STAGE] = stage
    effect.values[MILESTONE_TIME] = time
    effect.values[MILESTONE_PREVIOUS_TIME] = previous_time
    effect.values[MILESTONE_LOCATION] = location
    effect.evidence[0] = high
    effect.evidence[1] = low


@jit
def _insert_at_slot(
    a: TableArrays,
    slot: int,
    free_slot: int,
    high: np.uint64,
    low: np.uint64,
    packed_key: int,
    location_or_plan: int,
    detail: int,
) -> None:
    """Write a record to `slot`, and move the records from there on by one slot up to `free_slot`."""
    while True:
        next_high = a.slots[slot]["high"]
        next_low = a.slots[slot]["low"]
        next_packed_key = int64(a.slots[slot]["packed_key"])
        next_location_or_plan = int64(a.slots[slot]["location_or_plan"])
        next_detail = int64(a.slots[slot]["detail"])
        _write_slot(a, slot, high, low, packed_key, location_or_plan, detail)
        if slot == free_slot:
            return
        high = next_high
        low = next_low
        packed_key = next_packed_key
        location_or_plan = next_location_or_plan
        detail = next_detail
        slot += 1
        if slot % SLOTS_PER_CHUNK == 0:
            slot = int64(a.next_chunk[slot // SLOTS_PER_CHUNK - 1]) * SLOTS_PER_CHUNK


@jit_inline
def _set_scan_count(effect: InsertEffect, increment: int, kind: int, time: int, location: int) -> None:
    effect.values[SCAN_INCREMENT] = increment
    effect.values[SCAN_KIND] = kind
    effect.values[SCAN_TIME] = time
    effect.values[SCAN_LOCATION] = location


@jit
def _apply_void(a: TableArrays, row: int, target: int, high: np.uint64, low: np.uint64, effect: InsertEffect) -> None:
    """Mark the target of a VOID (record hash high, low) as voided, if the target is known and not voided yet."""
    target_offset = int64(a.interned[target]["heap_offset"])
    target_high = get_big_endian(a.heap, target_offset)
    target_low = get_big_endian(a.heap, target_offset + 8)
    target_slot = find_slot(a, row, target_high, target_low)
    if target_slot == NO_SLOT:
        return
    packed_key = int64(a.slots[target_slot]["packed_key"])
    kind = kind_of(packed_key)
    if kind == VOID or packed_key & VOIDED:
        return
    first_slot = _first_slot_of_kind(a, row, kind)
    a.slots[target_slot]["packed_key"] = packed_key | VOIDED
    if packed_key & ADVICE == 0:
        _set_scan_count(effect, -1, kind, time_of(packed_key), int64(a.slots[target_slot]["location_or_plan"]))
    if first_slot != target_slot or (MILESTONE_KINDS >> kind) & 1 == 0:
        return
    time = time_of(packed_key)
    successor = _first_slot_of_kind(a, row, kind)
    if successor == NO_SLOT:
        _set_milestone(effect, MILESTONE_RETRACTED, kind, time, NO_TIME, NO_INTERN_ID, high, low)
    elif time_of(a.slots[successor]["packed_key"]) != time:
        location = int64(a.slots[successor]["location_or_plan"])
        if int64(a.slots[successor]["packed_key"]) & ADVICE:
            location = NO_INTERN_ID
        successor_time = time_of(a.slots[successor]["packed_key"])
        _set_milestone(
            effect,
            MILESTONE_CORRECTED,
            kind,
            successor_time,
            time,
            location,
            a.slots[successor]["high"],
            a.slots[successor]["low"],
        )


@jit
def find_slot(a: TableArrays, row: int, high: np.uint64, low: np.uint64) -> int:
    """Slot of the parcel's record with this hash, or NO_SLOT."""
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
            return slot
    return NO_SLOT


@jit
def _first_slot_of_kind(a: TableArrays, row: int, kind: int) -> int:
    """Slot of the first record of `kind` that counts, or NO_SLOT."""
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        if kind_of(packed_key) == kind and packed_key & VOIDED == 0:
            return slot
    return NO_SLOT


@jit
def _direction(a: TableArrays, row: int) -> int:
    """Direction of the latest advice that counts; 0 (UNKNOWN) without one."""
    plan = int64(NO_INTERN_ID)
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        if packed_key & ADVICE and packed_key & VOIDED == 0:
            plan = int64(a.slots[slot]["location_or_plan"])
    return direction_of(a, plan)
