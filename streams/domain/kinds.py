"""Kinds of scan and directions, by number: the position of a word in the Avro enums `Kind` and `Direction`.

The number of a kind is also its rank among scans of the same instant, so the order here follows a parcel through
the hub. New kinds go to the end; their number must stay below 32 (five bits of the table's packed slot).
"""

from typing import Final

KINDS: Final = (
    "OTHER",
    "ADVISED",
    "ARRIVED",
    "UNLOADED",
    "UNPACKED",
    "INDUCTED",
    "SORTED",
    "NO_READ",
    "RECIRCULATED",
    "CUSTOMS_PRESENTED",
    "CUSTOMS_HELD",
    "CUSTOMS_RELEASED",
    "CUSTOMS_REFUSED",
    "PACKED",
    "LOADED",
    "DISPATCHED",
    "DELIVERED",
    "RETURNED",
    "DAMAGED",
    "LOST",
    "VOID",
)
(
    OTHER,
    ADVISED,
    ARRIVED,
    UNLOADED,
    UNPACKED,
    INDUCTED,
    SORTED,
    NO_READ,
    RECIRCULATED,
    CUSTOMS_PRESENTED,
    CUSTOMS_HELD,
    CUSTOMS_RELEASED,
    CUSTOMS_REFUSED,
    PACKED,
    LOADED,
    DISPATCHED,
    DELIVERED,
    RETURNED,
    DAMAGED,
    LOST,
    VOID,
) = range(len(KINDS))

DIRECTIONS: Final = ("UNKNOWN", "IMPORT", "EXPORT", "TRANSIT")
UNKNOWN, IMPORT, EXPORT, TRANSIT = range(len(DIRECTIONS))

MILESTONE_TYPES: Final = ("OTHER", "REACHED", "CORRECTED", "RETRACTED")
MILESTONE_REACHED, MILESTONE_CORRECTED, MILESTONE_RETRACTED = 1, 2, 3


def _bits(*kinds: int) -> int:
    return sum(1 << kind for kind in kinds)


# Sets of kinds are integers with one bit a kind, which compiled code tests with a shift.
# Kinds that move the parcel on; the latest of them is its stage.
STAGE_KINDS: Final = _bits(
    ADVISED, ARRIVED, UNLOADED, UNPACKED, INDUCTED, SORTED, PACKED, LOADED, DISPATCHED, DELIVERED, RETURNED, LOST
)
# Customs run beside the movement: digital, possible before the parcel comes, and no word about where it lies.
CUSTOMS_KINDS: Final = _bits(CUSTOMS_PRESENTED, CUSTOMS_HELD, CUSTOMS_RELEASED, CUSTOMS_REFUSED)
# Kinds whose first time is a milestone.
MILESTONE_KINDS: Final = STAGE_KINDS | CUSTOMS_KINDS
# Kinds that say nothing of the place.
NO_LOCATION: Final = CUSTOMS_KINDS | _bits(OTHER, ADVISED, LOST, VOID)
# Done to a parcel on its own: whatever container it was in, it is not in it any more.
UNCONTAINED: Final = _bits(UNPACKED, INDUCTED, SORTED, NO_READ, RECIRCULATED, DELIVERED, RETURNED)
# Stages of parcels in the hub. PACKED and UNPACKED alone do not bring it there: bags are packed at the origin too.
IN_HUB_STAGES: Final = _bits(ARRIVED, UNLOADED, UNPACKED, INDUCTED, SORTED, PACKED, LOADED)
# Kinds that say by themselves that the parcel is in the hub, and kinds that say that it is not any more.
ENTERS_HUB: Final = _bits(ARRIVED, UNLOADED, INDUCTED, SORTED, NO_READ, RECIRCULATED, LOADED)
LEAVES_HUB: Final = _bits(DISPATCHED, DELIVERED, RETURNED, LOST)
# Kinds whose lane is the parcel's lane.
LANE_KINDS: Final = _bits(SORTED, LOADED)
