"""From a writer's schema and a reader's to a program (see `avro_program`).

Resolution follows the Avro 1.12 specification ("Schema Resolution"): fields by name and alias, whatever their order;
fields that the reader lacks are checked and skipped; fields that the writer lacks get the reader's default; numbers
are promoted, strings and bytes stand for each other; words of an enum are matched by name, with the reader's default
for words it lacks; each branch of a writer's union is resolved on its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

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
from streams.kernel.avro.schema_types import (
    NO_DEFAULT,
    ArraySchema,
    AvroSchema,
    EnumSchema,
    FixedSchema,
    MapSchema,
    PrimitiveSchema,
    RecordField,
    RecordSchema,
    UnionSchema,
    is_null,
    min_encoded_bytes,
    names_match,
    parse_schema,
    short_name,
    split_null,
)

_PLAIN: Final = {
    "string": STRING,
    "bytes": BYTES,
    "int": INT,
    "long": LONG,
    "boolean": BOOLEAN,
    "float": FLOAT,
    "double": DOUBLE,
}
_FUSED: Final = {STRING: NULLABLE_STRING, LONG: NULLABLE_LONG, INT: NULLABLE_INT}
# (writer, reader) -> operation, where they differ (Avro 1.12: "promotable").
_PROMOTED: Final = {
    ("int", "long"): INT,
    ("int", "float"): LONG_AS_FLOAT,
    ("int", "double"): LONG_AS_DOUBLE,
    ("long", "float"): LONG_AS_FLOAT,
    ("long", "double"): LONG_AS_DOUBLE,
    ("float", "double"): FLOAT,
    # The writer says that it is text, so it must be; and the reader's text must be text too.
    ("string", "bytes"): STRING,
    ("bytes", "string"): STRING,
}


class SchemaResolutionError(Exception):
    """The writer's type has no counterpart in the reader's."""


def compile_resolution(
    program: DecoderProgram, layout: Layout, writer: Mapping[str, Any], reader: Mapping[str, Any]
) -> int:
    """Append the instructions that read `writer`'s records into `reader`'s columns; returns the first one's position.

    Raises Misconfigured where no record of the writer could be read.
    """
    wrote, wanted = parse_schema(writer), parse_schema(reader)
    if not isinstance(wrote, RecordSchema) or not isinstance(wanted, RecordSchema):
        raise Misconfigured("schemas of records must be records")
    start = len(program.code)
    compiler = _ResolutionCompiler(program, layout)
    try:
        if not names_match(wrote, wanted):
            raise SchemaResolutionError(f"the writer's record is called {wrote.name}, the reader's {wanted.name}")
        compiler.fields(wrote, wanted, "", 0)
    except SchemaResolutionError as error:
        raise Misconfigured(f"records of schema {wrote.name} cannot be read as {wanted.name}: {error}") from None
    compiler.finish(wanted)
    return start


class _ResolutionCompiler:
    def __init__(self, program: DecoderProgram, layout: Layout) -> None:
        self._program = program
        self._layout = layout
        # Column number over all frames = this + number within the frame.
        self._first = [0]
        for frame in layout.frames:
            self._first.append(self._first[-1] + len(frame.columns))
        # Frame whose row is being filled, for the bounds of default items.
        self._frame = 0
        self._added: dict[tuple[int, int], int] = {}

    def finish(self, reader: RecordSchema) -> None:
        """Columns of other readers are null in this one's records."""
        mine = set(self._columns(reader, ""))
        others = [number for number in range(self._first[1]) if number not in mine]
        if others:
            self._emit(SET_NULLS, -1, 0, *self._range(others))
        self._emit(END, -1)
        for key, count in self._added.items():
            self._program.added[key] = max(count, self._program.added.get(key, 0))

    def fields(self, writer: RecordSchema, reader: RecordSchema | None, path: str, depth: int) -> None:
        """All fields of a record: the writer's in the writer's order, then the reader's others."""
        taken = {} if reader is None else _matches(writer, reader, path)
        for wrote in writer.fields:
            wanted = taken.get(wrote.name)
            self.value(wrote.type, None if wanted is None else wanted.type, _join(path, wanted), depth)
        if reader is None:
            return
        have = {wanted.name for wanted in taken.values()}
        for wanted in reader.fields:
            if wanted.name in have:
                continue
            below = _join(path, wanted)
            if wanted.default is NO_DEFAULT:
                raise SchemaResolutionError(f"the writer has no field {below}, and the reader gives no default for it")
            self.default(wanted.type, wanted.default, below, depth)

    def value(self, writer: AvroSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        """One value; reader None: checked and skipped."""
        if reader is not None and not self._columns(reader, path) and _needs_columns(reader):
            reader = None
        if isinstance(writer, UnionSchema):
            self._union(writer, reader, path, depth)
        elif reader is None:
            self._plain(writer, None, path, depth)
        else:
            inner, null, _ = split_null(reader, path)
            if is_null(writer):
                if null < 0 and not is_null(inner):
                    raise SchemaResolutionError(f"{path}: the writer has null, the reader has not")
                self._emit(SET_NULLS, -1, 0, *self._range(self._columns(reader, path)))
                return
            if isinstance(inner, RecordSchema) and path in self._layout and not self._is_raw(path):
                self._emit(SET_NUMBER, self._number(path), 0)
            self._plain(writer, inner, path, depth)

    def _union(self, writer: UnionSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        null = writer.null_index
        if len(writer.branches) == 2 and null >= 0 and self._takes_null(reader):
            other = writer.branches[1 - null]
            columns = [] if reader is None else self._columns(reader, path)
            place = self._emit(NULLABLE, -1, null, *self._range(columns))
            self._branch(other, reader, path, depth)
            inner = self._program.code[place + 1 :]
            if len(inner) == 1 and inner[0][0] in _FUSED and len(columns) <= 1:
                self._program.code[place:] = [(_FUSED[inner[0][0]], inner[0][1], null, 0, 0, 0)]
            else:
                self._patch(place, 5, len(self._program.code))
            return
        targets = len(self._program.operand_pool)
        self._program.operand_pool.extend([0] * len(writer.branches))
        self._emit(UNION, -1, targets, len(writer.branches))
        jumps = []
        reached = 0
        for index, branch in enumerate(writer.branches):
            self._program.operand_pool[targets + index] = len(self._program.code)
            if not self._branch(branch, reader, path, depth):
                reached += 1
                jumps.append(self._emit(JUMP, -1))
        if not reached:
            raise SchemaResolutionError(
                f"{path}: no type of the writer's union has a counterpart in the reader's schema"
            )
        for jump in jumps:
            self._patch(jump, 2, len(self._program.code))

    def _branch(self, writer: AvroSchema, reader: AvroSchema | None, path: str, depth: int) -> bool:
        """One branch of a writer's union; True if no value of it can be read, which only its records suffer for."""
        place, added = len(self._program.code), dict(self._added)
        try:
            self.value(writer, reader, path, depth)
        except SchemaResolutionError:
            del self._program.code[place:]
            self._added = added
            self._emit(FAIL, -1)
            return True
        return False

    def _takes_null(self, reader: AvroSchema | None) -> bool:
        return reader is None or is_null(reader) or (isinstance(reader, UnionSchema) and reader.null_index >= 0)

    def _plain(self, writer: AvroSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
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
            self._emit(FIXED, self._column(reader, path), writer.size)
        elif isinstance(writer, PrimitiveSchema) and reader is not None:
            self._primitive(writer.kind, reader, path)
        elif isinstance(writer, PrimitiveSchema) and not is_null(writer):
            self._emit(_PLAIN[writer.kind], -1)

    def _primitive(self, kind: str, reader: AvroSchema, path: str) -> None:
        wanted = reader.kind if isinstance(reader, PrimitiveSchema) else ""
        operation = _PLAIN.get(kind) if wanted == kind else _PROMOTED.get((kind, wanted))
        if operation is None:
            name = wanted or type(reader).__name__.lower()
            raise SchemaResolutionError(f"{path}: the writer's {kind} cannot be read as {name}")
        self._emit(operation, self._number(path), int(kind == "int"))

    def _enum(self, writer: EnumSchema, reader: AvroSchema | None, path: str) -> None:
        table = -1
        if reader is not None:
            if not (isinstance(reader, EnumSchema) and names_match(writer, reader)):
                raise SchemaResolutionError(f"{path}: the writer's enum {writer.name} is not the reader's")
            if writer.symbols != reader.symbols[: len(writer.symbols)]:
                table = len(self._program.operand_pool)
                numbers = {symbol: number for number, symbol in enumerate(reader.symbols)}
                otherwise = -1 if reader.default is None else numbers[reader.default]
                self._program.operand_pool.extend(numbers.get(symbol, otherwise) for symbol in writer.symbols)
        self._emit(ENUM, self._column(reader, path), len(writer.symbols), table)

    def _record(self, writer: RecordSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        if reader is not None and not (isinstance(reader, RecordSchema) and names_match(writer, reader)):
            raise SchemaResolutionError(f"{path}: the writer's record {writer.name} is not the reader's")
        if reader is not None and self._is_raw(path):
            if not _same_bytes(writer, reader):
                raise SchemaResolutionError(
                    f"{path}: the writer's bytes are not those of the reader, so they cannot be raw"
                )
            self._program.max_depth = max(self._program.max_depth, depth + 1)
            self._emit(RAW_BEGIN, -1, 0, depth)
            self.fields(writer, None, path, depth + 1)
            self._emit(RAW_END, self._number(path), 0, depth)
            return
        self.fields(writer, reader, path, depth)

    def _array(self, writer: ArraySchema | MapSchema, reader: AvroSchema | None, path: str, depth: int) -> None:
        if reader is not None and type(reader) is not type(writer):
            raise SchemaResolutionError(
                f"{path}: the writer has an {type(writer).__name__.lower()}, the reader has not"
            )
        frame, below, items = -1, path, None
        if isinstance(reader, ArraySchema | MapSchema):
            below = path + ("{}" if isinstance(reader, MapSchema) else "[]")
            frame, items = self._layout.frame(below), reader.items
            least = min_encoded_bytes(writer.items) + isinstance(writer, MapSchema)
            self._program.min_item_bytes[frame] = min(least, self._program.min_item_bytes.get(frame, least))
        self._program.max_depth = max(self._program.max_depth, depth + 1)
        place = self._emit(ARRAY, self._column(reader, path), frame, depth)
        outer, self._frame = self._frame, (frame if frame >= 0 else self._frame)
        if isinstance(writer, MapSchema):
            key = path + "{key}"
            self._emit(STRING, self._number(key) if reader is not None and key in self._layout else -1)
        self.value(writer.items, items, below, depth + 1)
        self._frame = outer
        self._emit(NEXT_ITEM, self._column(reader, path), frame, depth, place + 1)
        self._patch(place, 4, len(self._program.code))

    def default(self, reader: AvroSchema, json: object, path: str, depth: int) -> None:
        """A value that the writer's records do not have. Raises Misconfigured if the default is not of its type."""
        columns = self._columns(reader, path)
        if not columns:
            return
        inner, null, _ = split_null(reader, path)
        if json is None and (null >= 0 or is_null(inner)):
            self._emit(SET_NULLS, -1, 0, *self._range(columns))
        elif isinstance(inner, RecordSchema) and isinstance(json, dict) and not self._is_raw(path):
            if path in self._layout:
                self._emit(SET_NUMBER, self._number(path), 0)
            for part in inner.fields:
                below = _join(path, part)
                value = json.get(part.name, part.default)
                if value is NO_DEFAULT:
                    raise Misconfigured(f"{below}: the default of the record {inner.name} lacks it")
                self.default(part.type, value, below, depth)
        elif (isinstance(inner, ArraySchema) and isinstance(json, list)) or (
            isinstance(inner, MapSchema) and isinstance(json, dict)
        ):
            self._default_items(inner, json, path, depth)
        else:
            self._default_scalar(inner, json, path)

    def _default_items(self, reader: ArraySchema | MapSchema, json: Any, path: str, depth: int) -> None:
        frame = self._layout.frame(path + ("{}" if isinstance(reader, MapSchema) else "[]"))
        key = (frame, self._frame)
        self._added[key] = self._added.get(key, 0) + len(json)
        self._program.max_depth = max(self._program.max_depth, depth + 1)
        self._emit(DEFAULT_ARRAY, self._number(path), frame, depth, len(json))
        for item in json:
            self._emit(DEFAULT_ITEM, -1, frame)
            if isinstance(reader, MapSchema):
                if path + "{key}" in self._layout:
                    self._constant(path + "{key}", item.encode())
                self.default(reader.items, json[item], path + "{}", depth + 1)
            else:
                self.default(reader.items, item, path + "[]", depth + 1)
        self._emit(DEFAULT_END, -1, 0, depth)

    def _default_scalar(self, reader: AvroSchema, json: object, path: str) -> None:
        kind = reader.kind if isinstance(reader, PrimitiveSchema) else ""
        number = isinstance(json, int) and not isinstance(json, bool)
        if kind in ("int", "long") and number:
            bits = 31 if kind == "int" else 63
            assert isinstance(json, int)
            if -(1 << bits) <= json < 1 << bits:
                self._emit(SET_NUMBER, self._number(path), json)
                return
        elif kind in ("float", "double") and (number or isinstance(json, float)):
            value = np.float64(np.float32(json)) if kind == "float" else np.float64(json)  # type: ignore[arg-type]
            self._emit(SET_NUMBER, self._number(path), int(value.view(np.int64)))
            return
        elif kind == "boolean" and isinstance(json, bool):
            self._emit(SET_NUMBER, self._number(path), int(json))
            return
        elif isinstance(reader, EnumSchema) and json in reader.symbols:
            self._emit(SET_NUMBER, self._number(path), reader.symbols.index(str(json)))
            return
        elif kind == "string" and isinstance(json, str):
            self._constant(path, json.encode())
            return
        elif (kind == "bytes" or isinstance(reader, FixedSchema)) and isinstance(json, str) and _is_latin(json):
            # Avro 1.12: in a default each byte is the character of its number.
            octets = json.encode("latin-1")
            if not isinstance(reader, FixedSchema) or len(octets) == reader.size:
                self._constant(path, octets)
                return
        raise Misconfigured(f"{path}: the default {json!r} is not a value of the field's type")

    def _constant(self, path: str, octets: bytes) -> None:
        place = self._program.constants.find(octets)
        if place < 0:
            place = len(self._program.constants)
            self._program.constants += octets
        self._emit(SET_CONSTANT, self._number(path), place, len(octets))

    def _columns(self, reader: AvroSchema, path: str) -> list[int]:
        """Numbers of the columns of a value, in its own frame only."""
        inner, _, _ = split_null(reader, path)
        own = [self._number(path)] if path in self._layout else []
        if isinstance(inner, RecordSchema) and not self._is_raw(path):
            for part in inner.fields:
                own += self._columns(part.type, _join(path, part))
        return own

    def _is_raw(self, path: str) -> bool:
        if path not in self._layout:
            return False
        frame, place = self._layout.place(path)
        return self._layout.frames[frame].columns[place].type == "raw"

    def _number(self, path: str) -> int:
        frame, place = self._layout.place(path)
        return self._first[frame] + place

    def _column(self, reader: AvroSchema | None, path: str) -> int:
        return -1 if reader is None else self._number(path)

    def _range(self, columns: Sequence[int]) -> tuple[int, int]:
        start = len(self._program.operand_pool)
        self._program.operand_pool.extend(columns)
        return start, len(self._program.operand_pool)

    def _emit(self, operation: int, column: int, *arguments: int) -> int:
        place = len(self._program.code)
        self._program.code.append((operation, column, *arguments, *([0] * (INSTRUCTION_WIDTH - 2 - len(arguments)))))
        return place

    def _patch(self, place: int, position: int, value: int) -> None:
        instruction = list(self._program.code[place])
        instruction[position] = value
        self._program.code[place] = tuple(instruction)


def _matches(writer: RecordSchema, reader: RecordSchema, path: str) -> dict[str, RecordField]:
    """Writer's field name -> the reader's field that takes its values."""
    names = {wrote.name for wrote in writer.fields}
    taken: dict[str, RecordField] = {}
    for wanted in reader.fields:
        found = next((name for name in (wanted.name, *wanted.aliases) if name in names), None)
        if found is None:
            continue
        if found in taken:
            raise SchemaResolutionError(
                f"{_join(path, wanted)} and {taken[found].name} both take the writer's field {found}"
            )
        taken[found] = wanted
    return taken


def _same_bytes(writer: AvroSchema, reader: AvroSchema) -> bool:
    """True if each value has the same encoding in both schemas."""
    if type(writer) is not type(reader):
        return False
    if isinstance(writer, RecordSchema) and isinstance(reader, RecordSchema):
        return [wrote.name for wrote in writer.fields] == [wanted.name for wanted in reader.fields] and all(
            _same_bytes(wrote.type, wanted.type) for wrote, wanted in zip(writer.fields, reader.fields, strict=True)
        )
    if isinstance(writer, UnionSchema) and isinstance(reader, UnionSchema):
        return len(writer.branches) == len(reader.branches) and all(map(_same_bytes, writer.branches, reader.branches))
    if isinstance(writer, ArraySchema | MapSchema) and isinstance(reader, ArraySchema | MapSchema):
        return _same_bytes(writer.items, reader.items)
    if isinstance(writer, EnumSchema) and isinstance(reader, EnumSchema):
        return names_match(writer, reader) and writer.symbols == reader.symbols[: len(writer.symbols)]
    if isinstance(writer, FixedSchema) and isinstance(reader, FixedSchema):
        return short_name(writer.name) == short_name(reader.name) and writer.size == reader.size
    return writer == reader


def _needs_columns(reader: AvroSchema) -> bool:
    """True but for records without any field to keep, which no layout could leave out."""
    inner, null, _ = split_null(reader, "")
    return not isinstance(inner, RecordSchema) or null >= 0 or any(_needs_columns(part.type) for part in inner.fields)


def _join(path: str, part: RecordField | None) -> str:
    if part is None:
        return path
    return f"{path}.{part.name}" if path else part.name


def _is_latin(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
