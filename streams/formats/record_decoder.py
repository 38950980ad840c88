"""Decoding of values of the log into dicts with fastavro: for tools and checks, which decode one record at a time."""

import io
from collections.abc import Mapping
from typing import Any

import fastavro

from streams.errors import StreamsError
from streams.formats.schemas import Schema, load_schemas


class DecodingError(StreamsError):
    """A value is not of the schema that its topic holds: another program than a worker wrote it."""


class RecordDecoder:
    """Decodes the values of one schema, written with any of its versions; times stay numbers.

    Args:
        name: the schema.
        leading_fields: decode only so many fields and ignore the rest; None for the whole record. It saves time where
            a record is large, and only works where no version has moved these fields.
    """

    def __init__(self, name: str, leading_fields: int | None = None) -> None:
        schemas = load_schemas()
        current = _leading(schemas.current(name), leading_fields)
        # Schema id -> (writer schema, reader schema; None where both are the same, which is faster).
        self._resolutions = {
            schema_id: (_leading(schema, leading_fields), None if schema_id == schemas.id(name) else current)
            for schema_id, (_, schema) in schemas.writer_schemas(name).items()
        }
        self._is_whole = leading_fields is None

    def __call__(self, value: bytes | None) -> Mapping[str, Any]:
        """The record that `value` holds.

        Raises:
            DecodingError: it holds none.
        """
        if value is None or len(value) < 5 or value[0] != 0:
            raise DecodingError("no framed value")
        schema_id = int.from_bytes(value[1:5], "big")
        if schema_id not in self._resolutions:
            raise DecodingError(f"schema id {schema_id}")
        body = io.BytesIO(value)
        body.seek(5)
        try:
            record: Mapping[str, Any] = fastavro.schemaless_reader(body, *self._resolutions[schema_id])  # type: ignore[assignment]
        except Exception as error:  # broken bytes can make fastavro raise anything
            raise DecodingError(f"fastavro: {error!r}") from error
        if self._is_whole and body.tell() != len(value):
            raise DecodingError(f"{len(value) - body.tell()} bytes follow the last field")
        return record


def _leading(schema: Schema, fields: int | None) -> Any:
    plain = without_logical_types(schema)
    return fastavro.parse_schema({**plain, "fields": plain["fields"][:fields]})


def without_logical_types(schema: Any) -> Any:
    """The schema with plain numbers for times: fastavro is faster, and no number is outside the calendar of Python."""
    if isinstance(schema, dict):
        return {key: without_logical_types(each) for key, each in schema.items() if key != "logicalType"}
    return [without_logical_types(each) for each in schema] if isinstance(schema, list) else schema
