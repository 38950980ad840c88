"""What the records of a parcel say together: its state, told record by record.

Plain functions about one parcel, compiled where they run over millions of them. A parcel's state is a pure function
of the set of its records: whoever tells them does so in the order of (event_time, kind, identity) and leaves out
what a VOID declares wrong and what is set aside. The rules of containers are told in `streams/domain/containment.py`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import jit_inline
from streams.domain.kinds import (
    ADVISED,
    CUSTOMS_HELD,
    CUSTOMS_KINDS,
    DISPATCHED,
    ENTERS_HUB,
    KINDS,
    LANE_KINDS,
    LEAVES_HUB,
    NO_LOCATION,
    PACKED,
    STAGE_KINDS,
    UNCONTAINED,
)

# What is known of one parcel while its records are told, by position in `facts`. Places, plans, containers and
# promises are numbers of words in the parcel table; 0 is none.
(
    STAGE,
    STAGE_TIME,
    CUSTOMS_STEP,
    CUSTOMS_LOCATION,
    LOCATION,
    CONTAINER,  # the last one that was named
    PACKED_INTO,  # what it was packed into
    CONTAINER_LOCATION,  # where that is; NOTHING where it is not known
    LANE_LOCATION,
    PLAN,
    PROMISED,
    IS_IN_HUB,  # 1: in the hub
    PARCEL_FACT_COUNT,
) = range(13)
NOT_SET: Final = 0

# Times of each kind, by position in `times`: rows of one number a kind.
FIRST, LAST, COUNT, TIME_FIELD_COUNT = range(4)

Facts = NDArray[np.int64]
Times = NDArray[np.int64]


def new_parcel_facts() -> tuple[Facts, Times]:
    """Facts and times of a parcel of which nothing is known."""
    return np.zeros(PARCEL_FACT_COUNT, np.int64), np.zeros((TIME_FIELD_COUNT, len(KINDS)), np.int64)


@jit_inline
def reset(facts: Facts, times: Times) -> None:
    """Make room for the next parcel."""
    for fact in range(PARCEL_FACT_COUNT):
        facts[fact] = NOT_SET
    for kind in range(len(KINDS)):
        times[COUNT, kind] = 0


@jit_inline
def contradicts_containment(inside: int, inside_at: int, kind: int, what: int, inferred: bool) -> bool:
    """Would this scan, at another site than `inside_at`, say that the parcel is not in what it was packed into?"""
    if inside_at == NOT_SET or inferred or what == inside:
        return False
    return not (NO_LOCATION >> kind) & 1


@jit_inline
def container_after(inside: int, inside_at: int, kind: int, at: int, what: int, elsewhere: bool) -> tuple[int, int]:
    """What the parcel is in after a scan that counts, and where that is.

    Args:
        inside, inside_at: before it, or NOTHING.
        at, what: where the scan was made, and the container that it names or NOTHING.
        elsewhere: it may be apart, and is at another site.
    """
    if (UNCONTAINED >> kind) & 1:
        return NOT_SET, NOT_SET
    if what != NOT_SET and kind == PACKED:
        return what, at
    if elsewhere:
        return NOT_SET, NOT_SET
    if what != NOT_SET and what == inside and (NO_LOCATION >> kind) & 1 == 0:
        return inside, NOT_SET if kind == DISPATCHED else at
    return inside, inside_at


@jit_inline
def is_in_hub(in_hub: int, kind: int) -> int:
    """1 where the parcel is in the hub after a scan of this kind that counts, else 0; `here`: the same before it."""
    if (ENTERS_HUB >> kind) & 1:
        return 1
    return 0 if (LEAVES_HUB >> kind) & 1 else in_hub


@jit_inline
def apply_scan(
    facts: Facts, times: Times, kind: int, time: int, at: int, what: int, names_lane: bool, elsewhere: bool
) -> None:
    """One scan that counts.

    Args:
        at, what: where, and its container or NOTHING.
        names_lane: does `at` name a lane?
        elsewhere: as for `container_after`.
    """
    _count(times, kind, time)
    bit = 1 << kind
    if STAGE_KINDS & bit:
        _move(facts, kind, time)
    facts[IS_IN_HUB] = is_in_hub(facts[IS_IN_HUB], kind)
    if CUSTOMS_KINDS & bit:
        facts[CUSTOMS_STEP] = kind
        facts[CUSTOMS_LOCATION] = at
    if not NO_LOCATION & bit:
        facts[LOCATION] = at
    if what != NOT_SET:
        facts[CONTAINER] = what
        facts[PACKED_INTO], facts[CONTAINER_LOCATION] = container_after(
            facts[PACKED_INTO], facts[CONTAINER_LOCATION], kind, at, what, elsewhere
        )
    if UNCONTAINED & bit or (elsewhere and what == NOT_SET):
        facts[CONTAINER] = NOT_SET
        facts[PACKED_INTO] = NOT_SET
        facts[CONTAINER_LOCATION] = NOT_SET
    if LANE_KINDS & bit and names_lane:
        facts[LANE_LOCATION] = at


@jit_inline
def apply_advice(facts: Facts, times: Times, kind: int, time: int, plan: int, promised: int) -> None:
    """One advice that counts: the latest one's plan and promise hold."""
    _count(times, kind, time)
    _move(facts, kind, time)
    facts[PLAN] = plan
    facts[PROMISED] = promised


@jit_inline
def is_held_by_customs(facts: Facts) -> bool:
    """True between a customs hold and the release or refusal that answers it."""
    return bool(facts[CUSTOMS_STEP] == CUSTOMS_HELD)


@jit_inline
def _move(facts: Facts, kind: int, time: int) -> None:
    # An advice that is corrected after the parcel came does not move it back.
    if kind != ADVISED or facts[STAGE] <= ADVISED:
        facts[STAGE] = kind
        facts[STAGE_TIME] = time


@jit_inline
def _count(times: Times, kind: int, time: int) -> None:
    if times[COUNT, kind] == 0:
        times[FIRST, kind] = time
    times[LAST, kind] = time
    times[COUNT, kind] += 1
