"""The files of the spool: segments of frames, each with its checksum, that can be read whatever happened to their end.

A frame holds what one request brought, and either all of it is there or none. Layout, little-endian:

    frame:  magic "PSF1", u32 size of the body, u32 CRC-32 of the body, body
    body:   u64 when it was accepted (ms since 1970), u32 number of entries, entries
    entry:  u8 target, 16 bytes identity, i32 size of the key (-1: none), u32 size of the value, key, value
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

FRAME_MAGIC: Final = b"PSF1"
_HEAD: Final = struct.Struct("<4sII")
_BODY: Final = struct.Struct("<QI")
_ENTRY: Final = struct.Struct("<B16siI")
# What is asked to be written is smaller (the gateway sees to it); a size beyond this is damage.
MAX_FRAME_BYTES: Final = 64 << 20


class Target(IntEnum):
    """Where an entry goes."""

    SCANS = 0  # hub.scans
    CONTAINERS = 1  # hub.containers
    EVENT_ONLY = 2  # nowhere: an EPCIS event as it came, and what no parcel is interested in


class SpoolEntry(NamedTuple):
    """One record of a frame."""

    target: int
    # 128 bits of what makes it the same record when it comes again.
    identity: bytes
    key: bytes | None
    value: bytes


class SpoolPosition(NamedTuple):
    """A place in the spool, between two frames."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class SpoolFrame:
    """One frame as it was read; `end` is where the next one begins."""

    end: SpoolPosition
    accepted_ms: int
    entries: list[SpoolEntry]


@dataclass(slots=True)
class SegmentDamage:
    """What could not be read of a segment: bytes between good frames, and behind the last one (a torn write)."""

    lost_bytes: int = 0
    torn_bytes: int = 0


def identity_hash(*parts: str) -> bytes:
    """128 bits that stand for these texts."""
    digest = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "little"))
        digest.update(encoded)
    return digest.digest()


def encode_frame(accepted_ms: int, entries: Iterable[SpoolEntry]) -> bytes:
    """The bytes of a frame."""
    parts = [b""]
    count = 0
    for target, same, key, value in entries:
        parts.append(_ENTRY.pack(target, same, -1 if key is None else len(key), len(value)))
        if key:
            parts.append(key)
        parts.append(value)
        count += 1
    parts[0] = _BODY.pack(accepted_ms, count)
    body = b"".join(parts)
    return _HEAD.pack(FRAME_MAGIC, len(body), zlib.crc32(body)) + body


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:012d}.spool"


def list_segments(folder: Path) -> list[int]:
    """Numbers of the segments that are there, ascending."""
    return sorted(int(path.stem) for path in folder.glob("*.spool") if path.stem.isdigit())


def read_frames(
    folder: Path, number: int, offset: int = 0, end: int | None = None, damage: SegmentDamage | None = None
) -> Iterator[SpoolFrame]:
    """The frames of a segment from `offset` on, up to `end` or as far as it is written.

    A damaged frame is left out and the next good one is looked for; `damage` takes the count of what was lost.
    """
    damage = SegmentDamage() if damage is None else damage
    try:
        with segment_path(folder, number).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size if end is None else end
            stream.seek(offset)
            yield from _frames(stream.read(max(size - offset, 0)), number, offset, damage)
    except FileNotFoundError:
        return


def _frames(content: bytes, number: int, offset: int, damage: SegmentDamage) -> Iterator[SpoolFrame]:
    at, skipped = 0, 0
    while at < len(content):
        body = _body_at(content, at)
        if body is None:
            following = content.find(FRAME_MAGIC, at + 1)
            if following < 0:
                damage.torn_bytes += len(content) - at + skipped
                return
            skipped += following - at
            at = following
            continue
        damage.lost_bytes += skipped
        skipped = 0
        at += _HEAD.size + len(body)
        accepted_ms, entries = _decode(body)
        yield SpoolFrame(SpoolPosition(number, offset + at), accepted_ms, entries)
    damage.torn_bytes += skipped


def _body_at(content: bytes, at: int) -> bytes | None:
    """The body of the frame at this place; None where none begins or it is not whole."""
    if at + _HEAD.size > len(content):
        return None
    magic, size, checksum = _HEAD.unpack_from(content, at)
    begin = at + _HEAD.size
    # Zeros behind the magic have the checksum of nothing: a write may be torn there.
    if magic != FRAME_MAGIC or not _BODY.size <= size <= MAX_FRAME_BYTES or begin + size > len(content):
        return None
    body = content[begin : begin + size]
    return body if zlib.crc32(body) == checksum else None


def _decode(body: bytes) -> tuple[int, list[SpoolEntry]]:
    accepted_ms, count = _BODY.unpack_from(body)
    at = _BODY.size
    entries = []
    for _ in range(count):
        target, same, key_size, value_size = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        key = None
        if key_size >= 0:
            key = body[at : at + key_size]
            at += key_size
        entries.append(SpoolEntry(target, same, key, body[at : at + value_size]))
        at += value_size
    return accepted_ms, entries
