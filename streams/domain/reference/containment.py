"""The rules of containment a second time: first the stays of the child, then the verdict on each of its records.

A stay begins with a packing that names a container. It lasts until the next packing, or until a record shows that the
child is not in the container any more. A packing always counts, so the stays do not depend on each other:

- A stay ends early with a record that counts and takes the child out or handles it on its own (`UNCONTAINED`), or with
  a scan of its own at another site than the container is known to be at.
- During a stay, an inferred record counts if it comes from the container of the stay. If the child was packed by a
  record of its own, the container must confirm it: its last packing or removal of the child before is a packing, or the
  record itself is a removal that names the child.
- Outside of all stays, an inferred record counts only if no packing came before, not even a voided one, and the child
  was not handled on its own before.

The rules with their reasons are in docs/decisions/containers.md. The worker runs `streams/domain/containment.py`; the
two share no code, so that a mistake in one of them shows. This one may take a time that grows with the square of the
records of a stay.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

# Reason of an UNPACKED that is inferred from the emptying of a container.
EMPTIED: Final = "EMPTIED"
# Written out here, not taken from the bit sets that the worker uses.
UNCONTAINED: Final = frozenset({"UNPACKED", "INDUCTED", "SORTED", "NO_READ", "RECIRCULATED", "DELIVERED", "RETURNED"})
NO_LOCATION: Final = frozenset(
    {
        "OTHER", "ADVISED", "LOST", "VOID", "CUSTOMS_PRESENTED", "CUSTOMS_HELD", "CUSTOMS_RELEASED", "CUSTOMS_REFUSED",
    }
)  # fmt: skip
_ORDERLY_EXITS: Final = ("UNPACKED", "DELIVERED", "RETURNED")


class ChildScan(NamedTuple):
    """One record of a child, neither a VOID nor an advice."""

    kind: str
    site: str
    container: str | None
    inferred: bool
    voided: bool = False
    reason: str | None = None


class ContainerStay(NamedTuple):
    """A stay in a container: from the packing to the record that ends it, by index; `end` is None while it lasts."""

    container: str
    packing: int
    end: int | None

    def precedes(self, index: int) -> bool:
        """Was the child in the container when the record of that index came?"""
        return self.packing < index and (self.end is None or index <= self.end)

    def follows(self, index: int) -> bool:
        """Is the child in the container after the record of that index?"""
        return self.packing <= index and (self.end is None or index < self.end)


class ContainmentProof(NamedTuple):
    """The scans that prove an anomaly, by index; `packing` is None where no packing is contradicted."""

    scan: int
    packing: int | None = None


class ContainmentVerdict(NamedTuple):
    """The verdict on all scans of a child."""

    # Of each scan: is it superseded? A voided scan never is.
    superseded: list[bool]
    # Of each scan: the container that the child is in after it; None for none.
    containers_after: list[str | None]
    found_outside: list[ContainmentProof]
    emptied: list[ContainmentProof]
    found_extra: list[ContainmentProof]


def derive_containment(scans: Sequence[ChildScan]) -> ContainmentVerdict:
    """Apply the rules to the scans of one child, given in the order of (event_time, kind, record_hash)."""
    stays = container_stays(scans)
    before: list[ContainerStay | None] = [None] * len(scans)
    after: list[str | None] = [None] * len(scans)
    for stay in stays:
        last = len(scans) - 1 if stay.end is None else stay.end
        for index in range(stay.packing, last + 1):
            if stay.precedes(index):
                before[index] = stay
            if stay.follows(index):
                after[index] = stay.container
    first_handling = next((index for index, scan in enumerate(scans) if _tells_of_handling(scan)), len(scans))
    superseded = [
        not scan.voided and _needs_support(scan) and not _is_supported(scans, index, before[index], first_handling)
        for index, scan in enumerate(scans)
    ]
    found_extra = [
        ContainmentProof(index)
        for index, scan in enumerate(scans)
        if _is_removal_by_name(scan)
        and not any(stay.container == scan.container and stay.packing < index for stay in stays)
        and (scan.inferred or before[index] is not None)
    ]
    ended = [(stay, stay.end) for stay in stays if stay.end is not None]
    return ContainmentVerdict(
        superseded,
        after,
        [ContainmentProof(end, stay.packing) for stay, end in ended if _ends_in_surprise(scans, stay, end)],
        [ContainmentProof(end, stay.packing) for stay, end in ended if _is_emptying(scans[end])],
        found_extra,
    )


def container_stays(scans: Sequence[ChildScan]) -> list[ContainerStay]:
    """The stays of a child, one for each packing that is not voided."""
    packings = [index for index, scan in enumerate(scans) if _packed_into(scan) is not None and not scan.voided]
    stays = []
    for packing, next_packing in zip_longest(packings, packings[1:]):
        container = scans[packing].container
        assert container is not None
        within = range(packing + 1, len(scans) if next_packing is None else next_packing)
        exits = (index for index in within if _is_exit(scans, packing, index))
        stays.append(ContainerStay(container, packing, next(exits, next_packing)))
    return stays


def _is_exit(scans: Sequence[ChildScan], packing: int, index: int) -> bool:
    """Does the scan show that the child is not in the container that it was packed into?"""
    scan = scans[index]
    if scan.voided:
        return False
    if scan.kind in UNCONTAINED:
        return not _needs_support(scan) or _comes_from(scans, packing, index)
    if scan.inferred or scan.kind in NO_LOCATION or scan.container == scans[packing].container:
        return False
    return _container_site(scans, packing, index) not in (None, scan.site)


def _container_site(scans: Sequence[ChildScan], packing: int, index: int) -> str | None:
    """The site of the container that the child was packed into, before a scan; None where it is not known."""
    located = [scans[packing]] + [
        scans[earlier] for earlier in _of_container(scans, packing, index) if scans[earlier].kind not in NO_LOCATION
    ]
    return None if located[-1].kind == "DISPATCHED" else located[-1].site


def _of_container(scans: Sequence[ChildScan], packing: int, index: int) -> list[int]:
    """The scans between a packing and a scan that count and name the container."""
    return [
        earlier
        for earlier in range(packing + 1, index)
        if scans[earlier].container == scans[packing].container
        and not scans[earlier].voided
        and (not scans[earlier].inferred or _comes_from(scans, packing, earlier))
    ]


def _comes_from(scans: Sequence[ChildScan], packing: int, index: int) -> bool:
    """Does an inferred scan come from the container that the child was packed into, and does that declare the child?"""
    container = scans[packing].container
    if scans[index].container != container:
        return False
    if scans[packing].inferred or _is_removal_by_name(scans[index]):
        return True
    words = [
        scan.kind
        for scan in scans[:index]
        if scan.inferred and not scan.voided and scan.container == container and scan.kind in ("PACKED", "UNPACKED")
    ]
    last_word = words[-1:]
    return last_word == ["PACKED"]


def _is_supported(scans: Sequence[ChildScan], index: int, stay: ContainerStay | None, first_handling: int) -> bool:
    """Do the other scans support one that was inferred from a container?"""
    return index <= first_handling if stay is None else _comes_from(scans, stay.packing, index)


def _ends_in_surprise(scans: Sequence[ChildScan], stay: ContainerStay, end: int) -> bool:
    """Was the child found elsewhere although the container had neither been opened nor left?"""
    scan = scans[end]
    if scan.kind in _ORDERLY_EXITS or _packed_into(scan) == stay.container:
        return False
    return all(scans[index].kind != "DISPATCHED" for index in _of_container(scans, stay.packing, end))


def _packed_into(scan: ChildScan) -> str | None:
    return scan.container if scan.kind == "PACKED" else None


def _needs_support(scan: ChildScan) -> bool:
    """Is it inferred from a container, other than by a packing?"""
    return scan.inferred and scan.container is not None and scan.kind != "PACKED"


def _tells_of_handling(scan: ChildScan) -> bool:
    """Does it tell of a packing, right or wrong, or of something that was done to the child on its own?"""
    return _packed_into(scan) is not None or (scan.kind in UNCONTAINED and not scan.voided)


def _is_emptying(scan: ChildScan) -> bool:
    return scan.kind == "UNPACKED" and scan.inferred and scan.reason == EMPTIED


def _is_removal_by_name(scan: ChildScan) -> bool:
    return scan.kind == "UNPACKED" and scan.container is not None and not scan.voided and scan.reason != EMPTIED
