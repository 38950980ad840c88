"""JSON schemas of a line of `POST /scans`: scans, events of containers, advices (docs/files.md)."""

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


def _text(least: int, most: int) -> JsonSchema:
    return {"type": "string", "minLength": least, "maxLength": most}


def _list(item: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": item}


def _whole(low: int, high: int) -> JsonSchema:
    return {"type": "integer", "minimum": low, "maximum": high}


_EVENT_ID: Final = _text(1, MAX_EVENT_ID_BYTES)
_PARCEL_ID: Final = _text(1, MAX_PARCEL_ID_BYTES)
_CONTAINER_ID: Final = _text(1, MAX_CONTAINER_ID_BYTES)
_WORD: Final = _text(1, MAX_TEXT_BYTES)
_PLAIN: Final = _text(0, MAX_TEXT_BYTES)
_KIND: Final[JsonSchema] = {"type": "string", "enum": list(KINDS)}
_TIME: Final[JsonSchema] = {
    "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
    "description": "ISO 8601 with its offset, or ms since 1970; from 1900 to 2199.",
}
_ACCEPTED: Final[JsonSchema] = {
    **_TIME,
    "description": "Taken and not kept: the gateway's own time of acceptance counts.",
}
# What an observation may say, of a parcel or of a container.
_OBSERVED: Final[Mapping[str, JsonSchema]] = {
    "utc_offset_minutes": _whole(-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES),
    "record_time": _ACCEPTED,
    "lane": _WORD,
    "reason": _WORD,
    "voids": {**_EVENT_ID, "description": "Of kind VOID, which needs it: the event_id of what was wrong."},
    "device_id": {**_PLAIN, "description": "By default the sender."},
    "device_seq": {
        **_whole(-(1 << 63), (1 << 63) - 1),
        "description": "The device's number of this record; with device_id it stands for an event_id.",
    },
}
# By its own id, or by the number that its device gave it.
_KNOWN_BY: Final = [{"required": ["event_id"]}, {"required": ["device_seq"]}]


def record_schemas() -> dict[str, JsonSchema]:
    """`Record`, which is one of `Scan`, `ContainerEvent` and `Advice`."""
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
            "weight_g": _whole(-(1 << 31), (1 << 31) - 1),
            **_OBSERVED,
        },
        "Something happened to a parcel.",
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
            "parcels": {**_list(_PARCEL_ID), "description": "Of PACKED and UNPACKED: the children."},
            "containers": {**_list(_CONTAINER_ID), "description": "Of PACKED and UNPACKED: the children."},
            "parent_id": {
                **_CONTAINER_ID,
                "description": "Of PACKED and UNPACKED without children: what it was put into or taken out of.",
            },
            **_OBSERVED,
        },
        "Something happened to a bag, a ULD or a vehicle. PACKED needs children or a parent_id.",
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
        {"record_time": _ACCEPTED, "planned_lane": _WORD, "owner": _PLAIN, "promised_at": _TIME},
        "What is known of a parcel before it comes; from senders for all sites only.",
    )
    scan["anyOf"] = container["anyOf"] = _KNOWN_BY
    whole = {
        "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names],
        "description": "docs/files.md says what each field means. Texts are limited in bytes of UTF-8.",
    }
    return {"Record": whole, **dict(zip(names, (scan, container, advice), strict=True))}


def _record(
    type_: str, required: Mapping[str, JsonSchema], optional: Mapping[str, JsonSchema], description: str
) -> JsonSchema:
    """A record has no fields but these, and null is the same as left out."""
    may_be_null = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in optional.items()}
    return {
        "type": "object",
        "required": list(required),
        "properties": {"type": {"const": type_}, **required, **may_be_null},
        "additionalProperties": False,
        "description": description,
    }
