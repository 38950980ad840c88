"""The whole parcel stage without a broker, one record at a time: to try promises and rules out, and to test them.

It runs the worker's own compiled fold. Start of a test of one's own:

>>> from streams.processors.test_driver import ParcelTestDriver
>>> driver = ParcelTestDriver()
>>> driver.scan("LP1", "ARRIVED", at="2026-03-01T04:00Z").milestones[0].stage
'ARRIVED'
>>> driver.tick("2026-03-01T06:59Z").alerts[0].type
'AT_RISK'
>>> late = driver.tick("2026-03-01T07:01Z").alerts[0]
>>> late.type, late.condition, late.deadline.isoformat()
('BREACHED', 'unload', '2026-03-01T07:00:00+00:00')
>>> driver.scan("LP1", "UNLOADED", at="2026-03-01T05:00Z").alerts
[]
>>> driver.tick("2026-03-01T07:02Z").alerts[0].type
'WITHDRAWN'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from streams.domain.promises import Promises
from streams.errors import BadRecord
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from streams.processors.parcel_processor import ParcelProcessor

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = frozenset({"event_time", "previous_time", "hub_time", "since", "deadline", "stopped_at"})


@dataclass(frozen=True, slots=True)
class Milestone:
    """A record of parcel.milestones (schemas/Milestone.avsc)."""

    parcel_id: str
    type: str
    stage: str
    event_time: datetime
    previous_time: datetime | None
    version: int
    site: str
    station: str
    direction: str
    evidence: bytes
    milestone_id: bytes


@dataclass(frozen=True, slots=True)
class Alert:
    """A record of parcel.alerts (schemas/Alert.avsc)."""

    parcel_id: str
    type: str
    condition: str
    hub_time: datetime
    since: datetime | None
    deadline: datetime | None
    limit: timedelta | None
    stopped_at: datetime | None
    version: int
    site: str
    station: str
    direction: str
    evidence: tuple[bytes, ...]
    withdraws: bytes | None
    alert_id: bytes


@dataclass(frozen=True, slots=True)
class DriverOutput:
    """What one record led to."""

    milestones: list[Milestone]
    alerts: list[Alert]


class ParcelTestDriver:
    """Parcels of one partition, on a work driver."""

    def __init__(self, promises: Promises | None = None) -> None:
        """`promises`: what is watched (`streams.config.load_promises` reads a file); None for the default ones."""
        self._stage = ParcelProcessor(partition=0, partitions=1, promises=promises)
        self._reader = RecordParser()
        self._numbers = count(1)
        self._states: dict[bytes, bytes] = {}
        self._milestone, self._alert, self._state = (
            RecordDecoder(name) for name in ("Milestone", "Alert", "ParcelState")
        )

    def scan(self, parcel_id: str, kind: str, *, at: str | int, **more: Any) -> DriverOutput:
        """A scan.

        Args:
            parcel_id: of the parcel.
            kind: a word of streams/domain/kinds.py.
            at: its event time, in ISO 8601 with its offset or in ms since 1970.
            more: other fields of a scan (docs/files.md); event_id, site and station are made up where they are missing.

        Raises:
            ValueError: a field says something that cannot be; says what would be right.
            BadRecord: the fold refuses it.
        """
        scan = {"event_id": f"scan-{next(self._numbers)}", "site": "LGG", "station": "BENCH", **more}
        return self._take({"type": "scan", "parcel_id": parcel_id, "kind": kind, "event_time": at, **scan})

    def advice(self, parcel_id: str, *, at: str | int, **more: Any) -> DriverOutput:
        """An advice, of an import from CN to BE where `more` says nothing else; raises as `scan` does."""
        plan = {"direction": "IMPORT", "service": "STANDARD", "origin": "CN", "destination": "BE", **more}
        advice = {"event_id": f"advice-{next(self._numbers)}", "parcel_id": parcel_id, "event_time": at, **plan}
        return self._take({"type": "advice", **advice})

    def tick(self, at: str | int) -> DriverOutput:
        """The hub's time: what is due by then is told; raises as `scan` does."""
        return self._take({"type": "tick", "hub_time": at})

    def state(self, parcel_id: str) -> Mapping[str, Any] | None:
        """The parcel's state by the fields of schemas/ParcelState.avsc, times in ms; None if it is not known."""
        value = self._states.get(parcel_id.encode())
        return self._state(value) if value else None

    def _take(self, record: Mapping[str, Any]) -> DriverOutput:
        made = self._stage.run([self._reader(record).value])
        for _, reason in made.rejects:
            raise BadRecord(reason.name, f"the fold refuses it: {reason.name}")
        self._states.update(made.tombstones)
        self._states.update(made.states)
        return DriverOutput(
            [Milestone(**_pleasant(self._milestone(value))) for _, value in made.milestones],
            [Alert(**_pleasant(self._alert(value))) for _, value in made.alerts],
        )


def _pleasant(record: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = dict(record)
    for name in _TIMES & made.keys():
        if made[name] is not None:
            made[name] = _EPOCH + timedelta(milliseconds=made[name])
    if made.get("limit") is not None:
        made["limit"] = timedelta(milliseconds=made["limit"])
    if isinstance(made["evidence"], list):
        made["evidence"] = tuple(made["evidence"])
    return made
