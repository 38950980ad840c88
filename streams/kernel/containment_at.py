"""What a parcel is in at one point of its records, and whether a record that is inferred from a container counts there.

The rules are told in `streams/domain/containment.py`. What is set aside has the flag VOIDED, as what a VOID declares
wrong: it counts for nothing. Which of the two it is follows from the records, so nothing else has to be kept.
"""

from typing import Final

import numpy as np

from streams.domain.containment import EMPTIED
from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import NO_LOCATION, PACKED, UNCONTAINED, UNPACKED, VOID
from streams.domain.parcel import NOT_SET, container_after, contradicts_containment
from streams.domain.record_hash import get_big_endian
from streams.kernel.interned_records import LOCATION_REASON, location_text, same_text, sites_differ
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of
from streams.kernel.parcel_table import NO_INTERN_ID, NONE, SLOTS_PER_CHUNK, TableArrays

# Kinds that tell what a parcel is in.
_TELLS: Final = UNCONTAINED | 1 << PACKED
_EMPTIED: Final = np.frombuffer(EMPTIED.encode(), np.uint8)


@jit_inline
def depends_on_container(stamp: int, what: int) -> bool:
    """Does a record with this stamp and container count only while the parcel is in there?"""
    return stamp & INFERRED != 0 and what != NO_INTERN_ID and kind_of(stamp) != PACKED and kind_of(stamp) != VOID


@jit_inline
def determines_container(kind: int, what: int) -> bool:
    """Is it known, after a scan that counts, what the parcel is in, be it nothing?"""
    return (UNCONTAINED >> kind) & 1 != 0 or (kind == PACKED and what != NO_INTERN_ID)


@jit_inline
def is_packed_by_own_scan(by_own: bool, kind: int, what: int, stamp: int) -> bool:
    """Is the parcel, after a scan that counts, in what it is in by a packing of its own? `by_own`: before it."""
    return stamp & INFERRED == 0 if kind == PACKED and what != NO_INTERN_ID else by_own


@jit_inline
def container_after_scan(
    a: TableArrays, inside: int, inside_at: int, kind: int, at: int, what: int, stamp: int
) -> tuple[int, int]:
    """What the parcel is in after a scan that counts, and where that is; `inside`, `inside_at`: before it."""
    elsewhere = False
    if contradicts_containment(inside, inside_at, kind, what, stamp & INFERRED != 0):
        elsewhere = sites_differ(a, at, inside_at)
    return container_after(inside, inside_at, kind, at, what, elsewhere)


@jit
def has_inferred(a: TableArrays, row: int, begin: int) -> bool:
    """Is any record from the one in slot `begin` on inferred? NONE: any at all."""
    begun = begin == NONE
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            begun |= slot == begin
            if begun and a.slots[slot]["stamp"] & INFERRED:
                return True
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return False


@jit
def has_error_declaration(a: TableArrays, row: int, slot: int) -> bool:
    """Does a VOID of the parcel declare the record in `slot` wrong?"""
    if a.rows[row]["voids"] == 0:
        return False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for other in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if kind_of(a.slots[other]["stamp"]) == VOID:
                at = int64(a.words[a.slots[other]["what"]]["at"])
                if (
                    get_big_endian(a.heap, at) == a.slots[slot]["high"]
                    and get_big_endian(a.heap, at + 8) == a.slots[slot]["low"]
                ):
                    return True
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return False


@jit
def is_container_emptying(a: TableArrays, at: int) -> bool:
    """Is the reason in a Where word that of the emptying of a container?"""
    reason, size = location_text(a, at, LOCATION_REASON)
    return same_text(_EMPTIED, 0, len(_EMPTIED), a.heap, reason, size)


@jit
def counts_after_own_packing(a: TableArrays, row: int, until: int, container: int, kind: int, at: int) -> bool:
    """Would a record of `kind` count before the record in slot `until` of a parcel that packed itself into `container`?

    `at`: the record's Where. Of what a container says only a removal that names the parcel surely reaches it, whatever
    was known when; so anything else counts only where the container said last that the parcel was put in.
    """
    if kind == UNPACKED and not is_container_emptying(a, at):
        return True
    declared = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if slot == until:
                return declared
            stamp = int64(a.slots[slot]["stamp"])
            said = kind_of(stamp)
            if stamp & INFERRED == 0 or a.slots[slot]["what"] != container or said not in (PACKED, UNPACKED):
                continue
            # What is set aside was said all the same.
            if not (stamp & VOIDED and has_error_declaration(a, row, slot)):
                declared = said == PACKED
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return declared


@jit
def _counts_by_all(a: TableArrays, row: int, until: int, container: int, told: int, told_at: int) -> bool:
    inside = int64(NOT_SET)
    inside_at = int64(NOT_SET)
    known = False
    by_own = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if slot == until:
                left = int64(0)
                break
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            if kind == VOID or stamp & ADVICE:
                continue
            what = int64(a.slots[slot]["what"])
            if stamp & VOIDED:
                known |= kind == PACKED and what != NO_INTERN_ID
                continue
            known |= determines_container(kind, what)
            by_own = is_packed_by_own_scan(by_own, kind, what, stamp)
            inside, inside_at = container_after_scan(
                a, inside, inside_at, kind, int64(a.slots[slot]["at"]), what, stamp
            )
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    if not known or inside != container or not by_own:
        return not known or inside == container
    return counts_after_own_packing(a, row, until, container, told, told_at)


@jit
def counts_in_container(a: TableArrays, row: int, until: int, container: int, kind: int, at: int) -> bool:
    """Would a record inferred from `container` count before the record in slot `until`, or at the end (NONE)?"""
    # What tells last of containers decides alone, as nearly always, unless something else may contradict it.
    telling = int64(NONE)
    unsure = False
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if slot == until:
                left = int64(0)
                break
            stamp = int64(a.slots[slot]["stamp"])
            if (_TELLS >> kind_of(stamp)) & 1:
                telling = slot
                unsure = stamp & VOIDED != 0
            elif stamp & (INFERRED | VOIDED | ADVICE) == 0 and not (NO_LOCATION >> kind_of(stamp)) & 1:
                unsure = True
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    if telling == NONE:
        return True
    packed = kind_of(a.slots[telling]["stamp"]) == PACKED
    if not unsure and not packed:
        return False
    if not unsure and a.slots[telling]["what"] == container and a.slots[telling]["stamp"] & INFERRED:
        return True
    return _counts_by_all(a, row, until, container, kind, at)
