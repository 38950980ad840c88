"""Where the values of records go: columns, in frames.

A frame is a table: the root has one row a record, every array or map has a frame of its own with one row an item.
The values of a column are two numbers a row, `values` and `lengths`:

- int, long, enum (its position) and boolean: the number, length 0; null: length -1 (and value 0), as for all types;
- float, double: the bits of the float64, length 0;
- string, bytes, fixed: position in the buffer and length in bytes;
- nullable record: a column at its own path that says whether it is there (length 0 or -1); other records have none;
- array, map: first row in its own frame, and number of items.

Paths: `plan.service`; `timeline[]` is an item of the array `timeline` and the name of its frame;
`timeline[].details.site`. For a map `m` the items are `m{}` and their keys `m{key}`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.errors import Misconfigured
from streams.kernel.avro.schema_types import (
    ArraySchema,
    AvroSchema,
    EnumSchema,
    FixedSchema,
    MapSchema,
    PrimitiveSchema,
    RecordSchema,
    parse_schema,
    split_null,
)


@dataclass(frozen=True)
class ColumnLayout:
    """One column. `type`: the Avro type without null, "record" for the presence of a nullable record, or "raw"."""

    path: str
    type: str
    # For an enum, in the order of their numbers.
    symbols: tuple[str, ...] = ()
    # For a fixed: bytes.
    size: int = 0


@dataclass(frozen=True)
class FrameLayout:
    """The columns of the records ("") or of the items of one array or map."""

    path: str
    columns: tuple[ColumnLayout, ...]


class Layout:
    """The columns of one or several reader schemas.

    >>> layout = Layout.of({"type": "record", "name": "Bag", "fields": [
    ...     {"name": "id", "type": "string"}, {"name": "marks", "type": {"type": "array", "items": "long"}}]})
    >>> [frame.path for frame in layout.frames], layout.column("id"), layout.column("marks"), layout.column("marks[]")
    (['', 'marks[]'], 0, 1, 0)
    """

    def __init__(self, frames: tuple[FrameLayout, ...]) -> None:
        self.frames = frames
        self._frames = {frame.path: index for index, frame in enumerate(frames)}
        self._places = {
            column.path: (index, place)
            for index, frame in enumerate(frames)
            for place, column in enumerate(frame.columns)
        }

    @classmethod
    def of(
        cls, *readers: Mapping[str, Any], only: Collection[str] | None = None, raw: Collection[str] = ()
    ) -> "Layout":
        """The layout that holds all fields of `readers`; fields with the same path and type share a column.

        only: keep just the columns at and below these paths, and those that lead to them (the array of an item, the
        presence of a nullable record). What a decoder finds no column for it checks and skips.
        raw: paths of records that are one column of bytes, their Avro encoding, instead of columns of their fields.
        Raises Misconfigured for paths that no reader has and for the same path with different types.
        """
        builder = _LayoutBuilder(frozenset(raw))
        for reader in readers:
            type_ = parse_schema(reader)
            if not isinstance(type_, RecordSchema):
                raise Misconfigured(f"a reader schema must be a record, not {reader!r}")
            builder.fields(type_, "", "")
        paths = (path for columns in builder.frames.values() for path in columns)
        known = {"", *builder.frames, *paths, *builder.groups}
        for path in (*raw, *(only or ())):
            if path not in known:
                raise Misconfigured(f"no reader schema has the path {path!r}")
        frames = []
        for frame, columns in builder.frames.items():
            kept = tuple(column for path, column in columns.items() if only is None or _wanted(path, only))
            if kept or not frame:
                frames.append(FrameLayout(frame, kept))
        return cls(tuple(frames))

    def frame(self, path: str) -> int:
        """Number of the frame called `path`. Raises KeyError."""
        return self._frames[path]

    def column(self, path: str) -> int:
        """Number of the column within its frame. Raises KeyError."""
        return self._places[path][1]

    def place(self, path: str) -> tuple[int, int]:
        """Numbers of the frame and of the column within it. Raises KeyError."""
        return self._places[path]

    def check(self, readers: Sequence[Mapping[str, Any]]) -> None:
        """Raises Misconfigured if a column is not one of `readers`: values would go into columns of other types."""
        mine = [column for frame in self.frames for column in frame.columns]
        full = Layout.of(*readers, raw=[column.path for column in mine if column.type == "raw"])
        known = {column for frame in full.frames for column in frame.columns}
        for column in mine:
            if column not in known:
                raise Misconfigured(f"{column.path}: the layout was made of other reader schemas")

    def __contains__(self, path: object) -> bool:
        return path in self._places


def _wanted(path: str, only: Collection[str]) -> bool:
    return any(wanted == path or _below(path, wanted) or _below(wanted, path) for wanted in only)


def _below(path: str, above: str) -> bool:
    """`a.b`, `a[]` and `a{key}` are below `a`; `ab` is not."""
    return path.startswith(above) and path[len(above)] in ".[{"


class _LayoutBuilder:
    def __init__(self, raw: frozenset[str]) -> None:
        self.frames: dict[str, dict[str, ColumnLayout]] = {"": {}}
        # Paths of records without a column of their own.
        self.groups: set[str] = set()
        self._raw = raw

    def fields(self, record: RecordSchema, path: str, frame: str) -> None:
        for field in record.fields:
            self.value(field.type, f"{path}.{field.name}" if path else field.name, frame)

    def value(self, type_: AvroSchema, path: str, frame: str) -> None:
        type_, null, _ = split_null(type_, path)
        if path in self._raw:
            if not isinstance(type_, RecordSchema):
                raise Misconfigured(f"{path}: only a record can be given as raw bytes")
            self._add(ColumnLayout(path, "raw"), frame)
        elif isinstance(type_, RecordSchema):
            self.groups.add(path)
            if null >= 0:
                self._add(ColumnLayout(path, "record"), frame)
            self.fields(type_, path, frame)
        elif isinstance(type_, ArraySchema):
            self._add(ColumnLayout(path, "array"), frame)
            self.frames.setdefault(path + "[]", {})
            self.value(type_.items, path + "[]", path + "[]")
        elif isinstance(type_, MapSchema):
            self._add(ColumnLayout(path, "map"), frame)
            self.frames.setdefault(path + "{}", {})
            self._add(ColumnLayout(path + "{key}", "string"), path + "{}")
            self.value(type_.items, path + "{}", path + "{}")
        elif isinstance(type_, EnumSchema):
            self._add(ColumnLayout(path, "enum", symbols=type_.symbols), frame)
        elif isinstance(type_, FixedSchema):
            self._add(ColumnLayout(path, "fixed", size=type_.size), frame)
        elif isinstance(type_, PrimitiveSchema):
            self._add(ColumnLayout(path, type_.kind), frame)

    def _add(self, column: ColumnLayout, frame: str) -> None:
        known = self.frames[frame].setdefault(column.path, column)
        if known != column:
            raise Misconfigured(
                f"{column.path}: one reader schema has {known.type}, another {column.type}; "
                "read them with layouts of their own"
            )
