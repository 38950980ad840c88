"""Files of records: newline-delimited JSON or Avro containers (docs/files.md)."""

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from streams.formats import avro_files
from streams.formats.record_parser import ProducerRecord, RecordParser

# A line of a record has some hundred bytes; a line without an end must not fill the memory.
MAX_LINE_BYTES: Final = 1 << 20
# First bytes of a compressed file -> the command that decompresses it.
_COMPRESSION_MAGICS: Final = {b"\x1f\x8b\x08": "gzip -dc", b"\x28\xb5\x2f\xfd": "zstd -dc", b"\xfd7zX": "xz -dc"}
# Beginning of Python's message about a number of thousands of digits. JSON has no such limit.
_TOO_MANY_DIGITS: Final = "Exceeds the limit"


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that was not sent: the reason, and the line itself for the side file.

    `file_position` is the file and the line or record. It is empty for a further piece of a line that is too long.
    """

    file_position: str
    message: str
    line: bytes

    def __str__(self) -> str:
        return f"{self.file_position}: {self.message}"


class RecordFile:
    """The records of one file, or of another stream of bytes; iterate once."""

    def __init__(self, stream: BinaryIO, name: str, parser: RecordParser | None = None) -> None:
        self._stream, self._name = stream, name
        self._parse = parser or RecordParser()

    def __iter__(self) -> Iterator[ProducerRecord | RejectedLine]:
        prefix = self._stream.read(len(avro_files.MAGIC))
        for magic, command in _COMPRESSION_MAGICS.items():
            if prefix.startswith(magic):
                note = _json_line({"unread": self._name})
                message = f"this is compressed: {command} FILE | parcels load -; nothing of it was read"
                return iter([RejectedLine(self._name, message, note)])
        stream = _PrefixedStream(prefix, self._stream)
        return self._read_avro(stream) if prefix == avro_files.MAGIC else self._read_lines(stream)

    def _read_lines(self, stream: "_PrefixedStream") -> Iterator[ProducerRecord | RejectedLine]:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            position = f"{self._name}:{number}"
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                yield from self._reject_long_line(stream, position, line)
                continue
            text = line.strip().removeprefix(b"\xef\xbb\xbf")
            if not text:
                continue
            try:
                yield self._parse(json.loads(text.decode(), parse_constant=_refuse_constant))
            except RecursionError:
                yield RejectedLine(position, "brackets are nested too deep; a record is flat", line)
            except json.JSONDecodeError as error:
                yield RejectedLine(position, f"this is not JSON: {error.msg} at character {error.colno}", line)
            except UnicodeDecodeError:
                yield RejectedLine(position, "this is not UTF-8", line)
            except ValueError as error:
                is_too_long = str(error).startswith(_TOO_MANY_DIGITS)
                message = "a number has thousands of digits" if is_too_long else str(error)
                yield RejectedLine(position, message, line)

    def _reject_long_line(self, stream: "_PrefixedStream", position: str, line: bytes) -> Iterator[RejectedLine]:
        """All of a line that is too long, in pieces, for the side file."""
        yield RejectedLine(position, f"the line is longer than {MAX_LINE_BYTES:,} bytes", line)
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
            yield RejectedLine("", "", line)

    def _read_avro(self, stream: "_PrefixedStream") -> Iterator[ProducerRecord | RejectedLine]:
        try:
            for number, record in enumerate(avro_files.read_avro_file(stream), 1):
                if isinstance(record, avro_files.UndecodableBlock):
                    message = f"{record.message}; the rest of its block was left out"
                    note = {
                        "unread_block": b64encode(record.inflated_block).decode(),
                        "first_record": record.record_number,
                    }
                    yield RejectedLine(f"{self._name}: record {record.record_number}", message, _json_line(note))
                    continue
                try:
                    yield self._parse(record)
                except ValueError as error:
                    yield RejectedLine(f"{self._name}: record {number}", str(error), _json_line(record))
        except avro_files.AvroFileError as error:
            unread = {"unread": str(error)}
            yield RejectedLine(self._name, f"{error}; nothing after that was read", _json_line(unread))


class _PrefixedStream:
    """A stream, preceded by bytes that were already read from it."""

    def __init__(self, prefix: bytes, stream: BinaryIO) -> None:
        self._prefix, self._stream = prefix, stream

    def read(self, size: int) -> bytes:
        part, self._prefix = self._prefix[:size], self._prefix[size:]
        while len(part) < size and (more := self._stream.read(size - len(part))):
            part += more
        return part

    def readline(self, limit: int) -> bytes:
        if not self._prefix:
            return self._stream.readline(limit)
        prefix, self._prefix = self._prefix, b""
        end = prefix.find(b"\n") + 1
        if end:
            self._prefix = prefix[end:]
            return prefix[:end]
        return prefix + self._stream.readline(limit - len(prefix))


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _json_line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, default=str).encode() + b"\n"
