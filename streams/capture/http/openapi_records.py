"""JSON schemas of the lines of `POST /scans`: scans, container events and advices (docs/files.md)."""

from collections.abc import Mapping
from typing import Any, Final

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.domain.limits import (
    MAX_CONTAINER_ID_BYTES,
    MAX_EVENT_ID_BYTES,
    MAX_PARCEL_ID_BYTES,
    MAX_TEXT_BYTES,
    MAX_UTC_OFFSET_MINUTES,
)

JsonSchema = dict[str, Any]


def _text(min_length: int, max_length: int) -> JsonSchema:
    return {"type": "string", "minLength": min_length, "maxLength": max_length}


def _array(item: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": item}


def _integer(minimum: int, maximum: int) -> JsonSchema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


_EVENT_ID: Final = _text(1, MAX_EVENT_ID_BYTES)
_PARCEL_ID: Final = _text(1, MAX_PARCEL_ID_BYTES)
_CONTAINER_ID: Final = _text(1, MAX_CONTAINER_ID_BYTES)
_WORD: Final = _text(1, MAX_TEXT_BYTES)
_TEXT: Final = _text(0, MAX_TEXT_BYTES)
_KIND: Final[JsonSchema] = {"type": "string", "enum": list(KINDS)}
_TIME: Final[JsonSchema] = {
    "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
    "description": "ISO 8601 with UTC offset, or ms since 1970; from 1900 to 2199.",
}
_RECORD_TIME: Final[JsonSchema] = {
    **_TIME,
    "description": "Ignored: the gateway sets the time at which it accepted the record.",
}
# Fields that scans and container events share.
_OBSERVATION_FIELDS: Final[Mapping[str, JsonSchema]] = {
    "utc_offset_minutes": _integer(-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES),
    "record_time": _RECORD_TIME,
    "lane": _WORD,
    "reason": _WORD,
    "voids": {**_EVENT_ID, "description": "Required for kind VOID: the event_id of the record that is declared wrong."},
    "device_id": {**_TEXT, "description": "By default the name of the sender."},
    "device_seq": {
        **_integer(-(1 << 63), (1 << 63) - 1),
        "description": "The device's sequence number of the record; with device_id it replaces event_id.",
    },
}
# A record has an id of its own, or the sequence number that its device gave it.
_IDENTIFIED_BY: Final = [{"required": ["event_id"]}, {"required": ["device_seq"]}]


def record_schemas() -> dict[str, JsonSchema]:
    """The schema `Record`, which is one of the schemas `Scan`, `ContainerEvent` and `Advice`."""
    names = ("Scan", "ContainerEvent", "Advice")
    scan = _record(
        "scan",
        {
            "parcel_id": _PARCEL_ID,
            "kind": _KIND,
            "event_time": _TIME,
            "site": _WORD,
            "station": _WORD,
        },
        {
            "event_id": _EVENT_ID,
            "container_id": _WORD,
            "inferred_from": _EVENT_ID,
            "weight_g": _integer(-(1 << 31), (1 << 31) - 1),
            **_OBSERVATION_FIELDS,
        },
        "An observation of a parcel.",
    )
    container = _record(
        "container",
        {
            "type": {"const": "container"},
            "container_id": _CONTAINER_ID,
            "kind": _KIND,
            "event_time": _TIME,
            "site": _WORD,
            "station": _WORD,
        },
        {
            "event_id": _EVENT_ID,
            "parcels": {**_array(_PARCEL_ID), "description": "For PACKED and UNPACKED: the children."},
            "containers": {**_array(_CONTAINER_ID), "description": "For PACKED and UNPACKED: the children."},
            "parent_id": {
                **_CONTAINER_ID,
                "description": "For PACKED and UNPACKED without children: the container it was put into or taken from.",
            },
            **_OBSERVATION_FIELDS,
        },
        "An observation of a bag, a ULD or a vehicle. PACKED needs children or a parent_id.",
    )
    advice = _record(
        "advice",
        {
            "type": {"const": "advice"},
            "event_id": _EVENT_ID,
            "parcel_id": _PARCEL_ID,
            "event_time": _TIME,
            "direction": {"type": "string", "enum": list(DIRECTIONS)},
            "service": _WORD,
            "origin": _WORD,
            "destination": _WORD,
        },
        {"record_time": _RECORD_TIME, "planned_lane": _WORD, "owner": _TEXT, "promised_at": _TIME},
        "Facts about a parcel before it arrives. Only a sender registered for all sites may send it.",
    )
    scan["anyOf"] = container["anyOf"] = _IDENTIFIED_BY
    record = {
        "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names],
        "description": "docs/files.md describes each field. The length of a text is limited in bytes of UTF-8.",
    }
    return {"Record": record, **dict(zip(names, (scan, container, advice), strict=True))}


def _record(
    type_: str, required: Mapping[str, JsonSchema], optional: Mapping[str, JsonSchema], description: str
) -> JsonSchema:
    """The schema of a record without other fields; null has the meaning of an absent field."""
    may_be_null = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in optional.items()}
    return {
        "type": "object",
        "required": list(required),
        "properties": {"type": {"const": type_}, **required, **may_be_null},
        "additionalProperties": False,
        "description": description,
    }
