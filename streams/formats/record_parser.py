"""Parsing of records of files and requests: every field is checked, with messages for the author of the record.

The format is in docs/files.md. A mapping with a "type" becomes a key and an Avro value of `hub.scans`, or of
`hub.containers` if its type is container.
"""

import difflib
import io
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import fastavro

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.domain.limits import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_CONTAINER_ID_BYTES,
    MAX_EVENT_ID_BYTES,
    MAX_NESTING_DEPTH,
    MAX_PARCEL_ID_BYTES,
    MAX_TEXT_BYTES,
    MAX_UTC_OFFSET_MINUTES,
)
from streams.formats.schemas import load_schemas

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_EXAMPLE_TIME: Final = "2026-03-01T04:00:00Z"


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """One record ready to be sent. With `broadcast` it is a Tick for every partition of both logs, without a key."""

    key: bytes | None
    value: bytes | None
    broadcast: bool = False
    # True: it goes to hub.containers, not to hub.scans.
    to_containers_topic: bool = False


def _text(max_bytes: int, min_bytes: int = 1) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if type(value) is not str:
            raise ValueError(f"{name} is {_shown(value)}; it must be a text")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name} holds half of a surrogate pair, which is no character") from None
        if not min_bytes <= size <= max_bytes:
            raise ValueError(f"{name} has {size:,} bytes; it must have {min_bytes} to {max_bytes:,}")
        return value

    return check


def _id(max_bytes: int) -> Callable[[str, Any], str]:
    check_text = _text(max_bytes)

    def check(name: str, value: Any) -> str:
        text = check_text(name, value)
        if any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
            raise ValueError(f"{name} is {_shown(value)}; it must not hold control characters")
        return text

    return check


def _ids(max_bytes: int, max_items: int | None = None) -> Callable[[str, Any], list[str]]:
    check_id = _id(max_bytes)

    def check(name: str, value: Any) -> list[str]:
        if type(value) is not list:
            raise ValueError(f"{name} is {_shown(value)}; it must be a list of texts")
        if max_items is not None and len(value) > max_items:
            raise ValueError(f"{name} has {len(value)} items; it must have {max_items} at most")
        return [check_id(f"{name}, item {number}", item) for number, item in enumerate(value, 1)]

    return check


