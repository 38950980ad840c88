"""The truth file: the expected state of each parcel, derived from the simulated records in plain Python.

It shares no code with the worker, so that the two can be compared. Its rules:

- The hash of a record is the 128-bit MurmurHash3 of its event_id (of a VOID: the event_id, a NUL byte and event_time).
- The order of a parcel's records is by event_time, kind and hash, whatever the order of their arrival.
- A record that is voided, or inferred from a container that the parcel was not in, counts only for the version and the
  digest of all records (`streams/domain/reference/containment.py`).

Clocks and alerts are in `streams/simulate/expected_alerts.py`.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import mmh3
import numpy as np

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.domain.promises import Promises
from streams.domain.record_columns import RecordColumns, RecordType
from streams.domain.reference.containment import UNCONTAINED, ChildScan, derive_containment
from streams.domain.reference.promise_clocks import ParcelRecord
from streams.errors import Misconfigured
from streams.simulate.day import LogCounts, Scenario
from streams.simulate.expected_alerts import TickSchedule, derive_alerts
from streams.simulate.expected_throughput import ExpectedThroughput

FORMAT: Final = "parcel-streams truth 3"

# Written out here: the bit sets of the worker are not used.
_STAGES: Final = frozenset(
    {
        "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
        "RETURNED", "LOST",
    }
)  # fmt: skip
_CUSTOMS: Final = frozenset({"CUSTOMS_PRESENTED", "CUSTOMS_HELD", "CUSTOMS_RELEASED", "CUSTOMS_REFUSED"})
_NO_LOCATION: Final = _CUSTOMS | {"OTHER", "ADVISED", "LOST", "VOID"}
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}


class TruthRecord(NamedTuple):
    """One distinct record of a parcel; times in ms since 1970."""

    event_id: str
    kind: str
    event_time: int
    site: str = ""
    station: str = ""
    lane: str | None = None
    reason: str | None = None
    container_id: str | None = None
    voids: str | None = None
    # Of an Advice.
    plan: Mapping[str, str | None] | None = None
    promised_at: int | None = None
    inferred: bool = False
    utc_offset_minutes: int = 0

    def record_hash(self) -> bytes:
        """The hash that names the record in states, milestones and alerts."""
        name = self.event_id.encode()
        return _hash(name + b"\0" + struct.pack(">q", self.event_time) if self.kind == "VOID" else name)

    def to_reference(self) -> ParcelRecord:
        """The record as `streams/domain/reference/promise_clocks.py` takes it."""
        return ParcelRecord(
            self.record_hash(),
            self.kind,
            self.event_time,
            self.site,
            self.station,
            self.lane,
            self.reason,
            None if self.voids is None else _hash(self.voids.encode()),
            self.plan,
            self.promised_at,
            self.container_id,
            self.inferred,
        )


def expected_state(records: Iterable[TruthRecord]) -> dict[str, Any]:
    """The expected state of the parcel with these distinct records; fields as in ParcelState.

    Three fields are shortened. `kinds` is {kind: [first, last, count]}. `entries` is the SHA-256 of all records in
    their order, each as the JSON of [hash in hex, whether it is voided, utc_offset_minutes, inferred, [site, station,
    lane, reason] or null, container_id, voids in hex, plan, promised_at] with sorted names. `live` is that of the
    records that count.
    """
    ordered = sorted(
        ((record.event_time, _RANK[record.kind], record.record_hash(), record) for record in records),
        key=itemgetter(0, 1, 2),
    )
    ineffective, containers_after = _containers([(record_hash, record) for *_, record_hash, record in ordered])
    digest, effective_digest = sha256(), sha256()
    for _, _, record_hash, record in ordered:
        voided = record.kind != "VOID" and record_hash in ineffective
        entry = _entry(record_hash, record, voided=voided)
        digest.update(entry)
        if not voided and record.kind != "VOID":
            effective_digest.update(entry)
    effective = [
        (record_hash, record)
        for *_, record_hash, record in ordered
        if record.kind != "VOID" and record_hash not in ineffective
    ]
    kinds: dict[str, list[int]] = {}
    state: dict[str, Any] = {
        **dict.fromkeys(
            ("stage", "stage_time", "customs", "hold_reason", "site", "station", "container_id", "lane", "plan")
        ),
        "promised_at": None,
        "version": len(ordered),
        "held": False,
        "damaged": False,
        "no_reads": 0,
        "recirculations": 0,
        "kinds": kinds,
        "timeline_sha256": digest.hexdigest(),
        "effective_sha256": effective_digest.hexdigest(),
    }
    previous: str | None = None
    for record_hash, record in effective:
        kind, time = record.kind, record.event_time
        times = kinds.setdefault(kind, [time, time, 0])
        times[1], times[2] = time, times[2] + 1
        # An advice that comes after the parcel does not reset its stage.
        if kind in _STAGES or (kind == "ADVISED" and state["stage"] in (None, "ADVISED")):
            state["stage"], state["stage_time"] = kind, time
        if record.plan is not None:
            state["plan"], state["promised_at"] = dict(record.plan), record.promised_at
            continue
        if kind in _CUSTOMS:
            state["customs"], state["held"] = kind, kind == "CUSTOMS_HELD"
            state["hold_reason"] = record.reason if kind == "CUSTOMS_HELD" else None
        if kind not in _NO_LOCATION:
            state["site"], state["station"] = record.site, record.station
        container_after = containers_after[record_hash]
        if kind in UNCONTAINED or (record.container_id is None and previous is not None and container_after is None):
            state["container_id"] = None
        elif record.container_id is not None:
            state["container_id"] = record.container_id
        previous = container_after
        if kind in ("SORTED", "LOADED") and record.lane is not None:
            state["lane"] = record.lane
        state["damaged"] |= kind == "DAMAGED"
        state["no_reads"] += kind == "NO_READ"
        state["recirculations"] += kind == "RECIRCULATED"
    state["kinds"] = dict(sorted(kinds.items(), key=lambda item: _RANK[item[0]]))
    return state


def _entry(record_hash: bytes, record: TruthRecord, *, voided: bool) -> bytes:
    location = None if record.plan is not None else [record.site, record.station, record.lane, record.reason]
    voids = None if record.voids is None else _hash(record.voids.encode()).hex()
    entry = (
        record_hash.hex(), voided, record.utc_offset_minutes, record.inferred, location, record.container_id, voids,
        record.plan, record.promised_at,
    )  # fmt: skip
    return json.dumps(entry, sort_keys=True).encode()


def _containers(ordered: Sequence[tuple[bytes, TruthRecord]]) -> tuple[set[bytes], dict[bytes, str | None]]:
    """Hashes of the records that do not count; and for each scan but VOIDs, the container of the parcel after it."""
    voided = {
        _hash(record.voids.encode()) for _, record in ordered if record.kind == "VOID" and record.voids is not None
    }
    scans = [(record_hash, record) for record_hash, record in ordered if record.kind != "VOID" and record.plan is None]
    verdict = derive_containment(
        [
            ChildScan(
                record.kind, record.site, record.container_id, record.inferred, record_hash in voided, record.reason
            )
            for record_hash, record in scans
        ]
    )
    superseded = {
        record_hash for (record_hash, _), is_superseded in zip(scans, verdict.superseded, strict=True) if is_superseded
    }
    return voided | superseded, {
        record_hash: container for (record_hash, _), container in zip(scans, verdict.containers_after, strict=True)
    }


class TruthFile:
    """Writes the truth while the simulation runs, parcel by parcel; the file gets its name once it is complete.

    It is a context manager, and a `ParcelRecordSink` of `Simulation`. The format:
    {"format", "seed", "promises_digest", "parcels": {parcel_id: parcel},
    "records", "duplicates", "dead_letters": {reason: count} of hub.scans, "container_dead_letters": of hub.containers,
    "throughput": {site: {station: {kind: {direction: {minute since 1970: scans}}}}}}

    A parcel has the fields of `expected_state` and four more. "journeys" and "clocks" are as in ParcelState.
    "active_alerts" is {condition: type}. "alerts" is [[type, condition, hub_time, alert_id in hex]] of all alerts that
    must be in parcel.alerts. A parcel that retired also has "retired", and no state if no record came after that.

    With "has_container_events" (true) the log has container events. The order in which they and the inferred scans mix
    with the other records is not known. The truth then holds once a tick of the hub time "final_hub_time" has followed
    all of them. Its parcels have no "version", "timeline_sha256" and "alerts". They have "optional_alerts": the
    conditions of which an alert may be active or not, which are those of stopped clocks and of scans ahead of the hub
    time.
    """

    def __init__(self, path: Path, scenario: Scenario, promises: Promises | None = None) -> None:
        """`promises`: those that the worker evaluates; None for the default ones."""
        self._path, self._part, self._seed = path, path.with_name(path.name + ".part"), scenario.seed
        self._promises = promises or Promises.default()
        # The order in which two logs are read is not known: their truth is the result once all records have been read.
        self._final_hub_time = None if scenario.scans_only else scenario.last_tick_ms
        end = scenario.end_ms if self._final_hub_time is None else self._final_hub_time + 1
        self._schedule = TickSchedule(scenario.start_ms, scenario.tick_ms, end)
        self._throughput = ExpectedThroughput()
        self._complete = False

    def __enter__(self) -> Self:
        """Open the file and write its head.

        Raises:
            Misconfigured: the file cannot be written.
        """
        try:
            self._file = self._part.open("w", encoding="utf-8")
        except OSError as error:
            raise Misconfigured(f"the truth file cannot be written: {error}") from error
        self._file.write(f'{{"format": {json.dumps(FORMAT)},\n"seed": {self._seed},\n')
        self._file.write(f'"promises_digest": "{self._promises.digest()}",\n')
        if self._final_hub_time is not None:
            self._file.write(f'"has_container_events": true,\n"final_hub_time": {self._final_hub_time},\n')
        self._file.write('"parcels": {')
        self._separator = "\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._complete:
            self._part.replace(self._path)
        else:
            self._part.unlink()

    def __call__(self, columns: RecordColumns) -> None:
        """Write the truth of some parcels, from all their records."""
        parcels: dict[str, list[tuple[int, TruthRecord]]] = {}
        for time, (parcel_id, record) in zip(_log_times(columns), truth_records(columns), strict=True):
            parcels.setdefault(parcel_id, []).append((time, record))
        for parcel_id, log_records in parcels.items():
            self._file.write(
                f"{self._separator}{json.dumps(parcel_id)}: {json.dumps(self._parcel(parcel_id, log_records))}"
            )
            self._separator = ",\n"

    def _parcel(self, parcel_id: str, log_records: list[tuple[int, TruthRecord]]) -> dict[str, Any]:
        log_records.sort(key=itemgetter(0))
        records_by_hash = {record.record_hash(): record for _, record in log_records}
        expected = derive_alerts(
            parcel_id,
            [(time, record.to_reference()) for time, record in log_records],
            self._schedule,
            self._promises,
            _hash,
        )
        for records in (*expected.retired_records, expected.records):
            self._throughput.add(records)
        alerts = [
            [alert["type"], alert["condition"], alert["hub_time"], alert["alert_id"].hex()] for alert in expected.alerts
        ]
        parcel: dict[str, Any] = {"alerts": alerts}
        if expected.retired:
            parcel["retired"] = True
        if expected.records:
            state = expected_state(records_by_hash[record.record_hash] for record in expected.records)
            final = {"journeys": expected.journeys, "clocks": expected.clocks, "active_alerts": expected.active_alerts}
            parcel = {**state, **final, **parcel}
        if self._final_hub_time is not None:
            return _order_independent(parcel)
        parcel.pop("effective_sha256", None)
        return parcel

    def complete(self, counts: LogCounts) -> None:
        """Add the totals of the whole log, so that leaving the context keeps the file."""
        totals = {
            "records": counts.records,
            "duplicates": counts.duplicates,
            "dead_letters": dict(sorted(counts.dead_letters.items())),
            "container_dead_letters": dict(sorted(counts.container_dead_letters.items())),
            "throughput": self._throughput.to_dict(),
        }
        self._file.write("\n},\n" + json.dumps(totals).removeprefix("{") + "\n")
        self._complete = True


def _order_independent(parcel: dict[str, Any]) -> dict[str, Any]:
    """The part of a parcel's truth that does not depend on the order in which two logs are read."""
    kept = {name: value for name, value in parcel.items() if name not in ("alerts", "version", "timeline_sha256")}
    stopped = {clock["promise"] for clock in parcel.get("clocks", ()) if clock["stopped_at"] is not None}
    active_alerts = parcel.get("active_alerts", {})
    # A promise that is known to be kept raises no AT_RISK; a scan is ahead of the hub time for a short while only.
    optional_alerts = stopped | {"FROM_THE_FUTURE"}
    kept["active_alerts"] = {
        subject: type_
        for subject, type_ in active_alerts.items()
        if subject not in optional_alerts or type_ == "BREACHED"
    }
    kept["optional_alerts"] = sorted(optional_alerts - kept["active_alerts"].keys())
    return kept


