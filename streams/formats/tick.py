"""A Tick as it stands in the logs."""

import io

import fastavro

from streams.formats.schemas import load_schemas


def encode_tick(hub_time: int, producer: str) -> bytes:
    """Value of a Tick of that time (ms since 1970); `producer` names the process that writes it."""
    schemas = load_schemas()
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schemas.current("Tick"), {"hub_time": hub_time, "producer": producer})
    return schemas.frame("Tick", body.getvalue())
