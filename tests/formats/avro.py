"""Values of the logs for tests, encoded by fastavro."""

import io

import fastavro

from streams.formats.schemas import load_schemas


def framed(name, record):
    """`record` as a value of the log, in the current schema `name`."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, load_schemas().current(name), record)
    return load_schemas().to_wire_format(name, body.getvalue())


def scan(event_id, parcel_id, kind="UNLOADED", **others):
    """A Scan as a dict."""
    return {
        "event_id": event_id,
        "parcel_id": parcel_id,
        "kind": kind,
        "event_time": 1_772_355_600_000,
        "utc_offset_minutes": 60,
        "record_time": 1_772_355_600_500,
        "site": "LGG",
        "station": "DOCK-1",
    } | others
