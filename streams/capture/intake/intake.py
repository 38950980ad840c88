"""What a request brings, checked record by record, as entries for the spool.

Nothing here knows HTTP or who is asking beyond a name and a scope: the same code takes scans of a sorter, an Avro file
of a partner, and EPCIS documents.
"""

import asyncio
import json
import time
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from streams.capture.auth.principal import Principal
from streams.capture.epcis.checks import RuleViolation, format_value, parse_epoch_ms
from streams.capture.epcis.documents import CheckedEvent
from streams.capture.epcis.event_hash import normalize_time
from streams.capture.epcis.mapping import EventRecords, map_event, named_locations
from streams.capture.epcis.vocabulary import STANDARD_CONTEXT, STANDARD_PREFIXES
from streams.capture.intake import untrusted_avro
from streams.capture.intake.dedup_cache import (
    ALL_LOCATIONS,
    CapturedEvent,
    DedupCache,
    DedupEntry,
    DedupEntryReader,
    captured_event_key,
    event_content_hash,
    event_location_or_none,
)
from streams.capture.intake.intake_result import IntakeResult
from streams.capture.intake.time_slicer import TimeSlicer
from streams.capture.spool.segment_files import SpoolEntry, Target, identity_hash
from streams.formats.record_parser import RecordParser

MAX_RECORDS: Final = 10_000
MAX_LINE_BYTES: Final = 64 << 10
# An event of a container lists its children.
MAX_CONTAINER_LINE_BYTES: Final = 1 << 20
# An EPCIS event of one line may name any number of objects, and each becomes a record with all of the event's words.
MAX_OBJECTS: Final = 50_000
# What one request may become; well below the largest frame that the spool reads back.
MAX_OUTPUT_BYTES: Final = 32 << 20
_LISTS: Final = ("epcList", "childEPCs")


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(
            f"the key {format_value(twice)} stands twice in one object: readers would differ about its value"
        )
    return found


# One decoder for all lines: making one costs as much as reading a line.
_DECODER: Final = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_distinct)
# Whether somebody may speak for a station of a site, and under the name of a device.
# An id that a device's own number makes; nobody else may use it.
_DEVICE: Final = "urn:parcels:device:"


class OutOfScopeError(ValueError):
    """The sender may not say this."""


class ConflictError(ValueError):
    """The identity is known, with other content."""


