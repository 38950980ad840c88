"""What the gateway remembers of the newest records: that they are on disk, what they say, and of which place.

A repeat is known by its identity; whether it is one, by its content. The time of acceptance is no content: it is the
gateway's, and another one with every repeat. After a restart all of this is read back from the spool.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from streams.capture.auth.devices import WILDCARD
from streams.capture.epcis.mapping import event_location
from streams.capture.spool.segment_files import SpoolEntry, Target, identity_hash, list_segments, read_frames
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas

# Site and station of a record. An advice is of no place, so whoever speaks for it speaks for all of them.
Location = tuple[str, str]
ALL_LOCATIONS: Final[Location] = (WILDCARD, WILDCARD)
_CONTENT_BYTES: Final = 8
# Senders choose the names of places; beyond so many different ones, a record's place is not remembered.
_PLACES: Final = 1 << 16
# In front of the key of an archived event: its content, then who sent it.
_ARCHIVED: Final = b"\1"


class DedupEntry(NamedTuple):
    """What is known of a record; content b"" and place None where that is not known (any more)."""

    content: bytes
    place: Location | None


class CapturedEvent(NamedTuple):
    """An EPCIS event as it is archived, and who sent it."""

    sender: str
    event: bytes


class IdentityInFlightError(StreamsError):
    """Other content with the same identity is on its way to the disk right now: try again in a moment."""


# So many records are remembered at least.
DEDUP_GENERATION_SIZE: Final = 300_000


class DedupCache:
    """The newest records by their identity, at least so many and at most twice as many; for one thread.

    About 130 bytes each. They are forgotten a generation at a time: one dict of which the oldest are taken out again
    and again is slow, because its begin is full of holes.
    """

    def __init__(self, generation_size: int = DEDUP_GENERATION_SIZE) -> None:
        self._most = generation_size
        # Identity -> content and the number of the place, in one object.
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._places: list[Location | None] = [None]
        self._numbers: dict[Location | None, int] = {None: 0}
        self._storing: dict[bytes, bytes] = {}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._new or identity in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def find(self, identity: bytes) -> DedupEntry | None:
        """What is known of this record; None where it was never here, or is forgotten."""
        said = self._new.get(identity) or self._old.get(identity)
        if said is None:
            return None
        return DedupEntry(said[4:], self._places[int.from_bytes(said[:4], "little")])

    def add(self, records: Mapping[bytes, DedupEntry]) -> None:
        """Remember these, which are on disk."""
        for same, (content, place) in records.items():
            self._new[same] = self._number(place).to_bytes(4, "little") + content
        if len(self._new) >= self._most:
            self._new, self._old = {}, self._new

    @contextlib.contextmanager
    def reserve(self, records: Mapping[bytes, DedupEntry]) -> Iterator[None]:
        """While these are on their way to the disk, nothing else takes their identities."""
        contents = {same: each.content for same, each in records.items()}
        self._storing.update(contents)
        try:
            yield
        finally:
            for same in contents:
                self._storing.pop(same, None)

    def check_unreserved(self, identity: bytes, content: bytes) -> None:
        """May this record be stored?

        Raises:
            BusyError: not now.
        """
        if self._storing.get(identity, content) != content:
            raise IdentityInFlightError("another record with this id is being stored: try again")

    def _number(self, place: Location | None) -> int:
        number = self._numbers.get(place)
        if number is None:
            if len(self._places) >= _PLACES:
                return 0
            number = self._numbers[place] = len(self._places)
            self._places.append(place)
        return number


class EventCache:
    """The newest EPCIS events themselves, as many as fit, for whoever sent them; for one thread."""

    def __init__(self, max_bytes: int = 32 << 20) -> None:
        self._most, self._bytes = max_bytes, 0
        self._events: dict[bytes, CapturedEvent] = {}

    def add(self, events: Mapping[bytes, CapturedEvent]) -> None:
        """Keep these, which are on disk."""
        for same, archived in events.items():
            before = self._events.pop(same, None)
            self._bytes += len(archived.event) - (len(before.event) if before else 0)
            self._events[same] = archived
        while self._bytes > self._most:
            self._bytes -= len(self._events.pop(next(iter(self._events))).event)

    def find(self, identity: bytes, sender: str) -> bytes | None:
        """The event, if this sender sent it and it is still here."""
        found = self._events.get(identity)
        return found.event if found is not None and found.sender == sender else None


class DedupEntryReader:
    """What records say, from the bytes that are kept of them."""

    def __init__(self) -> None:
        schemas = load_schemas()
        # By the first bytes of a value: the fields in front of record_time, and whether site and station follow it.
        self._before = {
            schemas.to_wire_format(name, b""): _before(schemas.current(name))
            for name in ("Scan", "Advice", "ContainerEvent")
        }

    def from_value(self, value: bytes) -> DedupEntry:
        """Of a record of either log; nothing, where it was written by a version with another schema."""
        fields, has_place = self._before.get(value[:5], ((), False))
        if not fields:
            return DedupEntry(b"", None)
        at = 5
        for is_text in fields:
            at = _behind_text(value, at) if is_text else _behind_number(value, at)
        behind = _behind_number(value, at)
        content = blake2b(value[:at] + value[behind:], digest_size=_CONTENT_BYTES).digest()
        if not has_place:
            return DedupEntry(content, ALL_LOCATIONS)
        station = _behind_text(value, behind)
        return DedupEntry(content, (_text(value, behind), _text(value, station)))

    def from_spool_entry(self, entry: SpoolEntry) -> DedupEntry | None:
        """Of an entry of the spool; None for those that no repeat is known by."""
        if entry.target in (Target.SCANS, Target.CONTAINERS):
            return None if entry.key is None else self.from_value(entry.value)
        if entry.target != Target.EVENT_ONLY:
            return None
        try:
            place = event_location_or_none(json.loads(entry.value))
        except ValueError:
            place = None
        return DedupEntry(parse_captured_event_key(entry.key)[1], place)


def event_content_hash(event: Mapping[str, Any], content_hash: str) -> bytes:
    """What an event says: its content hash, and what of its error declaration is no identity of it."""
    declaration = event.get("errorDeclaration") or {}
    said = {name: value for name, value in declaration.items() if name != "declarationTime"}
    return identity_hash(content_hash, json.dumps(said, sort_keys=True))[:_CONTENT_BYTES]


def event_location_or_none(event: Mapping[str, Any]) -> Location | None:
    """Of which place an event speaks."""
    try:
        return event_location(event)
    except (TypeError, AttributeError):
        # An event type of somebody's own, with fields of another form.
        return None


def captured_event_key(sender: str, content: bytes) -> bytes:
    """The key under which an event is archived: it goes nowhere, and says whose event it is."""
    return _ARCHIVED + content + sender.encode()


def parse_captured_event_key(key: bytes | None) -> tuple[str, bytes]:
    """Who sent an archived event, and its content."""
    if key is None or key[:1] != _ARCHIVED:
        return (key or b"").decode(errors="replace"), b""
    return key[1 + _CONTENT_BYTES :].decode(errors="replace"), key[1 : 1 + _CONTENT_BYTES]


def newest_entries(folder: Path, min_entries: int) -> Iterator[SpoolEntry]:
    """The entries of the newest segments that hold `most` together, in the order in which they were written."""
    chosen, count = list[int](), 0
    for number in reversed(list_segments(folder) if folder.exists() else []):
        if count >= min_entries:
            break
        chosen.append(number)
        count += sum(len(frame.entries) for frame in read_frames(folder, number))
    for number in reversed(chosen):
        for frame in read_frames(folder, number):
            yield from frame.entries


def restore_caches(entries: Iterable[SpoolEntry], known: DedupCache, events: EventCache) -> None:
    """Learn what is on disk, so that a repeat is known after a restart."""
    contents = DedupEntryReader()
    for entry in entries:
        said = contents.from_spool_entry(entry)
        if said is not None:
            known.add({entry.identity: said})
        if entry.target == Target.EVENT_ONLY:
            events.add({entry.identity: CapturedEvent(parse_captured_event_key(entry.key)[0], entry.value)})


def _before(schema: Mapping[str, Any]) -> tuple[tuple[bool, ...], bool]:
    """Whether each field in front of record_time is a text, else a number; and whether site and station follow."""
    names = [field["name"] for field in schema["fields"]]
    at = names.index("record_time")
    return tuple(field["type"] == "string" for field in schema["fields"][:at]), names[at + 1 :][:2] == [
        "site",
        "station",
    ]


def _behind_number(value: bytes, at: int) -> int:
    while value[at] & 0x80:
        at += 1
    return at + 1


def _size(value: bytes, at: int) -> tuple[int, int]:
    """The size of the text that begins here, and where its first byte is."""
    byte = value[at]
    if byte < 0x80:
        return byte >> 1, at + 1
    size, shift = byte & 0x7F, 7
    while byte & 0x80:
        at += 1
        byte = value[at]
        size |= (byte & 0x7F) << shift
        shift += 7
    return size >> 1, at + 1


def _behind_text(value: bytes, at: int) -> int:
    size, begin = _size(value, at)
    return begin + size


def _text(value: bytes, at: int) -> str:
    size, begin = _size(value, at)
    return value[begin : begin + size].decode()
