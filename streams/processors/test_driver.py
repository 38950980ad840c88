"""A test driver for the parcel processor: no broker, one record at a time, to try out and test promises and rules.

It runs the worker's own compiled fold. A test begins like this:

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
    """The milestones and alerts that one record led to."""

    milestones: list[Milestone]
    alerts: list[Alert]


class ParcelTestDriver:
    """The parcel processor of a single partition."""

    def __init__(self, promises: Promises | None = None) -> None:
        """`promises`: those to watch (`streams.config.load_promises` reads a file); None for the default ones."""
        self._processor = ParcelProcessor(partition=0, partitions=1, promises=promises)
        self._parse = RecordParser()
        self._event_numbers = count(1)
        self._states: dict[bytes, bytes] = {}
        self._decode_milestone, self._decode_alert, self._decode_state = (
            RecordDecoder(name) for name in ("Milestone", "Alert", "ParcelState")
        )

    def scan(self, parcel_id: str, kind: str, *, at: str | int, **fields: Any) -> DriverOutput:
        """Process a scan.

        Args:
            parcel_id: of the parcel.
            kind: one of streams/domain/kinds.py.
            at: its event time, in ISO 8601 with its offset or in ms since 1970.
            fields: other fields of a scan (docs/files.md); event_id, site and station have defaults.

        Raises:
            ValueError: a field is invalid; the message says what would be right.
            BadRecord: the processor rejects it.
        """
        scan = {"event_id": f"scan-{next(self._event_numbers)}", "site": "LGG", "station": "BENCH", **fields}
        return self._process({"type": "scan", "parcel_id": parcel_id, "kind": kind, "event_time": at, **scan})

    def advice(self, parcel_id: str, *, at: str | int, **fields: Any) -> DriverOutput:
        """Process an advice, by default of an import from CN to BE; raises as `scan` does."""
        plan = {"direction": "IMPORT", "service": "STANDARD", "origin": "CN", "destination": "BE", **fields}
        advice = {"event_id": f"advice-{next(self._event_numbers)}", "parcel_id": parcel_id, "event_time": at, **plan}
        return self._process({"type": "advice", **advice})

    def tick(self, at: str | int) -> DriverOutput:
        """Process a tick, which sends the alerts that are due by then; raises as `scan` does."""
        return self._process({"type": "tick", "hub_time": at})

    def state(self, parcel_id: str) -> Mapping[str, Any] | None:
        """The parcel's state by the fields of schemas/ParcelState.avsc, times in ms; None for an unknown parcel."""
        value = self._states.get(parcel_id.encode())
        return self._decode_state(value) if value else None

    def _process(self, record: Mapping[str, Any]) -> DriverOutput:
        output = self._processor.run([self._parse(record).value])
        for _, reason in output.rejects:
            raise BadRecord(reason.name, f"the processor rejects it: {reason.name}")
        self._states.update(output.tombstones)
        self._states.update(output.states)
        return DriverOutput(
            [Milestone(**_to_python(self._decode_milestone(value))) for _, value in output.milestones],
            [Alert(**_to_python(self._decode_alert(value))) for _, value in output.alerts],
        )


def _to_python(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record with datetimes, timedeltas and tuples for its numbers and lists."""
    fields: dict[str, Any] = dict(record)
    for name in _TIMES & fields.keys():
        if fields[name] is not None:
            fields[name] = _EPOCH + timedelta(milliseconds=fields[name])
    if fields.get("limit") is not None:
        fields["limit"] = timedelta(milliseconds=fields["limit"])
    if isinstance(fields["evidence"], list):
        fields["evidence"] = tuple(fields["evidence"])
    return fields
