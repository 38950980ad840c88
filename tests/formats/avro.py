"""Framed values for tests, by fastavro."""

import io

import fastavro

from streams.formats.schemas import load_schemas


def framed(name, record):
    """The value that `record` of the current schema `name` is in the log."""
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
