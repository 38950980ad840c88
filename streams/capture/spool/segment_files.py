"""The segment files of the spool. A segment is a sequence of frames with checksums, readable up to a torn end.

A frame holds the entries of one request; it is readable as a whole or not at all. Layout, little-endian:

    frame:  magic "PSF1", u32 size of the body, u32 CRC-32 of the body, body
    body:   u64 time of acceptance (ms since 1970), u32 number of entries, entries
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
# The gateway writes smaller frames only, so a larger size is damage.
MAX_FRAME_BYTES: Final = 64 << 20


class Target(IntEnum):
    """The topic to which an entry is forwarded."""

    SCANS = 0  # hub.scans
    CONTAINERS = 1  # hub.containers
    EVENT_ONLY = 2  # none: an EPCIS event in its stored form, kept in the spool only


class SpoolEntry(NamedTuple):
    """One record of a frame."""

    target: int
    # 128-bit hash by which a repeat of the record is known.
    identity: bytes
    key: bytes | None
    value: bytes


class SpoolPosition(NamedTuple):
    """A position in the spool, between two frames."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class SpoolFrame:
    """One frame that was read; the next one begins at `end`."""

    end: SpoolPosition
    accepted_ms: int
    entries: list[SpoolEntry]


@dataclass(slots=True)
class SegmentDamage:
    """The unreadable bytes of a segment: between readable frames, and behind the last one (a torn write)."""

    lost_bytes: int = 0
    torn_bytes: int = 0


def identity_hash(*parts: str) -> bytes:
    """A 128-bit hash of these texts."""
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
    for target, identity, key, value in entries:
        parts.append(_ENTRY.pack(target, identity, -1 if key is None else len(key), len(value)))
        if key:
            parts.append(key)
        parts.append(value)
        count += 1
    parts[0] = _BODY.pack(accepted_ms, count)
    body = b"".join(parts)
    return _HEAD.pack(FRAME_MAGIC, len(body), zlib.crc32(body)) + body


def segment_path(folder: Path, number: int) -> Path:
    """The path of a segment file."""
    return folder / f"{number:012d}.spool"


def list_segments(folder: Path) -> list[int]:
    """The numbers of the existing segments, ascending."""
    return sorted(int(path.stem) for path in folder.glob("*.spool") if path.stem.isdigit())


def read_frames(
    folder: Path, number: int, offset: int = 0, end: int | None = None, damage: SegmentDamage | None = None
) -> Iterator[SpoolFrame]:
    """The frames of a segment from `offset` to `end`, by default to the end of the file.

    A damaged frame is skipped up to the next readable one; the skipped bytes are added to `damage`.
    """
    damage = SegmentDamage() if damage is None else damage
    try:
        with segment_path(folder, number).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size if end is None else end
            stream.seek(offset)
            yield from _parse_frames(stream.read(max(size - offset, 0)), number, offset, damage)
    except FileNotFoundError:
        return


def _parse_frames(content: bytes, number: int, first_offset: int, damage: SegmentDamage) -> Iterator[SpoolFrame]:
    offset, skipped = 0, 0
    while offset < len(content):
        body = _read_body(content, offset)
        if body is None:
            next_magic = content.find(FRAME_MAGIC, offset + 1)
            if next_magic < 0:
                damage.torn_bytes += len(content) - offset + skipped
                return
            skipped += next_magic - offset
            offset = next_magic
            continue
        damage.lost_bytes += skipped
        skipped = 0
        offset += _HEAD.size + len(body)
        accepted_ms, entries = _decode_body(body)
        yield SpoolFrame(SpoolPosition(number, first_offset + offset), accepted_ms, entries)
    damage.torn_bytes += skipped


def _read_body(content: bytes, offset: int) -> bytes | None:
    """The body of the frame at this offset; None if no frame begins there or it is incomplete or damaged."""
    if offset + _HEAD.size > len(content):
        return None
    magic, size, checksum = _HEAD.unpack_from(content, offset)
    begin = offset + _HEAD.size
    # A write torn after the magic leaves zeros: size 0 with checksum 0, which would be valid without a minimum size.
    if magic != FRAME_MAGIC or not _BODY.size <= size <= MAX_FRAME_BYTES or begin + size > len(content):
        return None
    body = content[begin : begin + size]
    return body if zlib.crc32(body) == checksum else None


def _decode_body(body: bytes) -> tuple[int, list[SpoolEntry]]:
    accepted_ms, count = _BODY.unpack_from(body)
    offset = _BODY.size
    entries = []
    for _ in range(count):
        target, identity, key_size, value_size = _ENTRY.unpack_from(body, offset)
        offset += _ENTRY.size
        key = None
        if key_size >= 0:
            key = body[offset : offset + key_size]
            offset += key_size
        entries.append(SpoolEntry(target, identity, key, body[offset : offset + value_size]))
        offset += value_size
    return accepted_ms, entries
