"""A parcel that is not where its container is: seen outside of it, missing when it was emptied, or in it unannounced.

What the records say of containers is told in `streams/domain/containment.py`.
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
from streams.kernel.parcel_table import NO_INTERN_ID, SLOTS_PER_CHUNK, TableArrays

# Ends what a parcel was in without anybody having to wonder.
_ENDS: Final = 1 << UNPACKED | 1 << DELIVERED | 1 << RETURNED


@jit
def find_containment_anomalies(
    a: TableArrays, rules: PromiseRules, row: int, now: int, story: JourneyFacts, found: Integers
) -> None:
    """Fill the three anomalies of `found`, which say nothing so far."""
    first = len(rules.limit)
    inside, inside_at = int64(NOT_SET), int64(NOT_SET)
    packing = int64(NO_SLOT)
    outside, outside_of = int64(NO_SLOT), int64(NO_SLOT)
    emptied, emptied_of, seen = int64(NO_SLOT), int64(NO_SLOT), int64(NO_SLOT)
    extra = int64(NO_SLOT)
    dispatched = False
    # Only the last journey is told of.
    here = story.facts[JOURNEY_SLOT] == NO_SLOT
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            here |= slot == story.facts[JOURNEY_SLOT]
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if kind == VOID or stamp & ADVICE:
                continue
            what = int64(a.slots[slot]["what"])
            at = int64(a.slots[slot]["at"])
            inferred = stamp & INFERRED != 0
            by_emptying = kind == UNPACKED and is_container_emptying(a, at)
            unannounced = inferred or (inside != NOT_SET and not stamp & VOIDED)
            if kind == UNPACKED and not by_emptying and what not in (NO_INTERN_ID, inside) and unannounced:
                never = extra == NO_SLOT and here and not _was_packed_into(a, row, slot, what)
                if never and not (stamp & VOIDED and has_error_declaration(a, row, slot)):
                    extra = slot
            if stamp & VOIDED:
                continue
            elsewhere = contradicts_containment(inside, inside_at, kind, what, inferred) and sites_differ(
                a, at, inside_at
            )
            if here and emptied != NO_SLOT and seen == NO_SLOT and _is_sight(kind, what, inferred):
                seen = slot
            if inside != NOT_SET:
                loose = (UNCONTAINED >> kind) & 1 != 0
                moved = kind == PACKED and what not in (NO_INTERN_ID, inside)
                if by_emptying and inferred:
                    if here:
                        emptied, emptied_of, seen = slot, packing, int64(NO_SLOT)
                elif (loose or moved or elsewhere) and not (_ENDS >> kind) & 1 and not dispatched:
                    if here and outside == NO_SLOT:
                        outside, outside_of = slot, packing
            if kind == PACKED and what != NO_INTERN_ID:
                packing = slot
                dispatched = False
            elif what != NO_INTERN_ID and what == inside:
                dispatched |= kind == DISPATCHED
            inside, inside_at = container_after(inside, inside_at, kind, at, what, elsewhere)
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    story.facts[SEEN_AFTER_EMPTYING_SLOT] = seen
    if outside != NO_SLOT and rules.anomalies[FOUND_OUTSIDE] != DISABLED:
        set_anomaly(found, first + FOUND_OUTSIDE, time_of(a.slots[outside]["stamp"]), NO_TIME, outside_of, outside)
    if extra != NO_SLOT and rules.anomalies[FOUND_EXTRA] != DISABLED:
        set_anomaly(found, first + FOUND_EXTRA, time_of(a.slots[extra]["stamp"]), NO_TIME, extra, int64(NO_SLOT))
    grace = rules.anomalies[MISSING]
    if emptied != NO_SLOT and seen == NO_SLOT and grace != DISABLED:
        since = time_of(a.slots[emptied]["stamp"])
        if now > since + grace:
            set_anomaly(found, first + MISSING, since, grace, emptied_of, emptied)
            found[first + MISSING, DEADLINE] = since + grace
        else:
            found[first + MISSING, NEXT_CHANGE] = since + grace


@jit_inline
def _is_sight(kind: int, what: int, inferred: bool) -> bool:
    """Has somebody had the parcel in front of him?"""
    if kind == PACKED and what != NO_INTERN_ID:
        return True
    return not inferred and (NO_LOCATION >> kind) & 1 == 0


@jit
def _was_packed_into(a: TableArrays, row: int, until: int, container: int) -> bool:
    """Does a packing that counts, before the record in slot `until`, say that the parcel was put into it?"""
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if slot == until:
                return False
            stamp = int64(a.slots[slot]["stamp"])
            if kind_of(stamp) == PACKED and stamp & (VOIDED | ADVICE) == 0 and a.slots[slot]["what"] == container:
                return True
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return False
