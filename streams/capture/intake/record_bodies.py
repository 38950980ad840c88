"""Parses the bodies of POST /scans into records: newline-delimited JSON, or an Avro container file."""

import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from streams.capture.auth.principal import Principal
from streams.capture.epcis.checks import format_value
from streams.capture.intake import untrusted_avro

MAX_RECORDS: Final = 10_000
MAX_LINE_BYTES: Final = 64 << 10
# A container event lists its children.
MAX_CONTAINER_LINE_BYTES: Final = 1 << 20
# Begin of the event_ids that are made from a device's sequence numbers. Only that device may use them.
DEVICE_EVENT_ID: Final = "urn:parcels:device:"


def _reject_number(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {format_value(repeated)} stands twice in one object: give it once")
    return mapping


# One decoder for all lines, because creating a decoder costs as much as decoding a line.
_DECODER: Final = json.JSONDecoder(parse_constant=_reject_number, object_pairs_hook=_unique_keys)


def parse_lines(body: bytes) -> Iterator[Any]:
    """The values of the lines; for a line that cannot be read, the ValueError."""
    for line in body.removeprefix(BOM_UTF8).split(b"\n"):
        text = line.strip()
        if not text:
            continue
        if len(text) > MAX_CONTAINER_LINE_BYTES:
            yield ValueError(f"the line is longer than {MAX_CONTAINER_LINE_BYTES:,} bytes")
            continue
        try:
            parsed = _DECODER.decode(text.decode())
            if len(text) > MAX_LINE_BYTES and (not isinstance(parsed, dict) or parsed.get("type") != "container"):
                raise ValueError(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
            yield parsed
        except RecursionError:
            yield ValueError("brackets are nested too deep: a record has no nested objects")
        except UnicodeDecodeError:
            yield ValueError("the line is not valid UTF-8")
        except json.JSONDecodeError as error:
            yield ValueError(f"the line is not valid JSON: {error.msg} at character {error.colno}")
        except ValueError as error:
            yield ValueError(str(error))


def parse_avro(body: bytes, max_inflated_bytes: int) -> Iterator[Any]:
    """The records of an Avro container file; at the first unreadable position, a ValueError as the last value."""
    try:
        yield from untrusted_avro.read_records(body, max_inflated_bytes, MAX_RECORDS)
    except untrusted_avro.InvalidAvroError as error:
        yield ValueError(f"{error}; the rest of the file was not read")


def prepare_record(parsed: Any, principal: Principal, now_ms: int) -> dict[str, Any]:
    """A record in the form of the record parser: with type, event_id and the record time of this gateway."""
    if not isinstance(parsed, dict):
        raise ValueError("a record must be a JSON object")  # noqa: TRY004 - one class for all errors of a line
    record = {**parsed, "record_time": now_ms}
    type_ = record.setdefault("type", "scan")
    if type_ not in ("scan", "container", "advice"):
        raise ValueError(f"type is {format_value(type_)}; it must be scan, container or advice")
    if type_ == "container" and (record.get("inferred_from") is not None or record.get("path")):
        raise ValueError("inferred container events (inferred_from, path) are not accepted here")
    if type_ != "advice" and not record.get("device_id") and principal.name:
        record["device_id"] = principal.name
    if record.get("event_id") is None:
        device, sequence = record.get("device_id"), record.get("device_seq")
        if type_ == "advice" or not isinstance(device, str) or not device or type(sequence) is not int:
            alternative = "" if type_ == "advice" else ", or device_id and device_seq"
            raise ValueError(f"event_id is missing: give it{alternative}")
        record["event_id"] = f"{DEVICE_EVENT_ID}{device}:{sequence}"
    text_fields = ["event_id", "container_id" if type_ == "container" else "parcel_id"]
    text_fields += [] if type_ == "advice" else ["site", "station"]
    wrong = [name for name in text_fields if not isinstance(record.get(name), str)]
    if wrong:
        raise ValueError(f"{wrong[0]} is {format_value(record.get(wrong[0]))}; it must be a string")
    return record
