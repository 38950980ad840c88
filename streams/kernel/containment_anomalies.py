"""A parcel that is not where its container is: seen outside of it, missing when it was emptied, or in it unannounced.

What the records say of containers is told in `streams/domain/containment.py`.
"""

from typing import Final

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import DELIVERED, DISPATCHED, LOOSE, OFFICE, PACKED, RETURNED, UNPACKED, VOID
from streams.domain.parcel import NOTHING, boxed, may_be_apart
from streams.domain.promise_clocks import (
    DEADLINE,
    JOURNEY_SLOT,
    NEVER,
    NEXT,
    NOBODY,
    OFF,
    SEEN_SLOT,
    Integers,
    Rules,
    Story,
    odd,
)
from streams.domain.promises import FOUND_EXTRA, FOUND_OUTSIDE, MISSING
from streams.kernel.containment_at import is_emptying, is_void
from streams.kernel.interned_records import other_site
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import CHUNK, NO_WORD, Arrays

# Ends what a parcel was in without anybody having to wonder.
_ENDS: Final = 1 << UNPACKED | 1 << DELIVERED | 1 << RETURNED


@compiled
def find_astray(a: Arrays, rules: Rules, row: int, now: int, story: Story, found: Integers) -> None:
    """Fill the three anomalies of `found`, which say nothing so far."""
    first = len(rules.limit)
    inside, inside_at = int64(NOTHING), int64(NOTHING)
    packing = int64(NOBODY)
    outside, outside_of = int64(NOBODY), int64(NOBODY)
    emptied, emptied_of, seen = int64(NOBODY), int64(NOBODY), int64(NOBODY)
    extra = int64(NOBODY)
    dispatched = False
    # Only the last journey is told of.
    here = story.facts[JOURNEY_SLOT] == NOBODY
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            here |= slot == story.facts[JOURNEY_SLOT]
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if kind == VOID or stamp & ADVICE:
                continue
            what = int64(a.slots[slot]["what"])
            at = int64(a.slots[slot]["at"])
            inferred = stamp & INFERRED != 0
            by_emptying = kind == UNPACKED and is_emptying(a, at)
            unannounced = inferred or (inside != NOTHING and not stamp & VOIDED)
            if kind == UNPACKED and not by_emptying and what not in (NO_WORD, inside) and unannounced:
                never = extra == NOBODY and here and not _was_packed_into(a, row, slot, what)
                if never and not (stamp & VOIDED and is_void(a, row, slot)):
                    extra = slot
            if stamp & VOIDED:
                continue
            elsewhere = may_be_apart(inside, inside_at, kind, what, inferred) and other_site(a, at, inside_at)
            if here and emptied != NOBODY and seen == NOBODY and _is_sight(kind, what, inferred):
                seen = slot
            if inside != NOTHING:
                loose = (LOOSE >> kind) & 1 != 0
                moved = kind == PACKED and what not in (NO_WORD, inside)
                if by_emptying and inferred:
                    if here:
                        emptied, emptied_of, seen = slot, packing, int64(NOBODY)
                elif (loose or moved or elsewhere) and not (_ENDS >> kind) & 1 and not dispatched:
                    if here and outside == NOBODY:
                        outside, outside_of = slot, packing
            if kind == PACKED and what != NO_WORD:
                packing = slot
                dispatched = False
            elif what != NO_WORD and what == inside:
                dispatched |= kind == DISPATCHED
            inside, inside_at = boxed(inside, inside_at, kind, at, what, elsewhere)
        left -= CHUNK
        chunk = int64(a.following[chunk])
    story.facts[SEEN_SLOT] = seen
    if outside != NOBODY and rules.anomalies[FOUND_OUTSIDE] != OFF:
        odd(found, first + FOUND_OUTSIDE, time_of(a.slots[outside]["stamp"]), NEVER, outside_of, outside)
    if extra != NOBODY and rules.anomalies[FOUND_EXTRA] != OFF:
        odd(found, first + FOUND_EXTRA, time_of(a.slots[extra]["stamp"]), NEVER, extra, int64(NOBODY))
    grace = rules.anomalies[MISSING]
    if emptied != NOBODY and seen == NOBODY and grace != OFF:
        since = time_of(a.slots[emptied]["stamp"])
        if now > since + grace:
            odd(found, first + MISSING, since, grace, emptied_of, emptied)
            found[first + MISSING, DEADLINE] = since + grace
        else:
            found[first + MISSING, NEXT] = since + grace


@inlined
def _is_sight(kind: int, what: int, inferred: bool) -> bool:
    """Has somebody had the parcel in front of him?"""
    if kind == PACKED and what != NO_WORD:
        return True
    return not inferred and (OFFICE >> kind) & 1 == 0


@compiled
def _was_packed_into(a: Arrays, row: int, until: int, container: int) -> bool:
    """Does a packing that counts, before the record in slot `until`, say that the parcel was put into it?"""
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if slot == until:
                return False
            stamp = int64(a.slots[slot]["stamp"])
            if kind_of(stamp) == PACKED and stamp & (VOIDED | ADVICE) == 0 and a.slots[slot]["what"] == container:
                return True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return False
