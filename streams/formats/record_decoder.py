"""Values of the log as dicts, by fastavro: for tools and checks, where one record at a time is fast enough."""

import io
from collections.abc import Mapping
from typing import Any

import fastavro

from streams.errors import StreamsError
from streams.formats.schemas import Schema, load_schemas


class DecodingError(StreamsError):
    """A value is not of the schema that its topic holds: something else than a worker wrote it."""


class RecordDecoder:
    """Decodes the values of one schema, whatever version wrote them; times stay numbers.

    Args:
        name: the schema.
        first_fields: read only so many fields and ignore the rest; None for the whole record. For the first fields of
            a large record, where a later version has not moved them.
    """

    def __init__(self, name: str, leading_fields: int | None = None) -> None:
        schemas = load_schemas()
        current = _first(schemas.current(name), leading_fields)
        # Schema id -> (writer schema, reader schema; None where nothing is to be resolved, which is faster).
        self._resolutions = {
            schema_id: (_first(schema, leading_fields), None if schema_id == schemas.id(name) else current)
            for schema_id, (_, schema) in schemas.writer_schemas(name).items()
        }
        self._whole = leading_fields is None

    def __call__(self, value: bytes | None) -> Mapping[str, Any]:
        """The record that `value` holds.

        Raises:
            Undecodable: it holds none.
        """
        if value is None or len(value) < 5 or value[0] != 0:
            raise DecodingError("no framed value")
        schema_id = int.from_bytes(value[1:5], "big")
        if schema_id not in self._resolutions:
            raise DecodingError(f"schema id {schema_id}")
        body = io.BytesIO(value)
        body.seek(5)
        try:
            read: Mapping[str, Any] = fastavro.schemaless_reader(body, *self._resolutions[schema_id])  # type: ignore[assignment]
        except Exception as error:  # whatever broken bytes make fastavro raise
            raise DecodingError(f"fastavro: {error!r}") from error
        if self._whole and body.tell() != len(value):
            raise DecodingError(f"{len(value) - body.tell()} bytes follow the last field")
        return read


def _first(schema: Schema, fields: int | None) -> Any:
    plain = without_logical_types(schema)
    return fastavro.parse_schema({**plain, "fields": plain["fields"][:fields]})


def without_logical_types(schema: Any) -> Any:
    """The schema with plain numbers for times: fastavro is faster so, and no number is beyond its calendar."""
    if isinstance(schema, dict):
        return {key: without_logical_types(each) for key, each in schema.items() if key != "logicalType"}
    return [without_logical_types(each) for each in schema] if isinstance(schema, list) else schema
