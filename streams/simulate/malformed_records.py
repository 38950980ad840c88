"""Values that cannot be used, each with the reject reason that it must have in the dead-letter topic.

They are written byte by byte, so that they depend on no encoder. The layouts are version 1 of the schemas Scan and
ContainerEvent.
"""

import random
from collections.abc import Callable, Iterable
from typing import Final

from streams.domain.kinds import ARRIVED, CUSTOMS_RELEASED, PACKED, SORTED, VOID
from streams.domain.limits import MAX_CONTAINER_RECORD_BYTES, MAX_NESTING_DEPTH
from streams.domain.reject_reasons import RejectReason

_SCAN_ID: Final = 1
_EVENT_ID: Final = 9
# 0001-01-01 and 9999-12-31 in ms since 1970.
_YEAR_1: Final = -62_135_596_800_000
_YEAR_9999: Final = 253_402_214_400_000


def _number(value: int) -> bytes:
    """An Avro int or long: zigzag, seven bits a byte."""
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _text(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    return _number(len(encoded)) + encoded


def _texts(values: Iterable[str]) -> bytes:
    """An Avro array of texts: one block, and the end."""
    items = [_text(value) for value in values]
    return _number(len(items)) + b"".join(items) + b"\0"


class _RecordTemplate:
    """The fields of a valid record as Avro bytes, from which malformed values are made."""

    def __init__(self, schema_id: int, serial: int, fields: dict[str, bytes]) -> None:
        self.rng = random.Random(serial)
        self.schema_id = schema_id
        self.fields = fields

    @classmethod
    def scan(cls, serial: int, parcel_id: str, event_time: int) -> "_RecordTemplate":
        """A scan of a parcel."""
        fields = {
            "event_id": _text(f"broken-{serial}"),
            "parcel_id": _text(parcel_id),
            "kind": _number(SORTED),
            **_time_and_location_fields(event_time),
            "container_id": b"\0",
            "voids": b"\0",
            "inferred_from": b"\0",
            "device_id": _text(""),
            "device_seq": _number(0),
            "weight_g": b"\0",
        }
        return cls(_SCAN_ID, serial, fields)

    @classmethod
    def container_event(cls, serial: int, container_id: str, event_time: int) -> "_RecordTemplate":
        """A scan of a container."""
        fields = {
            "event_id": _text(f"broken-{serial}"),
            "container_id": _text(container_id),
            "kind": _number(ARRIVED),
            **_time_and_location_fields(event_time),
            "parcels": b"\0",
            "containers": b"\0",
            "parent_id": b"\0",
            "voids": b"\0",
            "inferred_from": b"\0",
            "path": b"\0",
            "device_id": _text(""),
            "device_seq": _number(0),
        }
        return cls(_EVENT_ID, serial, fields)

    def encode(self, cut_before: str | None = None, schema_id: int | None = None, **replaced: bytes) -> bytes:
        """The value with some fields replaced, cut before the field `cut_before`."""
        fields = {**self.fields, **replaced}
        names = list(fields)
        names_kept = names if cut_before is None else names[: names.index(cut_before)]
        schema_id = self.schema_id if schema_id is None else schema_id
        return b"\0" + schema_id.to_bytes(4, "big") + b"".join(fields[name] for name in names_kept)

    def random_bytes(self) -> bytes:
        """Random bytes that do not begin like an encoded record."""
        return bytes([self.rng.randrange(1, 256)]) + self.rng.randbytes(self.rng.randrange(5, 200))

    def unknown_schema(self) -> bytes:
        """A value with the id of an unknown schema."""
        return self.encode(schema_id=self.rng.randrange(1_000_000, 1 << 31))

    def packed(self, parcels: bytes = b"\0", containers: bytes = b"\0") -> bytes:
        """A PACKED event of the container."""
        return self.encode(kind=_number(PACKED), parcels=parcels, containers=containers)

    def oversized_packed(self) -> bytes:
        """A PACKED event with more parcels than a record may hold."""
        size = len("LP000000000000")
        return self.packed(parcels=_texts(f"LP{n:0{size - 2}d}" for n in range(MAX_CONTAINER_RECORD_BYTES // size)))


def _time_and_location_fields(event_time: int) -> dict[str, bytes]:
    return {
        "event_time": _number(event_time),
        "utc_offset_minutes": _number(60),
        "record_time": _number(event_time + 1_000),
        "site": _text("LGG"),
        "station": _text("SRT-01"),
        "lane": b"\0",
        "reason": b"\0",
    }


MALFORMED_SCAN_CASES: Final[tuple[tuple[RejectReason, Callable[[_RecordTemplate], bytes | None]], ...]] = (
    (RejectReason.BAD_FRAMING, _RecordTemplate.random_bytes),
    (RejectReason.BAD_FRAMING, lambda template: template.encode()[:3]),
    (RejectReason.NO_VALUE, lambda _: None),
    (RejectReason.UNKNOWN_SCHEMA, _RecordTemplate.unknown_schema),
    (RejectReason.TRUNCATED, lambda template: template.encode(cut_before="kind")),
    (RejectReason.TRUNCATED, lambda template: template.encode(cut_before="record_time")),
    (RejectReason.TRUNCATED, lambda template: template.encode(cut_before="weight_g")),
    (RejectReason.VARINT_OVERFLOW, lambda template: template.encode(event_time=b"\xff" * 10 + b"\x01")),
    (RejectReason.BAD_LENGTH, lambda template: template.encode(station=_number(-5))),
    (RejectReason.BAD_INDEX, lambda template: template.encode(kind=_number(99))),
    (RejectReason.BAD_INDEX, lambda template: template.encode(lane=_number(7))),
    (RejectReason.INVALID_UTF8, lambda template: template.encode(site=_text(b"\xc3\x28"))),
    (RejectReason.TRAILING_BYTES, lambda template: template.encode() + b"\0\0"),
    (RejectReason.BAD_PARCEL_ID, lambda template: template.encode(parcel_id=_text(""))),
    (RejectReason.BAD_PARCEL_ID, lambda template: template.encode(parcel_id=_text("LP\x0700001"))),
    (RejectReason.BAD_PARCEL_ID, lambda template: template.encode(parcel_id=_text("9" * 400))),
    (RejectReason.OUT_OF_BOUNDS, lambda template: template.encode(event_time=_number(_YEAR_1))),
    (RejectReason.OUT_OF_BOUNDS, lambda template: template.encode(event_time=_number(_YEAR_9999))),
    (RejectReason.OUT_OF_BOUNDS, lambda template: template.encode(utc_offset_minutes=_number(6_000))),
    (RejectReason.BAD_VOID, lambda template: template.encode(kind=_number(VOID))),
    (
        RejectReason.BAD_VOID,
        lambda template: template.encode(kind=_number(CUSTOMS_RELEASED), voids=_number(1) + _text("x")),
    ),
)


MALFORMED_CONTAINER_EVENT_CASES: Final[tuple[tuple[RejectReason, Callable[[_RecordTemplate], bytes | None]], ...]] = (
    (RejectReason.BAD_FRAMING, _RecordTemplate.random_bytes),
    (RejectReason.BAD_FRAMING, lambda template: template.encode()[:3]),
    (RejectReason.NO_VALUE, lambda _: None),
    (RejectReason.UNKNOWN_SCHEMA, _RecordTemplate.unknown_schema),
    (RejectReason.TRUNCATED, lambda template: template.encode(cut_before="parcels")),
    (RejectReason.BAD_LENGTH, lambda template: template.packed(parcels=_number(1_000_000) + _text("LP"))),
    (RejectReason.TOO_LARGE, _RecordTemplate.oversized_packed),
    (RejectReason.TRAILING_BYTES, lambda template: template.encode() + b"\0\0"),
    # A packing without children.
    (RejectReason.BAD_CONTAINER, _RecordTemplate.packed),
    # A container inside itself: as a child, and through its path.
    (
        RejectReason.CYCLE,
        lambda template: template.packed(containers=b"\x02" + template.fields["container_id"] + b"\0"),
    ),
    (RejectReason.CYCLE, lambda template: template.encode(path=b"\x02" + template.fields["container_id"] + b"\0")),
    (
        RejectReason.TOO_DEEP,
        lambda template: template.encode(path=_texts(f"DEEP{n}" for n in range(MAX_NESTING_DEPTH + 1))),
    ),
)


def malformed_scan(case: int, serial: int, parcel_id: str, event_time: int) -> bytes | None:
    """The value of case number `case` of MALFORMED_SCAN_CASES; the same for the same `serial`."""
    return MALFORMED_SCAN_CASES[case][1](_RecordTemplate.scan(serial, parcel_id, event_time))


def malformed_container_event(case: int, serial: int, container_id: str, event_time: int) -> bytes | None:
    """The value of case number `case` of MALFORMED_CONTAINER_EVENT_CASES; the same for the same `serial`."""
    return MALFORMED_CONTAINER_EVENT_CASES[case][1](_RecordTemplate.container_event(serial, container_id, event_time))
