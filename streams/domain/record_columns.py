"""Many records of `hub.scans` and `hub.containers` as columns, before they are encoded; the simulator makes them.

The convention of a column is that of the Avro kernel: an int64 value and an int32 length per row. Numbers, enums and
booleans: the number, and 0. Texts: the offset in `text`, and the size in bytes. Null: any value, and -1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Column = tuple[NDArray[np.int64], NDArray[np.int32]]


class RecordType(IntEnum):
    """The type of the record of a row."""

    SCAN = 0
    ADVICE = 1
    TICK = 2  # goes to every partition
    RAW = 3  # bytes that are sent as they are
    CONTAINER = 4  # for hub.containers
    RAW_CONTAINER = 5  # bytes that are sent as they are, for hub.containers


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records in the order in which they enter the log.

    `columns` has the fields of Scan, Advice, Tick and ContainerEvent by their names in the schemas, each with a row for
    every record; a row has a meaning only if its type has the field. `lists` has the fields that are lists of texts:
    the number of items of each record, and the items of all records one after the other.
    """

    types: NDArray[np.uint8]  # RecordType of each row
    append_times: NDArray[np.int64]  # when each enters the log, ms since 1970, never decreasing
    text: NDArray[np.uint8]
    keys: Column  # the record's key; null for ticks
    columns: Mapping[str, Column]
    lists: Mapping[str, tuple[NDArray[np.int64], Column]]
    # Values of the RAW and RAW_CONTAINER rows, in order; None is a record without a value.
    raw: Sequence[bytes | None]

    @property
    def rows(self) -> int:
        """The number of records."""
        return len(self.types)
