"""Files of records, line by line: newline-delimited JSON or Avro containers (docs/files.md)."""

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from streams.formats import avro_files
from streams.formats.record_parser import ProducerRecord, RecordParser

# A line of a record has some hundred bytes; one without an end must not fill the memory.
MAX_LINE_BYTES: Final = 1 << 20
# What compressed files begin with, and what unpacks them.
_COMPRESSED: Final = {b"\x1f\x8b\x08": "gzip -dc", b"\x28\xb5\x2f\xfd": "zstd -dc", b"\xfd7zX": "xz -dc"}
# JSON's numbers have no end; this one of Python's has.
_DIGITS: Final = "Exceeds the limit"


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that was not sent: what is wrong with it, and the line itself for the side file."""

    where: str
    message: str
    line: bytes

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class RecordFile:
    """One file, or anything else that gives bytes; iterate once."""

    def __init__(self, stream: BinaryIO, name: str, reader: RecordParser | None = None) -> None:
        self._stream, self._name = stream, name
        self._reader = reader or RecordParser()

    def __iter__(self) -> Iterator[ProducerRecord | RejectedLine]:
        begin = self._stream.read(len(avro_files.MAGIC))
        for magic, command in _COMPRESSED.items():
            if begin.startswith(magic):
                note = _line({"unread": self._name})
                message = f"this is compressed: {command} FILE | parcels load -; nothing of it was read"
                return iter([RejectedLine(self._name, message, note)])
        rest = _PrefixedStream(begin, self._stream)
        return self._avro(rest) if begin == avro_files.MAGIC else self._lines(rest)

    def _lines(self, stream: "_PrefixedStream") -> Iterator[ProducerRecord | RejectedLine]:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            where = f"{self._name}:{number}"
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                yield from self._too_long(stream, where, line)
                continue
            text = line.strip().removeprefix(b"\xef\xbb\xbf")
            if not text:
                continue
            try:
                yield self._reader(json.loads(text.decode(), parse_constant=_no_number))
            except RecursionError:
                yield RejectedLine(where, "brackets are nested too deep; a record is flat", line)
            except json.JSONDecodeError as error:
                yield RejectedLine(where, f"this is not JSON: {error.msg} at character {error.colno}", line)
            except UnicodeDecodeError:
                yield RejectedLine(where, "this is not UTF-8", line)
            except ValueError as error:
                endless = str(error).startswith(_DIGITS)
                yield RejectedLine(where, "a number has thousands of digits" if endless else str(error), line)

    def _too_long(self, stream: "_PrefixedStream", where: str, line: bytes) -> Iterator[RejectedLine]:
        """A line that never seems to end, in pieces, so that all of it gets into the side file."""
        yield RejectedLine(where, f"the line is longer than {MAX_LINE_BYTES:,} bytes", line)
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
            yield RejectedLine("", "", line)

    def _avro(self, stream: "_PrefixedStream") -> Iterator[ProducerRecord | RejectedLine]:
        try:
            for number, record in enumerate(avro_files.read_avro_file(stream), 1):
                if isinstance(record, avro_files.UndecodableBlock):
                    message = f"{record.message}; the rest of its block was left out"
                    block = {"unread_block": b64encode(record.block).decode(), "first_record": record.record}
                    yield RejectedLine(f"{self._name}: record {record.record}", message, _line(block))
                    continue
                try:
                    yield self._reader(record)
                except ValueError as error:
                    yield RejectedLine(f"{self._name}: record {number}", str(error), _line(record))
        except avro_files.AvroFileError as error:
            note = {"unread": str(error)}
            yield RejectedLine(self._name, f"{error}; nothing after that was read", _line(note))


class _PrefixedStream:
    """A stream that begins with bytes already read from it."""

    def __init__(self, begin: bytes, stream: BinaryIO) -> None:
        self._begin, self._stream = begin, stream

    def read(self, size: int) -> bytes:
        part, self._begin = self._begin[:size], self._begin[size:]
        while len(part) < size and (more := self._stream.read(size - len(part))):
            part += more
        return part

    def readline(self, limit: int) -> bytes:
        if not self._begin:
            return self._stream.readline(limit)
        begin, self._begin = self._begin, b""
        end = begin.find(b"\n") + 1
        if end:
            self._begin = begin[end:]
            return begin[:end]
        return begin + self._stream.readline(limit - len(begin))


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said, default=str).encode() + b"\n"
