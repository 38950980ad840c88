"""What a parcel, or a bag, is in, by its own records: plain Python, to read, and to hold the compiled twin against.

A container's events declare what was put into it and taken out; each of them, and each scan of the container, reaches
what was declared to be inside as a record that is inferred from it. Whether such a record counts is decided here, from
the records of the child alone, told in the order of (event_time, kind, identity):

- PACKED that names a container: it is in it from then on, in no other.
- Whatever is done to a thing on its own (`kinds.LOOSE`): it is in nothing.
- Its own scan at another site than where its container is known to be: it is in nothing. What somebody saw beats what
  was inferred. Where a container is, is not known from its dispatch to its next scan.
- Anything else that was inferred counts only if it comes from the container that it is in. Where no packing is known
  and it was never seen on its own, it may be in any.
- Where it is in there by its own packing, what was inferred counts only if the container declares it, too: if what the
  container said of it last, before that, is that it was put in. Who else gets a scan of the container depends on what
  was known when it was handed on. A removal that names the child always reaches it, and counts.

So nothing has to be taken back when a removal comes late: what does not hold is set aside, and counts again when other
records say so. The compiled twin is in `streams/domain/parcel.py` and `streams/kernel/insert_inferred.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streams.domain import kinds
from streams.domain.kinds import KINDS

# Reason of an UNPACKED that is inferred from the emptying of a container, not from a removal that names the child.
EMPTIED: Final = "EMPTIED"


def _words(bits: int) -> frozenset[str]:
    return frozenset(kind for number, kind in enumerate(KINDS) if bits >> number & 1)


UNCONTAINED: Final = _words(kinds.UNCONTAINED)
NO_LOCATION: Final = _words(kinds.NO_LOCATION)
# Ends what a thing was in without anybody having to wonder.
_ENDS: Final = frozenset({"UNPACKED", "DELIVERED", "RETURNED"})


class ContainmentRecord(NamedTuple):
    """One record of the child, no VOID and no advice."""

    kind: str
    site: str
    container: str | None
    inferred: bool
    # Declared wrong by a VOID.
    voided: bool = False
    reason: str | None = None


class ContainmentEvidence(NamedTuple):
    """Places, among the records, of what proves an anomaly."""

    at: int
    packing: int | None = None


@dataclass(slots=True)
class ContainmentResult:
    """What the records say together."""

    # Of each record: is it set aside? Never so for one that a VOID declares wrong.
    superseded: list[bool] = field(default_factory=list)
    # Of each record: what the child is in after it, None for nothing.
    inside: list[str | None] = field(default_factory=list)
    # Its own scan while it was said to be elsewhere, or in something else.
    found_outside: list[ContainmentEvidence] = field(default_factory=list)
    # It was in what was emptied.
    emptied: list[ContainmentEvidence] = field(default_factory=list)
    # Taken out of something that it was never put into.
    extra: list[ContainmentEvidence] = field(default_factory=list)


def evaluate_containment(records: Sequence[ContainmentRecord]) -> ContainmentResult:
    """Judge the records of one child, given in their order.

    >>> bag = Told("PACKED", "HGH", "BAG", True), Told("ARRIVED", "LGG", "BAG", True)
    >>> judge([*bag, Told("SORTED", "LGG", None, False), Told("LOADED", "LGG", "BAG", True)]).aside
    [False, False, False, True]
    """
    judged = ContainmentResult()
    inside: str | None = None
    packing: int | None = None
    site: str | None = None  # of what it is in; None where that is not known
    known = dispatched = by_own = False
    packed_into: set[str] = set()
    declared: set[str] = set()
    for place, told in enumerate(records):
        counts = not told.voided
        if told.voided:
            known |= told.kind == "PACKED" and told.container is not None
        elif told.inferred and told.container is not None and told.kind != "PACKED":
            counts = not known or (
                inside == told.container and (not by_own or told.container in declared or _names(told))
            )
        judged.superseded.append(not counts and not told.voided)
        if told.inferred and told.container is not None and not told.voided:
            if told.kind == "PACKED":
                declared.add(told.container)
            elif told.kind == "UNPACKED":
                declared.discard(told.container)
        # 1. What is odd about it.
        if not told.voided and told.kind == "UNPACKED" and told.container is not None and told.reason != EMPTIED:
            never = told.container not in packed_into and inside != told.container
            if never and (told.inferred or inside is not None):
                judged.extra.append(ContainmentEvidence(place))
        if counts and inside is not None:
            assert packing is not None
            apart = _apart(told, inside, site)
            if told.kind == "UNPACKED" and told.inferred and told.reason == EMPTIED:
                judged.emptied.append(ContainmentEvidence(place, packing))
            elif apart and told.kind not in _ENDS and not dispatched:
                judged.found_outside.append(ContainmentEvidence(place, packing))
        # 2. What it is in from then on.
        if counts and told.kind in UNCONTAINED:
            inside, packing, site, known = None, None, None, True
        elif counts and told.kind == "PACKED" and told.container is not None:
            inside, packing, site, known, dispatched = told.container, place, told.site, True, False
            by_own = not told.inferred
            packed_into.add(told.container)
        elif counts and told.container is not None and told.container == inside:
            dispatched |= told.kind == "DISPATCHED"
            if told.kind not in NO_LOCATION:
                site = None if told.kind == "DISPATCHED" else told.site
        elif counts and inside is not None and _apart(told, inside, site):
            inside, packing, site = None, None, None
        judged.inside.append(inside)
    return judged


def _names(told: ContainmentRecord) -> bool:
    """Is it a removal that names the child?"""
    return told.kind == "UNPACKED" and told.reason != EMPTIED


def _apart(told: ContainmentRecord, inside: str, site: str | None) -> bool:
    """Does it say that the child is not in there?"""
    if told.kind in UNCONTAINED:
        return True
    if told.kind == "PACKED" and told.container is not None:
        return told.container != inside
    seen_elsewhere = not told.inferred and told.kind not in NO_LOCATION and told.container != inside
    return seen_elsewhere and site is not None and told.site != site