def _symbol(symbols: tuple[str, ...]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in symbols:
            close = difflib.get_close_matches(str(value).upper(), symbols, 1)
            hint = f"did you mean {close[0]}?" if close else f"it must be one of {', '.join(symbols)}"
            raise ValueError(f"{name} is {_shown(value)}; {hint}")
        return str(value)

    return check


def _number(low: int, high: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {_shown(value)}; it must be a whole number from {low} to {high}")
        return value

    return check


def _time(name: str, value: Any) -> int:
    """Ms since 1970 of a time in ISO 8601 with its offset, or of a time in ms."""
    if isinstance(value, str):
        try:
            # RFC 3339 allows a small letter z; Python's parser of ISO 8601 does not.
            value = datetime.fromisoformat(value[:-1] + "Z" if value.endswith("z") else value)
        except ValueError:
            raise ValueError(f"{name} is {_shown(value)}; write it like {_EXAMPLE_TIME}, or in ms since 1970") from None
        if value.tzinfo is None:
            raise ValueError(f"{name} does not say its offset from UTC; write it like {_EXAMPLE_TIME}")
    if isinstance(value, datetime):
        value = (value - _EPOCH) // _MS
    if type(value) is not int:
        raise ValueError(f"{name} is {_shown(value)}; write it like {_EXAMPLE_TIME}, or in ms since 1970")
    if not EARLIEST_MS <= value < LATEST_MS:
        raise ValueError(f"{name} is {value} ms since 1970; it must be from 1900 to 2199")
    return value


_PARCEL_ID = _id(MAX_PARCEL_ID_BYTES)
_CONTAINER_ID = _id(MAX_CONTAINER_ID_BYTES)
_INT_END = 1 << 31
_LONG_END = 1 << 63
_TEXT = _text(MAX_TEXT_BYTES)
_EMPTY_OR_TEXT = _text(MAX_TEXT_BYTES, 0)
_EVENT_ID = _text(MAX_EVENT_ID_BYTES)
# Type -> field -> (check, whether the field is required).
_FIELDS: Final[Mapping[str, Mapping[str, tuple[Callable[[str, Any], Any], bool]]]] = {
    "scan": {
        "event_id": (_EVENT_ID, True),
        "parcel_id": (_PARCEL_ID, True),
        "kind": (_symbol(KINDS), True),
        "event_time": (_time, True),
        "utc_offset_minutes": (_number(-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES), False),
        "record_time": (_time, False),
        "site": (_TEXT, True),
        "station": (_TEXT, True),
        "lane": (_TEXT, False),
        "reason": (_TEXT, False),
        "container_id": (_TEXT, False),
        "voids": (_EVENT_ID, False),
        "inferred_from": (_EVENT_ID, False),
        "device_id": (_EMPTY_OR_TEXT, False),
        "device_seq": (_number(-_LONG_END, _LONG_END - 1), False),
        "weight_g": (_number(-_INT_END, _INT_END - 1), False),
    },
    "container": {
        "event_id": (_EVENT_ID, True),
        "container_id": (_CONTAINER_ID, True),
        "kind": (_symbol(KINDS), True),
        "event_time": (_time, True),
        "utc_offset_minutes": (_number(-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES), False),
        "record_time": (_time, False),
        "site": (_TEXT, True),
        "station": (_TEXT, True),
        "lane": (_TEXT, False),
        "reason": (_TEXT, False),
        "parcels": (_ids(MAX_PARCEL_ID_BYTES), False),
        "containers": (_ids(MAX_CONTAINER_ID_BYTES), False),
        "parent_id": (_CONTAINER_ID, False),
        "voids": (_EVENT_ID, False),
        "inferred_from": (_EVENT_ID, False),
        "path": (_ids(MAX_CONTAINER_ID_BYTES, MAX_NESTING_DEPTH), False),
        "device_id": (_EMPTY_OR_TEXT, False),
        "device_seq": (_number(-_LONG_END, _LONG_END - 1), False),
    },
    "advice": {
        "event_id": (_EVENT_ID, True),
        "parcel_id": (_PARCEL_ID, True),
        "event_time": (_time, True),
        "record_time": (_time, False),
        "direction": (_symbol(DIRECTIONS), True),
        "service": (_TEXT, True),
        "origin": (_TEXT, True),
        "destination": (_TEXT, True),
        "planned_lane": (_TEXT, False),
        "owner": (_EMPTY_OR_TEXT, False),
        "promised_at": (_time, False),
    },
    "tick": {"hub_time": (_time, True), "producer": (_EMPTY_OR_TEXT, False)},
}
_SCHEMA_NAMES: Final = {"scan": "Scan", "container": "ContainerEvent", "advice": "Advice", "tick": "Tick"}
_TYPES: Final = (*_FIELDS, "raw")


class RecordParser:
    """Makes records for the logs from the documents of a file or a request."""

    def __init__(self) -> None:
        self._schemas = load_schemas()
        self._parsed = {
            type_: fastavro.parse_schema(self._schemas.current(name)) for type_, name in _SCHEMA_NAMES.items()
        }

    def __call__(self, document: Any) -> ProducerRecord:
        """Parse one record.

        Raises:
            ValueError: says what is wrong, and what would be right.
        """
        if not isinstance(document, dict):
            raise ValueError(  # noqa: TRY004 - one class for everything that may be wrong with a line
                f'this is {_shown(document)}; a line is a record like {{"type": "scan", …}}'
            )
        type_ = document.get("type")
        if type_ == "raw":
            return _parse_raw(document)
        if not isinstance(type_, str) or type_ not in _FIELDS:
            close = difflib.get_close_matches(str(type_), _TYPES, 1)
            hint = f"did you mean {close[0]}?" if close else f"it must be one of {', '.join(_TYPES)}"
            raise ValueError(f"type is {_shown(type_)}; {hint}" if "type" in document else f"type is missing; {hint}")
        record = _check_fields(type_, document)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._parsed[type_], record)
        value = self._schemas.to_wire_format(_SCHEMA_NAMES[type_], body.getvalue())
        if type_ == "tick":
            return ProducerRecord(None, value, broadcast=True)
        if type_ == "container":
            return ProducerRecord(record["container_id"].encode(), value, to_containers_topic=True)
        return ProducerRecord(record["parcel_id"].encode(), value)


def _check_fields(type_: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The record with checked fields; null means the same as a missing field."""
    fields = _FIELDS[type_]
    record: dict[str, Any] = {}
    for name, value in document.items():
        if name not in fields:
            if name == "type":
                continue
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(fields)}"
            raise ValueError(f"a record of type {type_} has no field {_shown(name)}; {hint}")
        if value is not None:
            record[name] = fields[name][0](name, value)
    missing = [name for name, (_, required) in fields.items() if required and name not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if type_ in ("scan", "container"):
        if (record["kind"] == "VOID") != ("voids" in record):
            raise ValueError('"voids" names the event_id that a record of kind VOID declares wrong: both or neither')
        if type_ == "container":
            _check_children(record)
        if "utc_offset_minutes" not in record:
            record["utc_offset_minutes"] = _utc_offset_minutes(document["event_time"])
    if type_ != "tick" and "record_time" not in record:
        record["record_time"] = (datetime.now(UTC) - _EPOCH) // _MS
    return record


def _check_children(record: Mapping[str, Any]) -> None:
    """Only events of the kinds PACKED and UNPACKED have children or a parent."""
    children = bool(record.get("parcels") or record.get("containers"))
    if children and (record["kind"] not in ("PACKED", "UNPACKED") or "parent_id" in record):
        raise ValueError('"parcels" and "containers" are for kinds PACKED and UNPACKED without "parent_id"')
    if record["kind"] not in ("PACKED", "UNPACKED") and "parent_id" in record and "inferred_from" not in record:
        raise ValueError('"parent_id" is for kinds PACKED and UNPACKED')
    if record["kind"] == "PACKED" and not children and "parent_id" not in record:
        raise ValueError('kind PACKED needs children in "parcels" or "containers", or a "parent_id"')


def _utc_offset_minutes(time: Any) -> int:
    """Minutes from UTC in the text of a time; 0 where it has none."""
    if not isinstance(time, str) or time[-1:] in "Zz":
        return 0
    offset = datetime.fromisoformat(time).utcoffset()
    minutes = 0 if offset is None else round(offset.total_seconds() / 60)
    return _number(-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES)("the offset of event_time", minutes)


def _parse_raw(document: Mapping[str, Any]) -> ProducerRecord:
    """A record whose bytes are sent unchanged: the simulator writes its malformed records so."""
    unknown = document.keys() - {"type", "key", "value_base64", "container"}
    if unknown:
        raise ValueError(
            f"a record of type raw has no field {_shown(min(unknown))}; it has key, value_base64, container"
        )
    key, value, container = document.get("key"), document.get("value_base64"), document.get("container", False)
    if type(container) is not bool:
        raise ValueError(f"container is {_shown(container)}; it must be true or false")
    try:
        return ProducerRecord(
            None if key is None else _text(1 << 15, 0)("key", key).encode(),
            None if value is None else b64decode(_text(1 << 25, 0)("value_base64", value), validate=True),
            to_containers_topic=container,
        )
    except ValueError as error:
        raise ValueError(f"a record of type raw: {error}") from None


def _shown(value: Any) -> str:
    """A value for a message: short, and without control characters."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]
