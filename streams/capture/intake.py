"""What a request brings, checked record by record, as entries for the spool.

Nothing here knows HTTP or who is asking beyond a name and a scope: the same code takes scans of a sorter, an Avro file
of a partner, and EPCIS documents.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from streams.capture import avro_bodies
from streams.capture.checks import Problem, milliseconds, shown
from streams.capture.devices import ANY
from streams.capture.documents import CheckedEvent
from streams.capture.event_hash import utc
from streams.capture.mapping import map_event, places_of
from streams.capture.spool_files import Entry, Target, identity
from streams.pipeline.record_lines import Reader

MAX_RECORDS: Final = 10_000
LINE_BYTES: Final = 64 << 10
# An EPCIS event of one line may name any number of objects, and each becomes a record with all of the event's words.
MAX_OBJECTS: Final = 50_000
# What one request may become; well below the largest frame that the spool reads back.
MAX_BYTES: Final = 32 << 20
_LISTS: Final = ("epcList", "childEPCs")


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


# One decoder for all lines: making one costs as much as reading a line.
_DECODER: Final = json.JSONDecoder(parse_constant=_no_number)
# Whether somebody may speak for a station of a site.
Scope = Callable[[str, str], bool]
# Site and station of a record. An advice is of no place, so whoever speaks for it speaks for all of them.
Place = tuple[str, str]
_EVERYWHERE: Final[Place] = (ANY, ANY)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, as far as records are concerned. An empty name is nobody in particular."""

    name: str
    may_speak_for: Scope
    # The clock of the log is no scanner's business; only where everybody is let in may it come this way.
    may_tick: bool = False


