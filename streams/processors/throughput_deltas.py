"""hub.throughput of one partition: by how much the count of scans changed, a record for each station, kind and minute.

A batch's deltas are summed before they are written: what was counted and taken back within it is not told.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.limits import EARLIEST_MS
from streams.formats.record_block import RecordBlock
from streams.kernel.batch_changes import DELTA_COUNT, DIRECTION_SHIFT, KIND_SHIFT, MINUTE_SHIFT, BatchChanges
from streams.kernel.frames import FrameArrays, allocate_frame
from streams.kernel.interned_records import LOCATION_SITE, LOCATION_STATION, location_text
from streams.kernel.parcel_table import TableArrays
from streams.processors.parcel_codecs import throughput_delta_encoder

_MINUTE_MS: Final = 60_000
_FIRST_MINUTE: Final = EARLIEST_MS // _MINUTE_MS
# Above it in a group's number: the place. Below: minutes since 1900, kind and direction.
_PLACE_SHIFT: Final = 36
_KINDS: Final = 31
_DIRECTIONS: Final = 3


class ThroughputDeltaAggregator:
    """Encodes the deltas of one batch after the other."""

    def __init__(self) -> None:
        # Word of a place in the table -> number of its site and station here.
        self._place_of: dict[int, int] = {}
        self._numbers: dict[bytes, int] = {}
        # "site/station" of every place, back to back; where each begins, and how long its site is.
        self._text = np.zeros(0, np.uint8)
        self._begins = np.zeros(1, np.int64)
        self._site_sizes = np.zeros(0, np.int64)

    def invalidate_interned_records(self) -> None:
        """The table's words have other numbers now."""
        self._place_of.clear()

    def encode(self, a: TableArrays, out: BatchChanges) -> RecordBlock:
        """The records of a batch."""
        count = int(out.counts[DELTA_COUNT])
        words, which = np.unique(out.delta_locations[:count], return_inverse=True)
        place = self._places(a, words)[which]
        code = out.delta_codes[:count]
        minute = (code >> MINUTE_SHIFT) - _FIRST_MINUTE
        rest = (code & ((1 << MINUTE_SHIFT) - 1)) >> DIRECTION_SHIFT
        groups, group_of = np.unique(
            place << _PLACE_SHIFT | minute << (MINUTE_SHIFT - DIRECTION_SHIFT) | rest, return_inverse=True
        )
        sums = np.bincount(group_of, 1 - 2 * (code & 1), len(groups)).astype(np.int64)
        return self._block(groups[sums != 0], sums[sums != 0])

    def _places(self, a: TableArrays, words: NDArray[np.int32]) -> NDArray[np.int64]:
        new: list[bytes] = []
        for word in words.tolist():
            if word in self._place_of:
                continue
            site, station = (
                a.heap[at : at + size].tobytes()
                for at, size in (location_text(a, word, LOCATION_SITE), location_text(a, word, LOCATION_STATION))
            )
            # A length in front, as a site may hold a slash.
            number = self._numbers.setdefault(len(site).to_bytes(2, "big") + site + station, len(self._numbers))
            if number == len(self._site_sizes) + len(new):
                new.append(len(site).to_bytes(2, "big") + site + b"/" + station)
            self._place_of[word] = number
        if new:
            self._text = np.concatenate([self._text, *(np.frombuffer(text[2:], np.uint8) for text in new)])
            sizes = [len(text) - 2 for text in new]
            self._begins = np.concatenate([self._begins, self._begins[-1] + np.cumsum(sizes, dtype=np.int64)])
            sites = [int.from_bytes(text[:2], "big") for text in new]
            self._site_sizes = np.concatenate([self._site_sizes, np.array(sites, np.int64)])
        return np.array([self._place_of[word] for word in words.tolist()], np.int64)

    def _block(self, groups: NDArray[np.int64], sums: NDArray[np.int64]) -> RecordBlock:
        tools, count = throughput_delta_encoder(), len(groups)
        place = groups >> _PLACE_SHIFT
        rest = groups & ((1 << _PLACE_SHIFT) - 1)
        begin, size = self._begins[place], np.diff(self._begins)[place]
        frame = allocate_frame(tools.width, count)
        columns = tools.columns
        _texts(frame, columns.site, begin, self._site_sizes[place])
        station = begin + self._site_sizes[place] + 1
        _texts(frame, columns.station, station, begin + size - station)
        frame.values[columns.kind] = rest >> (KIND_SHIFT - DIRECTION_SHIFT) & _KINDS
        frame.values[columns.direction] = rest & _DIRECTIONS
        frame.values[columns.minute] = ((rest >> (MINUTE_SHIFT - DIRECTION_SHIFT)) + _FIRST_MINUTE) * _MINUTE_MS
        frame.values[columns.scans] = sums
        ends = np.zeros(count + 1, np.int64)
        np.cumsum(size, out=ends[1:])
        # Of each byte of the keys: where it comes from.
        source = np.repeat(begin - ends[:-1], size) + np.arange(ends[-1])
        return RecordBlock(self._text[source], ends, *tools.encoder.encode(count, [frame], (self._text,)))


def _texts(frame: FrameArrays, column: int, at: NDArray[np.int64], size: NDArray[np.int64]) -> None:
    frame.values[column] = at
    frame.lengths[column] = size