class Intake:
    """Turns requests into entries."""

    def __init__(self, known: DedupCache) -> None:
        self.known = known
        self._reader = RecordParser()
        self._contents = DedupEntryReader()
        self._queue = asyncio.Lock()

    async def ndjson(self, body: bytes, sender: Principal) -> IntakeResult:
        """Newline-delimited JSON: one result a line that holds something."""
        return await self._records(_lines(body), sender)

    async def avro(self, body: bytes, sender: Principal, largest: int) -> IntakeResult:
        """An Avro container; what follows a place that cannot be read is refused as one."""
        return await self._records(_containers(body, largest), sender)

    def slices(self, taken: IntakeResult) -> TimeSlicer:
        """For taking a large request with others between."""
        return TimeSlicer(taken, self.known, self._queue)

    async def _records(self, said: Iterator[Any], sender: Principal) -> IntakeResult:
        taken, now = IntakeResult(), int(time.time() * 1000)
        async with self.slices(taken) as slices:
            for index, each in enumerate(said):
                if index >= MAX_RECORDS:
                    raise TooManyRecordsError(f"a request has at most {MAX_RECORDS:,} records")
                try:
                    if isinstance(each, ValueError):
                        raise each
                    result = self._record(each, sender, now, taken)
                except ValueError as error:
                    taken.out_of_scope += isinstance(error, OutOfScopeError)
                    taken.conflicts += isinstance(error, ConflictError)
                    taken.refused += not isinstance(error, ConflictError)
                    result = {"status": "refused", "error": str(error)}
                taken.results.append({"index": index, **result})
                if slices.over:
                    await slices.yield_to_others()
        return taken

    def _record(self, said: Any, sender: Principal, now: int, taken: IntakeResult) -> dict[str, Any]:
        """Take one record; what became of it.

        Raises:
            ValueError: it is refused.
        """
        if sender.may_send_ticks and isinstance(said, dict) and said.get("type") == "tick":
            line = self._reader(said)
            assert line.value is not None
            # To both logs: each has a time of its own.
            taken.entries += [
                SpoolEntry(target, identity_hash("tick"), None, line.value)
                for target in (Target.SCANS, Target.CONTAINERS)
            ]
            taken.accepted += 1
            return {"status": "accepted"}
        # 1. Is it right? 2. May the sender say it? 3. Is it known? Nobody learns of another's records by asking.
        record = _record(said, sender, now)
        line = self._reader(record)
        assert line.value is not None
        place = ALL_LOCATIONS if record["type"] == "advice" else (record["site"], record["station"])
        if not sender.is_authorized_for(*place):
            of = format_value(" ".join(place)) if place is not ALL_LOCATIONS else "every place, as an advice does"
            raise OutOfScopeError(f"{sender.name} may not speak for {of}")
        self._check_names(sender, record["event_id"], record.get("device_id"), record.get("voids"))
        self._check_void(record, sender)
        same, remembered = _line_identity(record), self._contents.from_value(line.value)
        if self._is_known(same, remembered.content, taken, record["event_id"]):
            taken.duplicates += 1
            return {"status": "duplicate", "event_id": record["event_id"]}
        taken.entries.append(SpoolEntry(_target(record), same, line.key, line.value))
        taken.dedup_entries[same] = remembered
        taken.accepted += 1
        return {"status": "accepted", "event_id": record["event_id"]}

    def event(self, event: CheckedEvent, sender: Principal, taken: IntakeResult) -> bool:
        """Take one checked event without problems; False where it is a duplicate.

        Raises:
            TooManyError: all events of the request so far give more than the spool takes at once.
            OutOfScopeError: the sender may not say this.
            ConflictError: its eventID is known with other content.
            ValueError: the log cannot hold what it says of a parcel: a time before 1900, a control character.
        """
        assert event.event_id is not None
        assert event.event_hash is not None
        taken.object_count += sum(len(event.raw[name]) for name in _LISTS if isinstance(event.raw.get(name), list))
        if taken.object_count > MAX_OBJECTS:
            raise TooManyRecordsError(f"the events of a request name at most {MAX_OBJECTS:,} objects")
        now = int(time.time() * 1000)
        mapped = map_event(event.raw, event.event_id, event.prefixes, now, sender.name)
        self._check_scope(event, mapped, sender)
        same, content = event_identity(event.raw, event.event_id), event_content_hash(event.raw, event.event_hash)
        if self._is_known(same, content, taken, event.event_id):
            taken.duplicates += 1
            return False
        if event.raw.get("errorDeclaration") is not None:
            # It repeats what it declares wrong: from other content other VOIDs would follow than there were records.
            self._is_known(
                identity_hash(event.event_id, ""), event_content_hash({}, event.event_hash), taken, event.event_id
            )
        entries, remembered = [], dict[bytes, DedupEntry]()
        for record in (*mapped.scans, *mapped.containers):
            line = self._reader(record)
            assert line.value is not None
            about, what = record_identity(record), self._contents.from_value(line.value)
            # The same as a record of /scans, perhaps; then that one counts.
            if not self._is_known(about, what.content, taken, event.event_id):
                entries.append(SpoolEntry(_target(record), about, line.key, line.value))
                remembered[about] = what
        archived = CapturedEvent(sender.name, _kept(event, now))
        entries.append(SpoolEntry(Target.EVENT_ONLY, same, captured_event_key(sender.name, content), archived.event))
        taken.bytes += sum(len(entry.value) + len(entry.key or b"") for entry in entries)
        if taken.bytes > MAX_OUTPUT_BYTES:
            raise TooManyRecordsError(f"the events of a request become at most {MAX_OUTPUT_BYTES >> 20} MiB of records")
        taken.entries += entries
        taken.dedup_entries |= remembered
        # Last, so that the event is forgotten after its scans.
        taken.dedup_entries[same] = DedupEntry(content, event_location_or_none(event.raw))
        taken.events[same] = archived
        taken.accepted += 1
        return True

    def _check_scope(self, event: CheckedEvent, mapped: EventRecords, sender: Principal) -> None:
        places = {(record["site"], record["station"]) for record in (*mapped.scans, *mapped.containers)}
        # What gives no scan is kept as well, and holds a claim about a place.
        places |= set(named_locations(event.raw))
        if not all(sender.is_authorized_for(*place) for place in places):
            raise OutOfScopeError("the sender may not speak for this place")
        declared = event.event_id if event.raw.get("errorDeclaration") is not None else None
        devices = {record["device_id"] for record in (*mapped.scans, *mapped.containers)}
        for device in devices or {""}:
            # A URI is a sensor; names of senders are none.
            self._check_names(sender, str(event.event_id), device if ":" not in device else "", declared)
        if declared is not None:
            certified = event.event_id == event.event_hash
            void = {"event_id": declared, "parcel_id": "", "voids": declared}
            for each in (void, *mapped.scans, *mapped.containers):
                self._check_void(each, sender, certified=certified)

    def _check_names(self, sender: Principal, event_id: str, device: str | None, voids: str | None) -> None:
        """Nobody speaks as another device, nor uses up the ids that its numbers will make."""
        if device and not sender.may_act_as(device):
            raise OutOfScopeError(f"{sender.name} may not speak as device {format_value(device)}")
        # A declaration may have the id of what it declares wrong, and is no obstacle to it.
        if event_id.startswith(_DEVICE) and event_id != voids and not sender.may_act_as(_device_of(event_id)):
            raise OutOfScopeError(
                f"{sender.name} may not use {format_value(event_id)}, which is an id of another device"
            )

    def _check_void(self, record: Mapping[str, Any], sender: Principal, *, certified: bool = False) -> None:
        """Whoever speaks for a place declares wrong what was said there.

        What is not remembered can be anybody's. `certified`: its id is the hash of what it says, its place included.
        """
        voids = record.get("voids")
        if not isinstance(voids, str) or sender.is_authorized_for(*ALL_LOCATIONS):
            return
        if voids.startswith(_DEVICE) and sender.may_act_as(_device_of(voids)):
            return
        # As a record of its own, by a device's number or not, and as an event of EPCIS.
        said = {**record, "kind": None, "event_id": voids}
        about = (_line_identity(said), record_identity(said), identity_hash(voids, ""))
        places = [found.place for found in map(self.known.find, about) if found is not None and found.place is not None]
        if not all(sender.is_authorized_for(*place) for place in places):
            raise OutOfScopeError(f"{sender.name} may not declare wrong what another place said")
        if not places and not certified:
            raise OutOfScopeError(
                f"{format_value(voids)} is not remembered here, so only somebody enrolled for all sites declares it wrong"
            )

    def _is_known(self, same: bytes, content: bytes, taken: IntakeResult, event_id: str) -> bool:
        """Is it here already, and the same?

        Raises:
            ConflictError: it is here, and another one.
            BusyError: another one is being stored.
        """
        found = taken.dedup_entries.get(same) or self.known.find(same)
        if found is None:
            self.known.check_unreserved(same, content)
            return False
        if found.content and content and found.content != content:
            raise ConflictError(f"{format_value(event_id)} is known with other content; an id stands for one record")
        return True