@dataclass(slots=True)
class Taken:
    """What became of the records of one request, before they are on disk."""

    results: list[dict[str, Any]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    # Identities to remember once they are on disk, and what place each speaks of, as far as it does.
    identities: dict[bytes, Place | None] = field(default_factory=dict)
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    # Objects that its EPCIS events name, and bytes that these become.
    objects: int = 0
    bytes: int = 0
    # Records that were refused because of who sent them.
    out_of_scope: int = 0


class Known:
    """Identities of what is on disk, as many of the newest as fit; safe to use from one thread."""

    def __init__(self, most: int = 300_000) -> None:
        self._most = most
        self._seen: dict[bytes, Place | None] = {}

    def __contains__(self, same: bytes) -> bool:
        return same in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def place(self, same: bytes) -> Place | None:
        """Of which place this record speaks; None where that is not known (any more)."""
        return self._seen.get(same)

    def add(self, identities: Iterable[bytes] | Mapping[bytes, Place | None]) -> None:
        """Remember these."""
        self._seen.update(identities if isinstance(identities, Mapping) else dict.fromkeys(identities))
        surplus = len(self._seen) - self._most
        if surplus > 0:
            for same in [same for same, _ in zip(self._seen, range(surplus), strict=False)]:
                del self._seen[same]


class Intake:
    """Turns requests into entries."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self._reader = Reader()

    def ndjson(self, body: bytes, sender: Sender) -> Taken:
        """Newline-delimited JSON: one result a line that holds something."""
        return self._records(_lines(body), sender)

    def avro(self, body: bytes, sender: Sender, largest: int) -> Taken:
        """An Avro container; what follows a place that cannot be read is refused as one."""
        return self._records(_containers(body, largest), sender)

    def _records(self, said: Iterator[Any], sender: Sender) -> Taken:
        taken, now = Taken(), int(time.time() * 1000)
        fresh: set[bytes] = set()
        for index, each in enumerate(said):
            if index >= MAX_RECORDS:
                raise TooManyError(f"a request has at most {MAX_RECORDS:,} records")
            try:
                if isinstance(each, ValueError):
                    raise each
                if sender.may_tick and isinstance(each, dict) and each.get("type") == "tick":
                    line = self._reader(each)
                    assert line.value is not None
                    taken.entries.append(Entry(Target.SCANS, identity("tick"), None, line.value))
                    taken.accepted += 1
                    taken.results.append({"index": index, "status": "accepted"})
                    continue
                record = _record(each, sender, now)
                same = scan_identity(record)
                if same in self.known or same in fresh:
                    taken.duplicates += 1
                    taken.results.append({"index": index, "status": "duplicate", "event_id": record["event_id"]})
                    continue
                line = self._reader(record)
                place = (record["site"], record["station"]) if record["type"] == "scan" else _EVERYWHERE
                if not sender.may_speak_for(*place):
                    taken.out_of_scope += 1
                    said_of = shown(" ".join(place)) if place is not _EVERYWHERE else "every place, as an advice does"
                    raise ValueError(f"{sender.name} may not speak for {said_of}")
                if not self._may_void(record, sender):
                    taken.out_of_scope += 1
                    raise ValueError(f"{sender.name} may not declare wrong what another place said")
            except ValueError as error:
                taken.refused += 1
                taken.results.append({"index": index, "status": "refused", "error": str(error)})
                continue
            fresh.add(same)
            assert line.value is not None
            taken.entries.append(Entry(Target.SCANS, same, line.key, line.value))
            taken.identities[same] = place
            taken.accepted += 1
            taken.results.append({"index": index, "status": "accepted", "event_id": record["event_id"]})
        return taken

    def event(self, event: CheckedEvent, sender: Sender, taken: Taken) -> str:
        """Take one checked event without problems; "accepted", "duplicate" or "refused" (out of scope).

        Raises:
            TooManyError: all events of the request so far give more than the spool takes at once.
            ValueError: the log cannot hold what it says of a parcel: a time before 1900, a control character.
        """
        assert event.event_id is not None
        now = int(time.time() * 1000)
        same = event_identity(event.raw, event.event_id)
        if same in self.known or same in taken.identities:
            taken.duplicates += 1
            return "duplicate"
        taken.objects += sum(len(event.raw[name]) for name in _LISTS if isinstance(event.raw.get(name), list))
        if taken.objects > MAX_OBJECTS:
            raise TooManyError(f"the events of a request name at most {MAX_OBJECTS:,} objects")
        mapped = map_event(event.raw, event.event_id, event.prefixes, now, sender.name)
        places = {(scan["site"], scan["station"]) for scan in mapped.scans}
        places |= {(container.site, container.station) for container in mapped.containers}
        # What gives no scan is kept as well, and holds a claim about a place.
        named = places_of(event.raw)
        within = all(sender.may_speak_for(*place) for place in places | set(named))
        voids = [{"event_id": event.event_id, "parcel_id": "", "voids": event.event_id}] if _declares(event.raw) else []
        if not within or not all(self._may_void(void, sender) for void in [*voids, *mapped.scans]):
            taken.refused += 1
            taken.out_of_scope += 1
            return "refused"
        entries = []
        for scan in mapped.scans:
            line = self._reader(scan)
            assert line.value is not None
            entries.append(Entry(Target.SCANS, scan_identity(scan), line.key, line.value))
        for each in mapped.containers:
            key = each.container_id.encode()
            declared = str(each.event_time) if each.voids is not None else ""
            about = identity(each.event_id, each.container_id, declared)
            entries.append(Entry(Target.CONTAINERS, about, key, each.encoded()))
        kept = {**event.raw, "eventID": event.event_id, "recordTime": _iso(now)}
        value = json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()
        entries.append(Entry(Target.ARCHIVE, same, sender.name.encode() or None, value))
        taken.bytes += sum(len(entry.value) + len(entry.key or b"") for entry in entries)
        if taken.bytes > MAX_BYTES:
            raise TooManyError(f"the events of a request become at most {MAX_BYTES >> 20} MiB of records")
        taken.entries += entries
        taken.identities[same] = next(iter([*named, *places]), None)
        taken.accepted += 1
        return "accepted"

    def _may_void(self, record: Mapping[str, Any], sender: Sender) -> bool:
        """False where this declares wrong what came here from a place that the sender does not speak for."""
        voids = record.get("voids")
        if not isinstance(voids, str):
            return True
        # As a record of its own, and as an event of EPCIS.
        about = (identity(voids, record["parcel_id"], ""), identity(voids, ""))
        places = [self.known.place(same) for same in about]
        return all(place is None or sender.may_speak_for(*place) for place in places)


def _declares(event: Mapping[str, Any]) -> bool:
    return event.get("errorDeclaration") is not None


class TooManyError(ValueError):
    """More records than one request may have."""


def event_identity(event: Mapping[str, Any], event_id: str) -> bytes:
    """An event and a declaration that it is wrong have one eventID, and are two (gs1/EPCIS issue 48)."""
    declaration = event.get("errorDeclaration")
    return identity(event_id, utc(str(declaration["declarationTime"])) if declaration else "")


def scan_identity(record: Mapping[str, Any]) -> bytes:
    """What makes a scan or an advice the same when it comes again, as the worker sees it.

    A VOID may have the event_id of what it declares wrong, and is told apart by the time of the declaration.
    """
    declared = ""
    if record.get("kind") == "VOID":
        time = record.get("event_time")
        declared = str(milliseconds(time) if isinstance(time, str) else time)
    return identity(record["event_id"], record["parcel_id"], declared)


def problems_for(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Problems as they stand in an answer."""
    return [asdict(problem) for problem in problems]


def _record(said: Any, sender: Sender, now: int) -> dict[str, Any]:
    """A record as the reader of lines takes it: with its type, its identity, and the time of this gateway."""
    if not isinstance(said, dict):
        raise ValueError("a line is a JSON object")  # noqa: TRY004 - one class for all that may be wrong with a line
    record = {**said, "record_time": now}
    kind = record.setdefault("type", "scan")
    if kind not in ("scan", "advice"):
        raise ValueError(f"type is {shown(kind)}; a gateway takes scan and advice")
    if kind == "scan" and not record.get("device_id") and sender.name:
        record["device_id"] = sender.name
    if record.get("event_id") is None:
        device, sequence = record.get("device_id"), record.get("device_seq")
        if kind == "advice" or not isinstance(device, str) or not device or type(sequence) is not int:
            raise ValueError("event_id is missing: give it, or device_id and device_seq of a scan")
        record["event_id"] = f"urn:parcels:device:{device}:{sequence}"
    needed = ("event_id", "parcel_id", "site", "station") if kind == "scan" else ("event_id", "parcel_id")
    wrong = [name for name in needed if not isinstance(record.get(name), str)]
    if wrong:
        raise ValueError(f"{wrong[0]} is {shown(record.get(wrong[0]))}; it must be a text")
    return record


def _lines(body: bytes) -> Iterator[Any]:
    for line in body.split(b"\n"):
        text = line.strip()
        if not text:
            continue
        if len(text) > LINE_BYTES:
            yield ValueError(f"the line is longer than {LINE_BYTES:,} bytes")
            continue
        try:
            yield _DECODER.decode(text.decode())
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
        yield from avro_bodies.records(body, largest, MAX_RECORDS)
    except avro_bodies.BadAvro as error:
        yield ValueError(f"{error}; nothing after that was read")


def _iso(moment_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(moment_ms // 1000)) + f"{moment_ms % 1000:03}Z"
