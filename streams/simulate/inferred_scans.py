"""The scans of parcels that are inferred from the events of their containers, as if all events had come in order."""

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
    events: CompactRecords, child_lists: ChildLists, site_of_station: NDArray[np.int64], emptied_reason: int
) -> CompactRecords:
    """Infer scans, and VOIDs of scans, for all parcels that `events` concern.

    events: all distinct events of some containers. site_of_station: string id of each station's site. emptied_reason:
    string id of the reason for a container that is emptied as a whole.
    """
    causes, voids, containers, parcels, nested = [], [], [], [np.zeros(0, np.int64)], []
    for propagation in propagate(_events(events, child_lists, site_of_station)):
        if not propagation.parcels:
            continue
        causes.append(propagation.cause.tie_breaker)
        voids.append(NOT_SET if propagation.void is None else propagation.void.tie_breaker)
        containers.append(propagation.path[-1])
        nested.append(len(propagation.path) > 1)
        parcels.append(np.array(propagation.parcels, np.int64))
    counts = [len(each) for each in parcels[1:]]
    rows = events.take(np.repeat(np.array(causes, np.int64), counts))
    rows["aux"] = rows["serial"]
    rows["type"], rows["serial"], rows["device"], rows["seq"] = RecordType.SCAN, 0, -1, 0
    is_emptying = (rows["kind"] == UNPACKED) & (rows["parcel"] == 0)
    rows["reason"] = np.where(is_emptying, emptied_reason, rows["reason"])
    rows["parcel"] = np.concatenate(parcels)
    rows["container"] = np.repeat(np.array(containers, np.int64), counts)
    rows["inference_level"] = np.repeat(
        np.where(nested, FROM_OUTER_CONTAINER, FROM_OWN_CONTAINER).astype(np.int8), counts
    )
    return concat([rows, _voids(rows, events, np.repeat(np.array(voids, np.int64), counts))])


def _voids(rows: CompactRecords, events: CompactRecords, void_rows: NDArray[np.int64]) -> CompactRecords:
    """A VOID for each of `rows` whose container event is voided; `void_rows`: index of the VOID in `events`."""
    is_retracted = np.flatnonzero(void_rows != NOT_SET)
    voids = rows.take(is_retracted)
    targets = events.take(void_rows[is_retracted])
    voids["kind"] = VOID
    for name in ("time", "skew", "record_time", "station", "reason"):
        voids[name] = targets[name]
    voids["lane"] = -1
    return voids


def _events(
    rows: CompactRecords, child_lists: ChildLists, site_of_station: NDArray[np.int64]
) -> list[ReferenceContainerEvent]:
    """The rows as reference events. The index of a row is its event id, and its tie breaker."""
    row_of_serial = {
        serial: row
        for row, (serial, kind) in enumerate(zip(rows["serial"].tolist(), rows["kind"].tolist(), strict=True))
        if kind != VOID
    }
    fields = ("container", "kind", "parcel", "aux")
    columns = [rows[name].tolist() for name in fields]
    times, event_sites = (rows["time"] + rows["skew"]).tolist(), site_of_station[rows["station"]].tolist()
    result = []
    for row, (container, kind, list_key, aux, time, site) in enumerate(zip(*columns, times, event_sites, strict=True)):
        children = child_lists[list_key].tolist()
        result.append(
            ReferenceContainerEvent(
                row, container, KINDS[kind], time, str(site), children if list_key > 0 else (),
                children if list_key < 0 else (), voids=row_of_serial.get(aux) if kind == VOID else None,
                tie_breaker=row,
            )
        )  # fmt: skip
    return result
