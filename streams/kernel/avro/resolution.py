"""Rules of schema resolution between one type of a writer and one of a reader (Avro 1.12, "Schema Resolution").

Which named types match, which fields correspond, which types have the same encoding, and what the default of a field is
as the value of a column. `streams.kernel.avro.compiler` makes instructions from them.
"""

import numpy as np

from streams.errors import Misconfigured
from streams.kernel.avro.schema_types import (
    ArraySchema,
    AvroSchema,
    EnumSchema,
    FixedSchema,
    MapSchema,
    NamedSchema,
    PrimitiveSchema,
    RecordField,
    RecordSchema,
    UnionSchema,
)


class SchemaResolutionError(Exception):
    """The writer's type has no counterpart in the reader's."""


def short_name(name: str) -> str:
    """The name without its namespace; resolution compares these."""
    return name.rpartition(".")[2]


def names_match(writer: NamedSchema, reader: NamedSchema) -> bool:
    """True if the reader's type, or one of its aliases, has the name of the writer's type."""
    writer_name = short_name(writer.name)
    return any(short_name(name) == writer_name for name in (reader.name, *reader.aliases))


def field_path(path: str, field: RecordField | None) -> str:
    """The path of a field of the record at `path`; the path itself without a field."""
    if field is None:
        return path
    return f"{path}.{field.name}" if path else field.name


def match_fields(writer: RecordSchema, reader: RecordSchema, path: str) -> dict[str, RecordField]:
    """Writer's field name -> the reader's field that takes its values, by name or alias.

    Raises:
        SchemaResolutionError: two fields of the reader take the same one of the writer.
    """
    writer_names = {field.name for field in writer.fields}
    matches: dict[str, RecordField] = {}
    for field in reader.fields:
        name = next((name for name in (field.name, *field.aliases) if name in writer_names), None)
        if name is None:
            continue
        if name in matches:
            raise SchemaResolutionError(
                f"{field_path(path, field)} and {matches[name].name} both take the writer's field {name}"
            )
        matches[name] = field
    return matches


def has_same_encoding(writer: AvroSchema, reader: AvroSchema) -> bool:
    """True if each value has the same bytes in both schemas."""
    if type(writer) is not type(reader):
        return False
    if isinstance(writer, RecordSchema) and isinstance(reader, RecordSchema):
        return [field.name for field in writer.fields] == [field.name for field in reader.fields] and all(
            has_same_encoding(writer_field.type, reader_field.type)
            for writer_field, reader_field in zip(writer.fields, reader.fields, strict=True)
        )
    if isinstance(writer, UnionSchema) and isinstance(reader, UnionSchema):
        return len(writer.branches) == len(reader.branches) and all(
            map(has_same_encoding, writer.branches, reader.branches)
        )
    if isinstance(writer, ArraySchema | MapSchema) and isinstance(reader, ArraySchema | MapSchema):
        return has_same_encoding(writer.items, reader.items)
    if isinstance(writer, EnumSchema) and isinstance(reader, EnumSchema):
        return names_match(writer, reader) and writer.symbols == reader.symbols[: len(writer.symbols)]
    if isinstance(writer, FixedSchema) and isinstance(reader, FixedSchema):
        return short_name(writer.name) == short_name(reader.name) and writer.size == reader.size
    return writer == reader


def default_value(reader: AvroSchema, json: object, path: str) -> int | bytes:
    """The default of a field that is one value: the number of its column, or the bytes of a string, bytes or fixed.

    Raises:
        Misconfigured: it is not a value of the field's type.
    """
    kind = reader.kind if isinstance(reader, PrimitiveSchema) else ""
    is_integer = isinstance(json, int) and not isinstance(json, bool)
    if kind in ("int", "long") and is_integer:
        bits = 31 if kind == "int" else 63
        assert isinstance(json, int)
        if -(1 << bits) <= json < 1 << bits:
            return json
    elif kind in ("float", "double") and (is_integer or isinstance(json, float)):
        number = np.float64(np.float32(json)) if kind == "float" else np.float64(json)  # type: ignore[arg-type]
        return int(number.view(np.int64))
    elif kind == "boolean" and isinstance(json, bool):
        return int(json)
    elif isinstance(reader, EnumSchema) and json in reader.symbols:
        return reader.symbols.index(str(json))
    elif kind == "string" and isinstance(json, str):
        return json.encode()
    elif (kind == "bytes" or isinstance(reader, FixedSchema)) and isinstance(json, str) and _is_latin_1(json):
        # Avro 1.12: in a default each byte is the character of its number.
        octets = json.encode("latin-1")
        if not isinstance(reader, FixedSchema) or len(octets) == reader.size:
            return octets
    raise Misconfigured(f"{path}: the default {json!r} is not a value of the field's type")


def _is_latin_1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
