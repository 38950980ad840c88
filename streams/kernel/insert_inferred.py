"""A record that changes which others count: those inferred from a container, in which the parcel was or was not."""

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
    NO_TIME,
    SCAN_INCREMENT,
    SCAN_KIND,
    SCAN_LOCATION,
    SCAN_TIME,
    InsertEffect,
    insert,
)
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import NO_INTERN_ID, SLOTS_PER_CHUNK, TableArrays

# Milestones that one record may bring, if it changes what the parcel was in.
MAX_MILESTONES_PER_RECORD: Final = len(KINDS)
_BEFORE, _AFTER = range(2)
# Of the first record of a kind: is there one, when, and where.
_THERE, _TIME, _AT, _PARTS = range(4)


class FirstRecords(NamedTuple):
    """The first record of each kind that counts, before and after: [_BEFORE or _AFTER, kind]."""

    first: NDArray[np.int64]
    identity: NDArray[np.uint64]


def allocate_first_records() -> FirstRecords:
    """Room for `insert_and_apply_containment`."""
    return FirstRecords(np.zeros((2, len(KINDS), _PARTS), np.int64), np.zeros((2, len(KINDS), 2), np.uint64))


@jit
def insert_and_apply_containment(
    a: TableArrays,
    row: int,
    high: np.uint64,
    low: np.uint64,
    stamp: int,
    at: int,
    what: int,
    change: InsertEffect,
    firsts: FirstRecords,
    out: BatchChanges,
) -> None:
    """Insert a record that may change which others count; milestones and deltas go to `out`.

    `out` has room for MOST_MILESTONES, and for a delta a record and one more.
    """
    direction = int64(a.rows[row]["direction"])
    _note_firsts(a, row, firsts, _BEFORE)
    insert(a, row, high, low, stamp, at, what, False, change)
    numbers = change.numbers
    if numbers[SCAN_INCREMENT] != 0:
        append_delta(
            out, numbers[SCAN_INCREMENT], numbers[SCAN_LOCATION], numbers[SCAN_KIND], numbers[SCAN_TIME], direction
        )
    apply_containment(a, row, direction, out)
    _note_firsts(a, row, firsts, _AFTER)
    for kind in range(len(KINDS)):
        was = firsts.first[_BEFORE, kind, _THERE] != 0
        now = firsts.first[_AFTER, kind, _THERE] != 0
        time = firsts.first[_AFTER, kind, _TIME]
        previous = firsts.first[_BEFORE, kind, _TIME]
        if not (MILESTONE_KINDS >> kind) & 1 or (not was and not now) or (was and now and time == previous):
            continue
        if now:
            append_milestone(
                a,
                row,
                MILESTONE_CORRECTED if was else MILESTONE_REACHED,
                kind,
                time,
                previous if was else NO_TIME,
                firsts.first[_AFTER, kind, _AT],
                firsts.identity[_AFTER, kind, 0],
                firsts.identity[_AFTER, kind, 1],
                out,
            )
        else:
            append_milestone(a, row, MILESTONE_RETRACTED, kind, previous, NO_TIME, NO_INTERN_ID, high, low, out)


@jit
def apply_containment(a: TableArrays, row: int, direction: int, out: BatchChanges) -> None:
    """Set aside, or take back, every record of a parcel that is inferred from a container."""
    inside = int64(NOT_SET)
    inside_at = int64(NOT_SET)
    known = False
    by_own = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if kind == VOID or stamp & ADVICE:
                continue
            what = int64(a.slots[slot]["what"])
            at = int64(a.slots[slot]["at"])
            from_container = depends_on_container(stamp, what)
            if stamp & VOIDED and (not from_container or has_error_declaration(a, row, slot)):
                known |= kind == PACKED and what != NO_INTERN_ID
                continue
            if from_container:
                counts = not known or inside == what
                if counts and known and by_own:
                    counts = counts_after_own_packing(a, row, slot, what, kind, at)
                if counts and stamp & VOIDED:
                    a.slots[slot]["stamp"] = stamp & ~VOIDED
                    append_delta(out, int64(1), at, kind, time_of(stamp), direction)
                elif not counts and stamp & VOIDED == 0:
                    a.slots[slot]["stamp"] = stamp | VOIDED
                    append_delta(out, int64(-1), at, kind, time_of(stamp), direction)
                if not counts:
                    continue
            known |= determines_container(kind, what)
            by_own = is_packed_by_own_scan(by_own, kind, what, stamp)
            inside, inside_at = container_after_scan(a, inside, inside_at, kind, at, what, stamp)
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])


@jit_inline
def _note_firsts(a: TableArrays, row: int, firsts: FirstRecords, when: int) -> None:
    for kind in range(len(KINDS)):
        firsts.first[when, kind, _THERE] = 0
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if stamp & VOIDED or firsts.first[when, kind, _THERE] != 0:
                continue
            firsts.first[when, kind, _THERE] = 1
            firsts.first[when, kind, _TIME] = time_of(stamp)
            firsts.first[when, kind, _AT] = NO_INTERN_ID if stamp & ADVICE else int64(a.slots[slot]["at"])
            firsts.identity[when, kind, 0] = a.slots[slot]["high"]
            firsts.identity[when, kind, 1] = a.slots[slot]["low"]
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
