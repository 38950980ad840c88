"""The rules of containment: which container a child is in, and which of its inferred records count.

A child is a parcel, or a container inside another one. The events of a container declare what is put in and taken out.
Each of them, and each scan of the container, reaches the declared children as a record that is inferred from it. The
rules here decide whether such a record counts. They use the child's own records alone, in the order of (event_time,
kind, record_hash):

- After a PACKED that names a container, the child is in that container and in no other.
- After anything that is done to the child on its own (`UNCONTAINED`), it is in no container.
- After a scan of its own at another site than its container is known to be at, it is in no container. An observation
  overrides an inference. The location of a container is not known from its dispatch to its next scan.
- Any other inferred record counts only if it comes from the container that the child is in. As long as no packing of
  the child is known and it was never handled on its own, it may be in any container.
- Where the child is in a container by its own packing, an inferred record counts only if the container declares the
  child as well: the last packing or removal before it that comes from the container is a packing. Which other children
  receive a scan of the container depends on what was known when the scan was propagated. A removal that names the
  child always reaches it, and always counts.

So nothing needs to be retracted when a removal comes late: records that do not hold are superseded, and count again
when other records say so. The compiled twin is in `streams/domain/parcel.py` and `streams/kernel/insert_inferred.py`.
The same rules in another form, for comparison, are in `streams/domain/reference/containment.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streams.domain import kinds

# Reason of an UNPACKED that is inferred from the emptying of a container, not from a removal that names the child.
EMPTIED: Final = "EMPTIED"

UNCONTAINED: Final = kinds.kind_names(kinds.UNCONTAINED)
NO_LOCATION: Final = kinds.kind_names(kinds.NO_LOCATION)
# Kinds that end a stay in a container regularly.
_REGULAR_ENDS: Final = frozenset({"UNPACKED", "DELIVERED", "RETURNED"})


class ContainmentRecord(NamedTuple):
    """One record of the child, neither a VOID nor an advice."""

    kind: str
    site: str
    container: str | None
    inferred: bool
    # Declared wrong by a VOID.
    voided: bool = False
    reason: str | None = None


class ContainmentEvidence(NamedTuple):
    """The records that prove an anomaly, by index: the one that shows it, and the packing that it contradicts."""

    record_index: int
    packing_index: int | None = None


@dataclass(slots=True)
class ContainmentResult:
    """The verdict on all records of a child."""

    # Of each record: is it superseded? A voided record never is.
    superseded: list[bool] = field(default_factory=list)
    # Of each record: the container that the child is in after it; None for none.
    containers_after: list[str | None] = field(default_factory=list)
    # A scan or packing of the child elsewhere while it was in a container that had not left.
    found_outside: list[ContainmentEvidence] = field(default_factory=list)
    # Its container was emptied while the child was in it.
    emptied: list[ContainmentEvidence] = field(default_factory=list)
    # Taken out of a container that it was never put into.
    found_extra: list[ContainmentEvidence] = field(default_factory=list)


def evaluate_containment(records: Sequence[ContainmentRecord]) -> ContainmentResult:
    """Apply the rules to the records of one child, given in their order.

    >>> bag = ContainmentRecord("PACKED", "HGH", "BAG", True), ContainmentRecord("ARRIVED", "LGG", "BAG", True)
    >>> sorted_alone = ContainmentRecord("SORTED", "LGG", None, False)
    >>> evaluate_containment([*bag, sorted_alone, ContainmentRecord("LOADED", "LGG", "BAG", True)]).superseded
    [False, False, False, True]
    """
    result = ContainmentResult()
    container: str | None = None
    packing: int | None = None
    site: str | None = None  # of the container; None where it is not known
    known = dispatched = own_packing = False
    packed_into: set[str] = set()
    declared_by: set[str] = set()
    for index, record in enumerate(records):
        counts = not record.voided
        if record.voided:
            known |= record.kind == "PACKED" and record.container is not None
        elif record.inferred and record.container is not None and record.kind != "PACKED":
            counts = not known or (
                container == record.container
                and (not own_packing or record.container in declared_by or _is_named_removal(record))
            )
        result.superseded.append(not counts and not record.voided)
        if record.inferred and record.container is not None and not record.voided:
            if record.kind == "PACKED":
                declared_by.add(record.container)
            elif record.kind == "UNPACKED":
                declared_by.discard(record.container)
        # 1. Anomalies.
        if not record.voided and record.container is not None and _is_named_removal(record):
            never_packed = record.container not in packed_into and container != record.container
            if never_packed and (record.inferred or container is not None):
                result.found_extra.append(ContainmentEvidence(index))
        if counts and container is not None:
            assert packing is not None
            contradicts = _contradicts(record, container, site)
            if record.kind == "UNPACKED" and record.inferred and record.reason == EMPTIED:
                result.emptied.append(ContainmentEvidence(index, packing))
            elif contradicts and record.kind not in _REGULAR_ENDS and not dispatched:
                result.found_outside.append(ContainmentEvidence(index, packing))
        # 2. The container from this record on.
        if counts and record.kind in UNCONTAINED:
            container, packing, site, known = None, None, None, True
        elif counts and record.kind == "PACKED" and record.container is not None:
            container, packing, site, known, dispatched = record.container, index, record.site, True, False
            own_packing = not record.inferred
            packed_into.add(record.container)
        elif counts and record.container is not None and record.container == container:
            dispatched |= record.kind == "DISPATCHED"
            if record.kind not in NO_LOCATION:
                site = None if record.kind == "DISPATCHED" else record.site
        elif counts and container is not None and _contradicts(record, container, site):
            container, packing, site = None, None, None
        result.containers_after.append(container)
    return result


def _is_named_removal(record: ContainmentRecord) -> bool:
    """Is it a removal that names the child?"""
    return record.kind == "UNPACKED" and record.reason != EMPTIED


def _contradicts(record: ContainmentRecord, container: str, site: str | None) -> bool:
    """Does it show that the child is not in the container, which is at `site`?"""
    if record.kind in UNCONTAINED:
        return True
    if record.kind == "PACKED" and record.container is not None:
        return record.container != container
    is_elsewhere = not record.inferred and record.kind not in NO_LOCATION and record.container != container
    return is_elsewhere and site is not None and record.site != site
