"""Kinds of scan and directions, by number: the position of a symbol in the Avro enums `Kind` and `Direction`.

The number of a kind is also its rank among scans of the same instant, so the order here follows a parcel through
the hub. New kinds go to the end. The number of a kind must stay below 32: a packed slot of the table has five bits.
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

KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}

DIRECTIONS: Final = ("UNKNOWN", "IMPORT", "EXPORT", "TRANSIT")
UNKNOWN, IMPORT, EXPORT, TRANSIT = range(len(DIRECTIONS))

MILESTONE_TYPES: Final = ("OTHER", "REACHED", "CORRECTED", "RETRACTED")
MILESTONE_REACHED, MILESTONE_CORRECTED, MILESTONE_RETRACTED = 1, 2, 3


def _bits(*kinds: int) -> int:
    return sum(1 << kind for kind in kinds)


def kind_names(bits: int) -> frozenset[str]:
    """The kinds of a set that is given as one bit a kind."""
    return frozenset(kind for kind, number in KIND_NUMBERS.items() if bits >> number & 1)


# Sets of kinds are integers with one bit a kind, which compiled code tests with a shift.
# Kinds that move the parcel on; the latest of them is its stage.
STAGE_KINDS: Final = _bits(
    ADVISED, ARRIVED, UNLOADED, UNPACKED, INDUCTED, SORTED, PACKED, LOADED, DISPATCHED, DELIVERED, RETURNED, LOST
)
# Customs run beside the movement: digital, possible before the parcel arrives, and without a location.
CUSTOMS_KINDS: Final = _bits(CUSTOMS_PRESENTED, CUSTOMS_HELD, CUSTOMS_RELEASED, CUSTOMS_REFUSED)
# Kinds whose first time is a milestone.
MILESTONE_KINDS: Final = STAGE_KINDS | CUSTOMS_KINDS
# Kinds whose site does not locate the parcel.
NO_LOCATION: Final = CUSTOMS_KINDS | _bits(OTHER, ADVISED, LOST, VOID)
# Done to a parcel on its own: it is in no container afterwards.
UNCONTAINED: Final = _bits(UNPACKED, INDUCTED, SORTED, NO_READ, RECIRCULATED, DELIVERED, RETURNED)
# Stages of parcels in the hub. PACKED and UNPACKED alone do not bring it there: the origin packs bags as well.
IN_HUB_STAGES: Final = _bits(ARRIVED, UNLOADED, UNPACKED, INDUCTED, SORTED, PACKED, LOADED)
# Kinds that show by themselves that the parcel is in the hub, and kinds that show that it is not in it any more.
ENTERS_HUB: Final = _bits(ARRIVED, UNLOADED, INDUCTED, SORTED, NO_READ, RECIRCULATED, LOADED)
LEAVES_HUB: Final = _bits(DISPATCHED, DELIVERED, RETURNED, LOST)
# Kinds whose lane is the lane of the parcel.
LANE_KINDS: Final = _bits(SORTED, LOADED)
