"""Records of hub.scans as dicts, their bytes, and decoded outputs: by fastavro, not by the kernel."""

import io
from functools import cache

import fastavro
from hypothesis import strategies as st

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.formats.schemas import load_schemas

MORNING = 1_772_355_600_000


def scan(event_id, parcel_id, kind="UNLOADED", event_time=MORNING, **others):
    return {
        "event_id": event_id,
        "parcel_id": parcel_id,
        "kind": kind,
        "event_time": event_time,
        "utc_offset_minutes": 60,
        "record_time": MORNING,
        "site": "LGG",
        "station": "UNL-01",
        **dict.fromkeys(("lane", "reason", "container_id", "voids", "inferred_from")),
    } | others


def void(event_id, parcel_id, voids, event_time=MORNING, **others):
    return scan(event_id, parcel_id, "VOID", event_time, voids=voids, **others)


def advice(event_id, parcel_id, event_time=MORNING, **others):
    return {
        "event_id": event_id,
        "parcel_id": parcel_id,
        "event_time": event_time,
        "record_time": MORNING,
        "direction": "IMPORT",
        "service": "STANDARD",
        "origin": "CN",
        "destination": "BE",
        "planned_lane": None,
        "owner": "",
        "promised_at": None,
    } | others


def tick(hub_time):
    return {"hub_time": hub_time, "producer": "test"}


def type_of(record):
    if "hub_time" in record:
        return "Tick"
    return "Advice" if "service" in record else "Scan"


@cache
def _schema(name):
    return fastavro.parse_schema(_plain(load_schemas().current(name)))


def _plain(schema):
    """The schema without logical types, so that fastavro reads times as numbers."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


def framed(record):
    """The value of a record in the log."""
    name = type_of(record)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _schema(name), record)
    return load_schemas().to_wire_format(name, body.getvalue())


def read(name, value):
    """The decoded value of a record of an output topic."""
    assert value[:5] == load_schemas().to_wire_format(name, b"")
    body = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(body, _schema(name), None)
    assert not body.read(1)
    return record


# Few different values, so that records share times, ids, locations and containers.
PARCELS = ("A", "LP00001234", "Ü-\u65e5\u672c-" + "9" * 90)
TIMES = (MORNING, MORNING + 1, MORNING + 60_000, -2_208_988_800_000, 7_258_118_399_999, -1)
# At most 255 bytes; from 64 bytes on Avro writes the length in two bytes.
LONG_TEXTS = ("x" * 63, "x" * 64, "x" * 255, "é" * 127, "\u65e5" * 85, "🛩" * 63 + "ab")
TEXTS = st.sampled_from(("", "LGG", "LUX", "é", *LONG_TEXTS))
OPTIONAL_TEXTS = st.none() | TEXTS
EVENT_IDS = (*(f"e{number}" for number in range(8)), "é" * 512, "v0", "v1", "v0\0" + "\0" * 8)


ANY_KIND = st.sampled_from(KINDS[:-1])
# Kinds that decide about the state: drawn more often than other kinds.
DECISIVE_KINDS = st.sampled_from(("ADVISED", "UNLOADED", "UNPACKED", "SORTED", "LOADED", "CUSTOMS_HELD", "NO_READ"))


def distinct_lists(strategy, size):
    return st.lists(strategy, min_size=1, max_size=size, unique=True)


@st.composite
def records(draw, parcels, event_ids, times, kinds):
    """One scan, void or advice, with these values only."""
    ids = (draw(st.sampled_from(event_ids)), draw(st.sampled_from(parcels)))
    event_time = draw(st.sampled_from(times))
    choice = draw(st.integers(0, 9))
    if choice <= 1:
        return advice(
            *ids,
            event_time,
            direction=draw(st.sampled_from(DIRECTIONS)),
            service=draw(TEXTS),
            destination=draw(TEXTS),
            planned_lane=draw(OPTIONAL_TEXTS),
            owner=draw(TEXTS),
            promised_at=draw(st.none() | st.sampled_from(TIMES)),
        )
    details = {
        "site": draw(TEXTS),
        "station": draw(st.sampled_from(("", "SRT-1", "SRT-2"))),
        "container_id": draw(OPTIONAL_TEXTS),
        "lane": draw(OPTIONAL_TEXTS),
        "reason": draw(OPTIONAL_TEXTS),
        "utc_offset_minutes": draw(st.sampled_from((-840, 0, 60, 840))),
        "inferred_from": draw(st.none() | st.sampled_from(("", "e0"))),
    }
    if choice <= 4:
        return void(*ids, draw(st.sampled_from((*event_ids, "never seen"))), event_time, **details)
    return scan(*ids, draw(st.sampled_from(kinds)), event_time, **details)


@st.composite
def histories(draw, max_size=40):
    """A log of records of up to three parcels, with duplicates, contradictions, equal times and all kinds of voids."""
    record = records(
        draw(distinct_lists(st.sampled_from(PARCELS), 3)),
        draw(distinct_lists(st.sampled_from(EVENT_IDS), len(EVENT_IDS))),
        draw(distinct_lists(st.sampled_from(TIMES), 3)),
        draw(distinct_lists(DECISIVE_KINDS | ANY_KIND, 4)),
    )
    return draw(st.lists(record, max_size=max_size))


def batches_of(values, cuts):
    """`values` cut into batches at these positions."""
    ends = sorted({min(cut, len(values)) for cut in cuts})
    return [values[begin:end] for begin, end in zip([0, *ends], [*ends, len(values)], strict=True)]


CUTS = st.lists(st.integers(0, 40), max_size=6)
