"""Caches of the newest records that are on disk, by which the gateway finds duplicates and conflicts.

A repeat has the identity of a known record. It is a duplicate if its content is the same, else a conflict. The content
excludes the record time, which the gateway sets anew for each repeat. After a restart the caches are filled from the
spool.
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

# Site and station of a record. An advice has none, so only a sender authorized for all locations may send it.
Location = tuple[str, str]
ALL_LOCATIONS: Final[Location] = (WILDCARD, WILDCARD)
_CONTENT_HASH_BYTES: Final = 8
# Senders choose the names of sites and stations. Of more different locations than this, a record's is not kept.
_MAX_LOCATIONS: Final = 1 << 16
# First byte of the key of a captured event. The content hash and the name of the sender follow.
_CAPTURED_EVENT_PREFIX: Final = b"\1"


class DedupEntry(NamedTuple):
    """The content hash and the location of a known record; b"" and None where they are unknown."""

    content_hash: bytes
    location: Location | None


class CapturedEvent(NamedTuple):
    """An EPCIS event in its stored form, and the name of its sender."""

    principal_name: str
    event: bytes


class IdentityInFlightError(StreamsError):
    """A record with the same identity and other content is being stored now: the sender should try again."""


# The cache holds at least this many records.
DEDUP_GENERATION_SIZE: Final = 300_000


class DedupCache:
    """The newest records by identity: at least `generation_size`, at most twice as many; for one thread.

    A record takes about 130 bytes. Records are dropped one generation at a time. Dropping the oldest one by one from a
    single dict would be slow, because a search for its first entry passes over the holes that earlier drops left.
    """

    def __init__(self, generation_size: int = DEDUP_GENERATION_SIZE) -> None:
        self._generation_size = generation_size
        # Identity -> location number (4 bytes) and content hash, in one object.
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._locations: list[Location | None] = [None]
        self._location_numbers: dict[Location | None, int] = {None: 0}
        # Identity -> content hash of the records that are being stored.
        self._reserved: dict[bytes, bytes] = {}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._new or identity in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def find(self, identity: bytes) -> DedupEntry | None:
        """The entry of a record; None if the record never came or was dropped from the cache."""
        packed = self._new.get(identity) or self._old.get(identity)
        if packed is None:
            return None
        return DedupEntry(packed[4:], self._locations[int.from_bytes(packed[:4], "little")])

    def add(self, entries: Mapping[bytes, DedupEntry]) -> None:
        """Add records that are on disk."""
        for identity, (content_hash, location) in entries.items():
            self._new[identity] = self._location_number(location).to_bytes(4, "little") + content_hash
        if len(self._new) >= self._generation_size:
            self._new, self._old = {}, self._new

    @contextlib.contextmanager
    def reserve(self, entries: Mapping[bytes, DedupEntry]) -> Iterator[None]:
        """Reserve the identities of these records while the records are being stored."""
        content_hashes = {identity: entry.content_hash for identity, entry in entries.items()}
        self._reserved.update(content_hashes)
        try:
            yield
        finally:
            for identity in content_hashes:
                self._reserved.pop(identity, None)

    def check_unreserved(self, identity: bytes, content_hash: bytes) -> None:
        """Check that no record with this identity and other content is being stored.

        Raises:
            IdentityInFlightError: there is one.
        """
        if self._reserved.get(identity, content_hash) != content_hash:
            raise IdentityInFlightError(
                "a record with the same id and other content is being stored now: send the request again"
            )

    def _location_number(self, location: Location | None) -> int:
        number = self._location_numbers.get(location)
        if number is None:
            if len(self._locations) >= _MAX_LOCATIONS:
                return 0
            number = self._location_numbers[location] = len(self._locations)
            self._locations.append(location)
        return number


class EventCache:
    """The newest EPCIS events, up to `max_bytes`, each readable by its sender; for one thread."""

    def __init__(self, max_bytes: int = 32 << 20) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._events: dict[bytes, CapturedEvent] = {}

    def add(self, events: Mapping[bytes, CapturedEvent]) -> None:
        """Add events that are on disk."""
        for identity, captured in events.items():
            replaced = self._events.pop(identity, None)
            self._bytes += len(captured.event) - (len(replaced.event) if replaced else 0)
            self._events[identity] = captured
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._events.pop(next(iter(self._events))).event)

    def find(self, identity: bytes, principal_name: str) -> bytes | None:
        """The event, if this principal sent it and it is still in the cache."""
        captured = self._events.get(identity)
        return captured.event if captured is not None and captured.principal_name == principal_name else None


class DedupEntryReader:
    """Makes dedup entries from the bytes of stored records."""

    def __init__(self) -> None:
        schemas = load_schemas()
        # Framing prefix of a value -> its fields before record_time, and whether site and station follow it.
        self._layouts = {
            schemas.to_wire_format(name, b""): _layout(schemas.current(name))
            for name in ("Scan", "Advice", "ContainerEvent")
        }

    def from_value(self, value: bytes) -> DedupEntry:
        """The entry of a record of either log; an empty one for a value of another schema version."""
        fields, has_location = self._layouts.get(value[:5], ((), False))
        if not fields:
            return DedupEntry(b"", None)
        offset = 5
        for is_text in fields:
            offset = _skip_text(value, offset) if is_text else _skip_number(value, offset)
        after_time = _skip_number(value, offset)
        content_hash = blake2b(value[:offset] + value[after_time:], digest_size=_CONTENT_HASH_BYTES).digest()
        if not has_location:
            return DedupEntry(content_hash, ALL_LOCATIONS)
        station = _skip_text(value, after_time)
        return DedupEntry(content_hash, (_text(value, after_time), _text(value, station)))

    def from_spool_entry(self, entry: SpoolEntry) -> DedupEntry | None:
        """The entry of a spool entry; None for a tick, which has no repeats, and for an unknown target."""
        if entry.target in (Target.SCANS, Target.CONTAINERS):
            return None if entry.key is None else self.from_value(entry.value)
        if entry.target != Target.EVENT_ONLY:
            return None
        try:
            location = event_location_or_none(json.loads(entry.value))
        except ValueError:
            location = None
        return DedupEntry(parse_captured_event_key(entry.key)[1], location)


def event_content_hash(event: Mapping[str, Any], event_hash: str) -> bytes:
    """The content hash of an event: of its EPCIS hash and of its error declaration without the declaration time.

    The declaration time belongs to the identity of the event.
    """
    declaration = event.get("errorDeclaration") or {}
    content = {name: value for name, value in declaration.items() if name != "declarationTime"}
    return identity_hash(event_hash, json.dumps(content, sort_keys=True))[:_CONTENT_HASH_BYTES]


def event_location_or_none(event: Mapping[str, Any]) -> Location | None:
    """Site and station of an event, if they can be read."""
    try:
        return event_location(event)
    except (TypeError, AttributeError):
        # The event is of a user-defined type, whose fields may have any form.
        return None


def captured_event_key(principal_name: str, content_hash: bytes) -> bytes:
    """The spool key of a captured event. Such an entry is not forwarded; its key holds the sender and the content."""
    return _CAPTURED_EVENT_PREFIX + content_hash + principal_name.encode()


def parse_captured_event_key(key: bytes | None) -> tuple[str, bytes]:
    """The name of the sender and the content hash from the spool key of a captured event."""
    if key is None or key[:1] != _CAPTURED_EVENT_PREFIX:
        return (key or b"").decode(errors="replace"), b""
    return key[1 + _CONTENT_HASH_BYTES :].decode(errors="replace"), key[1 : 1 + _CONTENT_HASH_BYTES]


def newest_entries(folder: Path, min_entries: int) -> Iterator[SpoolEntry]:
    """The entries of the newest segments that together hold `min_entries`, in the order of writing."""
    numbers, count = list[int](), 0
    for number in reversed(list_segments(folder) if folder.exists() else []):
        if count >= min_entries:
            break
        numbers.append(number)
        count += sum(len(frame.entries) for frame in read_frames(folder, number))
    for number in reversed(numbers):
        for frame in read_frames(folder, number):
            yield from frame.entries


def restore_caches(entries: Iterable[SpoolEntry], dedup_cache: DedupCache, event_cache: EventCache) -> None:
    """Fill the caches from entries of the spool, so that repeats are known after a restart."""
    reader = DedupEntryReader()
    for entry in entries:
        dedup_entry = reader.from_spool_entry(entry)
        if dedup_entry is not None:
            dedup_cache.add({entry.identity: dedup_entry})
        if entry.target == Target.EVENT_ONLY:
            event_cache.add({entry.identity: CapturedEvent(parse_captured_event_key(entry.key)[0], entry.value)})


def _layout(schema: Mapping[str, Any]) -> tuple[tuple[bool, ...], bool]:
    """For each field before record_time: is it text (else a number)? And do site and station follow record_time?"""
    names = [field["name"] for field in schema["fields"]]
    index = names.index("record_time")
    are_texts = tuple(field["type"] == "string" for field in schema["fields"][:index])
    return are_texts, names[index + 1 :][:2] == ["site", "station"]


def _skip_number(value: bytes, offset: int) -> int:
    while value[offset] & 0x80:
        offset += 1
    return offset + 1


def _text_size(value: bytes, offset: int) -> tuple[int, int]:
    """The size of the text at `offset`, and the offset of its first byte."""
    byte = value[offset]
    if byte < 0x80:
        return byte >> 1, offset + 1
    size, shift = byte & 0x7F, 7
    while byte & 0x80:
        offset += 1
        byte = value[offset]
        size |= (byte & 0x7F) << shift
        shift += 7
    return size >> 1, offset + 1


def _skip_text(value: bytes, offset: int) -> int:
    size, begin = _text_size(value, offset)
    return begin + size


def _text(value: bytes, offset: int) -> str:
    size, begin = _text_size(value, offset)
    return value[begin : begin + size].decode()
