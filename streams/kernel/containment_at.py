"""What a parcel is in at one point of its records, and whether a record that is inferred from a container counts there.

The rules are told in `streams/domain/containment.py`. What is set aside has the flag VOIDED, as what a VOID declares
wrong: it counts for nothing. Which of the two it is follows from the records, so nothing else has to be kept.
"""

from typing import Final

import numpy as np

from streams.domain.containment import EMPTIED
from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import LOOSE, OFFICE, PACKED, UNPACKED, VOID
from streams.domain.parcel import NOTHING, boxed, may_be_apart
from streams.domain.record_hash import get_big_endian
from streams.kernel.interned_records import REASON, other_site, same_text, text_in
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of
from streams.kernel.parcel_table import CHUNK, NO_WORD, NONE, Arrays

# Kinds that tell what a parcel is in.
_TELLS: Final = LOOSE | 1 << PACKED
_EMPTIED: Final = np.frombuffer(EMPTIED.encode(), np.uint8)


@inlined
def is_from_container(stamp: int, what: int) -> bool:
    """Does a record with this stamp and container count only while the parcel is in there?"""
    return stamp & INFERRED != 0 and what != NO_WORD and kind_of(stamp) != PACKED and kind_of(stamp) != VOID


@inlined
def gets_known(kind: int, what: int) -> bool:
    """Is it known, after a scan that counts, what the parcel is in, be it nothing?"""
    return (LOOSE >> kind) & 1 != 0 or (kind == PACKED and what != NO_WORD)


@inlined
def is_by_own(by_own: bool, kind: int, what: int, stamp: int) -> bool:
    """Is the parcel, after a scan that counts, in what it is in by a packing of its own? `by_own`: before it."""
    return stamp & INFERRED == 0 if kind == PACKED and what != NO_WORD else by_own


@inlined
def inside_after(a: Arrays, inside: int, inside_at: int, kind: int, at: int, what: int, stamp: int) -> tuple[int, int]:
    """What the parcel is in after a scan that counts, and where that is; `inside`, `inside_at`: before it."""
    elsewhere = False
    if may_be_apart(inside, inside_at, kind, what, stamp & INFERRED != 0):
        elsewhere = other_site(a, at, inside_at)
    return boxed(inside, inside_at, kind, at, what, elsewhere)


@compiled
def has_inferred(a: Arrays, row: int, begin: int) -> bool:
    """Is any record from the one in slot `begin` on inferred? NONE: any at all."""
    begun = begin == NONE
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            begun |= slot == begin
            if begun and a.slots[slot]["stamp"] & INFERRED:
                return True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return False


@compiled
def is_void(a: Arrays, row: int, slot: int) -> bool:
    """Does a VOID of the parcel declare the record in `slot` wrong?"""
    if a.rows[row]["voids"] == 0:
        return False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for other in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if kind_of(a.slots[other]["stamp"]) == VOID:
                at = int64(a.words[a.slots[other]["what"]]["at"])
                if (
                    get_big_endian(a.heap, at) == a.slots[slot]["high"]
                    and get_big_endian(a.heap, at + 8) == a.slots[slot]["low"]
                ):
                    return True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return False


@compiled
def is_emptying(a: Arrays, at: int) -> bool:
    """Is the reason in a Where word that of the emptying of a container?"""
    reason, size = text_in(a, at, REASON)
    return same_text(_EMPTIED, 0, len(_EMPTIED), a.heap, reason, size)


@compiled
def holds_by_own(a: Arrays, row: int, until: int, container: int, kind: int, at: int) -> bool:
    """Would a record of `kind` count before the record in slot `until` of a parcel that packed itself into `container`?

    `at`: the record's Where. Of what a container says only a removal that names the parcel surely reaches it, whatever
    was known when; so anything else counts only where the container said last that the parcel was put in.
    """
    if kind == UNPACKED and not is_emptying(a, at):
        return True
    declared = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if slot == until:
                return declared
            stamp = int64(a.slots[slot]["stamp"])
            said = kind_of(stamp)
            if stamp & INFERRED == 0 or a.slots[slot]["what"] != container or said not in (PACKED, UNPACKED):
                continue
            # What is set aside was said all the same.
            if not (stamp & VOIDED and is_void(a, row, slot)):
                declared = said == PACKED
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return declared


@compiled
def _counts_by_all(a: Arrays, row: int, until: int, container: int, told: int, told_at: int) -> bool:
    inside = int64(NOTHING)
    inside_at = int64(NOTHING)
    known = False
    by_own = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if slot == until:
                left = int64(0)
                break
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if kind == VOID or stamp & ADVICE:
                continue
            what = int64(a.slots[slot]["what"])
            if stamp & VOIDED:
                known |= kind == PACKED and what != NO_WORD
                continue
            known |= gets_known(kind, what)
            by_own = is_by_own(by_own, kind, what, stamp)
            inside, inside_at = inside_after(a, inside, inside_at, kind, int64(a.slots[slot]["at"]), what, stamp)
        left -= CHUNK
        chunk = int64(a.following[chunk])
    if not known or inside != container or not by_own:
        return not known or inside == container
    return holds_by_own(a, row, until, container, told, told_at)


@compiled
def counts_at(a: Arrays, row: int, until: int, container: int, kind: int, at: int) -> bool:
    """Would a record inferred from `container` count before the record in slot `until`, or at the end (NONE)?"""
    # What tells last of containers decides alone, as nearly always, unless something else may contradict it.
    telling = int64(NONE)
    unsure = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if slot == until:
                left = int64(0)
                break
            stamp = int64(a.slots[slot]["stamp"])
            if (_TELLS >> kind_of(stamp)) & 1:
                telling = slot
                unsure = stamp & VOIDED != 0
            elif stamp & (INFERRED | VOIDED | ADVICE) == 0 and not (OFFICE >> kind_of(stamp)) & 1:
                unsure = True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    if telling == NONE:
        return True
    packed = kind_of(a.slots[telling]["stamp"]) == PACKED
    if not unsure and not packed:
        return False
    if not unsure and a.slots[telling]["what"] == container and a.slots[telling]["stamp"] & INFERRED:
        return True
    return _counts_by_all(a, row, until, container, kind, at)
