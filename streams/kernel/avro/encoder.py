"""Columns in, Avro payloads out: the mirror of `avro_decode`, one compiled call for a whole batch.

What is written is what a careful writer writes: shortest numbers, one block an array, and nothing that a reader could
not read. A value that does not fit the schema is an error that names its column and row.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.errors import Misconfigured
from streams.kernel.avro.layout import Layout
from streams.kernel.avro.primitives import overlapping_words
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
from streams.kernel.avro.write_loop import (
    ARRAY,
    BOOLEAN,
    BYTES,
    DOUBLE,
    END,
    ENUM,
    FAULT_MESSAGES,
    FIXED,
    FLOAT,
    INT,
    LONG,
    NEXT_ITEM,
    NULLABLE_RECORD,
    OUTPUT_FULL,
    STRING,
    ZERO_BYTE,
    write_records,
)

_PLAIN: Final = {
    "boolean": BOOLEAN,
    "int": INT,
    "long": LONG,
    "float": FLOAT,
    "double": DOUBLE,
    "bytes": BYTES,
    "string": STRING,
}

MAX_SOURCES: Final = 4
# Bytes that hold one word of eight, or none.
_SHORT: Final = 8


class ColumnEncoder:
    """Writes columns as Avro values of one schema, Confluent-framed where they are whole Kafka values."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        schema_id: int | None,
        *,
        raw: Collection[str] = (),
        sources: Mapping[str, int] | None = None,
    ) -> None:
        """schema_id: written before each value (a zero byte and four bytes, big-endian); None: bare Avro.

        raw: paths of records that are given as one column of bytes, already encoded; they are copied as they are.
        sources: path -> which of the buffers of `encode` its bytes come from; 0 where not said.
        Raises Misconfigured for schemas that the kernel does not support and for paths that the schema does not have.
        """
        self.layout = Layout.of(schema, raw=raw)
        self._sources = dict(sources or {})
        for path, source in self._sources.items():
            if path not in self.layout:
                raise Misconfigured(f"sources: the schema has no column {path!r}")
            if not 0 <= source < MAX_SOURCES:
                raise Misconfigured(f"sources: {path} comes from buffer {source}; there are at most {MAX_SOURCES}")
        if schema_id is not None and not 0 <= schema_id < 2**32:
            raise Misconfigured(f"a schema id is a number of 32 bits, not {schema_id}")
        self._head = np.frombuffer(b"" if schema_id is None else b"\0" + schema_id.to_bytes(4, "big"), np.uint8)
        self._raw = frozenset(raw)
        self._program: list[list[int]] = []
        self._paths: list[str] = []
        self._depth = 1
        record = parse_schema(schema)
        assert isinstance(record, RecordSchema)
        self._fields(record, "", 0)
        self._emit(END, "", -1)
        self._code = np.array(self._program, np.int64)
        # Arrays in a tuple: 6, 24, 96, …; each number of them is compiled on its own.
        self._rooms = 6
        while self._rooms < len(self.layout.frames):
            self._rooms *= 4
        # Bytes a row of the last batches, to begin the next with a fitting buffer.
        self._row_bytes = 256.0

    def encode(
        self, rows: int, frames: Sequence[tuple[Any, Any]], sources: tuple[Any, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All values back to back, and where each begins and the last ends (rows + 1 positions).

        frames: for each frame of `layout`, values int64[columns, rows] and lengths int32[columns, rows]; of the root
        frame the first `rows` rows are written. sources: uint8 arrays or bytes that positions point into.
        Raises ValueError, naming column and row, for a value that does not fit the schema.
        """
        values, lengths = self._tables(rows, frames)
        if len(sources) > MAX_SOURCES:
            raise ValueError(f"at most {MAX_SOURCES} sources, not {len(sources)}")
        octets = [_frozen(source) for source in (*sources, *([b""] * (MAX_SOURCES - len(sources))))]
        words = [_words(source) for source in octets]
        offsets = np.empty(rows + 1, np.int64)
        offsets[0] = 0
        # Row to go on with, position in `out`, fault, its instruction, its row in its frame.
        state = np.zeros(5, np.int64)
        stack = np.zeros((self._depth, 3), np.int64)
        out = np.empty(int(rows * self._row_bytes) + 4096, np.uint8)
        while True:
            write_records(
                rows, values, lengths, self._code, self._head, stack, offsets, state, out, overlapping_words(out),
                octets[0], words[0], octets[1], words[1], octets[2], words[2], octets[3], words[3],
            )  # fmt: skip
            _, end, fault, place, row = state.tolist()
            if fault == 0:
                break
            if fault != OUTPUT_FULL:
                raise ValueError(f"{self._paths[place]}, row {row}: the value {FAULT_MESSAGES[fault]}")
            larger = np.empty(2 * len(out) + 4096, np.uint8)
            larger[:end] = out[:end]
            out = larger
        if rows:
            self._row_bytes = max(64.0, 1.1 * end / rows, 0.9 * self._row_bytes)
        return out[:end], offsets

    def _tables(self, rows: int, frames: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """The frames as tuples of contiguous arrays of one type, filled up with empty ones."""
        if len(frames) != len(self.layout.frames):
            raise ValueError(f"the schema has {len(self.layout.frames)} frames, not {len(frames)}")
        values, lengths = [], []
        for frame, (numbers, sizes) in zip(self.layout.frames, frames, strict=True):
            shape = (len(frame.columns), numbers.shape[1])
            if numbers.shape != shape or sizes.shape != shape:
                raise ValueError(f"frame {frame.path!r}: expected {shape}, not {numbers.shape} and {sizes.shape}")
            values.append(np.require(numbers, np.int64, ["C", "W"]))
            lengths.append(np.require(sizes, np.int32, ["C", "W"]))
        if not 0 <= rows <= values[0].shape[1]:
            raise ValueError(f"{rows} rows are wanted, the root frame has {values[0].shape[1]}")
        while len(values) < self._rooms:
            values.append(np.empty((0, 0), np.int64))
            lengths.append(np.empty((0, 0), np.int32))
        return tuple(values), tuple(lengths)

    def _fields(self, record: RecordSchema, path: str, depth: int) -> None:
        for field in record.fields:
            self._value(field.type, f"{path}.{field.name}" if path else field.name, depth)

    def _value(self, type_: AvroSchema, path: str, depth: int) -> None:
        inner, null, union = split_null(type_, path)
        if union and null < 0:
            null = -2
        source = self._sources.get(path, 0)
        if path in self._raw:
            self._emit(BYTES, path, null, source, 1)
        elif isinstance(inner, RecordSchema):
            self._record(inner, path, null, depth)
        elif isinstance(inner, ArraySchema | MapSchema):
            self._array(inner, path, null, depth)
        elif isinstance(inner, EnumSchema):
            self._emit(ENUM, path, null, len(inner.symbols))
        elif isinstance(inner, FixedSchema):
            self._emit(FIXED, path, null, source, inner.size)
        elif isinstance(inner, PrimitiveSchema) and inner.kind != "null":
            self._emit(_PLAIN[inner.kind], path, null, source)
        elif union:
            self._emit(ZERO_BYTE, "", -1)

    def _record(self, record: RecordSchema, path: str, null: int, depth: int) -> None:
        if null == -2:
            self._emit(ZERO_BYTE, "", -1)
        if null < 0:
            self._fields(record, path, depth)
            return
        place = self._emit(NULLABLE_RECORD, path, null)
        self._fields(record, path, depth)
        self._program[place][3] = len(self._program)

    def _array(self, array: ArraySchema | MapSchema, path: str, null: int, depth: int) -> None:
        below = path + ("{}" if isinstance(array, MapSchema) else "[]")
        self._depth = max(self._depth, depth + 1)
        place = self._emit(ARRAY, path, null, self.layout.frame(below), depth)
        if isinstance(array, MapSchema):
            key = path + "{key}"
            self._emit(STRING, key, -1, self._sources.get(key, 0))
        self._value(array.items, below, depth + 1)
        self._emit(NEXT_ITEM, "", -1, 0, depth, place + 1)
        self._program[place][6] = self._program[place][3] = len(self._program)

    def _emit(self, operation: int, path: str, null: int, *arguments: int) -> int:
        place = len(self._program)
        column = self.layout.column(path) if path else -1
        self._program.append([operation, column, null, place + 1, *arguments, *([0] * (3 - len(arguments)))])
        self._paths.append(path)
        return place


def _frozen(source: Any) -> Any:
    """A read-only view, so that all sources are of one type to the compiled code."""
    array = np.ascontiguousarray(np.frombuffer(source, np.uint8) if isinstance(source, bytes) else source)
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"a source is bytes or an array of uint8, not {array.dtype}[{array.ndim} dimensions]")
    array = array.view()
    array.flags.writeable = False
    return array


def _words(source: Any) -> Any:
    """`overlapping_words`, of a padded copy where that had less than two: NumPy says of so few that they lie contiguously.

    To the compiled code that is another type, and it would be compiled once more when the first such source comes.
    """
    if len(source) > _SHORT:
        return overlapping_words(source)
    padded = np.zeros(_SHORT + 1, np.uint8)
    padded[: len(source)] = source
    padded.flags.writeable = False
    return overlapping_words(padded)
