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

from streams.capture.auth.devices import ANY
from streams.capture.epcis.mapping import place_of
from streams.capture.spool.segment_files import Entry, Target, identity, read_frames, segments
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas

# Site and station of a record. An advice is of no place, so whoever speaks for it speaks for all of them.
Place = tuple[str, str]
EVERYWHERE: Final[Place] = (ANY, ANY)
_CONTENT_BYTES: Final = 8
# Senders choose the names of places; beyond so many different ones, a record's place is not remembered.
_PLACES: Final = 1 << 16
# In front of the key of an archived event: its content, then who sent it.
_ARCHIVED: Final = b"\1"


class Remembered(NamedTuple):
    """What is known of a record; content b"" and place None where that is not known (any more)."""

    content: bytes
    place: Place | None


class Archived(NamedTuple):
    """An EPCIS event as it is archived, and who sent it."""

    sender: str
    event: bytes


class BusyError(StreamsError):
    """Other content with the same identity is on its way to the disk right now: try again in a moment."""


# So many records are remembered at least.
MOST: Final = 300_000


class Known:
    """The newest records by their identity, at least so many and at most twice as many; for one thread.

    About 130 bytes each. They are forgotten a generation at a time: one dict of which the oldest are taken out again
    and again is slow, because its begin is full of holes.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        # Identity -> content and the number of the place, in one object.
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._places: list[Place | None] = [None]
        self._numbers: dict[Place | None, int] = {None: 0}
        self._storing: dict[bytes, bytes] = {}

    def __contains__(self, same: bytes) -> bool:
        return same in self._new or same in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def find(self, same: bytes) -> Remembered | None:
        """What is known of this record; None where it was never here, or is forgotten."""
        said = self._new.get(same) or self._old.get(same)
        if said is None:
            return None
        return Remembered(said[4:], self._places[int.from_bytes(said[:4], "little")])

    def add(self, records: Mapping[bytes, Remembered]) -> None:
        """Remember these, which are on disk."""
        for same, (content, place) in records.items():
            self._new[same] = self._number(place).to_bytes(4, "little") + content
        if len(self._new) >= self._most:
            self._new, self._old = {}, self._new

    @contextlib.contextmanager
    def storing(self, records: Mapping[bytes, Remembered]) -> Iterator[None]:
        """While these are on their way to the disk, nothing else takes their identities."""
        contents = {same: each.content for same, each in records.items()}
        self._storing.update(contents)
        try:
            yield
        finally:
            for same in contents:
                self._storing.pop(same, None)

    def check_free(self, same: bytes, content: bytes) -> None:
        """May this record be stored?

        Raises:
            BusyError: not now.
        """
        if self._storing.get(same, content) != content:
            raise BusyError("another record with this id is being stored: try again")

    def _number(self, place: Place | None) -> int:
        number = self._numbers.get(place)
        if number is None:
            if len(self._places) >= _PLACES:
                return 0
            number = self._numbers[place] = len(self._places)
            self._places.append(place)
        return number


class Events:
    """The newest EPCIS events themselves, as many as fit, for whoever sent them; for one thread."""

    def __init__(self, most_bytes: int = 32 << 20) -> None:
        self._most, self._bytes = most_bytes, 0
        self._events: dict[bytes, Archived] = {}

    def add(self, events: Mapping[bytes, Archived]) -> None:
        """Keep these, which are on disk."""
        for same, archived in events.items():
            before = self._events.pop(same, None)
            self._bytes += len(archived.event) - (len(before.event) if before else 0)
            self._events[same] = archived
        while self._bytes > self._most:
            self._bytes -= len(self._events.pop(next(iter(self._events))).event)

    def find(self, same: bytes, sender: str) -> bytes | None:
        """The event, if this sender sent it and it is still here."""
        found = self._events.get(same)
        return found.event if found is not None and found.sender == sender else None


class Contents:
    """What records say, from the bytes that are kept of them."""

    def __init__(self) -> None:
        schemas = load_schemas()
        # By the first bytes of a value: the fields in front of record_time, and whether site and station follow it.
        self._before = {
            schemas.frame(name, b""): _before(schemas.current(name)) for name in ("Scan", "Advice", "ContainerEvent")
        }

    def of_value(self, value: bytes) -> Remembered:
        """Of a record of either log; nothing, where it was written by a version with another schema."""
        fields, has_place = self._before.get(value[:5], ((), False))
        if not fields:
            return Remembered(b"", None)
        at = 5
        for is_text in fields:
            at = _behind_text(value, at) if is_text else _behind_number(value, at)
        behind = _behind_number(value, at)
        content = blake2b(value[:at] + value[behind:], digest_size=_CONTENT_BYTES).digest()
        if not has_place:
            return Remembered(content, EVERYWHERE)
        station = _behind_text(value, behind)
        return Remembered(content, (_text(value, behind), _text(value, station)))

    def of_entry(self, entry: Entry) -> Remembered | None:
        """Of an entry of the spool; None for those that no repeat is known by."""
        if entry.target in (Target.SCANS, Target.CONTAINERS):
            return None if entry.key is None else self.of_value(entry.value)
        if entry.target != Target.ARCHIVE:
            return None
        try:
            place = archived_place(json.loads(entry.value))
        except ValueError:
            place = None
        return Remembered(archived_by(entry.key)[1], place)


def event_content(event: Mapping[str, Any], content_hash: str) -> bytes:
    """What an event says: its content hash, and what of its error declaration is no identity of it."""
    declaration = event.get("errorDeclaration") or {}
    said = {name: value for name, value in declaration.items() if name != "declarationTime"}
    return identity(content_hash, json.dumps(said, sort_keys=True))[:_CONTENT_BYTES]


def archived_place(event: Mapping[str, Any]) -> Place | None:
    """Of which place an event speaks."""
    try:
        return place_of(event)
    except (TypeError, AttributeError):
        # An event type of somebody's own, with fields of another form.
        return None


def archive_key(sender: str, content: bytes) -> bytes:
    """The key under which an event is archived: it goes nowhere, and says whose event it is."""
    return _ARCHIVED + content + sender.encode()


def archived_by(key: bytes | None) -> tuple[str, bytes]:
    """Who sent an archived event, and its content."""
    if key is None or key[:1] != _ARCHIVED:
        return (key or b"").decode(errors="replace"), b""
    return key[1 + _CONTENT_BYTES :].decode(errors="replace"), key[1 : 1 + _CONTENT_BYTES]


def newest_entries(folder: Path, most: int) -> Iterator[Entry]:
    """The entries of the newest segments that hold `most` together, in the order in which they were written."""
    chosen, count = list[int](), 0
    for number in reversed(segments(folder) if folder.exists() else []):
        if count >= most:
            break
        chosen.append(number)
        count += sum(len(frame.entries) for frame in read_frames(folder, number))
    for number in reversed(chosen):
        for frame in read_frames(folder, number):
            yield from frame.entries


def remember(entries: Iterable[Entry], known: Known, events: Events) -> None:
    """Learn what is on disk, so that a repeat is known after a restart."""
    contents = Contents()
    for entry in entries:
        said = contents.of_entry(entry)
        if said is not None:
            known.add({entry.identity: said})
        if entry.target == Target.ARCHIVE:
            events.add({entry.identity: Archived(archived_by(entry.key)[0], entry.value)})


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
