"""Avro container files of scans, advices and ticks, read without trusting them.

fastavro by itself would inflate whatever a block claims to be and follow a schema as deep as it goes. So the file is
taken apart here: a block is inflated up to a limit, and the schema must be flat (records of numbers, texts, words and
nulls), so that a record cannot be larger than its bytes.
"""

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import fastavro

MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16
_HEADER_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 64 << 20
_TYPES: Final = {"Scan": "scan", "Advice": "advice", "Tick": "tick"}
# How many of these make a millisecond.
_FINER: Final = {"timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}
_FLAT: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class ByteStream(Protocol):
    """Where a file is read from."""

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer at the end."""


class AvroFileError(Exception):
    """The rest of the file cannot be read."""


@dataclass(frozen=True, slots=True)
class UndecodableBlock:
    """The records of a block from one that cannot be decoded on."""

    record: int
    message: str
    block: bytes  # inflated


@dataclass(frozen=True, slots=True)
class _UnionBranch:
    """One kind of record of the file."""

    type: str
    schema: Any
    # Fields with times finer than ms -> by how much.
    time_divisors: Mapping[str, int]

    def read(self, block: io.BytesIO) -> dict[str, Any]:
        """The next record of a block."""
        record: Any = fastavro.schemaless_reader(block, self.schema, None)
        for name, by in self.time_divisors.items():
            if record[name] is not None:
                record[name] //= by
        return {"type": self.type, **record}


def read_avro_file(stream: ByteStream) -> Iterator[dict[str, Any] | UndecodableBlock]:
    """Every record of the file as a mapping with its "type"; times are in ms.

    Raises:
        BadFile: what cannot be read, and why; what came before it is good.
    """
    branches, union, codec, sync = _header(stream)
    number = 0
    while (first := stream.read(1)) != b"":
        count, size = _long(stream, first), _long(stream)
        if count < 0 or not 0 <= size <= _BLOCK_BYTES:
            raise AvroFileError(f"after record {number}: a block of {size:,} bytes; at most {_BLOCK_BYTES:,} are read")
        packed, end = stream.read(size), stream.read(_SYNC)
        if end != sync:
            raise AvroFileError(f"after record {number}: a block ends in the wrong place; the file is cut or damaged")
        block = io.BytesIO(_unpacked(packed, codec, number))
        last = number + count
        for _ in range(count):
            number += 1
            try:
                branch: Any = fastavro.schemaless_reader(block, "long", None) if union else 0
                if not 0 <= branch < len(branches):
                    raise ValueError(f"branch {branch} of a union of {len(branches)}")
                record = branches[branch].read(block)
            except Exception as error:  # noqa: BLE001 - whatever broken bytes make fastavro raise
                yield UndecodableBlock(number, f"cannot be decoded: {error!r}", block.getvalue())
                break
            yield record
        number = last


def _header(stream: ByteStream) -> tuple[list[_UnionBranch], bool, str, bytes]:
    """The schemas by branch, whether they are in a union, the codec, the mark between blocks."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise AvroFileError("this is no Avro container file")
    meta: dict[str, bytes] = {}
    while (count := _long(stream)) != 0:
        if count < 0:
            count = -count
            _long(stream)
        if count > 1_000:
            raise AvroFileError("its header is damaged")
        for _ in range(count):
            name = _bytes(stream).decode(errors="replace")
            meta[name] = _bytes(stream)
    sync = stream.read(_SYNC)
    codec = meta.get("avro.codec", b"null").decode(errors="replace")
    if codec not in ("null", "deflate"):
        raise AvroFileError(f"its codec is {codec}; write it with deflate or without one")
    try:
        schema = json.loads(meta["avro.schema"])
        union = isinstance(schema, list)
        branches = [_branch(each) for each in (schema if union else [schema])]
    except (KeyError, TypeError, ValueError, RecursionError, fastavro.schema.SchemaParseException) as error:
        raise AvroFileError(f"its schema cannot be used: {error}") from error
    return branches, union, codec, sync


def _branch(schema: Any) -> _UnionBranch:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("it must be a record Scan, Advice or Tick, or a union of these")
    name = str(schema.get("name")).rpartition(".")[2]
    if name not in _TYPES:
        raise ValueError(f"a record {name}; it must be Scan, Advice or Tick")
    finer = {}
    for field in schema["fields"]:
        for option in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            kind, logical = (
                (option.get("type"), option.get("logicalType")) if isinstance(option, dict) else (option, "")
            )
            if kind not in _FLAT and kind != "enum":
                raise ValueError(f"field {field['name']} of {name} is of type {kind}; only flat fields are read")
            if logical in _FINER:
                finer[field["name"]] = _FINER[logical]
    return _UnionBranch(_TYPES[name], fastavro.parse_schema(_plain(schema)), finer)


def _plain(schema: Any) -> Any:
    """The schema without logical types: a time outside of what Python can say must not stop the reading."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def _unpacked(packed: bytes, codec: str, number: int) -> bytes:
    if codec == "null":
        return packed
    inflater = zlib.decompressobj(-15)
    try:
        block = inflater.decompress(packed, _BLOCK_BYTES)
    except zlib.error as error:
        raise AvroFileError(f"after record {number}: a block cannot be inflated: {error}") from error
    if inflater.unconsumed_tail:
        raise AvroFileError(f"after record {number}: a block is larger than {_BLOCK_BYTES:,} bytes when inflated")
    return block


def _bytes(stream: ByteStream) -> bytes:
    size = _long(stream)
    if not 0 <= size <= _HEADER_BYTES:
        raise AvroFileError("its header is damaged")
    return stream.read(size)


def _long(stream: ByteStream, first: bytes = b"") -> int:
    shift = value = 0
    while shift < 64:
        byte = first or stream.read(1)
        first = b""
        if not byte:
            raise AvroFileError("the file ends in the middle")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return (value >> 1) ^ -(value & 1)
        shift += 7
    raise AvroFileError("a number of the file is longer than 64 bits")
