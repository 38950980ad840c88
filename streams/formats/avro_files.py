"""Reading of Avro container files of scans, advices and Ticks that are not trusted.

fastavro would inflate a block to any size, and follow a schema to any depth. So this module reads the container itself.
A block is inflated up to a limit. The schema must be flat (records of numbers, texts, enums and nulls), so a record
cannot be larger than its bytes.
"""

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import fastavro

from streams.formats.record_decoder import without_logical_types

MAGIC: Final = b"Obj\x01"
_SYNC_MARKER_BYTES: Final = 16
_MAX_HEADER_VALUE_BYTES: Final = 1 << 20
_MAX_BLOCK_BYTES: Final = 64 << 20
_RECORD_TYPES: Final = {"Scan": "scan", "Advice": "advice", "Tick": "tick"}
# Logical type -> how many of its units make a millisecond.
_UNITS_PER_MS: Final = {"timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}
_FLAT_TYPES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string", "enum"})


class ByteStream(Protocol):
    """A stream that a file is read from."""

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer at the end."""


class AvroFileError(Exception):
    """The rest of the file cannot be read."""


@dataclass(frozen=True, slots=True)
class UndecodableBlock:
    """A block with a record that cannot be decoded; that record and the rest of the block were not read."""

    record_number: int
    message: str
    inflated_block: bytes


@dataclass(frozen=True, slots=True)
class _UnionBranch:
    """One type of record of the file."""

    type: str
    schema: Any
    # Field with a time finer than ms -> divisor that makes it ms.
    time_divisors: Mapping[str, int]

    def read(self, block: io.BytesIO) -> dict[str, Any]:
        """The next record of a block."""
        record: Any = fastavro.schemaless_reader(block, self.schema, None)
        for name, divisor in self.time_divisors.items():
            if record[name] is not None:
                record[name] //= divisor
        return {"type": self.type, **record}


def read_avro_file(stream: ByteStream) -> Iterator[dict[str, Any] | UndecodableBlock]:
    """Every record of the file as a mapping with its "type"; times are in ms.

    Raises:
        AvroFileError: the reason why the rest of the file cannot be read; the records before are good.
    """
    branches, is_union, codec, sync_marker = _read_header(stream)
    number = 0
    while (first_byte := stream.read(1)) != b"":
        count, size = _read_long(stream, first_byte), _read_long(stream)
        if count < 0 or not 0 <= size <= _MAX_BLOCK_BYTES:
            raise AvroFileError(
                f"after record {number}: a block of {size:,} bytes; at most {_MAX_BLOCK_BYTES:,} are read"
            )
        block_bytes, marker = stream.read(size), stream.read(_SYNC_MARKER_BYTES)
        if marker != sync_marker:
            raise AvroFileError(f"after record {number}: a block ends in the wrong place; the file is cut or damaged")
        block = io.BytesIO(_inflate(block_bytes, codec, number))
        last_number = number + count
        for _ in range(count):
            number += 1
            try:
                branch: Any = fastavro.schemaless_reader(block, "long", None) if is_union else 0
                if not 0 <= branch < len(branches):
                    raise ValueError(f"branch {branch} of a union of {len(branches)}")
                record = branches[branch].read(block)
            except Exception as error:  # noqa: BLE001 - broken bytes can make fastavro raise anything
                yield UndecodableBlock(number, f"cannot be decoded: {error!r}", block.getvalue())
                break
            yield record
        number = last_number


def _read_header(stream: ByteStream) -> tuple[list[_UnionBranch], bool, str, bytes]:
    """The types of records, whether they are branches of a union, the codec, and the marker after each block."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise AvroFileError("this is no Avro container file")
    metadata: dict[str, bytes] = {}
    while (count := _read_long(stream)) != 0:
        if count < 0:
            count = -count
            _read_long(stream)
        if count > 1_000:
            raise AvroFileError("its header is damaged")
        for _ in range(count):
            name = _read_bytes(stream).decode(errors="replace")
            metadata[name] = _read_bytes(stream)
    sync_marker = stream.read(_SYNC_MARKER_BYTES)
    codec = metadata.get("avro.codec", b"null").decode(errors="replace")
    if codec not in ("null", "deflate"):
        raise AvroFileError(f"its codec is {codec}; write it with deflate or without one")
    try:
        schema = json.loads(metadata["avro.schema"])
        is_union = isinstance(schema, list)
        branches = [_parse_branch(each) for each in (schema if is_union else [schema])]
    except (KeyError, TypeError, ValueError, RecursionError, fastavro.schema.SchemaParseException) as error:
        raise AvroFileError(f"its schema cannot be used: {error}") from error
    return branches, is_union, codec, sync_marker


def _parse_branch(schema: Any) -> _UnionBranch:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("it must be a record Scan, Advice or Tick, or a union of these")
    name = str(schema.get("name")).rpartition(".")[2]
    if name not in _RECORD_TYPES:
        raise ValueError(f"a record {name}; it must be Scan, Advice or Tick")
    divisors = {}
    for field in schema["fields"]:
        for option in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            kind, logical_type = (
                (option.get("type"), option.get("logicalType")) if isinstance(option, dict) else (option, "")
            )
            if kind not in _FLAT_TYPES:
                raise ValueError(f"field {field['name']} of {name} is of type {kind}; only flat fields are read")
            if logical_type in _UNITS_PER_MS:
                divisors[field["name"]] = _UNITS_PER_MS[logical_type]
    # A time outside the calendar of Python must not stop the reading.
    return _UnionBranch(_RECORD_TYPES[name], fastavro.parse_schema(without_logical_types(schema)), divisors)


def _inflate(block: bytes, codec: str, number: int) -> bytes:
    if codec == "null":
        return block
    inflater = zlib.decompressobj(-15)
    try:
        inflated = inflater.decompress(block, _MAX_BLOCK_BYTES)
    except zlib.error as error:
        raise AvroFileError(f"after record {number}: a block cannot be inflated: {error}") from error
    if inflater.unconsumed_tail:
        raise AvroFileError(f"after record {number}: a block is larger than {_MAX_BLOCK_BYTES:,} bytes when inflated")
    return inflated


def _read_bytes(stream: ByteStream) -> bytes:
    size = _read_long(stream)
    if not 0 <= size <= _MAX_HEADER_VALUE_BYTES:
        raise AvroFileError("its header is damaged")
    return stream.read(size)


def _read_long(stream: ByteStream, first_byte: bytes = b"") -> int:
    shift = value = 0
    while shift < 64:
        byte = first_byte or stream.read(1)
        first_byte = b""
        if not byte:
            raise AvroFileError("the file ends in the middle")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return (value >> 1) ^ -(value & 1)
        shift += 7
    raise AvroFileError("a number of the file is longer than 64 bits")
