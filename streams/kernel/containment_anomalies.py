"""Anomalies of containment: a parcel seen outside its container, missing when it was emptied, or in it unannounced.

The rules of containment are in `streams/domain/containment.py`.
"""

from typing import Final

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import DELIVERED, DISPATCHED, NO_LOCATION, PACKED, RETURNED, UNCONTAINED, UNPACKED, VOID
from streams.domain.parcel import NOT_SET, container_after, contradicts_containment
from streams.domain.promise_clocks import (
    DEADLINE,
    DISABLED,
    JOURNEY_SLOT,
    NEXT_CHANGE,
    NO_SLOT,
    NO_TIME,
    SEEN_AFTER_EMPTYING_SLOT,
    Integers,
    JourneyFacts,
    PromiseRules,
    set_anomaly,
)
from streams.domain.promises import FOUND_EXTRA, FOUND_OUTSIDE, MISSING
from streams.kernel.containment_at import has_error_declaration, is_container_emptying
from streams.kernel.interned_records import sites_differ
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import NO_INTERN_ID, TableArrays, next_slot

# Kinds that take a parcel out of its container without an anomaly.
_CONTAINMENT_ENDS: Final = 1 << UNPACKED | 1 << DELIVERED | 1 << RETURNED


@jit
def find_containment_anomalies(
    a: TableArrays, rules: PromiseRules, row: int, now: int, journey: JourneyFacts, findings: Integers
) -> None:
    """Set the three anomalies of containment in `findings`, which are clear so far."""
    first_anomaly = len(rules.limit)
    current_container, container_location = int64(NOT_SET), int64(NOT_SET)
    packing_slot = int64(NO_SLOT)
    outside_slot, outside_packing_slot = int64(NO_SLOT), int64(NO_SLOT)
    emptying_slot, emptied_packing_slot, seen_slot = int64(NO_SLOT), int64(NO_SLOT), int64(NO_SLOT)
    extra_slot = int64(NO_SLOT)
    dispatched = False
    # Anomalies are found in the last journey only.
    in_last_journey = journey.facts[JOURNEY_SLOT] == NO_SLOT
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        in_last_journey |= slot == journey.facts[JOURNEY_SLOT]
        packed_key = int64(a.slots[slot]["packed_key"])
        kind = kind_of(packed_key)
        if kind == VOID or packed_key & ADVICE:
            continue
        container = int64(a.slots[slot]["detail"])
        location = int64(a.slots[slot]["location_or_plan"])
        inferred = packed_key & INFERRED != 0
        by_emptying = kind == UNPACKED and is_container_emptying(a, location)
        unannounced = inferred or (current_container != NOT_SET and not packed_key & VOIDED)
        if kind == UNPACKED and not by_emptying and container not in (NO_INTERN_ID, current_container) and unannounced:
            never_packed = extra_slot == NO_SLOT and in_last_journey and not _was_packed_into(a, row, slot, container)
            if never_packed and not (packed_key & VOIDED and has_error_declaration(a, row, slot)):
                extra_slot = slot
        if packed_key & VOIDED:
            continue
        elsewhere = contradicts_containment(
            current_container, container_location, kind, container, inferred
        ) and sites_differ(a, location, container_location)
        if (
            in_last_journey
            and emptying_slot != NO_SLOT
            and seen_slot == NO_SLOT
            and _is_sighting(kind, container, inferred)
        ):
            seen_slot = slot
        if current_container != NOT_SET:
            uncontained = (UNCONTAINED >> kind) & 1 != 0
            moved = kind == PACKED and container not in (NO_INTERN_ID, current_container)
            if by_emptying and inferred:
                if in_last_journey:
                    emptying_slot, emptied_packing_slot, seen_slot = slot, packing_slot, int64(NO_SLOT)
            elif (uncontained or moved or elsewhere) and not (_CONTAINMENT_ENDS >> kind) & 1 and not dispatched:
                if in_last_journey and outside_slot == NO_SLOT:
                    outside_slot, outside_packing_slot = slot, packing_slot
        if kind == PACKED and container != NO_INTERN_ID:
            packing_slot = slot
            dispatched = False
        elif container != NO_INTERN_ID and container == current_container:
            dispatched |= kind == DISPATCHED
        current_container, container_location = container_after(
            current_container, container_location, kind, location, container, elsewhere
        )
    journey.facts[SEEN_AFTER_EMPTYING_SLOT] = seen_slot
    if outside_slot != NO_SLOT and rules.anomalies[FOUND_OUTSIDE] != DISABLED:
        set_anomaly(
            findings,
            first_anomaly + FOUND_OUTSIDE,
            time_of(a.slots[outside_slot]["packed_key"]),
            NO_TIME,
            outside_packing_slot,
            outside_slot,
        )
    if extra_slot != NO_SLOT and rules.anomalies[FOUND_EXTRA] != DISABLED:
        set_anomaly(
            findings,
            first_anomaly + FOUND_EXTRA,
            time_of(a.slots[extra_slot]["packed_key"]),
            NO_TIME,
            extra_slot,
            int64(NO_SLOT),
        )
    grace = rules.anomalies[MISSING]
    if emptying_slot != NO_SLOT and seen_slot == NO_SLOT and grace != DISABLED:
        since = time_of(a.slots[emptying_slot]["packed_key"])
        if now > since + grace:
            set_anomaly(findings, first_anomaly + MISSING, since, grace, emptied_packing_slot, emptying_slot)
            findings[first_anomaly + MISSING, DEADLINE] = since + grace
        else:
            findings[first_anomaly + MISSING, NEXT_CHANGE] = since + grace


@jit_inline
def _is_sighting(kind: int, container: int, inferred: bool) -> bool:
    """Does a scan of this kind prove that the parcel itself was seen?"""
    if kind == PACKED and container != NO_INTERN_ID:
        return True
    return not inferred and (NO_LOCATION >> kind) & 1 == 0


@jit
def _was_packed_into(a: TableArrays, row: int, end_slot: int, container: int) -> bool:
    """Does a packing that counts, before the record in `end_slot`, say that the parcel was put into `container`?"""
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        if slot == end_slot:
            return False
        packed_key = int64(a.slots[slot]["packed_key"])
        if (
            kind_of(packed_key) == PACKED
            and packed_key & (VOIDED | ADVICE) == 0
            and a.slots[slot]["detail"] == container
        ):
            return True
    return False
