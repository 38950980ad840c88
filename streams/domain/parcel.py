"""What the records of a parcel say together: its state, told record by record.

Plain functions about one parcel, compiled where they run over millions of them. A parcel's state is a pure function
of the set of its records: whoever tells them does so in the order of (event_time, kind, identity) and leaves out
what a VOID declares wrong and what is set aside. The rules of containers are told in `streams/domain/containment.py`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import inlined
from streams.domain.kinds import (
    ADVISED,
    AWAY,
    CUSTOMS,
    CUSTOMS_HELD,
    DISPATCHED,
    HERE,
    KINDS,
    LANE,
    LOOSE,
    MOVES,
    OFFICE,
    PACKED,
)

# What is known of one parcel while its records are told, by position in `facts`. Places, plans, containers and
# promises are numbers of words in the parcel table; 0 is none.
(
    STAGE,
    STAGE_TIME,
    CUSTOMS_STEP,
    CUSTOMS_AT,
    PLACE,
    CONTAINER,  # the last one that was named
    INSIDE,  # what it was packed into
    INSIDE_AT,  # where that is; NOTHING where it is not known
    LANE_AT,
    PLAN,
    PROMISED,
    IS_HERE,  # 1: in the hub
    FACTS,
) = range(13)
NOTHING: Final = 0

# Times of each kind, by position in `times`: rows of one number a kind.
FIRST, LAST, COUNT, TIMES = range(4)

Facts = NDArray[np.int64]
Times = NDArray[np.int64]


def blank() -> tuple[Facts, Times]:
    """Facts and times of a parcel of which nothing is known."""
    return np.zeros(FACTS, np.int64), np.zeros((TIMES, len(KINDS)), np.int64)


@inlined
def forget(facts: Facts, times: Times) -> None:
    """Make room for the next parcel."""
    for fact in range(FACTS):
        facts[fact] = NOTHING
    for kind in range(len(KINDS)):
        times[COUNT, kind] = 0


@inlined
def may_be_apart(inside: int, inside_at: int, kind: int, what: int, inferred: bool) -> bool:
    """Would this scan, at another site than `inside_at`, say that the parcel is not in what it was packed into?"""
    if inside_at == NOTHING or inferred or what == inside:
        return False
    return not (OFFICE >> kind) & 1


@inlined
def boxed(inside: int, inside_at: int, kind: int, at: int, what: int, elsewhere: bool) -> tuple[int, int]:
    """What the parcel is in after a scan that counts, and where that is.

    Args:
        inside, inside_at: before it, or NOTHING.
        at, what: where the scan was made, and the container that it names or NOTHING.
        elsewhere: it may be apart, and is at another site.
    """
    if (LOOSE >> kind) & 1:
        return NOTHING, NOTHING
    if what != NOTHING and kind == PACKED:
        return what, at
    if elsewhere:
        return NOTHING, NOTHING
    if what != NOTHING and what == inside and (OFFICE >> kind) & 1 == 0:
        return inside, NOTHING if kind == DISPATCHED else at
    return inside, inside_at


@inlined
def is_here(here: int, kind: int) -> int:
    """1 where the parcel is in the hub after a scan of this kind that counts, else 0; `here`: the same before it."""
    if (HERE >> kind) & 1:
        return 1
    return 0 if (AWAY >> kind) & 1 else here


@inlined
def tell(
    facts: Facts, times: Times, kind: int, time: int, at: int, what: int, names_lane: bool, elsewhere: bool
) -> None:
    """One scan that counts.

    Args:
        at, what: where, and its container or NOTHING.
        names_lane: does `at` name a lane?
        elsewhere: as for `boxed`.
    """
    _count(times, kind, time)
    bit = 1 << kind
    if MOVES & bit:
        _move(facts, kind, time)
    facts[IS_HERE] = is_here(facts[IS_HERE], kind)
    if CUSTOMS & bit:
        facts[CUSTOMS_STEP] = kind
        facts[CUSTOMS_AT] = at
    if not OFFICE & bit:
        facts[PLACE] = at
    if what != NOTHING:
        facts[CONTAINER] = what
        facts[INSIDE], facts[INSIDE_AT] = boxed(facts[INSIDE], facts[INSIDE_AT], kind, at, what, elsewhere)
    if LOOSE & bit or (elsewhere and what == NOTHING):
        facts[CONTAINER] = NOTHING
        facts[INSIDE] = NOTHING
        facts[INSIDE_AT] = NOTHING
    if LANE & bit and names_lane:
        facts[LANE_AT] = at


@inlined
def tell_advice(facts: Facts, times: Times, kind: int, time: int, plan: int, promised: int) -> None:
    """One advice that counts: the latest one's plan and promise hold."""
    _count(times, kind, time)
    _move(facts, kind, time)
    facts[PLAN] = plan
    facts[PROMISED] = promised


@inlined
def is_held(facts: Facts) -> bool:
    """True between a customs hold and the release or refusal that answers it."""
    return bool(facts[CUSTOMS_STEP] == CUSTOMS_HELD)


@inlined
def _move(facts: Facts, kind: int, time: int) -> None:
    # An advice that is corrected after the parcel came does not move it back.
    if kind != ADVISED or facts[STAGE] <= ADVISED:
        facts[STAGE] = kind
        facts[STAGE_TIME] = time


@inlined
def _count(times: Times, kind: int, time: int) -> None:
    if times[COUNT, kind] == 0:
        times[FIRST, kind] = time
    times[LAST, kind] = time
    times[COUNT, kind] += 1
