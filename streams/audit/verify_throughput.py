"""Verifies hub.throughput: the deltas must add up to the scans of the truth."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from streams.audit.verify import Difference, LogRecord, VerificationReport
from streams.formats.record_decoder import DecodingError, RecordDecoder

_MINUTE_MS: Final = 60_000
# Site, station, kind, direction, minute since 1970.
ThroughputCell = tuple[str, str, str, str, int]


class ThroughputVerifier:
    """Sums the deltas of each site, station, kind, direction and minute."""

    def __init__(self, report: VerificationReport) -> None:
        self._report = report
        self._sums: Counter[ThroughputCell] = Counter()
        self._decode = RecordDecoder("ThroughputDelta")

    def add(self, records: Iterable[LogRecord]) -> None:
        """Add records, in any order."""
        for key, value, partition, offset in records:
            self._report.deltas += 1
            offset_text = f"{partition}:{offset}"
            try:
                delta = self._decode(value)
            except DecodingError as error:
                self._differ(offset_text, "delta", "a ThroughputDelta", str(error))
                continue
            if key != (expected_key := f"{delta['site']}/{delta['station']}".encode()):
                self._differ(offset_text, "key", expected_key, key)
            if delta["count"] == 0 or delta["minute"] % _MINUTE_MS:
                self._differ(
                    offset_text, "delta", "a number of scans in a minute", f"{delta['count']} at {delta['minute']}"
                )
            cell = (delta["site"], delta["station"], delta["kind"], delta["direction"], delta["minute"] // _MINUTE_MS)
            self._sums[cell] += delta["count"]

    def compare(self, truth: Mapping[str, Any]) -> None:
        """The sums must equal those of the truth (its "throughput")."""
        unexpected = Counter({cell: scans for cell, scans in self._sums.items() if scans})
        for cell, expected in _cells(truth):
            found = unexpected.pop(cell, 0)
            if found != expected:
                self._differ(*_cell_text(cell), expected, found)
        for cell, found in unexpected.items():
            self._differ(*_cell_text(cell), 0, found)

    def _differ(self, key: str, field: str, expected: Any, found: Any) -> None:
        self._report.throughput_differences.append(Difference(key, field, expected, found))


def _cells(truth: Mapping[str, Any]) -> Iterator[tuple[ThroughputCell, int]]:
    for site, stations in truth.items():
        for station, kinds in stations.items():
            for kind, directions in kinds.items():
                for direction, minutes in directions.items():
                    for minute, scans in minutes.items():
                        yield (site, station, kind, direction, int(minute)), scans


def _cell_text(cell: ThroughputCell) -> tuple[str, str]:
    site, station, kind, direction, minute = cell
    minute_text = datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")
    return f"{site}/{station}", f"{kind} {direction} {minute_text}"
