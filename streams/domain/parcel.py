"""The state of a parcel: the result of all its records, applied one by one.

Plain functions about one parcel, compiled where they run over millions of parcels. The state is a pure function of the
set of records. The caller applies them in the order of (event_time, kind, record hash), and leaves out voided and
superseded records. The rules of containers are explained in `streams/domain/containment.py`.
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

# The facts of one parcel while its records are applied, by index in `facts`. Locations, plans, containers and promises
# are ids of interned records of the parcel table; 0 is none.
(
    STAGE,
    STAGE_TIME,
    CUSTOMS_STEP,
    CUSTOMS_LOCATION,
    LOCATION,
    CONTAINER,  # the last one that a record named
    PACKED_INTO,  # the container that it was packed into
    CONTAINER_LOCATION,  # the location of that container; NOT_SET where it is not known
    LANE_LOCATION,
    PLAN,
    PROMISED,
    IS_IN_HUB,  # 1: in the hub
    PARCEL_FACT_COUNT,
) = range(13)
NOT_SET: Final = 0

# Times of each kind, by row of `times`; a row has one number for each kind.
FIRST, LAST, COUNT, TIME_FIELD_COUNT = range(4)

Facts = NDArray[np.int64]
Times = NDArray[np.int64]


def new_parcel_facts() -> tuple[Facts, Times]:
    """Facts and times of a parcel without records."""
    return np.zeros(PARCEL_FACT_COUNT, np.int64), np.zeros((TIME_FIELD_COUNT, len(KINDS)), np.int64)


@jit_inline
def reset(facts: Facts, times: Times) -> None:
    """Clear the facts and times for the next parcel."""
    for fact in range(PARCEL_FACT_COUNT):
        facts[fact] = NOT_SET
    for kind in range(len(KINDS)):
        times[COUNT, kind] = 0


@jit_inline
def contradicts_containment(
    packed_into: int, container_location: int, kind: int, container: int, inferred: bool
) -> bool:
    """Does this scan show that the parcel is not in its container, provided that it is at another site than that?"""
    if container_location == NOT_SET or inferred or container == packed_into:
        return False
    return not (NO_LOCATION >> kind) & 1


@jit_inline
def container_after(
    packed_into: int, container_location: int, kind: int, location: int, container: int, elsewhere: bool
) -> tuple[int, int]:
    """The container that the parcel is in after a scan that counts, and the location of that container.

    Args:
        packed_into, container_location: the container and its location before the scan, or NOT_SET.
        kind: kind of the scan.
        location, container: location of the scan, and the container that it names or NOT_SET.
        elsewhere: the scan contradicts the containment (`contradicts_containment`), and is at another site.
    """
    if (UNCONTAINED >> kind) & 1:
        return NOT_SET, NOT_SET
    if container != NOT_SET and kind == PACKED:
        return container, location
    if elsewhere:
        return NOT_SET, NOT_SET
    if container != NOT_SET and container == packed_into and (NO_LOCATION >> kind) & 1 == 0:
        return packed_into, NOT_SET if kind == DISPATCHED else location
    return packed_into, container_location


@jit_inline
def is_in_hub(in_hub: int, kind: int) -> int:
    """1 if the parcel is in the hub after a scan of this kind that counts, else 0; `in_hub`: the same before it."""
    if (ENTERS_HUB >> kind) & 1:
        return 1
    return 0 if (LEAVES_HUB >> kind) & 1 else in_hub


@jit_inline
def apply_scan(
    facts: Facts, times: Times, kind: int, time: int, location: int, container: int, names_lane: bool, elsewhere: bool
) -> None:
    """Apply one scan that counts.

    Args:
        facts, times: of the parcel; changed.
        kind, time: of the scan.
        location, container: of the scan; the container is NOT_SET where it names none.
        names_lane: does `location` name a lane?
        elsewhere: as for `container_after`.
    """
    _count(times, kind, time)
    bit = 1 << kind
    if STAGE_KINDS & bit:
        _move(facts, kind, time)
    facts[IS_IN_HUB] = is_in_hub(facts[IS_IN_HUB], kind)
    if CUSTOMS_KINDS & bit:
        facts[CUSTOMS_STEP] = kind
        facts[CUSTOMS_LOCATION] = location
    if not NO_LOCATION & bit:
        facts[LOCATION] = location
    if container != NOT_SET:
        facts[CONTAINER] = container
        facts[PACKED_INTO], facts[CONTAINER_LOCATION] = container_after(
            facts[PACKED_INTO], facts[CONTAINER_LOCATION], kind, location, container, elsewhere
        )
    if UNCONTAINED & bit or (elsewhere and container == NOT_SET):
        facts[CONTAINER] = NOT_SET
        facts[PACKED_INTO] = NOT_SET
        facts[CONTAINER_LOCATION] = NOT_SET
    if LANE_KINDS & bit and names_lane:
        facts[LANE_LOCATION] = location


@jit_inline
def apply_advice(facts: Facts, times: Times, kind: int, time: int, plan: int, promised: int) -> None:
    """Apply one advice that counts: the plan and the promise of the latest advice hold."""
    _count(times, kind, time)
    _move(facts, kind, time)
    facts[PLAN] = plan
    facts[PROMISED] = promised


@jit_inline
def is_held_by_customs(facts: Facts) -> bool:
    """Is the parcel between a customs hold and the release or refusal that answers it?"""
    return bool(facts[CUSTOMS_STEP] == CUSTOMS_HELD)


@jit_inline
def _move(facts: Facts, kind: int, time: int) -> None:
    # An advice that is corrected after the parcel arrived does not move it back.
    if kind != ADVISED or facts[STAGE] <= ADVISED:
        facts[STAGE] = kind
        facts[STAGE_TIME] = time


@jit_inline
def _count(times: Times, kind: int, time: int) -> None:
    if times[COUNT, kind] == 0:
        times[FIRST, kind] = time
    times[LAST, kind] = time
    times[COUNT, kind] += 1
