"""The compact form of a record before it enters the log: 84 bytes, with a number for every string.

Sorting a structured array with `take` copies each record as a whole; indexing with an array copies field by field, and
is twenty times slower. Texts are made last, a batch at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

RECORD_DTYPE: Final = np.dtype(
    [
        ("time", np.int64),  # the true time of the event, ms since 1970
        ("record_time", np.int64),  # when it was accepted, ms since 1970
        ("serial", np.int64),  # the event_id is derived from it
        # Number of the parcel, or -1 - number if its id is a UPU S10. CONTAINER: key of the list of children that were
        # put in or taken out (streams/simulate/child_lists.py); 0 without children.
        ("parcel", np.int64),
        # SCAN and CONTAINER: the serial of the record that a VOID voids, or NOT_SET; for an inferred scan
        # (`inference_level` is set) the serial of the container event that it follows from.
        # ADVICE: promised_at, or NOT_SET. RAW, RAW_CONTAINER: a case of streams/simulate/malformed_records.py.
        ("aux", np.int64),
        ("container", np.int64),  # see names.container_code; 0 is none
        ("skew", np.int32),  # error of the device's clock, ms
        ("duplicate_delay", np.int32),  # ms from record_time until this copy enters the log; above 0: a duplicate
        ("seq", np.int32),
        ("weight", np.int32),  # grams; 0 if not weighed
        ("station", np.int16),  # index of Names.stations
        ("lane", np.int16),  # string id, or -1; ADVICE: planned_lane
        ("reason", np.int16),  # string id, or -1
        ("device", np.int16),  # index of Names.devices, or -1
        ("service", np.int16),  # string id; ADVICE only, like the next three
        ("origin", np.int16),
        ("destination", np.int16),
        ("owner", np.int16),
        ("direction", np.int8),
        # SCAN: 0: of the parcel itself; 1: inferred from its own container; 2: inferred from a container around that.
        ("inference_level", np.int8),
        ("kind", np.int8),
        ("type", np.int8),  # RecordType
    ]
)
NOT_SET: Final = -1
_BYTES: Final = np.dtype((np.void, RECORD_DTYPE.itemsize))
CompactRecords = NDArray[np.void]


def select(rows: CompactRecords, mask: NDArray[np.bool_]) -> CompactRecords:
    """A copy of the rows where `mask` is true."""
    return rows.take(np.flatnonzero(mask))


def concat(parts: Sequence[CompactRecords]) -> CompactRecords:
    """All rows of `parts`, one after the other. They are copied as plain bytes, which is several times faster."""
    return np.concatenate([part.view(_BYTES) for part in parts]).view(RECORD_DTYPE)


class TimeOrderedBuffer:
    """Records that wait for their time, grouped by hour, so that only one hour is sorted at a time."""

    def __init__(self) -> None:
        self._hours: dict[int, list[CompactRecords]] = {}

    def put(self, rows: CompactRecords, times: NDArray[np.int64]) -> None:
        """Add `rows`, to be drained when their `times` have come."""
        if not len(rows):
            return
        order = np.argsort(times // HOUR, kind="stable")
        rows, hours = rows.take(order), (times // HOUR)[order]
        starts = np.flatnonzero(np.concatenate(([True], hours[1:] != hours[:-1])))
        for part, hour in zip(np.split(rows, starts[1:]), hours[starts].tolist(), strict=True):
            self._hours.setdefault(hour, []).append(part)

    def drain(self, before: int) -> Iterator[CompactRecords]:
        """Remove and yield the records of all hours that end by `before` (ms): one part an hour, in insertion order."""
        for hour in sorted(hour for hour in self._hours if (hour + 1) * HOUR <= before):
            yield concat(self._hours.pop(hour))
