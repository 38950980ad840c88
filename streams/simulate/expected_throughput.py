"""The expected sums of hub.throughput: effective scans by site, station, kind, direction and minute."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from streams.domain.reference.promise_clocks import ParcelRecord, effective_records, sort_records

_MINUTE_MS: Final = 60_000
ThroughputKey = tuple[str, str, str, str]


class ExpectedThroughput:
    """Counts scans, one parcel after the other."""

    def __init__(self) -> None:
        # (site, station, kind, direction) -> minute since 1970 -> scans.
        self._scans: dict[ThroughputKey, Counter[int]] = {}

    def add(self, records: Iterable[ParcelRecord]) -> None:
        """Add the distinct records of a parcel: at the end of the log, or at a retirement, which starts it afresh."""
        effective = effective_records(sort_records(records))
        advices = [record for record in effective if record.plan is not None]
        direction = str(advices[-1].plan["direction"]) if advices and advices[-1].plan else "UNKNOWN"
        for record in effective:
            if record.plan is None:
                throughput_key = (record.site, record.station, record.kind, direction)
                self._scans.setdefault(throughput_key, Counter())[record.time // _MINUTE_MS] += 1

    def to_dict(self) -> dict[str, Any]:
        """{site: {station: {kind: {direction: {minute: scans}}}}}, for the truth file."""
        sites: dict[str, Any] = {}
        for (site, station, kind, direction), minutes in sorted(self._scans.items()):
            kinds = sites.setdefault(site, {}).setdefault(station, {}).setdefault(kind, {})
            kinds[direction] = dict(sorted(minutes.items()))
        return sites
