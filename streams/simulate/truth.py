"""The truth file: what the state of each parcel must be, derived from the simulated records in plain Python.

It shares no code with the worker, so that the two can be held against each other. The rules in one place:

- A record is known by the 128-bit MurmurHash3 of its event_id (a VOID: of the event_id, a NUL byte and its event_time).
- A parcel's records are in the order of event_time, kind and identity, whatever the order of their arrival.
- A record that a VOID of the same parcel names counts for nothing but `version` and `entries`, and neither does one
  that was inferred from a container in which the parcel was not (`streams/domain/reference/containment.py`).

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

# Written out here, not taken from the bit sets that the worker uses.
_STAGES: Final = frozenset(
    {
        "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
        "RETURNED", "LOST",
    }
)  # fmt: skip
_CUSTOMS: Final = frozenset({"CUSTOMS_PRESENTED", "CUSTOMS_HELD", "CUSTOMS_RELEASED", "CUSTOMS_REFUSED"})
_NO_PLACE: Final = _CUSTOMS | {"OTHER", "ADVISED", "LOST", "VOID"}
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

    def identity(self) -> bytes:
        """By which it is known."""
        name = self.event_id.encode()
        return _hash(name + b"\0" + struct.pack(">q", self.event_time) if self.kind == "VOID" else name)

    def record(self) -> ParcelRecord:
        """The same for `streams/domain/reference/promise_clocks.py`."""
        return ParcelRecord(
            self.identity(),
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
    """What the state of the parcel with these records, all distinct, must be: fields as in ParcelState.

    Three say it shorter: `kinds` is {kind: [first, last, count]}, `entries` is the SHA-256 of all records in their
    order, each as the JSON of [identity in hex, is it voided, utc_offset_minutes, inferred, [site, station, lane,
    reason] or null, container_id, voids in hex, plan, promised_at] with sorted names, and `live` that of those that
    count.
    """
    named = sorted(
        ((said.event_time, _RANK[said.kind], said.identity(), said) for said in records), key=itemgetter(0, 1, 2)
    )
    gone, inside = _containers([(identity, said) for *_, identity, said in named])
    digest, live_digest = sha256(), sha256()
    for _, _, identity, said in named:
        voided = said.kind != "VOID" and identity in gone
        entry = _entry(identity, said, voided=voided)
        digest.update(entry)
        if not voided and said.kind != "VOID":
            live_digest.update(entry)
    live = [(identity, said) for *_, identity, said in named if said.kind != "VOID" and identity not in gone]
    kinds: dict[str, list[int]] = {}
    state: dict[str, Any] = {
        **dict.fromkeys(
            ("stage", "stage_time", "customs", "hold_reason", "site", "station", "container_id", "lane", "plan")
        ),
        "promised_at": None,
        "version": len(named),
        "held": False,
        "damaged": False,
        "no_reads": 0,
        "recirculations": 0,
        "kinds": kinds,
        "entries": digest.hexdigest(),
        "live": live_digest.hexdigest(),
    }
    before: str | None = None
    for identity, said in live:
        kind, time = said.kind, said.event_time
        seen = kinds.setdefault(kind, [time, time, 0])
        seen[1], seen[2] = time, seen[2] + 1
        # An advice that comes after the parcel does not move it back.
        if kind in _STAGES or (kind == "ADVISED" and state["stage"] in (None, "ADVISED")):
            state["stage"], state["stage_time"] = kind, time
        if said.plan is not None:
            state["plan"], state["promised_at"] = dict(said.plan), said.promised_at
            continue
        if kind in _CUSTOMS:
            state["customs"], state["held"] = kind, kind == "CUSTOMS_HELD"
            state["hold_reason"] = said.reason if kind == "CUSTOMS_HELD" else None
        if kind not in _NO_PLACE:
            state["site"], state["station"] = said.site, said.station
        after = inside[identity]
        if kind in UNCONTAINED or (said.container_id is None and before is not None and after is None):
            state["container_id"] = None
        elif said.container_id is not None:
            state["container_id"] = said.container_id
        before = after
        if kind in ("SORTED", "LOADED") and said.lane is not None:
            state["lane"] = said.lane
        state["damaged"] |= kind == "DAMAGED"
        state["no_reads"] += kind == "NO_READ"
        state["recirculations"] += kind == "RECIRCULATED"
    state["kinds"] = dict(sorted(kinds.items(), key=lambda item: _RANK[item[0]]))
    return state


def _entry(identity: bytes, said: TruthRecord, *, voided: bool) -> bytes:
    where = None if said.plan is not None else [said.site, said.station, said.lane, said.reason]
    voids = None if said.voids is None else _hash(said.voids.encode()).hex()
    entry = (
        identity.hex(), voided, said.utc_offset_minutes, said.inferred, where, said.container_id, voids, said.plan,
        said.promised_at,
    )  # fmt: skip
    return json.dumps(entry, sort_keys=True).encode()


def _containers(named: Sequence[tuple[bytes, TruthRecord]]) -> tuple[set[bytes], dict[bytes, str | None]]:
    """Identities of the records that do not count; and of each scan that is no VOID, what the parcel is in after it."""
    voided = {_hash(said.voids.encode()) for _, said in named if said.kind == "VOID" and said.voids is not None}
    scans = [(identity, said) for identity, said in named if said.kind != "VOID" and said.plan is None]
    judged = derive_containment(
        [
            ChildScan(said.kind, said.site, said.container_id, said.inferred, identity in voided, said.reason)
            for identity, said in scans
        ]
    )
    aside = {identity for (identity, _), is_aside in zip(scans, judged.superseded, strict=True) if is_aside}
    return voided | aside, {identity: held for (identity, _), held in zip(scans, judged.containers_after, strict=True)}


class TruthFile:
    """Written while the simulation runs, parcel by parcel; there under its name once it is complete.

    A context manager and a witness of `Simulation`:
    {"format", "seed", "promises": digest, "parcels": {parcel_id: state_of(...) and four more},
    "records", "duplicates", "dead_letters": {reason: count} of hub.scans, "container_dead_letters": of hub.containers,
    "throughput": {site: {station: {kind: {direction: {minute since 1970: scans}}}}}}

    With "containers" (true) it is of a log with container events: how these and the scans that follow from them will be
    mixed with the others is not known. It then tells what holds once a tick of the hub time "settled" has come after
    all of them; of the parcels it has no "version", "entries" and "told", but "perhaps": about what an alert of a clock
    that is stopped, or of a scan ahead of its time, may stand or not.

    The four: "journeys" and "clocks" as in ParcelState, "standing": {about: type} of what was told and stands, and
    "told": [[type, about, hub_time, alert_id in hex]] of all that must ever be told. A parcel that retired has
    "retired", and no state if nothing came of it since.
    """

    def __init__(self, path: Path, scenario: Scenario, promises: Promises | None = None) -> None:
        """`promises`: those that the worker keeps; None for the default ones."""
        self._path, self._part, self._seed = path, path.with_name(path.name + ".part"), scenario.seed
        self._promises = promises or Promises.default()
        # Of two logs nobody knows in which order they will be read: their truth is what stands when all has been.
        self._settled = None if scenario.expanded else scenario.last_tick_ms
        end = scenario.end_ms if self._settled is None else self._settled + 1
        self._ticks = TickSchedule(scenario.start_ms, scenario.tick_ms, end)
        self._counted = ExpectedThroughput()
        self._complete = False

    def __enter__(self) -> Self:
        """Begin the file.

        Raises:
            Misconfigured: it cannot be written there.
        """
        try:
            self._file = self._part.open("w", encoding="utf-8")
        except OSError as error:
            raise Misconfigured(f"the truth file cannot be written: {error}") from error
        self._file.write(f'{{"format": {json.dumps(FORMAT)},\n"seed": {self._seed},\n')
        self._file.write(f'"promises": "{self._promises.digest()}",\n')
        if self._settled is not None:
            self._file.write(f'"containers": true,\n"settled": {self._settled},\n')
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
        """Take in all records of some parcels."""
        parcels: dict[str, list[tuple[int, TruthRecord]]] = {}
        for time, (parcel_id, said) in zip(_log_times(columns), truth_records(columns), strict=True):
            parcels.setdefault(parcel_id, []).append((time, said))
        for parcel_id, arrived in parcels.items():
            self._file.write(
                f"{self._separator}{json.dumps(parcel_id)}: {json.dumps(self._parcel(parcel_id, arrived))}"
            )
            self._separator = ",\n"

    def _parcel(self, parcel_id: str, arrived: list[tuple[int, TruthRecord]]) -> dict[str, Any]:
        arrived.sort(key=itemgetter(0))
        said_by = {said.identity(): said for _, said in arrived}
        watched = derive_alerts(
            parcel_id, [(time, said.record()) for time, said in arrived], self._ticks, self._promises, _hash
        )
        for known in (*watched.retired_records, watched.known):
            self._counted.add(known)
        told = [
            [alert["type"], alert["condition"], alert["hub_time"], alert["alert_id"].hex()] for alert in watched.alerts
        ]
        parcel: dict[str, Any] = {"told": told}
        if watched.retired:
            parcel["retired"] = True
        if watched.known:
            state = expected_state(said_by[record.record_hash] for record in watched.known)
            stood = {"journeys": watched.journeys, "clocks": watched.clocks, "standing": watched.standing}
            parcel = {**state, **stood, **parcel}
        if self._settled is not None:
            return _order_independent(parcel)
        parcel.pop("live", None)
        return parcel

    def complete(self, counts: LogCounts) -> None:
        """Add what the whole log holds; afterwards the file stays."""
        rest = {
            "records": counts.records,
            "duplicates": counts.duplicates,
            "dead_letters": dict(sorted(counts.dead_letters.items())),
            "container_dead_letters": dict(sorted(counts.container_dead_letters.items())),
            "throughput": self._counted.to_dict(),
        }
        self._file.write("\n},\n" + json.dumps(rest).removeprefix("{") + "\n")
        self._complete = True


def _order_independent(parcel: dict[str, Any]) -> dict[str, Any]:
    """What of it does not depend on the order in which two logs are read."""
    kept = {name: value for name, value in parcel.items() if name not in ("told", "version", "entries")}
    stopped = {clock["promise"] for clock in parcel.get("clocks", ()) if clock["stopped_at"] is not None}
    standing = parcel.get("standing", {})
    # Nobody is told that a promise was at risk when it is known to be kept; a scan is not ahead of the hub for long.
    perhaps = stopped | {"FROM_THE_FUTURE"}
    kept["standing"] = {
        about: type_ for about, type_ in standing.items() if about not in perhaps or type_ == "BREACHED"
    }
    kept["perhaps"] = sorted(perhaps - kept["standing"].keys())
    return kept


def _log_times(columns: RecordColumns) -> list[int]:
    """When each scan and advice entered the log."""
    kept = (columns.types == RecordType.SCAN) | (columns.types == RecordType.ADVICE)
    times: list[int] = columns.append_times[kept].tolist()
    return times


def truth_records(columns: RecordColumns) -> Iterable[tuple[str, TruthRecord]]:
    """Every scan and advice of `columns`, with its parcel_id."""
    # The simulator writes ASCII only, so that positions in its bytes are positions in this.
    text = columns.text.tobytes().decode("ascii")

    def texts(field: str) -> list[str | None]:
        at, size = columns.columns[field]
        return [
            None if length < 0 else text[begin : begin + length]
            for begin, length in zip(at.tolist(), size.tolist(), strict=True)
        ]

    def numbers(field: str) -> list[int]:
        listed: list[int] = columns.columns[field][0].tolist()
        return listed

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
            told = TruthRecord(event_id, KINDS[kind], time, *scan)
            yield parcel_id, told._replace(inferred=length >= 0, utc_offset_minutes=offset)
        elif type_ == RecordType.ADVICE:
            named = {"direction": DIRECTIONS[direction], **dict(zip(plan_fields, plan, strict=True))}
            yield (
                parcel_id,
                TruthRecord(event_id, "ADVISED", time, plan=named, promised_at=None if promise < 0 else promise),
            )


def _hash(said: bytes) -> bytes:
    return struct.pack(">QQ", *mmh3.hash64(said, 0, x64arch=True, signed=False))
