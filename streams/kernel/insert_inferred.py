"""A record that changes which others count: those inferred from a container, in which the parcel was or was not."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import (
    KINDS,
    MILESTONES,
    PACKED,
    STAGE_CORRECTED,
    STAGE_LOST,
    STAGE_REACHED,
    VOID,
)
from streams.domain.parcel import NOTHING
from streams.kernel.batch_changes import Folded, put_delta, put_milestone
from streams.kernel.containment_at import gets_known, holds_by_own, inside_after, is_by_own, is_from_container, is_void
from streams.kernel.insert import (
    NO_TIME,
    SCAN_AT,
    SCAN_KIND,
    SCAN_TIME,
    SCANS,
    Change,
    insert,
)
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import CHUNK, NO_WORD, Arrays

# Milestones that one record may bring, if it changes what the parcel was in.
MOST_MILESTONES: Final = len(KINDS)
_BEFORE, _AFTER = range(2)
# Of the first record of a kind: is there one, when, and where.
_THERE, _TIME, _AT, _PARTS = range(4)


class Firsts(NamedTuple):
    """The first record of each kind that counts, before and after: [_BEFORE or _AFTER, kind]."""

    first: NDArray[np.int64]
    identity: NDArray[np.uint64]


def blank_firsts() -> Firsts:
    """Room for `insert_among`."""
    return Firsts(np.zeros((2, len(KINDS), _PARTS), np.int64), np.zeros((2, len(KINDS), 2), np.uint64))


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
    firsts: Firsts,
    out: Folded,
) -> None:
    """Insert a record that may change which others count; milestones and deltas go to `out`.

    `out` has room for MOST_MILESTONES, and for a delta a record and one more.
    """
    direction = int64(a.rows[row]["direction"])
    _note_firsts(a, row, firsts, _BEFORE)
    insert(a, row, high, low, stamp, at, what, False, change)
    numbers = change.numbers
    if numbers[SCANS] != 0:
        put_delta(out, numbers[SCANS], numbers[SCAN_AT], numbers[SCAN_KIND], numbers[SCAN_TIME], direction)
    judge(a, row, direction, out)
    _note_firsts(a, row, firsts, _AFTER)
    for kind in range(len(KINDS)):
        was = firsts.first[_BEFORE, kind, _THERE] != 0
        now = firsts.first[_AFTER, kind, _THERE] != 0
        time = firsts.first[_AFTER, kind, _TIME]
        previous = firsts.first[_BEFORE, kind, _TIME]
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
                firsts.first[_AFTER, kind, _AT],
                firsts.identity[_AFTER, kind, 0],
                firsts.identity[_AFTER, kind, 1],
                out,
            )
        else:
            put_milestone(a, row, STAGE_LOST, kind, previous, NO_TIME, NO_WORD, high, low, out)


@compiled
def judge(a: Arrays, row: int, direction: int, out: Folded) -> None:
    """Set aside, or take back, every record of a parcel that is inferred from a container."""
    inside = int64(NOTHING)
    inside_at = int64(NOTHING)
    known = False
    by_own = False
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
            from_container = is_from_container(stamp, what)
            if stamp & VOIDED and (not from_container or is_void(a, row, slot)):
                known |= kind == PACKED and what != NO_WORD
                continue
            if from_container:
                counts = not known or inside == what
                if counts and known and by_own:
                    counts = holds_by_own(a, row, slot, what, kind, at)
                if counts and stamp & VOIDED:
                    a.slots[slot]["stamp"] = stamp & ~VOIDED
                    put_delta(out, int64(1), at, kind, time_of(stamp), direction)
                elif not counts and stamp & VOIDED == 0:
                    a.slots[slot]["stamp"] = stamp | VOIDED
                    put_delta(out, int64(-1), at, kind, time_of(stamp), direction)
                if not counts:
                    continue
            known |= gets_known(kind, what)
            by_own = is_by_own(by_own, kind, what, stamp)
            inside, inside_at = inside_after(a, inside, inside_at, kind, at, what, stamp)
        left -= CHUNK
        chunk = int64(a.following[chunk])


@inlined
def _note_firsts(a: Arrays, row: int, firsts: Firsts, when: int) -> None:
    for kind in range(len(KINDS)):
        firsts.first[when, kind, _THERE] = 0
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if stamp & VOIDED or firsts.first[when, kind, _THERE] != 0:
                continue
            firsts.first[when, kind, _THERE] = 1
            firsts.first[when, kind, _TIME] = time_of(stamp)
            firsts.first[when, kind, _AT] = NO_WORD if stamp & ADVICE else int64(a.slots[slot]["at"])
            firsts.identity[when, kind, 0] = a.slots[slot]["high"]
            firsts.identity[when, kind, 1] = a.slots[slot]["low"]
        left -= CHUNK
        chunk = int64(a.following[chunk])
