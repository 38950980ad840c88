"""Every bad record of hub.scans ends in hub.dlq, unchanged and with its reason; the others go on."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Message

from streams.formats import topics
from streams.formats.record_decoder import RecordDecoder
from streams.formats.schemas import load_schemas
from streams.formats.topics import partition_of
from streams.kafka.clients import new_producer
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from tests.faults.harness import Chronicle, Installation, behind, ends_of

PARTITIONS = 2
YEAR_1, YEAR_9999 = -62_135_596_800_000, 253_402_214_400_000
HEADERS = [("trace", b"\x00\xff"), ("trace", b"twice"), ("nothing", None), ("parcels.reason", b"from before")]
ADDED = ("topic", "partition", "offset", "stage", "exception.class.name", "exception.message")
NOISE = random.Random(7)
CUT = {"TRUNCATED", "BAD_LENGTH"}


def scan(parcel_id: str, event_id: str = "e", **said) -> bytes:
    fields = {
        "event_id": event_id,
        "parcel_id": parcel_id,
        "kind": "UNLOADED",
        "event_time": 1_772_323_200_000,
        "record_time": 1_772_323_200_000,
        "site": "LGG",
        "station": "UNL-01",
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, load_schemas().current("Scan"), fields | said)
    return load_schemas().to_wire_format("Scan", body.getvalue())


def advice(promised_at: int) -> bytes:
    fields = {
        "event_id": "a",
        "parcel_id": "LPADVICE",
        "event_time": 1_772_323_200_000,
        "record_time": 1_772_323_200_000,
        "direction": "IMPORT",
        "service": "STANDARD",
        "origin": "CN",
        "destination": "BE",
        "promised_at": promised_at,
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, load_schemas().current("Advice"), fields)
    return load_schemas().to_wire_format("Advice", body.getvalue())


def tick(hub_time: int) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, load_schemas().current("Tick"), {"hub_time": hub_time})
    return load_schemas().to_wire_format("Tick", body.getvalue())


def framed(schema: int, body: bytes) -> bytes:
    return b"\0" + schema.to_bytes(4, "big") + body


def in_partition(partition: int) -> str:
    return next(
        name for name in (f"LPX{number}" for number in range(100)) if partition_of(name.encode(), 2) == partition
    )


WHOLE = scan("LPCUT")
LONG = "L" * 10_000
# These faults are checked last, so the key must be that of the parcel.
RIGHT_KEYS = {"promised for the year 9999": "LPADVICE", "a VOID of nothing": "LPVOID"}
# Case, value, and the accepted reject reasons.
CASES: list[tuple[str, bytes | None, set[str]]] = [
    ("nothing", b"", {"BAD_FRAMING"}),
    ("a tombstone", None, {"NO_VALUE"}),
    ("random bytes", b"\x07" + NOISE.randbytes(100), {"BAD_FRAMING"}),
    ("many random bytes", b"\x99" + NOISE.randbytes(40_000), {"BAD_FRAMING"}),
    ("text", b'{"event_id": "e", "parcel_id": "LP1"}', {"BAD_FRAMING"}),
    ("no frame", WHOLE[5:], {"BAD_FRAMING"}),
    ("another magic byte", b"\1" + WHOLE[1:], {"BAD_FRAMING"}),
    ("an unknown schema id", framed(999, WHOLE[5:]), {"UNKNOWN_SCHEMA"}),
    ("the largest schema id", framed((1 << 32) - 1, WHOLE[5:]), {"UNKNOWN_SCHEMA"}),
    ("a schema of another topic", framed(4, WHOLE[5:]), {"UNKNOWN_SCHEMA"}),
    ("5 MB of noise in a frame", framed(1, NOISE.randbytes(5_000_000)), {"TOO_LARGE"}),
    ("5 MB in a good record", scan("LP5MB", station="S" * 5_000_000), {"TOO_LARGE"}),
    ("a length beyond the value", framed(1, b"\xfe\xff\xff\xff\x0f"), {"BAD_LENGTH", "TRUNCATED"}),
    ("a number without end", framed(1, b"\xff" * 40), {"VARINT_OVERFLOW", "BAD_LENGTH"}),
    ("text that is not UTF-8", scan("LPTEXT").replace(b"UNL-01", b"UNL\xff01"), {"INVALID_UTF8"}),
    ("more than one record", WHOLE + WHOLE, {"TRAILING_BYTES"}),
    ("a parcel_id of 0 bytes", scan(""), {"BAD_PARCEL_ID"}),
    ("a parcel_id of 10,000 bytes", scan(LONG), {"BAD_PARCEL_ID"}),
    ("the year 1", scan("LPY1", event_time=YEAR_1), {"OUT_OF_BOUNDS"}),
    ("the year 9999", scan("LPY9999", event_time=YEAR_9999), {"OUT_OF_BOUNDS"}),
    ("promised for the year 9999", advice(YEAR_9999), {"OUT_OF_BOUNDS"}),
    ("a clock in the year 1", tick(YEAR_1), {"OUT_OF_BOUNDS"}),
    ("a clock in the year 9999", tick(YEAR_9999), {"OUT_OF_BOUNDS"}),
    ("a VOID of nothing", scan("LPVOID", kind="VOID"), {"BAD_VOID"}),
    *((f"the first {n} bytes", WHOLE[:n], CUT if n >= 5 else {"BAD_FRAMING"}) for n in range(1, len(WHOLE))),
]


def records(settings: KafkaSettings, topic: str) -> Iterator[Message]:
    return read_to_end(settings, settings.prefix + topic)


@pytest.fixture
def letters(
    settings: KafkaSettings, tmp_path: Path
) -> tuple[Installation, dict[bytes, tuple[str, bytes | None, set[str]]]]:
    """The dead letters of every case, sent among good scans: key of the record -> case."""
    installation = Installation(settings, tmp_path, Chronicle(7))
    installation.create_topics(PARTITIONS)
    sender = new_producer(settings)
    sent = {}
    for number, (what, value, reasons) in enumerate(CASES):
        parcel = f"GOOD{number}"
        sender.produce(settings.prefix + topics.SCANS_TOPIC, scan(parcel), parcel.encode())
        key = RIGHT_KEYS.get(what, f"case {number}").encode()
        sender.produce(settings.prefix + topics.SCANS_TOPIC, value, key, headers=HEADERS)
        sent[key] = what, value, reasons
        sender.produce(settings.prefix + topics.SCANS_TOPIC, scan(parcel, "second"), parcel.encode())
        sender.poll(0)
    elsewhere = in_partition(0)
    sender.produce(settings.prefix + topics.SCANS_TOPIC, scan(elsewhere), elsewhere.encode(), 1, headers=HEADERS)
    sent[elsewhere.encode()] = "the key of another partition", scan(elsewhere), {"WRONG_PARTITION"}
    assert sender.flush(60) == 0
    done = installation.parcels("run", "--until-idle", "2")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return installation, sent


def test_every_kind_of_bad_input(settings: KafkaSettings, letters) -> None:
    installation, sent = letters
    assert not behind(settings)
    found = {message.key(): message for message in records(settings, topics.DEAD_LETTERS_TOPIC)}
    assert found.keys() == sent.keys()
    for key, (what, value, reasons) in sent.items():
        letter = found[key]
        assert letter.value() == value, what
        assert letter.headers()[: len(HEADERS)] == HEADERS, what
        added = dict(letter.headers()[len(HEADERS) :])
        assert set(added) == {"parcels.reason", *(f"__connect.errors.{name}" for name in ADDED)}, what
        assert added["parcels.reason"].decode() in reasons, (what, added)
        assert added["__connect.errors.topic"].decode() == settings.prefix + topics.SCANS_TOPIC
        assert int(added["__connect.errors.partition"]) == letter.partition()
        assert added["__connect.errors.exception.class.name"] == b"streams.errors.BadRecord"
        assert len(added["__connect.errors.exception.message"]) < 1_000
    originals = {(m.partition(), m.offset()): m.key() for m in records(settings, topics.SCANS_TOPIC)}
    for key, letter in found.items():
        offset = int(dict(letter.headers())["__connect.errors.offset"])
        assert originals[letter.partition(), offset] == key

    decode = RecordDecoder("ParcelState")
    states = {
        m.key(): decode(m.value())
        for m in records(settings, topics.PARCEL_STATE_TOPIC)
        if not m.key().startswith(b"\0")
    }
    assert {key: state["version"] for key, state in states.items()} == {
        f"GOOD{number}".encode(): 2 for number in range(len(CASES))
    }

    before = ends_of(settings, topics.DEAD_LETTERS_TOPIC)
    again = installation.parcels("run", "--until-idle", "1", "--json")
    assert json.loads(again.stdout)["records"] == 0
    assert ends_of(settings, topics.DEAD_LETTERS_TOPIC) == before
