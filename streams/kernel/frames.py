"""Frames: the columns that the Avro encoder reads, and functions that set their values.

Texts are not copied to a frame. A value is the position of the text in one of the encoder's sources: the heap of the
table, or a buffer of 128-bit hashes (record hashes and the ids of milestones and alerts).
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit_inline
from streams.kernel.interned_records import NULL_SIZE, location_text
from streams.kernel.parcel_table import KEY_ALIGNMENT, NO_INTERN_ID, TableArrays

HASH_BYTES: Final = 16
# Numbers of the encoder's sources.
HEAP_SOURCE, HASH_SOURCE = range(2)
NOT_NULL: Final = 0


class FrameArrays(NamedTuple):
    """Values and lengths of one frame: [column, row]."""

    values: NDArray[np.int64]
    lengths: NDArray[np.int32]


def allocate_frame(columns: int, rows: int) -> FrameArrays:
    """Room for `rows` rows; every value is present until it is set to null."""
    return FrameArrays(np.empty((columns, rows), np.int64), np.zeros((columns, rows), np.int32))


@jit_inline
def set_null(frame: FrameArrays, column: int, row: int) -> None:
    """Set null."""
    frame.values[column, row] = 0
    frame.lengths[column, row] = NULL_SIZE


@jit_inline
def set_number(frame: FrameArrays, column: int, row: int, value: int) -> None:
    """Set a number that is not null."""
    frame.values[column, row] = value
    frame.lengths[column, row] = NOT_NULL


@jit_inline
def set_text(frame: FrameArrays, column: int, row: int, offset: int, size: int) -> None:
    """Set the position and size of a text in its source; of a nested frame, its first row and number of rows."""
    frame.values[column, row] = offset
    frame.lengths[column, row] = size


@jit_inline
def set_interned(frame: FrameArrays, column: int, row: int, a: TableArrays, intern_id: int) -> None:
    """Set interned bytes, unchanged: a text or an encoded record; null for NO_INTERN_ID."""
    if intern_id == NO_INTERN_ID:
        set_null(frame, column, row)
    else:
        set_text(frame, column, row, int64(a.interned[intern_id]["heap_offset"]), int64(a.interned[intern_id]["size"]))


@jit_inline
def set_location_text(
    frame: FrameArrays, column: int, row: int, a: TableArrays, location: int, field_index: int
) -> None:
    """Set one text of a location (an intern id); null for NO_INTERN_ID."""
    if location == NO_INTERN_ID:
        set_null(frame, column, row)
    else:
        offset, size = location_text(a, location, field_index)
        set_text(frame, column, row, offset, size)


@jit_inline
def set_optional_number(frame: FrameArrays, column: int, row: int, value: int, is_present: bool) -> None:
    """Set a number; null unless `is_present`."""
    frame.values[column, row] = value if is_present else 0
    frame.lengths[column, row] = NOT_NULL if is_present else NULL_SIZE


@jit_inline
def set_parcel_id(frame: FrameArrays, column: int, row: int, a: TableArrays, table_row: int) -> None:
    """Set the parcel id of a row of the table."""
    start = int64(a.rows[table_row]["key_heap_offset"]) * KEY_ALIGNMENT
    set_text(frame, column, row, start, int64(a.rows[table_row]["key_size"]))