def _device_of(event_id: str) -> str:
    return event_id.removeprefix(_DEVICE).rpartition(":")[0]


def _kept(event: CheckedEvent, now: int) -> bytes:
    """An event as it is archived: it stands alone, with the prefixes of the document that it came in."""
    own = {name: full for name, full in event.prefixes.items() if STANDARD_PREFIXES.get(name) != full}
    context: list[Any] = [STANDARD_CONTEXT, *([own] if own else [])]
    kept = {**event.raw, "@context": context, "eventID": event.event_id, "recordTime": _iso(now)}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


class TooManyRecordsError(ValueError):
    """More records than one request may have."""


def event_identity(event: Mapping[str, Any], event_id: str) -> bytes:
    """An event and a declaration that it is wrong have one eventID, and are two (gs1/EPCIS issue 48)."""
    declaration = event.get("errorDeclaration")
    return identity_hash(event_id, normalize_time(str(declaration["declarationTime"])) if declaration else "")


def record_identity(record: Mapping[str, Any]) -> bytes:
    """What makes a scan, an advice or an event of a container the same when it comes again, as the worker sees it.

    A VOID may have the event_id of what it declares wrong, and is told apart by the time of the declaration.
    """
    declared = ""
    if record.get("kind") == "VOID":
        time = record.get("event_time")
        declared = str(parse_epoch_ms(time) if isinstance(time, str) else time)
    if record.get("type") == "container":
        return identity_hash("container", record["event_id"], record["container_id"], declared)
    return identity_hash(record["event_id"], record["parcel_id"], declared)


