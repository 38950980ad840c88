"""How the simulator holds a record while it has not left: 84 bytes, every word a number.

A structured array moves a whole record with one copy when it is sorted (with `take`; brackets with an array of indexes
copy field by field, twenty times slower); texts are made last, a batch at a time.
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
        ("time", np.int64),  # when it really happened, ms since 1970
        ("arrival", np.int64),  # when it was accepted (record_time)
        ("serial", np.int64),  # from which the event_id is made
        # Number of the parcel; -1 - number where its id is an UPU S10. CONTAINER: key of the list of what was put in or
        # taken out (streams/simulate/child_lists.py), 0 where there is none.
        ("parcel", np.int64),
        # SCAN and CONTAINER: the serial of what a VOID declares wrong, or NONE; of an inferred scan (`via` is set) that
        # of the container's event that it follows from.
        # ADVICE: promised_at, or NONE. RAW, RAW_CONTAINER: which case of streams/simulate/malformed_records.py.
        ("other", np.int64),
        ("container", np.int64),  # see names.container; 0 is none
        ("skew", np.int32),  # by how many ms the device's clock was wrong
        ("again", np.int32),  # ms after `arrival` at which this copy enters the log: above 0 it is a duplicate
        ("seq", np.int32),
        ("weight", np.int32),  # grams; 0 is not weighed
        ("station", np.int16),  # index of Names.stations
        ("lane", np.int16),  # index of a word, or -1; ADVICE: planned_lane
        ("reason", np.int16),  # index of a word, or -1
        ("device", np.int16),  # index of Names.devices, or -1
        ("service", np.int16),  # index of a word; ADVICE only, as the next three
        ("origin", np.int16),
        ("destination", np.int16),
        ("owner", np.int16),
        ("direction", np.int8),
        # SCAN: 0 of the parcel itself; 1 inferred from an event of its own container; 2 of what that container was in.
        ("via", np.int8),
        ("kind", np.int8),
        ("type", np.int8),  # RecordType
    ]
)
NOT_SET: Final = -1
_BYTES: Final = np.dtype((np.void, RECORD_DTYPE.itemsize))
CompactRecords = NDArray[np.void]


def select(rows: CompactRecords, which: NDArray[np.bool_]) -> CompactRecords:
    """A copy of those rows."""
    return rows.take(np.flatnonzero(which))


def concat(parts: Sequence[CompactRecords]) -> CompactRecords:
    """All rows of `parts`, one after the other; as plain bytes, which copies several times faster."""
    return np.concatenate([part.view(_BYTES) for part in parts]).view(RECORD_DTYPE)


class TimeOrderedBuffer:
    """Records that wait for their time, kept by the hour, so that only one hour at a time is sorted."""

    def __init__(self) -> None:
        self._hours: dict[int, list[CompactRecords]] = {}

    def put(self, rows: CompactRecords, times: NDArray[np.int64]) -> None:
        """Keep `rows` until their `times` come."""
        if not len(rows):
            return
        order = np.argsort(times // HOUR, kind="stable")
        rows, hours = rows.take(order), (times // HOUR)[order]
        starts = np.flatnonzero(np.concatenate(([True], hours[1:] != hours[:-1])))
        for part, hour in zip(np.split(rows, starts[1:]), hours[starts].tolist(), strict=True):
            self._hours.setdefault(hour, []).append(part)

    def take(self, before: int) -> Iterator[CompactRecords]:
        """Everything of the hours that end by `before` (ms), hour after hour; within an hour as it was put."""
        for hour in sorted(hour for hour in self._hours if (hour + 1) * HOUR <= before):
            yield concat(self._hours.pop(hour))
