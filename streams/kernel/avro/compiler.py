"""Compiles a writer schema and a reader schema into instructions of `streams.kernel.avro.program`.

Resolution follows the Avro 1.12 specification ("Schema Resolution"):

- fields are matched by name and alias, in any order;
- fields that the reader lacks are checked and skipped, and fields that the writer lacks get the reader's default;
- numbers are promoted, and strings and bytes stand for each other;
- symbols of an enum are matched by name, with the reader's default for those that it lacks;
- each branch of a writer's union is resolved on its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.errors import Misconfigured
from streams.kernel.avro.layout import Layout
from streams.kernel.avro.program import (
    ARRAY,
    BOOLEAN,
    BYTES,
    DEFAULT_ARRAY,
    DEFAULT_END,
    DEFAULT_ITEM,
    DOUBLE,
    END,
    ENUM,
    FAIL,
    FIXED,
    FLOAT,
    INSTRUCTION_WIDTH,
    INT,
    JUMP,
    LONG,
    LONG_AS_DOUBLE,
    LONG_AS_FLOAT,
    NEXT_ITEM,
    NULLABLE,
    NULLABLE_INT,
    NULLABLE_LONG,
    NULLABLE_STRING,
    RAW_BEGIN,
    RAW_END,
    SET_CONSTANT,
    SET_NULLS,
    SET_NUMBER,
    STRING,
    UNION,
    DecoderProgram,
)
from streams.kernel.avro.resolution import (
    SchemaResolutionError,
    default_value,
    field_path,
    has_same_encoding,
    match_fields,
    names_match,
)
from streams.kernel.avro.schema_types import (
    NO_DEFAULT,
    ArraySchema,
    AvroSchema,
    EnumSchema,
    FixedSchema,
    MapSchema,
    PrimitiveSchema,
    RecordSchema,
    UnionSchema,
    is_null,
    min_encoded_bytes,
    parse_schema,
    split_null,
)

_OPERATIONS: Final = {
    "string": STRING,
    "bytes": BYTES,
    "int": INT,
    "long": LONG,
    "boolean": BOOLEAN,
    "float": FLOAT,
    "double": DOUBLE,
}
# Operation -> the one instruction that does the same for a nullable value.
_NULLABLE_OPERATIONS: Final = {STRING: NULLABLE_STRING, LONG: NULLABLE_LONG, INT: NULLABLE_INT}
# (writer's type, reader's type) -> operation, where they differ (Avro 1.12: "promotable").
_PROMOTIONS: Final = {
    ("int", "long"): INT,
    ("int", "float"): LONG_AS_FLOAT,
    ("int", "double"): LONG_AS_DOUBLE,
    ("long", "float"): LONG_AS_FLOAT,
    ("long", "double"): LONG_AS_DOUBLE,
    ("float", "double"): FLOAT,
    # The writer's string must be valid text, and so must the reader's.
    ("string", "bytes"): STRING,
    ("bytes", "string"): STRING,
}


def compile_resolution(
    program: DecoderProgram, layout: Layout, writer_schema: Mapping[str, Any], reader_schema: Mapping[str, Any]
) -> int:
    """Append the instructions that read the writer's records into the reader's columns; returns the index of the first.

    Raises Misconfigured where no record of the writer could be read.
    """
    writer, reader = parse_schema(writer_schema), parse_schema(reader_schema)
    if not isinstance(writer, RecordSchema) or not isinstance(reader, RecordSchema):
        raise Misconfigured("schemas of records must be records")
    start = len(program.code)
    compiler = _ResolutionCompiler(program, layout)
    try:
        if not names_match(writer, reader):
            raise SchemaResolutionError(f"the writer's record is called {writer.name}, the reader's {reader.name}")
        compiler.compile_fields(writer, reader, "", 0)
    except SchemaResolutionError as error:
        raise Misconfigured(f"records of schema {writer.name} cannot be read as {reader.name}: {error}") from None
    compiler.finish(reader)
    return start


class _ResolutionCompiler:
    """Emits the instructions of one pair of schemas. Throughout, reader None: the value is checked and skipped."""

    def __init__(self, program: DecoderProgram, layout: Layout) -> None:
        self._program = program
        self._layout = layout
        # For each frame the index of its first column over all frames.
        self._first_columns = [0]
        for frame in layout.frames:
            self._first_columns.append(self._first_columns[-1] + len(frame.columns))
        # Frame whose row is being filled, for the bounds of default items.
        self._frame = 0
        self._default_counts: dict[tuple[int, int], int] = {}

    def finish(self, reader: RecordSchema) -> None:
        """End the program: the columns of other readers are null in the records of this one."""
        own_columns = set(self._columns(reader, ""))
        others = [column for column in range(self._first_columns[1]) if column not in own_columns]
        if others:
            self._emit(SET_NULLS, -1, 0, *self._range(others))
        self._emit(END, -1)
        for key, count in self._default_counts.items():
            self._program.default_items[key] = max(count, self._program.default_items.get(key, 0))

    def compile_fields(self, writer: RecordSchema, reader: RecordSchema | None, path: str, depth: int) -> None:
        """All fields of a record: the writer's in the writer's order, then the others of the reader."""
        matches = {} if reader is None else match_fields(writer, reader, path)
        for field in writer.fields:
            match = matches.get(field.name)
            self._value(field.type, None if match is None else match.type, field_path(path, match), depth)
        if reader is None:
            return
        matched_names = {field.name for field in matches.values()}
        for field in reader.fields:
            if field.name in matched_names:
                continue
            below = field_path(path, field)
            if field.default is NO_DEFAULT:
                raise SchemaResolutionError(f"the writer has no field {below}, and the reader gives no default for it")
            self._default(field.type, field.default, below, depth)

    def _value(self, writer: AvroSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        """One value of any type."""
        if reader is not None and not self._columns(reader, path) and _needs_columns(reader):
            reader = None
        if isinstance(writer, UnionSchema):
            self._union(writer, reader, path, depth)
        elif reader is None:
            self._non_union(writer, None, path, depth)
        else:
            inner, null, _ = split_null(reader, path)
            if is_null(writer):
                if null < 0 and not is_null(inner):
                    raise SchemaResolutionError(f"{path}: the writer has null, the reader has not")
                self._emit(SET_NULLS, -1, 0, *self._range(self._columns(reader, path)))
                return
            if isinstance(inner, RecordSchema) and path in self._layout and not self._is_raw(path):
                self._emit(SET_NUMBER, self._column(path), 0)
            self._non_union(writer, inner, path, depth)

    def _union(self, writer: UnionSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        null = writer.null_index
        if len(writer.branches) == 2 and null >= 0 and self._accepts_null(reader):
            other = writer.branches[1 - null]
            columns = [] if reader is None else self._columns(reader, path)
            index = self._emit(NULLABLE, -1, null, *self._range(columns))
            self._branch(other, reader, path, depth)
            inner = self._program.code[index + 1 :]
            if len(inner) == 1 and inner[0][0] in _NULLABLE_OPERATIONS and len(columns) <= 1:
                self._program.code[index:] = [(_NULLABLE_OPERATIONS[inner[0][0]], inner[0][1], null, 0, 0, 0)]
            else:
                self._patch(index, 5, len(self._program.code))
            return
        targets = len(self._program.operand_pool)
        self._program.operand_pool.extend([0] * len(writer.branches))
        self._emit(UNION, -1, targets, len(writer.branches))
        jumps = []
        for number, branch in enumerate(writer.branches):
            self._program.operand_pool[targets + number] = len(self._program.code)
            if self._branch(branch, reader, path, depth):
                jumps.append(self._emit(JUMP, -1))
        if not jumps:
            raise SchemaResolutionError(
                f"{path}: no type of the writer's union has a counterpart in the reader's schema"
            )
        for jump in jumps:
            self._patch(jump, 2, len(self._program.code))

    def _branch(self, writer: AvroSchema, reader: AvroSchema | None, path: str, depth: int) -> bool:
        """One branch of a writer's union. Returns False if it does not resolve: only records with it are refused."""
        start, default_counts = len(self._program.code), dict(self._default_counts)
        try:
            self._value(writer, reader, path, depth)
        except SchemaResolutionError:
            del self._program.code[start:]
            self._default_counts = default_counts
            self._emit(FAIL, -1)
            return False
        return True

    def _accepts_null(self, reader: AvroSchema | None) -> bool:
        return reader is None or is_null(reader) or (isinstance(reader, UnionSchema) and reader.null_index >= 0)

    def _non_union(self, writer: AvroSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        """One value that is no union, and is not null unless it is skipped."""
        if isinstance(writer, RecordSchema):
            self._record(writer, reader, path, depth)
        elif isinstance(writer, ArraySchema | MapSchema):
            self._array(writer, reader, path, depth)
        elif isinstance(writer, EnumSchema):
            self._enum(writer, reader, path)
        elif isinstance(writer, FixedSchema):
            if reader is not None and not (
                isinstance(reader, FixedSchema) and reader.size == writer.size and names_match(writer, reader)
            ):
                raise SchemaResolutionError(
                    f"{path}: the writer's fixed {writer.name}[{writer.size}] is not the reader's"
                )
            self._emit(FIXED, self._column_or_skip(reader, path), writer.size)
        elif isinstance(writer, PrimitiveSchema) and reader is not None:
            self._primitive(writer.kind, reader, path)
        elif isinstance(writer, PrimitiveSchema) and not is_null(writer):
            self._emit(_OPERATIONS[writer.kind], -1)

    def _primitive(self, kind: str, reader: AvroSchema, path: str) -> None:
        reader_kind = reader.kind if isinstance(reader, PrimitiveSchema) else ""
        operation = _OPERATIONS.get(kind) if reader_kind == kind else _PROMOTIONS.get((kind, reader_kind))
        if operation is None:
            name = reader_kind or type(reader).__name__.lower()
            raise SchemaResolutionError(f"{path}: the writer's {kind} cannot be read as {name}")
        self._emit(operation, self._column(path), int(kind == "int"))

    def _enum(self, writer: EnumSchema, reader: AvroSchema | None, path: str) -> None:
        table = -1
        if reader is not None:
            if not (isinstance(reader, EnumSchema) and names_match(writer, reader)):
                raise SchemaResolutionError(f"{path}: the writer's enum {writer.name} is not the reader's")
            if writer.symbols != reader.symbols[: len(writer.symbols)]:
                table = len(self._program.operand_pool)
                numbers = {symbol: number for number, symbol in enumerate(reader.symbols)}
                default = -1 if reader.default is None else numbers[reader.default]
                self._program.operand_pool.extend(numbers.get(symbol, default) for symbol in writer.symbols)
        self._emit(ENUM, self._column_or_skip(reader, path), len(writer.symbols), table)

    def _record(self, writer: RecordSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        if reader is not None and not (isinstance(reader, RecordSchema) and names_match(writer, reader)):
            raise SchemaResolutionError(f"{path}: the writer's record {writer.name} is not the reader's")
        if reader is not None and self._is_raw(path):
            if not has_same_encoding(writer, reader):
                raise SchemaResolutionError(
                    f"{path}: the writer's bytes are not those of the reader, so they cannot be raw"
                )
            self._program.max_depth = max(self._program.max_depth, depth + 1)
            self._emit(RAW_BEGIN, -1, 0, depth)
            self.compile_fields(writer, None, path, depth + 1)
            self._emit(RAW_END, self._column(path), 0, depth)
            return
        self.compile_fields(writer, reader, path, depth)

    def _array(self, writer: ArraySchema | MapSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        if reader is not None and type(reader) is not type(writer):
            raise SchemaResolutionError(
                f"{path}: the writer has an {type(writer).__name__.lower()}, the reader has not"
            )
        frame, below, items = -1, path, None
        if isinstance(reader, ArraySchema | MapSchema):
            below = path + ("{}" if isinstance(reader, MapSchema) else "[]")
            frame, items = self._layout.frame_index(below), reader.items
            item_bytes = min_encoded_bytes(writer.items) + isinstance(writer, MapSchema)
            self._program.min_item_bytes[frame] = min(item_bytes, self._program.min_item_bytes.get(frame, item_bytes))
        self._program.max_depth = max(self._program.max_depth, depth + 1)
        index = self._emit(ARRAY, self._column_or_skip(reader, path), frame, depth)
        outer_frame, self._frame = self._frame, (frame if frame >= 0 else self._frame)
        if isinstance(writer, MapSchema):
            key = path + "{key}"
            self._emit(STRING, self._column(key) if reader is not None and key in self._layout else -1)
        self._value(writer.items, items, below, depth + 1)
        self._frame = outer_frame
        self._emit(NEXT_ITEM, self._column_or_skip(reader, path), frame, depth, index + 1)
        self._patch(index, 4, len(self._program.code))

    def _default(self, reader: AvroSchema, json: object, path: str, depth: int) -> None:
        """A value that the writer's records lack. Raises Misconfigured if the default is not of its type."""
        columns = self._columns(reader, path)
        if not columns:
            return
        inner, null, _ = split_null(reader, path)
        if json is None and (null >= 0 or is_null(inner)):
            self._emit(SET_NULLS, -1, 0, *self._range(columns))
        elif isinstance(inner, RecordSchema) and isinstance(json, dict) and not self._is_raw(path):
            if path in self._layout:
                self._emit(SET_NUMBER, self._column(path), 0)
            for field in inner.fields:
                below = field_path(path, field)
                value = json.get(field.name, field.default)
                if value is NO_DEFAULT:
                    raise Misconfigured(f"{below}: the default of the record {inner.name} lacks it")
                self._default(field.type, value, below, depth)
        elif (isinstance(inner, ArraySchema) and isinstance(json, list)) or (
            isinstance(inner, MapSchema) and isinstance(json, dict)
        ):
            self._default_items(inner, json, path, depth)
        else:
            value = default_value(inner, json, path)
            if isinstance(value, bytes):
                self._set_constant(path, value)
            else:
                self._emit(SET_NUMBER, self._column(path), value)

    def _default_items(self, reader: ArraySchema | MapSchema, json: Any, path: str, depth: int) -> None:
        frame = self._layout.frame_index(path + ("{}" if isinstance(reader, MapSchema) else "[]"))
        key = (frame, self._frame)
        self._default_counts[key] = self._default_counts.get(key, 0) + len(json)
        self._program.max_depth = max(self._program.max_depth, depth + 1)
        self._emit(DEFAULT_ARRAY, self._column(path), frame, depth, len(json))
        for item in json:
            self._emit(DEFAULT_ITEM, -1, frame)
            if isinstance(reader, MapSchema):
                if path + "{key}" in self._layout:
                    self._set_constant(path + "{key}", item.encode())
                self._default(reader.items, json[item], path + "{}", depth + 1)
            else:
                self._default(reader.items, item, path + "[]", depth + 1)
        self._emit(DEFAULT_END, -1, 0, depth)

    def _set_constant(self, path: str, octets: bytes) -> None:
        position = self._program.constants.find(octets)
        if position < 0:
            position = len(self._program.constants)
            self._program.constants += octets
        self._emit(SET_CONSTANT, self._column(path), position, len(octets))

    def _columns(self, reader: AvroSchema, path: str) -> list[int]:
        """Columns of a value over all frames; only those in its own frame."""
        inner, _, _ = split_null(reader, path)
        columns = [self._column(path)] if path in self._layout else []
        if isinstance(inner, RecordSchema) and not self._is_raw(path):
            for field in inner.fields:
                columns += self._columns(field.type, field_path(path, field))
        return columns

    def _is_raw(self, path: str) -> bool:
        if path not in self._layout:
            return False
        frame, column = self._layout.frame_and_column_index(path)
        return self._layout.frames[frame].columns[column].type == "raw"

    def _column(self, path: str) -> int:
        """The column of a value over all frames."""
        frame, column = self._layout.frame_and_column_index(path)
        return self._first_columns[frame] + column

    def _column_or_skip(self, reader: AvroSchema | None, path: str) -> int:
        return -1 if reader is None else self._column(path)

    def _range(self, columns: Sequence[int]) -> tuple[int, int]:
        """Put columns into the pool; returns where they begin and end there."""
        start = len(self._program.operand_pool)
        self._program.operand_pool.extend(columns)
        return start, len(self._program.operand_pool)

    def _emit(self, operation: int, column: int, *arguments: int) -> int:
        """Append an instruction; returns its index."""
        index = len(self._program.code)
        self._program.code.append((operation, column, *arguments, *([0] * (INSTRUCTION_WIDTH - 2 - len(arguments)))))
        return index

    def _patch(self, index: int, position: int, value: int) -> None:
        instruction = list(self._program.code[index])
        instruction[position] = value
        self._program.code[index] = tuple(instruction)


def _needs_columns(reader: AvroSchema) -> bool:
    """True except for records without any field to keep, which have no column that a layout could leave out."""
    inner, null, _ = split_null(reader, "")
    return not isinstance(inner, RecordSchema) or null >= 0 or any(_needs_columns(field.type) for field in inner.fields)
