"""A reader for Avro container files of untrusted senders: it checks every length, index and number before using it.

Only flat records can be read, so that a value is never larger than its bytes and nothing recurses. Blocks are inflated
up to a limit. The Avro library accepts indexes out of range and numbers of any length; this reader rejects them.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

AVRO_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_TOO_LARGE: Final = "the blocks of the file are too large when inflated: send fewer records at once"
_MAX_HEADER_BYTES: Final = 64 << 10
_TYPES: Final = {"Scan": "scan", "Advice": "advice"}
_UNITS_PER_MS: Final = {"timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}

FieldReader = Callable[["_ByteCursor"], Any]


class InvalidAvroError(ValueError):
    """The container file cannot be read, or not any further."""


class _ByteCursor:
    """Reads bytes one after the other, and never beyond the end."""

    def __init__(self, content: bytes) -> None:
        self._content, self.offset = content, 0

    @property
    def remaining(self) -> int:
        return len(self._content) - self.offset

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.remaining:
            raise InvalidAvroError(f"the file holds a length of {size:,}, but only {self.remaining:,} bytes are left")
        self.offset += size
        return self._content[self.offset - size : self.offset]

    def long(self) -> int:
        shift = value = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise InvalidAvroError("a number has more than 64 bits")
        if value >= 1 << 64:
            raise InvalidAvroError("a number has more than 64 bits")
        return (value >> 1) ^ -(value & 1)


def read_records(content: bytes, max_inflated_bytes: int, max_records: int) -> Iterator[dict[str, Any]]:
    """The records of a container file as mappings with their "type"; times are in ms.

    Args:
        content: the whole file.
        max_inflated_bytes: limit for all its blocks together after inflation.
        max_records: limit for the records of the file.

    Raises:
        InvalidAvroError: the file cannot be read, or not any further. The records before are valid.
    """
    cursor = _ByteCursor(content)
    if cursor.take(min(4, cursor.remaining)) != AVRO_MAGIC:
        raise InvalidAvroError("the body is not an Avro container file: it must begin with Obj and the byte 1")
    branches, union, codec = _read_header(cursor)
    sync = cursor.take(_SYNC_BYTES)
    record_count = 0
    while cursor.remaining:
        count, size = cursor.long(), cursor.long()
        if not 0 <= count <= max_records - record_count:
            raise InvalidAvroError(
                f"after record {record_count}: a block claims {count:,} records; a request has at most {max_records:,}"
            )
        if not count:
            # No writer produces such a block, and half a million of them fit into a request.
            raise InvalidAvroError(f"after record {record_count}: there is a block without a record")
        compressed = cursor.take(size)
        if cursor.take(_SYNC_BYTES) != sync:
            raise InvalidAvroError(
                f"after record {record_count}: a block does not end with the sync marker of the file"
            )
        block = _ByteCursor(compressed if codec == "null" else _inflate(compressed, max_inflated_bytes, record_count))
        max_inflated_bytes -= block.remaining
        if max_inflated_bytes < 0:
            raise InvalidAvroError(_TOO_LARGE)
        for _ in range(count):
            record_count += 1
            branch = block.long() if union else 0
            if not 0 <= branch < len(branches):
                raise InvalidAvroError(
                    f"record {record_count}: its union branch is {branch}, but the schema has {len(branches)} branches"
                )
            yield branches[branch](block)
        if block.remaining:
            raise InvalidAvroError(f"after record {record_count}: {block.remaining} bytes of the block are left over")


def _read_header(cursor: _ByteCursor) -> tuple[list[FieldReader], bool, str]:
    header: dict[bytes, bytes] = {}
    begun = cursor.offset
    while (count := cursor.long()) != 0:
        if count < 0:
            count = -count
            cursor.long()
        if count > 100:
            raise InvalidAvroError("the header of the file is damaged")
        for _ in range(count):
            name = cursor.take(cursor.long())
            header[name] = cursor.take(cursor.long())
        if cursor.offset - begun > _MAX_HEADER_BYTES:
            raise InvalidAvroError(f"the header of the file is larger than {_MAX_HEADER_BYTES:,} bytes")
    codec = header.get(b"avro.codec", b"null")
    if codec not in (b"null", b"deflate"):
        raise InvalidAvroError("the codec of the file must be deflate or null")
    try:
        schema = json.loads(header[b"avro.schema"])
        union = isinstance(schema, list)
        branches = [_record_reader(each) for each in (schema if union else [schema])]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, InvalidAvroError):
            raise
        raise InvalidAvroError("the schema of the file is missing or not valid") from None
    return branches, union, codec.decode()


def _record_reader(schema: Any) -> FieldReader:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise InvalidAvroError("the schema of the file must be a record Scan or Advice, or a union of these")
    name = str(schema.get("name")).rpartition(".")[2]
    if name not in _TYPES:
        raise InvalidAvroError("the records of the file must be named Scan or Advice")
    kind = _TYPES[name]
    fields = [(str(field["name"]), _field_reader(field["type"])) for field in schema["fields"]]
    if not 0 < len(fields) <= 100:
        raise InvalidAvroError("a record must have 1 to 100 fields")

    def read(block: _ByteCursor) -> dict[str, Any]:
        record: dict[str, Any] = {"type": kind}
        for field, value in fields:
            record[field] = value(block)
        return record

    return read


def _field_reader(schema: Any) -> FieldReader:
    if isinstance(schema, list):
        options = [_field_reader(each) for each in schema]
        if any(isinstance(each, list) for each in schema):
            raise InvalidAvroError("a field has a union within a union")
        return _union_reader(options)
    if isinstance(schema, str):
        schema = {"type": schema}
    kind = schema["type"]
    if kind == "enum":
        return _enum_reader([str(symbol) for symbol in schema["symbols"]])
    if kind in ("int", "long"):
        divisor = _UNITS_PER_MS.get(schema.get("logicalType", ""), 1)
        return _integer_reader(32 if kind == "int" else 64, divisor)
    plain: dict[str, FieldReader] = {
        "null": lambda _: None,
        "boolean": _read_boolean,
        "float": lambda block: struct.unpack("<f", block.take(4))[0],
        "double": lambda block: struct.unpack("<d", block.take(8))[0],
        "string": _read_string,
        "bytes": lambda block: block.take(block.long()).hex(),
    }
    if not isinstance(kind, str) or kind not in plain:
        raise InvalidAvroError("records must be flat: fields cannot be records, arrays, maps or fixed")
    return plain[kind]


def _union_reader(options: list[FieldReader]) -> FieldReader:
    def read(block: _ByteCursor) -> Any:
        index = block.long()
        if not 0 <= index < len(options):
            raise InvalidAvroError(f"a field has union branch {index}, but the schema has {len(options)} branches")
        return options[index](block)

    return read


def _enum_reader(symbols: list[str]) -> FieldReader:
    def read(block: _ByteCursor) -> str:
        index = block.long()
        if not 0 <= index < len(symbols):
            raise InvalidAvroError(f"a field has enum index {index}, but the schema has {len(symbols)} symbols")
        return symbols[index]

    return read


def _integer_reader(bits: int, divisor: int) -> FieldReader:
    least, beyond = -(1 << (bits - 1)), 1 << (bits - 1)

    def read(block: _ByteCursor) -> int:
        value = block.long()
        if not least <= value < beyond:
            raise InvalidAvroError(f"the number {value} has more than {bits} bits")
        return value // divisor

    return read


def _read_boolean(block: _ByteCursor) -> bool:
    byte = block.take(1)[0]
    if byte > 1:
        raise InvalidAvroError(f"a boolean must be 0 or 1, not {byte}")
    return byte == 1


def _read_string(block: _ByteCursor) -> str:
    try:
        return block.take(block.long()).decode()
    except UnicodeDecodeError:
        raise InvalidAvroError("a string is not valid UTF-8") from None


def _inflate(compressed: bytes, max_inflated_bytes: int, record_count: int) -> bytes:
    inflater = zlib.decompressobj(-15)
    try:
        block = inflater.decompress(compressed, max_inflated_bytes + 1)
    except zlib.error:
        raise InvalidAvroError(f"after record {record_count}: a block is not valid deflate data") from None
    if len(block) > max_inflated_bytes:
        raise InvalidAvroError(_TOO_LARGE)
    return block
