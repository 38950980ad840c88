"""Records that are inferred from a container: which of them count, and what it means when that changes.

The rules are told in `streams/domain/containment.py`. What is set aside has the flag VOIDED, as what a VOID declares
wrong: it counts for nothing. Which of the two it is follows from the records, so nothing else has to be kept.
"""

from typing import Final

import numpy as np

from streams.domain.compiled import compiled, inlined, int64
from streams.domain.identity import get_big_endian
from streams.domain.kinds import (
    KINDS,
    LOOSE,
    MILESTONES,
    PACKED,
    STAGE_CORRECTED,
    STAGE_LOST,
    STAGE_REACHED,
    VOID,
)
from streams.domain.parcel import INSIDE, INSIDE_AT, NOTHING, Facts, box, may_be_apart
from streams.kernel.folded import Folded, put_delta, put_milestone
from streams.kernel.insert import (
    FIRST_AT,
    FIRST_TIME,
    NO_TIME,
    SCAN_AT,
    SCAN_KIND,
    SCAN_TIME,
    SCANS,
    THERE,
    Change,
    insert,
)
from streams.kernel.places import other_site
from streams.kernel.stamp import ADVICE, INFERRED, VOIDED, kind_of, time_of
from streams.kernel.table import CHUNK, NO_WORD, Arrays

# Milestones that one record may bring, if it changes what the parcel was in.
MOST_MILESTONES: Final = len(KINDS)
_BEFORE, _AFTER = range(2)


@compiled
def insert_among(
    a: Arrays,
    row: int,
    high: np.uint64,
    low: np.uint64,
    stamp: int,
    at: int,
    what: int,
    change: Change,
    out: Folded,
) -> None:
    """Insert a record that may change which others count; milestones and deltas go to `out`.

    `out` has room for MOST_MILESTONES, and for a delta a record and one more.
    """
    direction = int64(a.rows[row]["direction"])
    _note_firsts(a, row, change, _BEFORE)
    insert(a, row, high, low, stamp, at, what, False, change)
    numbers = change.numbers
    if numbers[SCANS] != 0:
        put_delta(out, numbers[SCANS], numbers[SCAN_AT], numbers[SCAN_KIND], numbers[SCAN_TIME], direction)
    judge(a, row, change.facts, direction, out)
    _note_firsts(a, row, change, _AFTER)
    for kind in range(len(KINDS)):
        was = change.firsts[_BEFORE, kind, THERE] != 0
        now = change.firsts[_AFTER, kind, THERE] != 0
        time = change.firsts[_AFTER, kind, FIRST_TIME]
        previous = change.firsts[_BEFORE, kind, FIRST_TIME]
        if not (MILESTONES >> kind) & 1 or (not was and not now) or (was and now and time == previous):
            continue
        if now:
            put_milestone(
                a,
                row,
                STAGE_CORRECTED if was else STAGE_REACHED,
                kind,
                time,
                previous if was else NO_TIME,
                change.firsts[_AFTER, kind, FIRST_AT],
                change.identities[_AFTER, kind, 0],
                change.identities[_AFTER, kind, 1],
                out,
            )
        else:
            put_milestone(a, row, STAGE_LOST, kind, previous, NO_TIME, NO_WORD, high, low, out)


@compiled
def judge(a: Arrays, row: int, facts: Facts, direction: int, out: Folded) -> None:
    """Set aside, or take back, every record of a parcel that is inferred from a container."""
    facts[INSIDE] = NOTHING
    facts[INSIDE_AT] = NOTHING
    known = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if kind == VOID or stamp & ADVICE:
                continue
            what = int64(a.slots[slot]["what"])
            at = int64(a.slots[slot]["at"])
            from_container = stamp & INFERRED != 0 and what != NO_WORD and kind != PACKED
            if stamp & VOIDED and (not from_container or _is_void(a, row, slot)):
                known |= kind == PACKED and what != NO_WORD
                continue
            if from_container:
                counts = not known or facts[INSIDE] == what
                if counts and stamp & VOIDED:
                    a.slots[slot]["stamp"] = stamp & ~VOIDED
                    put_delta(out, int64(1), at, kind, time_of(stamp), direction)
                elif not counts and stamp & VOIDED == 0:
                    a.slots[slot]["stamp"] = stamp | VOIDED
                    put_delta(out, int64(-1), at, kind, time_of(stamp), direction)
                if not counts:
                    continue
            known |= (LOOSE >> kind) & 1 != 0 or (kind == PACKED and what != NO_WORD)
            elsewhere = False
            if may_be_apart(facts, kind, what, stamp & INFERRED != 0):
                elsewhere = other_site(a, at, facts[INSIDE_AT])
            box(facts, kind, at, what, elsewhere)
        left -= CHUNK
        chunk = int64(a.following[chunk])


@compiled
def _is_void(a: Arrays, row: int, slot: int) -> bool:
    """Does a VOID of the parcel declare the record in `slot` wrong?"""
    if a.rows[row]["voids"] == 0:
        return False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for other in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if kind_of(a.slots[other]["stamp"]) == VOID:
                at = int64(a.words[a.slots[other]["what"]]["at"])
                if (
                    get_big_endian(a.heap, at) == a.slots[slot]["high"]
                    and get_big_endian(a.heap, at + 8) == a.slots[slot]["low"]
                ):
                    return True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return False


@inlined
def _note_firsts(a: Arrays, row: int, change: Change, when: int) -> None:
    for kind in range(len(KINDS)):
        change.firsts[when, kind, THERE] = 0
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if stamp & VOIDED or change.firsts[when, kind, THERE] != 0:
                continue
            change.firsts[when, kind, THERE] = 1
            change.firsts[when, kind, FIRST_TIME] = time_of(stamp)
            change.firsts[when, kind, FIRST_AT] = NO_WORD if stamp & ADVICE else int64(a.slots[slot]["at"])
            change.identities[when, kind, 0] = a.slots[slot]["high"]
            change.identities[when, kind, 1] = a.slots[slot]["low"]
        left -= CHUNK
        chunk = int64(a.following[chunk])
