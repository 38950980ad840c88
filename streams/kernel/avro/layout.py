"""The layout of decoded records: columns, in frames.

A frame is a table. The root frame has one row for each record; every array or map has a frame of its own with one row
for each item. A column has two numbers in each row, its value and its length:

- int, long, enum (its position) and boolean: the number, length 0; null: length -1 (and value 0), as for all types;
- float, double: the bits of the float64, length 0;
- string, bytes, fixed: position in the buffer and length in bytes;
- nullable record: a column at its own path, with length 0 for a record and -1 for null; other records have none;
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
    """One column. `type` is the Avro type without null, "record" for the presence of a nullable record, or "raw"."""

    path: str
    type: str
    # Of an enum, in the order of their numbers.
    symbols: tuple[str, ...] = ()
    # Of a fixed, in bytes.
    size: int = 0


@dataclass(frozen=True)
class FrameLayout:
    """The columns of the records (path "") or of the items of one array or map."""

    path: str
    columns: tuple[ColumnLayout, ...]


class Layout:
    """The columns of one or several reader schemas.

    >>> layout = Layout.of({"type": "record", "name": "Bag", "fields": [
    ...     {"name": "id", "type": "string"}, {"name": "marks", "type": {"type": "array", "items": "long"}}]})
    >>> [frame.path for frame in layout.frames]
    ['', 'marks[]']
    >>> [layout.column_index(path) for path in ("id", "marks", "marks[]")]
    [0, 1, 0]
    """

    def __init__(self, frames: tuple[FrameLayout, ...]) -> None:
        self.frames = frames
        self._frame_indexes = {frame.path: index for index, frame in enumerate(frames)}
        self._column_indexes = {
            column.path: (frame_index, column_index)
            for frame_index, frame in enumerate(frames)
            for column_index, column in enumerate(frame.columns)
        }

    @classmethod
    def of(
        cls, *reader_schemas: Mapping[str, Any], only: Collection[str] | None = None, raw: Collection[str] = ()
    ) -> "Layout":
        """The layout with all fields of the reader schemas; fields with the same path and type share a column.

        Args:
            reader_schemas: schemas of records.
            only: keep just the columns at and below these paths, and those that lead to them (the array of an item, the
                presence of a nullable record). A decoder checks and skips a field without a column.
            raw: paths of records that are one column of bytes, their Avro encoding, instead of columns of their fields.

        Raises:
            Misconfigured: a path that no reader schema has, or the same path with different types.
        """
        builder = _LayoutBuilder(frozenset(raw))
        for schema in reader_schemas:
            type_ = parse_schema(schema)
            if not isinstance(type_, RecordSchema):
                raise Misconfigured(f"a reader schema must be a record, not {schema!r}")
            builder.add_fields(type_, "", "")
        paths = (path for columns in builder.frames.values() for path in columns)
        known_paths = {"", *builder.frames, *paths, *builder.record_paths}
        for path in (*raw, *(only or ())):
            if path not in known_paths:
                raise Misconfigured(f"no reader schema has the path {path!r}")
        frames = []
        for frame, columns in builder.frames.items():
            kept = tuple(column for path, column in columns.items() if _is_kept(path, only))
            # A frame may have no columns, as that of an array of records without fields: it still counts the items.
            if kept or not frame or _is_kept(frame, only):
                frames.append(FrameLayout(frame, kept))
        return cls(tuple(frames))

    def frame_index(self, path: str) -> int:
        """Index of the frame called `path`. Raises KeyError."""
        return self._frame_indexes[path]

    def column_index(self, path: str) -> int:
        """Index of the column within its frame. Raises KeyError."""
        return self._column_indexes[path][1]

    def frame_and_column_index(self, path: str) -> tuple[int, int]:
        """Indexes of the frame and of the column within it. Raises KeyError."""
        return self._column_indexes[path]

    def require_columns_of(self, reader_schemas: Sequence[Mapping[str, Any]]) -> None:
        """Raise Misconfigured if a column is not one of `reader_schemas`: its values would be of another type."""
        own_columns = [column for frame in self.frames for column in frame.columns]
        full = Layout.of(*reader_schemas, raw=[column.path for column in own_columns if column.type == "raw"])
        known_columns = {column for frame in full.frames for column in frame.columns}
        for column in own_columns:
            if column not in known_columns:
                raise Misconfigured(f"{column.path}: the layout was made of other reader schemas")

    def __contains__(self, path: object) -> bool:
        """True if there is a column with this path."""
        return path in self._column_indexes


def _is_kept(path: str, only: Collection[str] | None) -> bool:
    return only is None or any(kept == path or _is_below(path, kept) or _is_below(kept, path) for kept in only)


def _is_below(path: str, above: str) -> bool:
    """`a.b`, `a[]` and `a{key}` are below `a`; `ab` is not."""
    return path.startswith(above) and path[len(above)] in ".[{"


class _LayoutBuilder:
    def __init__(self, raw: frozenset[str]) -> None:
        # Path of a frame -> path of a column -> the column.
        self.frames: dict[str, dict[str, ColumnLayout]] = {"": {}}
        self.record_paths: set[str] = set()
        self._raw = raw

    def add_fields(self, record: RecordSchema, path: str, frame: str) -> None:
        for field in record.fields:
            self._add_type(field.type, f"{path}.{field.name}" if path else field.name, frame)

    def _add_type(self, type_: AvroSchema, path: str, frame: str) -> None:
        type_, null, _ = split_null(type_, path)
        if path in self._raw:
            if not isinstance(type_, RecordSchema):
                raise Misconfigured(f"{path}: only a record can be given as raw bytes")
            self._add(ColumnLayout(path, "raw"), frame)
        elif isinstance(type_, RecordSchema):
            self.record_paths.add(path)
            if null >= 0:
                self._add(ColumnLayout(path, "record"), frame)
            self.add_fields(type_, path, frame)
        elif isinstance(type_, ArraySchema):
            self._add(ColumnLayout(path, "array"), frame)
            self.frames.setdefault(path + "[]", {})
            self._add_type(type_.items, path + "[]", path + "[]")
        elif isinstance(type_, MapSchema):
            self._add(ColumnLayout(path, "map"), frame)
            self.frames.setdefault(path + "{}", {})
            self._add(ColumnLayout(path + "{key}", "string"), path + "{}")
            self._add_type(type_.items, path + "{}", path + "{}")
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
