"""Encoding of a Tick, the record that carries the hub time in the logs."""

import io

import fastavro

from streams.formats.schemas import load_schemas


def encode_tick(hub_time: int, producer: str) -> bytes:
    """The value of a Tick: `hub_time` in ms since 1970; `producer` is the name of the process that writes it."""
    schemas = load_schemas()
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schemas.current("Tick"), {"hub_time": hub_time, "producer": producer})
    return schemas.to_wire_format("Tick", body.getvalue())
