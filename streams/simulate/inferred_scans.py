"""The scans of parcels that follow from the events of their containers, as if all of these had come in order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import KINDS, UNPACKED, VOID
from streams.domain.record_columns import RecordType
from streams.domain.reference.propagation import ReferenceContainerEvent, propagate
from streams.simulate.child_lists import ChildLists
from streams.simulate.compact_records import NOT_SET, CompactRecords, concat

FROM_OWN_CONTAINER: Final = 1
FROM_OUTER_CONTAINER: Final = 2


def infer_scans(
    events: CompactRecords, lists: ChildLists, sites: NDArray[np.int64], emptied_reason: int
) -> CompactRecords:
    """Scans, and VOIDs of scans, of all parcels that `events` (distinct, of whole containers) say something about.

    sites: the site of each station. emptied: the word that is the reason where a whole container was emptied.
    """
    causes, voids, containers, parcels, nested = [], [], [], [np.zeros(0, np.int64)], []
    for handed in propagate(_events(events, lists, sites)):
        if not handed.parcels:
            continue
        causes.append(handed.cause.tie_breaker)
        voids.append(NOT_SET if handed.void is None else handed.void.tie_breaker)
        containers.append(handed.path[-1])
        nested.append(len(handed.path) > 1)
        parcels.append(np.array(handed.parcels, np.int64))
    counts = [len(each) for each in parcels[1:]]
    rows = events.take(np.repeat(np.array(causes, np.int64), counts))
    rows["other"] = rows["serial"]
    rows["type"], rows["serial"], rows["device"], rows["seq"] = RecordType.SCAN, 0, -1, 0
    empties = (rows["kind"] == UNPACKED) & (rows["parcel"] == 0)
    rows["reason"] = np.where(empties, emptied_reason, rows["reason"])
    rows["parcel"] = np.concatenate(parcels)
    rows["container"] = np.repeat(np.array(containers, np.int64), counts)
    rows["via"] = np.repeat(np.where(nested, FROM_OUTER_CONTAINER, FROM_OWN_CONTAINER).astype(np.int8), counts)
    return concat([rows, _voids(rows, events, np.repeat(np.array(voids, np.int64), counts))])


def _voids(rows: CompactRecords, events: CompactRecords, by: NDArray[np.int64]) -> CompactRecords:
    """The VOID of each of `rows` that one of `events` declares wrong."""
    which = np.flatnonzero(by != NOT_SET)
    voids = rows.take(which)
    wrong = events.take(by[which])
    voids["kind"] = VOID
    for name in ("time", "skew", "arrival", "station", "reason"):
        voids[name] = wrong[name]
    voids["lane"] = -1
    return voids


def _events(rows: CompactRecords, lists: ChildLists, sites: NDArray[np.int64]) -> list[ReferenceContainerEvent]:
    """The rows as events that are named by their place among them, which is their rank too."""
    place = {
        serial: row
        for row, (serial, kind) in enumerate(zip(rows["serial"].tolist(), rows["kind"].tolist(), strict=True))
        if kind != VOID
    }
    fields = ("container", "kind", "parcel", "other")
    listed = [rows[name].tolist() for name in fields]
    times, at = (rows["time"] + rows["skew"]).tolist(), sites[rows["station"]].tolist()
    made = []
    for row, (container, kind, key, other, time, site) in enumerate(zip(*listed, times, at, strict=True)):
        members = lists[key].tolist()
        made.append(
            ReferenceContainerEvent(
                row, container, KINDS[kind], time, str(site), members if key > 0 else (),
                members if key < 0 else (), voids=place.get(other) if kind == VOID else None, tie_breaker=row,
            )
        )  # fmt: skip
    return made
