"""Encoding of columns as Avro values, with one compiled call for a whole batch; the counterpart of the decoder.

Numbers are written in their shortest form and every array in one block, and every value can be read by a reader. A
value that does not fit the schema is an error that names its column and row.
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

_OPERATIONS: Final = {
    "boolean": BOOLEAN,
    "int": INT,
    "long": LONG,
    "float": FLOAT,
    "double": DOUBLE,
    "bytes": BYTES,
    "string": STRING,
}

MAX_SOURCES: Final = 4
# Arrays of at most so many bytes hold one word of eight bytes, or none.
_ONE_WORD_BYTES: Final = 8


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
        """Compile the schema.

        Args:
            schema: of a record.
            schema_id: written before each value (a zero byte and four bytes, big-endian); None: bare Avro.
            raw: paths of records that are given as one column of bytes, already encoded; they are copied unchanged.
            sources: path -> index of the buffer of `encode` that its bytes come from; 0 for other paths.

        Raises:
            Misconfigured: the kernel does not support the schema, or the schema does not have one of the paths.
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
        self._stack_depth = 1
        record = parse_schema(schema)
        assert isinstance(record, RecordSchema)
        self._fields(record, "", 0)
        self._emit(END, "", -1)
        self._code = np.array(self._program, np.int64)
        # Length of the tuples of arrays: 6, 24, 96, …; the kernel is compiled anew for each length.
        self._tuple_length = 6
        while self._tuple_length < len(self.layout.frames):
            self._tuple_length *= 4
        # Bytes of a row in the last batches, so that the next batch begins with a buffer of the right size.
        self._row_bytes = 256.0

    def encode(
        self, rows: int, frames: Sequence[tuple[Any, Any]], sources: tuple[Any, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Encode a batch.

        Args:
            rows: how many rows of the root frame are written, from the first on.
            frames: for each frame of `layout`, values int64[columns, rows] and lengths int32[columns, rows].
            sources: uint8 arrays or bytes that the positions of strings, bytes and fixed point into.

        Returns:
            All values back to back, and their ends, int64[rows + 1] with a 0 before them.

        Raises:
            ValueError: a value does not fit the schema; it names the column and the row.
        """
        values, lengths = self._frame_tuples(rows, frames)
        if len(sources) > MAX_SOURCES:
            raise ValueError(f"at most {MAX_SOURCES} sources, not {len(sources)}")
        octets = [_read_only(source) for source in (*sources, *([b""] * (MAX_SOURCES - len(sources))))]
        words = [_words(source) for source in octets]
        offsets = np.empty(rows + 1, np.int64)
        offsets[0] = 0
        # Next row, position in `out`, fault, its instruction, its row in its frame.
        state = np.zeros(5, np.int64)
        stack = np.zeros((self._stack_depth, 3), np.int64)
        out = np.empty(int(rows * self._row_bytes) + 4096, np.uint8)
        while True:
            write_records(
                rows, values, lengths, self._code, self._head, stack, offsets, state, out, overlapping_words(out),
                octets[0], words[0], octets[1], words[1], octets[2], words[2], octets[3], words[3],
            )  # fmt: skip
            _, end, fault, instruction, row = state.tolist()
            if fault == 0:
                break
            if fault != OUTPUT_FULL:
                raise ValueError(f"{self._paths[instruction]}, row {row}: the value {FAULT_MESSAGES[fault]}")
            larger = np.empty(2 * len(out) + 4096, np.uint8)
            larger[:end] = out[:end]
            out = larger
        if rows:
            self._row_bytes = max(64.0, 1.1 * end / rows, 0.9 * self._row_bytes)
        return out[:end], offsets

    def _frame_tuples(self, rows: int, frames: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Values and lengths of the frames as tuples of contiguous arrays of one type, filled up with empty ones."""
        if len(frames) != len(self.layout.frames):
            raise ValueError(f"the schema has {len(self.layout.frames)} frames, not {len(frames)}")
        values, lengths = [], []
        for frame, (frame_values, frame_lengths) in zip(self.layout.frames, frames, strict=True):
            shape = (len(frame.columns), frame_values.shape[1])
            if frame_values.shape != shape or frame_lengths.shape != shape:
                raise ValueError(
                    f"frame {frame.path!r}: expected {shape}, not {frame_values.shape} and {frame_lengths.shape}"
                )
            values.append(np.require(frame_values, np.int64, ["C", "W"]))
            lengths.append(np.require(frame_lengths, np.int32, ["C", "W"]))
        if not 0 <= rows <= values[0].shape[1]:
            raise ValueError(f"{rows} rows are wanted, the root frame has {values[0].shape[1]}")
        while len(values) < self._tuple_length:
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
            self._emit(_OPERATIONS[inner.kind], path, null, source)
        elif union:
            self._emit(ZERO_BYTE, "", -1)

    def _record(self, record: RecordSchema, path: str, null: int, depth: int) -> None:
        if null == -2:
            self._emit(ZERO_BYTE, "", -1)
        if null < 0:
            self._fields(record, path, depth)
            return
        index = self._emit(NULLABLE_RECORD, path, null)
        self._fields(record, path, depth)
        self._program[index][3] = len(self._program)

    def _array(self, array: ArraySchema | MapSchema, path: str, null: int, depth: int) -> None:
        below = path + ("{}" if isinstance(array, MapSchema) else "[]")
        self._stack_depth = max(self._stack_depth, depth + 1)
        index = self._emit(ARRAY, path, null, self.layout.frame_index(below), depth)
        if isinstance(array, MapSchema):
            key = path + "{key}"
            self._emit(STRING, key, -1, self._sources.get(key, 0))
        self._value(array.items, below, depth + 1)
        self._emit(NEXT_ITEM, "", -1, 0, depth, index + 1)
        self._program[index][6] = self._program[index][3] = len(self._program)

    def _emit(self, operation: int, path: str, null: int, *arguments: int) -> int:
        """Append an instruction; returns its index."""
        index = len(self._program)
        column = self.layout.column_index(path) if path else -1
        self._program.append([operation, column, null, index + 1, *arguments, *([0] * (3 - len(arguments)))])
        self._paths.append(path)
        return index


def _read_only(source: Any) -> Any:
    """A read-only view, so that all sources are of one type to the compiled code."""
    array = np.ascontiguousarray(np.frombuffer(source, np.uint8) if isinstance(source, bytes) else source)
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"a source is bytes or an array of uint8, not {array.dtype}[{array.ndim} dimensions]")
    array = array.view()
    array.flags.writeable = False
    return array


def _words(source: Any) -> Any:
    """`overlapping_words` of a source, padded to at least two words.

    NumPy calls an array of fewer words contiguous. That is another type to the compiled code, which would be compiled
    once more with the first such source.
    """
    if len(source) > _ONE_WORD_BYTES:
        return overlapping_words(source)
    padded = np.zeros(_ONE_WORD_BYTES + 1, np.uint8)
    padded[: len(source)] = source
    padded.flags.writeable = False
    return overlapping_words(padded)
