"""Inserts a record that may change which of the parcel's inferred records count.

An inferred record counts only while the parcel is in the container that it is inferred from. A record that changes the
parcel's container therefore changes which later inferred records count.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import (
    KINDS,
    MILESTONE_CORRECTED,
    MILESTONE_KINDS,
    MILESTONE_REACHED,
    MILESTONE_RETRACTED,
    PACKED,
    VOID,
)
from streams.domain.parcel import NOT_SET
from streams.domain.promise_clocks import NO_SLOT, NO_TIME
from streams.kernel.batch_changes import BatchChanges, append_delta, append_milestone
from streams.kernel.containment_at import (
    container_after_scan,
    counts_after_own_packing,
    depends_on_container,
    determines_container,
    has_error_declaration,
    is_packed_by_own_scan,
)
from streams.kernel.insert import (
    SCAN_INCREMENT,
    SCAN_KIND,
    SCAN_LOCATION,
    SCAN_TIME,
    InsertEffect,
    insert,
)
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import NO_INTERN_ID, TableArrays, next_slot

# Milestones of one record, if it changes the container of the parcel.
MAX_MILESTONES_PER_RECORD: Final = len(KINDS)
_BEFORE, _AFTER = range(2)
# Fields of `FirstRecords.entries`; `_IS_PRESENT` is 0 where no record of the kind counts.
_IS_PRESENT, _TIME, _LOCATION, _FIELD_COUNT = range(4)


class FirstRecords(NamedTuple):
    """The first record of each kind that counts, before and after the insertion."""

    entries: NDArray[np.int64]  # [_BEFORE or _AFTER, kind, field]
    hashes: NDArray[np.uint64]  # [_BEFORE or _AFTER, kind, 0 or 1]: record hash, high and low


def allocate_first_records() -> FirstRecords:
    """Room for `insert_and_apply_containment`."""
    return FirstRecords(np.zeros((2, len(KINDS), _FIELD_COUNT), np.int64), np.zeros((2, len(KINDS), 2), np.uint64))


@jit
def insert_and_apply_containment(
    a: TableArrays,
    row: int,
    high: np.uint64,
    low: np.uint64,
    packed_key: int,
    location_or_plan: int,
    detail: int,
    effect: InsertEffect,
    first_records: FirstRecords,
    changes: BatchChanges,
) -> None:
    """Insert a record, update which inferred records count, and append milestones and deltas to `changes`.

    `changes` must have room for MAX_MILESTONES_PER_RECORD milestones, and for one delta a record and one more.
    """
    direction = int64(a.rows[row]["direction"])
    _collect_first_records(a, row, first_records, _BEFORE)
    insert(a, row, high, low, packed_key, location_or_plan, detail, False, effect)
    values = effect.values
    if values[SCAN_INCREMENT] != 0:
        append_delta(
            changes, values[SCAN_INCREMENT], values[SCAN_LOCATION], values[SCAN_KIND], values[SCAN_TIME], direction
        )
    apply_containment(a, row, direction, changes)
    _collect_first_records(a, row, first_records, _AFTER)
    for kind in range(len(KINDS)):
        reached_before = first_records.entries[_BEFORE, kind, _IS_PRESENT] != 0
        reached_after = first_records.entries[_AFTER, kind, _IS_PRESENT] != 0
        time = first_records.entries[_AFTER, kind, _TIME]
        previous_time = first_records.entries[_BEFORE, kind, _TIME]
        if not (MILESTONE_KINDS >> kind) & 1 or not (reached_before or reached_after):
            continue
        if reached_before and reached_after and time == previous_time:
            continue
        if reached_after:
            append_milestone(
                a,
                row,
                MILESTONE_CORRECTED if reached_before else MILESTONE_REACHED,
                kind,
                time,
                previous_time if reached_before else NO_TIME,
                first_records.entries[_AFTER, kind, _LOCATION],
                first_records.hashes[_AFTER, kind, 0],
                first_records.hashes[_AFTER, kind, 1],
                changes,
            )
        else:
            append_milestone(
                a, row, MILESTONE_RETRACTED, kind, previous_time, NO_TIME, NO_INTERN_ID, high, low, changes
            )


@jit
def apply_containment(a: TableArrays, row: int, direction: int, changes: BatchChanges) -> None:
    """Supersede or restore every record of a parcel that is inferred from a container; deltas go to `changes`."""
    current_container = int64(NOT_SET)
    container_location = int64(NOT_SET)
    container_known = False
    packed_by_own_scan = False
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        kind = kind_of(packed_key)
        if kind == VOID or packed_key & ADVICE:
            continue
        container = int64(a.slots[slot]["detail"])
        location = int64(a.slots[slot]["location_or_plan"])
        inferred_from_container = depends_on_container(packed_key, container)
        if packed_key & VOIDED and (not inferred_from_container or has_error_declaration(a, row, slot)):
            container_known |= kind == PACKED and container != NO_INTERN_ID
            continue
        if inferred_from_container:
            counts = not container_known or current_container == container
            if counts and container_known and packed_by_own_scan:
                counts = counts_after_own_packing(a, row, slot, container, kind, location)
            if counts and packed_key & VOIDED:
                a.slots[slot]["packed_key"] = packed_key & ~VOIDED
                append_delta(changes, int64(1), location, kind, time_of(packed_key), direction)
            elif not counts and packed_key & VOIDED == 0:
                a.slots[slot]["packed_key"] = packed_key | VOIDED
                append_delta(changes, int64(-1), location, kind, time_of(packed_key), direction)
            if not counts:
                continue
        container_known |= determines_container(kind, container)
        packed_by_own_scan = is_packed_by_own_scan(packed_by_own_scan, kind, container, packed_key)
        current_container, container_location = container_after_scan(
            a, current_container, container_location, kind, location, container, packed_key
        )


@jit_inline
def _collect_first_records(a: TableArrays, row: int, first_records: FirstRecords, phase: int) -> None:
    for kind in range(len(KINDS)):
        first_records.entries[phase, kind, _IS_PRESENT] = 0
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        kind = kind_of(packed_key)
        if packed_key & VOIDED or first_records.entries[phase, kind, _IS_PRESENT] != 0:
            continue
        first_records.entries[phase, kind, _IS_PRESENT] = 1
        first_records.entries[phase, kind, _TIME] = time_of(packed_key)
        first_records.entries[phase, kind, _LOCATION] = (
            NO_INTERN_ID if packed_key & ADVICE else int64(a.slots[slot]["location_or_plan"])
        )
        first_records.hashes[phase, kind, 0] = a.slots[slot]["high"]
        first_records.hashes[phase, kind, 1] = a.slots[slot]["low"]
