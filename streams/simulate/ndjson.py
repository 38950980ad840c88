"""A simulated log as newline-delimited JSON, the format that `parcels load` reads (docs/files.md)."""

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.domain.record_columns import Column, RecordColumns, RecordType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCAN_FIELDS: Final = (
    "event_id", "parcel_id", "kind", "event_time", "utc_offset_minutes", "record_time", "site", "station", "lane",
    "reason", "container_id", "voids", "inferred_from", "device_id", "device_seq", "weight_g",
)  # fmt: skip
_ADVICE_FIELDS: Final = (
    "event_id", "parcel_id", "event_time", "record_time", "direction", "service", "origin", "destination",
    "planned_lane", "owner", "promised_at",
)  # fmt: skip
_CONTAINER_FIELDS: Final = (
    "event_id", "container_id", "kind", "event_time", "utc_offset_minutes", "record_time", "site", "station", "lane",
    "reason", "voids", "device_id", "device_seq",
)  # fmt: skip
_FIELDS: Final = {
    RecordType.SCAN: _SCAN_FIELDS,
    RecordType.ADVICE: _ADVICE_FIELDS,
    RecordType.TICK: ("hub_time", "producer"),
    RecordType.CONTAINER: _CONTAINER_FIELDS,
}
_TIMES: Final = frozenset({"event_time", "record_time", "promised_at", "hub_time"})
_NUMBERS: Final = frozenset({"utc_offset_minutes", "device_seq", "weight_g"})
_ENUMS: Final = {"kind": KINDS, "direction": DIRECTIONS}


def ndjson_lines(columns: RecordColumns) -> Iterator[str]:
    """Each record as one line, without a line feed. Optional fields that are null or empty are left out."""
    text = columns.text.tobytes()
    listed = {field: (offsets.tolist(), lengths.tolist()) for field, (offsets, lengths) in columns.columns.items()}
    key_offsets, key_lengths = (part.tolist() for part in columns.keys)
    raw = iter(columns.raw)
    lists = {name: _texts(text, items) for name, (_, items) in columns.lists.items()}
    counts = {name: counts.tolist() for name, (counts, _) in columns.lists.items()}
    for row, type_ in enumerate(columns.types.tolist()):
        if type_ in (RecordType.RAW, RecordType.RAW_CONTAINER):
            value = next(raw)
            key = text[key_offsets[row] : key_offsets[row] + key_lengths[row]].decode()
            value_base64 = None if value is None else b64encode(value).decode()
            marker = {"container": True} if type_ == RecordType.RAW_CONTAINER else {}
            yield json.dumps({"type": "raw", **marker, "key": key, "value_base64": value_base64})
            continue
        record: dict[str, Any] = {"type": RecordType(type_).name.lower()}
        for field in _FIELDS[RecordType(type_)]:
            offsets, lengths = listed[field]
            number, length = offsets[row], lengths[row]
            if length < 0:
                continue
            if field in _ENUMS:
                record[field] = _ENUMS[field][number]
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
    for offset, length in zip(*(part.tolist() for part in column), strict=True):
        yield text[offset : offset + length].decode()


def format_iso8601(time_ms: int) -> str:
    """ISO 8601 with milliseconds, UTC."""
    moment = (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds")
    return moment.removesuffix("+00:00") + "Z"
