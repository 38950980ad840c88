"""Avro containers of strangers: every length, index and number is checked before it is used.

Only flat records can be read, so a value is never larger than its bytes, and nothing recurses. A codec inflates up to
a limit. The library for Avro takes indexes out of range and numbers without end for good; this does not.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

AVRO_MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16
_HEADER_BYTES: Final = 64 << 10
_TYPES: Final = {"Scan": "scan", "Advice": "advice"}
_FINER: Final = {"timestamp-micros": 1_000, "timestamp-nanos": 1_000_000}

FieldReader = Callable[["_ByteCursor"], Any]


class InvalidAvroError(ValueError):
    """The container cannot be read, or not further."""


class _ByteCursor:
    """A cursor that never passes its end."""

    def __init__(self, content: bytes) -> None:
        self._content, self.at = content, 0

    @property
    def left(self) -> int:
        return len(self._content) - self.at

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise InvalidAvroError(f"a length of {size:,} with {self.left:,} bytes left")
        self.at += size
        return self._content[self.at - size : self.at]

    def long(self) -> int:
        shift = value = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise InvalidAvroError("a number of more than 64 bits")
        if value >= 1 << 64:
            raise InvalidAvroError("a number of more than 64 bits")
        return (value >> 1) ^ -(value & 1)


def read_records(content: bytes, largest: int, max_records: int) -> Iterator[dict[str, Any]]:
    """The records of a container as mappings with their "type"; times are in ms.

    Args:
        content: the whole container.
        largest: bytes that all its blocks together may have when inflated.
        most: records that it may have.

    Raises:
        BadAvro: it cannot be read, or not further; what came before is good.
    """
    stream = _ByteCursor(content)
    if stream.take(min(4, stream.left)) != AVRO_MAGIC:
        raise InvalidAvroError("this is no Avro container")
    branches, union, codec = _header(stream)
    sync = stream.take(_SYNC)
    number = 0
    while stream.left:
        count, size = stream.long(), stream.long()
        if not 0 <= count <= max_records - number:
            raise InvalidAvroError(f"it says to have more than {max_records:,} records")
        if not count:
            # No writer makes one, and half a million of them fit into a request.
            raise InvalidAvroError(f"after record {number}: a block without a record")
        packed = stream.take(size)
        if stream.take(_SYNC) != sync:
            raise InvalidAvroError(f"after record {number}: a block ends in the wrong place")
        block = _ByteCursor(packed if codec == "null" else _inflated(packed, largest, number))
        largest -= block.left
        if largest < 0:
            raise InvalidAvroError("its blocks are too large when inflated")
        for _ in range(count):
            number += 1
            branch = block.long() if union else 0
            if not 0 <= branch < len(branches):
                raise InvalidAvroError(f"record {number}: branch {branch} of {len(branches)}")
            yield branches[branch](block)
        if block.left:
            raise InvalidAvroError(f"after record {number}: {block.left} bytes are left over")


def _header(stream: _ByteCursor) -> tuple[list[FieldReader], bool, str]:
    header: dict[bytes, bytes] = {}
    begun = stream.at
    while (count := stream.long()) != 0:
        if count < 0:
            count = -count
            stream.long()
        if count > 100:
            raise InvalidAvroError("its header is damaged")
        for _ in range(count):
            name = stream.take(stream.long())
            header[name] = stream.take(stream.long())
        if stream.at - begun > _HEADER_BYTES:
            raise InvalidAvroError(f"its header is larger than {_HEADER_BYTES:,} bytes")
    codec = header.get(b"avro.codec", b"null")
    if codec not in (b"null", b"deflate"):
        raise InvalidAvroError("its codec must be deflate or null")
    try:
        schema = json.loads(header[b"avro.schema"])
        union = isinstance(schema, list)
        branches = [_record(each) for each in (schema if union else [schema])]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, InvalidAvroError):
            raise
        raise InvalidAvroError("its schema cannot be used") from None
    return branches, union, codec.decode()


def _record(schema: Any) -> FieldReader:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise InvalidAvroError("it must hold records Scan or Advice, or a union of these")
    name = str(schema.get("name")).rpartition(".")[2]
    if name not in _TYPES:
        raise InvalidAvroError("its records must be named Scan or Advice")
    kind = _TYPES[name]
    fields = [(str(field["name"]), _value(field["type"])) for field in schema["fields"]]
    if not 0 < len(fields) <= 100:
        raise InvalidAvroError("a record has 1 to 100 fields")

    def read(block: _ByteCursor) -> dict[str, Any]:
        record: dict[str, Any] = {"type": kind}
        for field, value in fields:
            record[field] = value(block)
        return record

    return read


def _value(schema: Any) -> FieldReader:
    if isinstance(schema, list):
        options = [_value(each) for each in schema]
        if any(isinstance(each, list) for each in schema):
            raise InvalidAvroError("a union in a union")
        return _union(options)
    if isinstance(schema, str):
        schema = {"type": schema}
    kind = schema["type"]
    if kind == "enum":
        return _enum([str(symbol) for symbol in schema["symbols"]])
    if kind in ("int", "long"):
        by = _FINER.get(schema.get("logicalType", ""), 1)
        return _whole(32 if kind == "int" else 64, by)
    plain: dict[str, FieldReader] = {
        "null": lambda _: None,
        "boolean": _boolean,
        "float": lambda block: struct.unpack("<f", block.take(4))[0],
        "double": lambda block: struct.unpack("<d", block.take(8))[0],
        "string": _string,
        "bytes": lambda block: block.take(block.long()).hex(),
    }
    if not isinstance(kind, str) or kind not in plain:
        raise InvalidAvroError("only flat fields are read: no records, arrays, maps or fixed in a record")
    return plain[kind]


def _union(options: list[FieldReader]) -> FieldReader:
    def read(block: _ByteCursor) -> Any:
        index = block.long()
        if not 0 <= index < len(options):
            raise InvalidAvroError(f"branch {index} of a union of {len(options)}")
        return options[index](block)

    return read


def _enum(symbols: list[str]) -> FieldReader:
    def read(block: _ByteCursor) -> str:
        index = block.long()
        if not 0 <= index < len(symbols):
            raise InvalidAvroError(f"word {index} of an enum of {len(symbols)}")
        return symbols[index]

    return read


def _whole(bits: int, by: int) -> FieldReader:
    least, beyond = -(1 << (bits - 1)), 1 << (bits - 1)

    def read(block: _ByteCursor) -> int:
        value = block.long()
        if not least <= value < beyond:
            raise InvalidAvroError(f"{value} has more than {bits} bits")
        return value // by

    return read


def _boolean(block: _ByteCursor) -> bool:
    byte = block.take(1)[0]
    if byte > 1:
        raise InvalidAvroError(f"{byte} is no boolean")
    return byte == 1


def _string(block: _ByteCursor) -> str:
    try:
        return block.take(block.long()).decode()
    except UnicodeDecodeError:
        raise InvalidAvroError("a string that is not UTF-8") from None


def _inflated(packed: bytes, largest: int, number: int) -> bytes:
    inflater = zlib.decompressobj(-15)
    try:
        block = inflater.decompress(packed, largest + 1)
    except zlib.error:
        raise InvalidAvroError(f"after record {number}: a block cannot be inflated") from None
    if len(block) > largest:
        raise InvalidAvroError("its blocks are too large when inflated")
    return block
