"""Values that no reader can use, each with the reason that it must end with in the dead-letter topic.

Written byte by byte, so that they do not depend on any encoder; the layout is version 1 of the Scan schema.
"""

import random
from collections.abc import Callable
from typing import Final

from streams.domain.kinds import CUSTOMS_RELEASED, SORTED, VOID
from streams.domain.reasons import Reason

_SCAN_ID: Final = 1
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


class _Draft:
    """The fields of a good Scan, each as its Avro bytes, to be spoilt one way or another."""

    def __init__(self, serial: int, parcel_id: str, event_time: int) -> None:
        self.chance = random.Random(serial)
        self.fields = {
            "event_id": _text(f"broken-{serial}"),
            "parcel_id": _text(parcel_id),
            "kind": _number(SORTED),
            "event_time": _number(event_time),
            "utc_offset_minutes": _number(60),
            "record_time": _number(event_time + 1_000),
            "site": _text("LGG"),
            "station": _text("SRT-01"),
            "lane": b"\0",
            "reason": b"\0",
            "container_id": b"\0",
            "voids": b"\0",
            "inferred_from": b"\0",
            "device_id": _text(""),
            "device_seq": _number(0),
            "weight_g": b"\0",
        }

    def framed(self, until: str | None = None, schema_id: int = _SCAN_ID, **spoilt: bytes) -> bytes:
        """The value with some fields spoilt, cut before the field `until`."""
        fields = {**self.fields, **spoilt}
        names = list(fields)
        kept = names if until is None else names[: names.index(until)]
        return b"\0" + schema_id.to_bytes(4, "big") + b"".join(fields[name] for name in kept)

    def noise(self) -> bytes:
        """Random bytes that do not begin like a value of this log."""
        return bytes([self.chance.randrange(1, 256)]) + self.chance.randbytes(self.chance.randrange(5, 200))


CASES: Final[tuple[tuple[Reason, Callable[[_Draft], bytes | None]], ...]] = (
    (Reason.BAD_FRAMING, _Draft.noise),
    (Reason.BAD_FRAMING, lambda draft: draft.framed()[:3]),
    (Reason.NO_VALUE, lambda _: None),
    (Reason.UNKNOWN_SCHEMA, lambda draft: draft.framed(schema_id=draft.chance.randrange(1_000_000, 1 << 31))),
    (Reason.TRUNCATED, lambda draft: draft.framed(until="kind")),
    (Reason.TRUNCATED, lambda draft: draft.framed(until="record_time")),
    (Reason.TRUNCATED, lambda draft: draft.framed(until="weight_g")),
    (Reason.BAD_NUMBER, lambda draft: draft.framed(event_time=b"\xff" * 10 + b"\x01")),
    (Reason.BAD_LENGTH, lambda draft: draft.framed(station=_number(-5))),
    (Reason.BAD_CHOICE, lambda draft: draft.framed(kind=_number(99))),
    (Reason.BAD_CHOICE, lambda draft: draft.framed(lane=_number(7))),
    (Reason.BAD_TEXT, lambda draft: draft.framed(site=_text(b"\xc3\x28"))),
    (Reason.TRAILING_BYTES, lambda draft: draft.framed() + b"\0\0"),
    (Reason.BAD_PARCEL_ID, lambda draft: draft.framed(parcel_id=_text(""))),
    (Reason.BAD_PARCEL_ID, lambda draft: draft.framed(parcel_id=_text("LP\x0700001"))),
    (Reason.BAD_PARCEL_ID, lambda draft: draft.framed(parcel_id=_text("9" * 400))),
    (Reason.OUT_OF_BOUNDS, lambda draft: draft.framed(event_time=_number(_YEAR_1))),
    (Reason.OUT_OF_BOUNDS, lambda draft: draft.framed(event_time=_number(_YEAR_9999))),
    (Reason.OUT_OF_BOUNDS, lambda draft: draft.framed(utc_offset_minutes=_number(6_000))),
    (Reason.BAD_VOID, lambda draft: draft.framed(kind=_number(VOID))),
    (Reason.BAD_VOID, lambda draft: draft.framed(kind=_number(CUSTOMS_RELEASED), voids=_number(1) + _text("x"))),
)


def broken_value(case: int, serial: int, parcel_id: str, event_time: int) -> bytes | None:
    """The value of case number `case`; the same for the same `serial`."""
    return CASES[case][1](_Draft(serial, parcel_id, event_time))