def _log_times(columns: RecordColumns) -> list[int]:
    """The time at which each scan and advice entered the log."""
    is_parcel_record = (columns.types == RecordType.SCAN) | (columns.types == RecordType.ADVICE)
    times: list[int] = columns.append_times[is_parcel_record].tolist()
    return times


def truth_records(columns: RecordColumns) -> Iterable[tuple[str, TruthRecord]]:
    """Every scan and advice of `columns`, with its parcel_id."""
    # The simulator writes ASCII only, so that byte offsets are offsets in this string.
    text = columns.text.tobytes().decode("ascii")

    def texts(field: str) -> list[str | None]:
        offsets, lengths = columns.columns[field]
        return [
            None if length < 0 else text[start : start + length]
            for start, length in zip(offsets.tolist(), lengths.tolist(), strict=True)
        ]

    def numbers(field: str) -> list[int]:
        values: list[int] = columns.columns[field][0].tolist()
        return values

    scan_fields = ("site", "station", "lane", "reason", "container_id", "voids")
    plan_fields = ("service", "origin", "destination", "planned_lane", "owner")
    scanned = zip(*(texts(field) for field in scan_fields), strict=True)
    planned = zip(*(texts(field) for field in plan_fields), strict=True)
    promised = np.where(columns.columns["promised_at"][1] < 0, -1, columns.columns["promised_at"][0]).tolist()
    inferred_from = columns.columns["inferred_from"][1].tolist()
    for type_, parcel_id, event_id, kind, time, offset, scan, plan, direction, promise, length in zip(
        columns.types.tolist(), texts("parcel_id"), texts("event_id"), numbers("kind"), numbers("event_time"),
        numbers("utc_offset_minutes"), scanned, planned, numbers("direction"), promised, inferred_from, strict=True,
    ):  # fmt: skip
        if parcel_id is None or event_id is None:
            continue
        if type_ == RecordType.SCAN:
            scan_record = TruthRecord(event_id, KINDS[kind], time, *scan)
            yield parcel_id, scan_record._replace(inferred=length >= 0, utc_offset_minutes=offset)
        elif type_ == RecordType.ADVICE:
            plan_fields_by_name = {"direction": DIRECTIONS[direction], **dict(zip(plan_fields, plan, strict=True))}
            yield (
                parcel_id,
                TruthRecord(
                    event_id, "ADVISED", time, plan=plan_fields_by_name, promised_at=None if promise < 0 else promise
                ),
            )


def _hash(record: bytes) -> bytes:
    return struct.pack(">QQ", *mmh3.hash64(record, 0, x64arch=True, signed=False))
