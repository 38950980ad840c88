"""A simulated log as newline-delimited JSON, the format that `parcels load` reads (docs/files.md)."""

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.domain.record_columns import Column, RecordColumns, RecordType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCAN: Final = (
    "event_id", "parcel_id", "kind", "event_time", "utc_offset_minutes", "record_time", "site", "station", "lane",
    "reason", "container_id", "voids", "inferred_from", "device_id", "device_seq", "weight_g",
)  # fmt: skip
_ADVICE: Final = (
    "event_id", "parcel_id", "event_time", "record_time", "direction", "service", "origin", "destination",
    "planned_lane", "owner", "promised_at",
)  # fmt: skip
_CONTAINER: Final = (
    "event_id", "container_id", "kind", "event_time", "utc_offset_minutes", "record_time", "site", "station", "lane",
    "reason", "voids", "device_id", "device_seq",
)  # fmt: skip
_FIELDS: Final = {
    RecordType.SCAN: _SCAN,
    RecordType.ADVICE: _ADVICE,
    RecordType.TICK: ("hub_time", "producer"),
    RecordType.CONTAINER: _CONTAINER,
}
_TIMES: Final = frozenset({"event_time", "record_time", "promised_at", "hub_time"})
_NUMBERS: Final = frozenset({"utc_offset_minutes", "device_seq", "weight_g"})
_WORDS: Final = {"kind": KINDS, "direction": DIRECTIONS}


def ndjson_lines(columns: RecordColumns) -> Iterator[str]:
    """Each record as one line, without the line's end; optional fields that are null or empty are left out."""
    text = columns.text.tobytes()
    listed = {field: (at.tolist(), size.tolist()) for field, (at, size) in columns.columns.items()}
    key_at, key_size = (part.tolist() for part in columns.keys)
    raw = iter(columns.raw)
    lists = {name: _texts(text, items) for name, (_, items) in columns.lists.items()}
    counts = {name: counts.tolist() for name, (counts, _) in columns.lists.items()}
    for row, type_ in enumerate(columns.types.tolist()):
        if type_ in (RecordType.RAW, RecordType.RAW_CONTAINER):
            value = next(raw)
            key = text[key_at[row] : key_at[row] + key_size[row]].decode()
            shown = None if value is None else b64encode(value).decode()
            of = {"container": True} if type_ == RecordType.RAW_CONTAINER else {}
            yield json.dumps({"type": "raw", **of, "key": key, "value_base64": shown})
            continue
        record: dict[str, Any] = {"type": RecordType(type_).name.lower()}
        for field in _FIELDS[RecordType(type_)]:
            at, size = listed[field]
            number, length = at[row], size[row]
            if length < 0:
                continue
            if field in _WORDS:
                record[field] = _WORDS[field][number]
            elif field in _TIMES:
                record[field] = format_iso8601(number)
            elif field in _NUMBERS:
                record[field] = number
            elif length:
                record[field] = text[number : number + length].decode()
        if type_ == RecordType.CONTAINER:
            record |= {name: [next(items) for _ in range(counts[name][row])] for name, items in lists.items()}
            record = {name: value for name, value in record.items() if value != []}
        yield json.dumps(record)


def _texts(text: bytes, column: Column) -> Iterator[str]:
    for at, size in zip(*(part.tolist() for part in column), strict=True):
        yield text[at : at + size].decode()


def format_iso8601(time_ms: int) -> str:
    """ISO 8601 with milliseconds, UTC."""
    moment = (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds")
    return moment.removesuffix("+00:00") + "Z"
