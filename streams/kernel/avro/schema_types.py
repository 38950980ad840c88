"""Avro schemas as trees of types, with resolved names and without recursion (Avro 1.12, "Schema Declaration").

A logical type is read as the type that carries it: the kernel moves numbers and bytes and does not interpret them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streams.errors import Misconfigured

PRIMITIVE_TYPES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
# The default of a field that has none; None is the default null.
NO_DEFAULT: Final = object()
# Far beyond any schema of a hub. A schema that refers to its records again and again could have billions of fields.
MAX_SCHEMA_DEPTH: Final = 64
MAX_SCHEMA_TYPES: Final = 50_000


@dataclass(frozen=True)
class PrimitiveSchema:
    """One of PRIMITIVE_TYPES."""

    kind: str


@dataclass(frozen=True)
class FixedSchema:
    """`size` bytes, written without a length."""

    name: str
    aliases: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class EnumSchema:
    """A symbol of a closed set, written as its position."""

    name: str
    aliases: tuple[str, ...]
    symbols: tuple[str, ...]
    # The symbol that a reader takes for symbols that it does not know.
    default: str | None


@dataclass(frozen=True)
class ArraySchema:
    """Any number of items."""

    items: "AvroSchema"


@dataclass(frozen=True)
class MapSchema:
    """Any number of items, each with a text key."""

    items: "AvroSchema"


@dataclass(frozen=True)
class UnionSchema:
    """One of several types, written as the position of the type and the value."""

    branches: tuple["AvroSchema", ...]

    @property
    def null_index(self) -> int:
        """Position of the null branch, -1 without one."""
        return next((index for index, branch in enumerate(self.branches) if is_null(branch)), -1)


@dataclass(frozen=True)
class RecordField:
    """A named part of a record."""

    name: str
    aliases: tuple[str, ...]
    type: "AvroSchema"
    default: object


@dataclass(frozen=True)
class RecordSchema:
    """Named fields, written in order."""

    name: str
    aliases: tuple[str, ...]
    fields: tuple[RecordField, ...]


AvroSchema = PrimitiveSchema | FixedSchema | EnumSchema | ArraySchema | MapSchema | UnionSchema | RecordSchema
NamedSchema = FixedSchema | EnumSchema | RecordSchema


def is_null(type_: AvroSchema) -> bool:
    """True for the type null, which has one value and no bytes."""
    return isinstance(type_, PrimitiveSchema) and type_.kind == "null"


def split_null(type_: AvroSchema, path: str) -> tuple[AvroSchema, int, bool]:
    """The type without null, which a column holds; the position of null in the union, or -1; whether it is a union.

    Raises Misconfigured for a union of several types beside null: a column has one type.
    """
    if not isinstance(type_, UnionSchema):
        return type_, -1, False
    branches = [branch for branch in type_.branches if not is_null(branch)]
    if len(branches) > 1:
        raise Misconfigured(
            f"{path or 'the schema'}: a reader's union may have one type beside null, this one has {len(branches)}"
        )
    return (branches[0] if branches else PrimitiveSchema("null")), type_.null_index, True


def min_encoded_bytes(type_: AvroSchema) -> int:
    """Encoded length of the shortest value, in bytes."""
    if isinstance(type_, PrimitiveSchema):
        return {"null": 0, "float": 4, "double": 8}.get(type_.kind, 1)
    if isinstance(type_, FixedSchema):
        return type_.size
    if isinstance(type_, UnionSchema):
        return 1 + min(min_encoded_bytes(branch) for branch in type_.branches)
    if isinstance(type_, RecordSchema):
        return sum(min_encoded_bytes(field.type) for field in type_.fields)
    return 1


def parse_schema(schema: object) -> AvroSchema:
    """The type tree of a schema, given as the JSON of an .avsc file.

    Raises Misconfigured, with the path, for a schema that is not Avro, that contains itself, or whose arrays or maps
    have items of no bytes (nine bytes could claim 2^40 of these).
    """
    return _SchemaParser().parse(schema, "", "", 0)


class _SchemaParser:
    def __init__(self) -> None:
        # Full name -> type; None while its record is being parsed.
        self._named: dict[str, NamedSchema | None] = {}
        # Number of types so far. A reference counts as many as its type holds: full name -> number of types.
        self._type_count = 0
        self._type_counts: dict[str, int] = {}

    def parse(self, schema: object, namespace: str, path: str, depth: int) -> AvroSchema:
        self._type_count += 1
        if self._type_count > MAX_SCHEMA_TYPES:
            raise Misconfigured(
                f"{_label(path)}: the schema has more than {MAX_SCHEMA_TYPES} parts; it repeats its records too often"
            )
        if depth > MAX_SCHEMA_DEPTH:
            raise Misconfigured(f"{_label(path)}: the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        if isinstance(schema, str):
            return PrimitiveSchema(schema) if schema in PRIMITIVE_TYPES else self._reference(schema, namespace, path)
        if isinstance(schema, list):
            return self._union(schema, namespace, path, depth)
        if not isinstance(schema, dict) or "type" not in schema:
            raise Misconfigured(f"{_label(path)}: {schema!r} is not an Avro type")
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.parse(kind, namespace, path, depth + 1)
        if kind == "array":
            return ArraySchema(self._items(schema, "items", namespace, path + "[]", depth))
        if kind == "map":
            return MapSchema(self._items(schema, "values", namespace, path + "{}", depth))
        if kind in ("record", "error", "enum", "fixed"):
            return self._definition(schema, kind, namespace, path, depth)
        return self.parse(kind, namespace, path, depth + 1)

    def _reference(self, name: str, namespace: str, path: str) -> AvroSchema:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self._named and name in self._named:
            full = name
        if full not in self._named:
            raise Misconfigured(f"{_label(path)}: no type is called {name!r}; define it before it is used")
        type_ = self._named[full]
        if type_ is None:
            raise Misconfigured(f"{_label(path)}: the record {full!r} contains itself; that is not supported")
        self._type_count += self._type_counts[full]
        return type_

    def _union(self, schema: Sequence[object], namespace: str, path: str, depth: int) -> UnionSchema:
        branches = tuple(self.parse(branch, namespace, path, depth + 1) for branch in schema)
        if not branches:
            raise Misconfigured(f"{_label(path)}: a union needs at least one type")
        if any(isinstance(branch, UnionSchema) for branch in branches):
            raise Misconfigured(f"{_label(path)}: a union may not hold a union directly")
        kinds = [
            branch.name if isinstance(branch, NamedSchema) else getattr(branch, "kind", type(branch).__name__)
            for branch in branches
        ]
        if len(set(kinds)) < len(kinds):
            raise Misconfigured(f"{_label(path)}: a union may hold each type once, this one holds {', '.join(kinds)}")
        return UnionSchema(branches)

    def _items(self, schema: Mapping[str, Any], key: str, namespace: str, path: str, depth: int) -> AvroSchema:
        if key not in schema:
            raise Misconfigured(f"{_label(path)}: the {schema['type']} has no {key!r}")
        items = self.parse(schema[key], namespace, path, depth + 1)
        # The key of a map has a byte, but the rule is kept simple: there is no use for a map of nulls.
        if min_encoded_bytes(items) == 0:
            raise Misconfigured(f"{_label(path)}: items of an array or a map must be at least one byte long")
        return items

    def _definition(self, schema: Mapping[str, Any], kind: str, namespace: str, path: str, depth: int) -> NamedSchema:
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise Misconfigured(f"{_label(path)}: the {kind} has no name")
        if "." in name:
            namespace, _, name = name.rpartition(".")
        else:
            namespace = schema.get("namespace", namespace) or ""
        full = f"{namespace}.{name}" if namespace else name
        if full in self._named or name in PRIMITIVE_TYPES:
            raise Misconfigured(
                f"{_label(path)}: the name {full!r} is already taken; refer to a known type by its name"
            )
        aliases = tuple(schema.get("aliases", ()))
        self._named[full] = None
        count_before = self._type_count
        type_: NamedSchema
        if kind == "fixed":
            size = schema.get("size")
            if not isinstance(size, int) or size < 0:
                raise Misconfigured(f"{_label(path)}: the fixed {full!r} needs a size of 0 or more, not {size!r}")
            type_ = FixedSchema(full, aliases, size)
        elif kind == "enum":
            type_ = _enum(full, aliases, schema, path)
        else:
            type_ = RecordSchema(full, aliases, self._fields(schema, namespace, path, depth))
        self._named[full] = type_
        self._type_counts[full] = self._type_count - count_before
        return type_

    def _fields(self, schema: Mapping[str, Any], namespace: str, path: str, depth: int) -> tuple[RecordField, ...]:
        fields = []
        for field in schema.get("fields", ()):
            if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "type" not in field:
                raise Misconfigured(f"{_label(path)}: a field needs a name and a type, this one is {field!r}")
            name = field["name"]
            below = f"{path}.{name}" if path else name
            fields.append(
                RecordField(
                    name,
                    tuple(field.get("aliases", ())),
                    self.parse(field["type"], namespace, below, depth + 1),
                    field.get("default", NO_DEFAULT),
                )
            )
        names = [field.name for field in fields]
        if len(set(names)) < len(names):
            raise Misconfigured(f"{_label(path)}: two fields have the same name")
        return tuple(fields)


def _enum(full: str, aliases: tuple[str, ...], schema: Mapping[str, Any], path: str) -> EnumSchema:
    symbols = tuple(schema.get("symbols", ()))
    default = schema.get("default")
    if not all(isinstance(symbol, str) for symbol in symbols) or len(set(symbols)) < len(symbols):
        raise Misconfigured(f"{_label(path)}: the enum {full!r} needs a list of different words as symbols")
    if default is not None and default not in symbols:
        raise Misconfigured(f"{_label(path)}: the default {default!r} of the enum {full!r} is not one of its symbols")
    return EnumSchema(full, aliases, symbols, default)


def _label(path: str) -> str:
    return path or "the schema"
