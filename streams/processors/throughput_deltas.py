"""hub.throughput of one partition: by how much the counts of scans changed, by station, kind, direction and minute.

The deltas of a batch are summed before they are written, so a scan that is counted and retracted in one batch leaves
no record.
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
# A group of deltas is one number: the station's number above this bit; below it minutes since 1900, kind and direction.
_STATION_SHIFT: Final = 36
_KIND_MASK: Final = 31
_DIRECTION_MASK: Final = 3


class ThroughputDeltaAggregator:
    """Sums and encodes the deltas of one batch after the other."""

    def __init__(self) -> None:
        # Number of an interned location in the table -> number of its site and station here.
        self._station_of: dict[int, int] = {}
        # Length of the site, site and station -> number. The length keeps apart what the two texts alone would not.
        self._numbers: dict[bytes, int] = {}
        # "site/station" of every number, back to back; where each begins, and the length of its site.
        self._text = np.zeros(0, np.uint8)
        self._starts = np.zeros(1, np.int64)
        self._site_sizes = np.zeros(0, np.int64)

    def invalidate_interned_records(self) -> None:
        """The table's interned records have other numbers now."""
        self._station_of.clear()

    def encode(self, arrays: TableArrays, changes: BatchChanges) -> RecordBlock:
        """The records of a batch."""
        count = int(changes.counts[DELTA_COUNT])
        locations, location_index = np.unique(changes.delta_locations[:count], return_inverse=True)
        stations = self._station_numbers(arrays, locations)[location_index]
        codes = changes.delta_codes[:count]
        minutes = (codes >> MINUTE_SHIFT) - _FIRST_MINUTE
        kinds_and_directions = (codes & ((1 << MINUTE_SHIFT) - 1)) >> DIRECTION_SHIFT
        groups, group_of = np.unique(
            stations << _STATION_SHIFT | minutes << (MINUTE_SHIFT - DIRECTION_SHIFT) | kinds_and_directions,
            return_inverse=True,
        )
        sums = np.bincount(group_of, 1 - 2 * (codes & 1), len(groups)).astype(np.int64)
        return self._encode_sums(groups[sums != 0], sums[sums != 0])

    def _station_numbers(self, arrays: TableArrays, locations: NDArray[np.int32]) -> NDArray[np.int64]:
        new: list[tuple[bytes, bytes]] = []
        for location in locations.tolist():
            if location in self._station_of:
                continue
            site, station = (
                arrays.heap[start : start + size].tobytes()
                for start, size in (
                    location_text(arrays, location, LOCATION_SITE),
                    location_text(arrays, location, LOCATION_STATION),
                )
            )
            key = len(site).to_bytes(2, "big") + site + station
            number = self._numbers.setdefault(key, len(self._numbers))
            if number == len(self._site_sizes) + len(new):
                new.append((site, station))
            self._station_of[location] = number
        if new:
            texts = [site + b"/" + station for site, station in new]
            self._text = np.concatenate([self._text, *(np.frombuffer(text, np.uint8) for text in texts)])
            ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
            self._starts = np.concatenate([self._starts, self._starts[-1] + ends])
            self._site_sizes = np.concatenate([self._site_sizes, np.array([len(site) for site, _ in new], np.int64)])
        return np.array([self._station_of[location] for location in locations.tolist()], np.int64)

    def _encode_sums(self, groups: NDArray[np.int64], sums: NDArray[np.int64]) -> RecordBlock:
        codec, count = throughput_delta_encoder(), len(groups)
        stations = groups >> _STATION_SHIFT
        rest = groups & ((1 << _STATION_SHIFT) - 1)
        start, size = self._starts[stations], np.diff(self._starts)[stations]
        frame = allocate_frame(codec.width, count)
        columns = codec.columns
        _set_texts(frame, columns.site, start, self._site_sizes[stations])
        station_start = start + self._site_sizes[stations] + 1
        _set_texts(frame, columns.station, station_start, start + size - station_start)
        frame.values[columns.kind] = rest >> (KIND_SHIFT - DIRECTION_SHIFT) & _KIND_MASK
        frame.values[columns.direction] = rest & _DIRECTION_MASK
        frame.values[columns.minute] = ((rest >> (MINUTE_SHIFT - DIRECTION_SHIFT)) + _FIRST_MINUTE) * _MINUTE_MS
        frame.values[columns.scans] = sums
        key_ends = np.zeros(count + 1, np.int64)
        np.cumsum(size, out=key_ends[1:])
        # Index in the texts of each byte of the keys.
        source = np.repeat(start - key_ends[:-1], size) + np.arange(key_ends[-1])
        return RecordBlock(self._text[source], key_ends, *codec.encoder.encode(count, [frame], (self._text,)))


def _set_texts(frame: FrameArrays, column: int, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    frame.values[column] = starts
    frame.lengths[column] = sizes
