"""The container of a parcel at one point of its records, and whether an inferred record counts there.

The rules are in `streams/domain/containment.py`. A superseded record has the flag VOIDED, like the target of a VOID: it
does not count. Which of the two it is follows from the other records, so no second flag is needed.
"""

from typing import Final

import numpy as np

from streams.domain.containment import EMPTIED
from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import NO_LOCATION, PACKED, UNCONTAINED, UNPACKED, VOID
from streams.domain.parcel import NOT_SET, container_after, contradicts_containment
from streams.domain.promise_clocks import NO_SLOT
from streams.domain.record_hash import get_big_endian
from streams.kernel.interned_records import LOCATION_REASON, location_text, same_text, sites_differ
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of
from streams.kernel.parcel_table import NO_INTERN_ID, TableArrays, next_slot

# Kinds that determine the container of a parcel.
_DETERMINING_KINDS: Final = UNCONTAINED | 1 << PACKED
_EMPTIED: Final = np.frombuffer(EMPTIED.encode(), np.uint8)


@jit_inline
def depends_on_container(packed_key: int, container: int) -> bool:
    """Does a record with this packed key and container count only while the parcel is in that container?"""
    return (
        packed_key & INFERRED != 0
        and container != NO_INTERN_ID
        and kind_of(packed_key) != PACKED
        and kind_of(packed_key) != VOID
    )


@jit_inline
def determines_container(kind: int, container: int) -> bool:
    """Is the parcel's container, or that it has none, known after a scan that counts?"""
    return (UNCONTAINED >> kind) & 1 != 0 or (kind == PACKED and container != NO_INTERN_ID)


@jit_inline
def is_packed_by_own_scan(packed_by_own_scan: bool, kind: int, container: int, packed_key: int) -> bool:
    """Was the parcel, after a scan that counts, packed by a scan of its own?

    `packed_by_own_scan`: the same before the scan.
    """
    return packed_key & INFERRED == 0 if kind == PACKED and container != NO_INTERN_ID else packed_by_own_scan


@jit_inline
def container_after_scan(
    a: TableArrays,
    current_container: int,
    container_location: int,
    kind: int,
    location: int,
    container: int,
    packed_key: int,
) -> tuple[int, int]:
    """Container of the parcel and location of the container after a scan that counts.

    `current_container`, `container_location`: the same before the scan.
    """
    elsewhere = False
    if contradicts_containment(current_container, container_location, kind, container, packed_key & INFERRED != 0):
        elsewhere = sites_differ(a, location, container_location)
    return container_after(current_container, container_location, kind, location, container, elsewhere)


@jit
def has_inferred(a: TableArrays, row: int, first_slot: int) -> bool:
    """Is any record from the one in `first_slot` on inferred? With NO_SLOT: is any record of the parcel inferred?"""
    reached = first_slot == NO_SLOT
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        reached |= slot == first_slot
        if reached and a.slots[slot]["packed_key"] & INFERRED:
            return True
    return False


@jit_inline
def voids_record(a: TableArrays, void_slot: int, high: np.uint64, low: np.uint64) -> bool:
    """Is the record with this hash the target of the VOID in `void_slot`?"""
    target_offset = int64(a.interned[a.slots[void_slot]["detail"]]["heap_offset"])
    return bool(get_big_endian(a.heap, target_offset) == high and get_big_endian(a.heap, target_offset + 8) == low)


@jit
def has_error_declaration(a: TableArrays, row: int, slot: int) -> bool:
    """Is the record in `slot` the target of a VOID of the parcel?"""
    if a.rows[row]["voids"] == 0:
        return False
    void_slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        void_slot = next_slot(a, row, i, void_slot)
        if kind_of(a.slots[void_slot]["packed_key"]) == VOID and voids_record(
            a, void_slot, a.slots[slot]["high"], a.slots[slot]["low"]
        ):
            return True
    return False


@jit
def is_container_emptying(a: TableArrays, location: int) -> bool:
    """Is the reason in a location (an intern id) that of the emptying of a container?"""
    reason, size = location_text(a, location, LOCATION_REASON)
    return same_text(_EMPTIED, 0, len(_EMPTIED), a.heap, reason, size)


@jit
def counts_after_own_packing(a: TableArrays, row: int, end_slot: int, container: int, kind: int, location: int) -> bool:
    """Would a record inferred from `container` count before `end_slot`, where an own scan packed the parcel into it?

    The container may not know of that packing. Of its events, only a removal that names the parcel is certain to reach
    the parcel, in any order of arrival. Any other inferred record counts only if the last packing or removal that the
    container declared for the parcel is a packing.

    Args:
        kind, location: of the inferred record.
    """
    if kind == UNPACKED and not is_container_emptying(a, location):
        return True
    declared = False
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        if slot == end_slot:
            return declared
        packed_key = int64(a.slots[slot]["packed_key"])
        record_kind = kind_of(packed_key)
        if packed_key & INFERRED == 0 or a.slots[slot]["detail"] != container or record_kind not in (PACKED, UNPACKED):
            continue
        # A superseded record was declared all the same.
        if not (packed_key & VOIDED and has_error_declaration(a, row, slot)):
            declared = record_kind == PACKED
    return declared


@jit
def _counts_by_all_records(
    a: TableArrays, row: int, end_slot: int, container: int, record_kind: int, record_location: int
) -> bool:
    current_container = int64(NOT_SET)
    container_location = int64(NOT_SET)
    container_known = False
    packed_by_own_scan = False
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        if slot == end_slot:
            break
        packed_key = int64(a.slots[slot]["packed_key"])
        kind = kind_of(packed_key)
        if kind == VOID or packed_key & ADVICE:
            continue
        named_container = int64(a.slots[slot]["detail"])
        if packed_key & VOIDED:
            container_known |= kind == PACKED and named_container != NO_INTERN_ID
            continue
        container_known |= determines_container(kind, named_container)
        packed_by_own_scan = is_packed_by_own_scan(packed_by_own_scan, kind, named_container, packed_key)
        current_container, container_location = container_after_scan(
            a,
            current_container,
            container_location,
            kind,
            int64(a.slots[slot]["location_or_plan"]),
            named_container,
            packed_key,
        )
    if not container_known or current_container != container or not packed_by_own_scan:
        return not container_known or current_container == container
    return counts_after_own_packing(a, row, end_slot, container, record_kind, record_location)


@jit
def counts_in_container(a: TableArrays, row: int, end_slot: int, container: int, kind: int, location: int) -> bool:
    """Would a record inferred from `container` count before the record in `end_slot`, or at the end (NO_SLOT)?"""
    # Nearly always the last record that determines a container decides alone, unless another may contradict it.
    deciding_slot = int64(NO_SLOT)
    uncertain = False
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        if slot == end_slot:
            break
        packed_key = int64(a.slots[slot]["packed_key"])
        if (_DETERMINING_KINDS >> kind_of(packed_key)) & 1:
            deciding_slot = slot
            uncertain = packed_key & VOIDED != 0
        elif packed_key & (INFERRED | VOIDED | ADVICE) == 0 and not (NO_LOCATION >> kind_of(packed_key)) & 1:
            uncertain = True
    if deciding_slot == NO_SLOT:
        return True
    packed = kind_of(a.slots[deciding_slot]["packed_key"]) == PACKED
    if not uncertain and not packed:
        return False
    if (
        not uncertain
        and a.slots[deciding_slot]["detail"] == container
        and a.slots[deciding_slot]["packed_key"] & INFERRED
    ):
        return True
    return _counts_by_all_records(a, row, end_slot, container, kind, location)
