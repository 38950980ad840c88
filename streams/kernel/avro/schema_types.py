"""Avro schemas as trees of types: names resolved, recursion refused (Avro 1.12 specification, "Schema Declaration").

Logical types are read as the type that carries them: the kernel moves numbers and bytes, their meaning is the reader's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streams.errors import Misconfigured

PRIMITIVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
# A field without a default; None is a default of its own.
NO_DEFAULT: Final = object()
# Far beyond any schema of a hub; a schema that names its records again and again could have billions of fields.
DEPTH: Final = 64
SIZE: Final = 50_000


@dataclass(frozen=True)
class Primitive:
    """One of PRIMITIVES."""

    kind: str


@dataclass(frozen=True)
class Fixed:
    """`size` bytes, no length written."""

    name: str
    aliases: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Enum:
    """A word of a closed set, written as its position."""

    name: str
    aliases: tuple[str, ...]
    symbols: tuple[str, ...]
    # The symbol that stands for words which this reader does not know.
    default: str | None


@dataclass(frozen=True)
class Array:
    """Any number of items."""

    items: "AvroType"


@dataclass(frozen=True)
class Map:
    """Any number of items, each with a text key."""

    items: "AvroType"


@dataclass(frozen=True)
class Union:
    """One of several types, written as its position and the value."""

    branches: tuple["AvroType", ...]

    @property
    def null(self) -> int:
        """Position of the null branch, -1 without one."""
        return next((index for index, branch in enumerate(self.branches) if is_null(branch)), -1)


@dataclass(frozen=True)
class Field:
    """A named part of a record."""

    name: str
    aliases: tuple[str, ...]
    type: "AvroType"
    default: object


@dataclass(frozen=True)
class Record:
    """Named fields, written in their order."""

    name: str
    aliases: tuple[str, ...]
    fields: tuple[Field, ...]


AvroType = Primitive | Fixed | Enum | Array | Map | Union | Record
Named = Fixed | Enum | Record


def is_null(type_: AvroType) -> bool:
    """True for the type that has one value and no bytes."""
    return isinstance(type_, Primitive) and type_.kind == "null"


def split_null(type_: AvroType, path: str) -> tuple[AvroType, int, bool]:
    """What a column of this type holds: the type without null, the position of null (-1: none), whether it is a union.

    Raises Misconfigured for a union of several types beside null: a column has one type.
    """
    if not isinstance(type_, Union):
        return type_, -1, False
    values = [branch for branch in type_.branches if not is_null(branch)]
    if len(values) > 1:
        raise Misconfigured(
            f"{path or 'the schema'}: a reader's union may have one type beside null, this one has {len(values)}"
        )
    return (values[0] if values else Primitive("null")), type_.null, True


def least_bytes(type_: AvroType) -> int:
    """Length in bytes of the shortest value."""
    if isinstance(type_, Primitive):
        return {"null": 0, "float": 4, "double": 8}.get(type_.kind, 1)
    if isinstance(type_, Fixed):
        return type_.size
    if isinstance(type_, Union):
        return 1 + min(least_bytes(branch) for branch in type_.branches)
    if isinstance(type_, Record):
        return sum(least_bytes(field.type) for field in type_.fields)
    return 1


def short_name(name: str) -> str:
    """The name without its namespace; resolution compares these (Avro 1.12, "Schema Resolution")."""
    return name.rpartition(".")[2]


def same_name(writer: Named, reader: Named) -> bool:
    """True where the reader's type, or one of its aliases, is called like the writer's."""
    wanted = short_name(writer.name)
    return any(short_name(name) == wanted for name in (reader.name, *reader.aliases))


def parse(schema: object) -> AvroType:
    """The type tree of a schema as it stands in an .avsc file.

    Raises Misconfigured, saying where, for a schema that is not Avro, that contains itself, or whose arrays or maps
    have items of no bytes (nine bytes could claim 2^40 of those).
    """
    return _Parser().parse(schema, "", "", 0)


class _Parser:
    def __init__(self) -> None:
        # Full name -> type; None while its record is being read.
        self._named: dict[str, Named | None] = {}
        # Types read so far, those of each reference counted again; full name -> types within.
        self._size = 0
        self._sizes: dict[str, int] = {}

    def parse(self, schema: object, namespace: str, path: str, depth: int) -> AvroType:
        self._size += 1
        if self._size > SIZE:
            raise Misconfigured(f"{_at(path)}: the schema has more than {SIZE} parts; it repeats its records too often")
        if depth > DEPTH:
            raise Misconfigured(f"{_at(path)}: the schema is nested deeper than {DEPTH} levels")
        if isinstance(schema, str):
            return Primitive(schema) if schema in PRIMITIVES else self._reference(schema, namespace, path)
        if isinstance(schema, list):
            return self._union(schema, namespace, path, depth)
        if not isinstance(schema, dict) or "type" not in schema:
            raise Misconfigured(f"{_at(path)}: {schema!r} is not an Avro type")
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.parse(kind, namespace, path, depth + 1)
        if kind == "array":
            return Array(self._items(schema, "items", namespace, path + "[]", depth))
        if kind == "map":
            return Map(self._items(schema, "values", namespace, path + "{}", depth))
        if kind in ("record", "error", "enum", "fixed"):
            return self._definition(schema, kind, namespace, path, depth)
        return self.parse(kind, namespace, path, depth + 1)

    def _reference(self, name: str, namespace: str, path: str) -> AvroType:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self._named and name in self._named:
            full = name
        if full not in self._named:
            raise Misconfigured(f"{_at(path)}: no type is called {name!r}; define it before it is used")
        found = self._named[full]
        if found is None:
            raise Misconfigured(f"{_at(path)}: the record {full!r} contains itself; that is not supported")
        self._size += self._sizes[full]
        return found

    def _union(self, schema: Sequence[object], namespace: str, path: str, depth: int) -> Union:
        branches = tuple(self.parse(branch, namespace, path, depth + 1) for branch in schema)
        if not branches:
            raise Misconfigured(f"{_at(path)}: a union needs at least one type")
        if any(isinstance(branch, Union) for branch in branches):
            raise Misconfigured(f"{_at(path)}: a union may not hold a union directly")
        kinds = [
            branch.name if isinstance(branch, Named) else getattr(branch, "kind", type(branch).__name__)
            for branch in branches
        ]
        if len(set(kinds)) < len(kinds):
            raise Misconfigured(f"{_at(path)}: a union may hold each type once, this one holds {', '.join(kinds)}")
        return Union(branches)

    def _items(self, schema: Mapping[str, Any], key: str, namespace: str, path: str, depth: int) -> AvroType:
        if key not in schema:
            raise Misconfigured(f"{_at(path)}: the {schema['type']} has no {key!r}")
        items = self.parse(schema[key], namespace, path, depth + 1)
        # The key of a map has a byte, but the rule is kept simple: nobody needs a map of nulls.
        if least_bytes(items) == 0:
            raise Misconfigured(f"{_at(path)}: items of an array or a map must be at least one byte long")
        return items

    def _definition(self, schema: Mapping[str, Any], kind: str, namespace: str, path: str, depth: int) -> Named:
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise Misconfigured(f"{_at(path)}: the {kind} has no name")
        if "." in name:
            namespace, _, name = name.rpartition(".")
        else:
            namespace = schema.get("namespace", namespace) or ""
        full = f"{namespace}.{name}" if namespace else name
        if full in self._named or name in PRIMITIVES:
            raise Misconfigured(f"{_at(path)}: the name {full!r} is already taken; refer to a known type by its name")
        aliases = tuple(schema.get("aliases", ()))
        self._named[full] = None
        before = self._size
        made: Named
        if kind == "fixed":
            size = schema.get("size")
            if not isinstance(size, int) or size < 0:
                raise Misconfigured(f"{_at(path)}: the fixed {full!r} needs a size of 0 or more, not {size!r}")
            made = Fixed(full, aliases, size)
        elif kind == "enum":
            made = _enum(full, aliases, schema, path)
        else:
            made = Record(full, aliases, self._fields(schema, namespace, path, depth))
        self._named[full] = made
        self._sizes[full] = self._size - before
        return made

    def _fields(self, schema: Mapping[str, Any], namespace: str, path: str, depth: int) -> tuple[Field, ...]:
        fields = []
        for field in schema.get("fields", ()):
            if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "type" not in field:
                raise Misconfigured(f"{_at(path)}: a field needs a name and a type, this one is {field!r}")
            name = field["name"]
            below = f"{path}.{name}" if path else name
            fields.append(
                Field(
                    name,
                    tuple(field.get("aliases", ())),
                    self.parse(field["type"], namespace, below, depth + 1),
                    field.get("default", NO_DEFAULT),
                )
            )
        names = [field.name for field in fields]
        if len(set(names)) < len(names):
            raise Misconfigured(f"{_at(path)}: two fields have the same name")
        return tuple(fields)


def _enum(full: str, aliases: tuple[str, ...], schema: Mapping[str, Any], path: str) -> Enum:
    symbols = tuple(schema.get("symbols", ()))
    default = schema.get("default")
    if not all(isinstance(symbol, str) for symbol in symbols) or len(set(symbols)) < len(symbols):
        raise Misconfigured(f"{_at(path)}: the enum {full!r} needs a list of different words as symbols")
    if default is not None and default not in symbols:
        raise Misconfigured(f"{_at(path)}: the default {default!r} of the enum {full!r} is not one of its symbols")
    return Enum(full, aliases, symbols, default)


def _at(path: str) -> str:
    return path or "the schema"