def _line_identity(record: Mapping[str, Any]) -> bytes:
    """As `record_identity`, but a device's number stands for one record, whatever that is about.

    So a device that counts from the start again is told, and not only where it sees the same parcel.
    """
    event_id = record["event_id"]
    if not event_id.startswith(_DEVICE):
        return record_identity(record)
    declares = record.get("kind") == "VOID" and event_id == record.get("voids")
    return identity_hash("number", event_id) if not declares else record_identity(record)


def _target(record: Mapping[str, Any]) -> Target:
    return Target.CONTAINERS if record["type"] == "container" else Target.SCANS


def violations_as_json(problems: Sequence[RuleViolation]) -> list[dict[str, str]]:
    """Problems as they stand in an answer."""
    return [asdict(problem) for problem in problems]


def _record(said: Any, sender: Principal, now: int) -> dict[str, Any]:
    """A record as the reader of lines takes it: with its type, its identity, and the time of this gateway."""
    if not isinstance(said, dict):
        raise ValueError("a line is a JSON object")  # noqa: TRY004 - one class for all that may be wrong with a line
    record = {**said, "record_time": now}
    kind = record.setdefault("type", "scan")
    if kind not in ("scan", "container", "advice"):
        raise ValueError(f"type is {format_value(kind)}; a gateway takes scan, container and advice")
    if kind == "container" and (record.get("inferred_from") is not None or record.get("path")):
        raise ValueError("what follows from other events of containers is not taken here")
    if kind != "advice" and not record.get("device_id") and sender.name:
        record["device_id"] = sender.name
    if record.get("event_id") is None:
        device, sequence = record.get("device_id"), record.get("device_seq")
        if kind == "advice" or not isinstance(device, str) or not device or type(sequence) is not int:
            raise ValueError("event_id is missing: give it, or device_id and device_seq")
        record["event_id"] = f"urn:parcels:device:{device}:{sequence}"
    needed = ["event_id", "container_id" if kind == "container" else "parcel_id"]
    needed += [] if kind == "advice" else ["site", "station"]
    wrong = [name for name in needed if not isinstance(record.get(name), str)]
    if wrong:
        raise ValueError(f"{wrong[0]} is {format_value(record.get(wrong[0]))}; it must be a text")
    return record


def _lines(body: bytes) -> Iterator[Any]:
    for line in body.removeprefix(BOM_UTF8).split(b"\n"):
        text = line.strip()
        if not text:
            continue
        if len(text) > MAX_CONTAINER_LINE_BYTES:
            yield ValueError(f"the line is longer than {MAX_CONTAINER_LINE_BYTES:,} bytes")
            continue
        try:
            said = _DECODER.decode(text.decode())
            if len(text) > MAX_LINE_BYTES and (not isinstance(said, dict) or said.get("type") != "container"):
                raise ValueError(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
            yield said
        except RecursionError:
            yield ValueError("brackets are nested too deep; a record is flat")
        except UnicodeDecodeError:
            yield ValueError("this is not UTF-8")
        except json.JSONDecodeError as error:
            yield ValueError(f"this is not JSON: {error.msg} at character {error.colno}")
        except ValueError as error:
            yield ValueError(str(error))


def _containers(body: bytes, largest: int) -> Iterator[Any]:
    try:
        yield from untrusted_avro.read_records(body, largest, MAX_RECORDS)
    except untrusted_avro.InvalidAvroError as error:
        yield ValueError(f"{error}; nothing after that was read")


def _iso(moment_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(moment_ms // 1000)) + f"{moment_ms % 1000:03}Z"
