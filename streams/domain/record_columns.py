"""A run of records of `hub.scans` and `hub.containers` as columns, before they are encoded.

It is what a producer of many records hands on.

The convention of a column is that of the Avro kernel: an int64 value and an int32 length per row. Numbers, enums and
booleans: the number, and 0. Texts: the position in `text`, and the bytes. Null: anything, and -1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Column = tuple[NDArray[np.int64], NDArray[np.int32]]


class RecordType(IntEnum):
    """What a row is."""

    SCAN = 0
    ADVICE = 1
    TICK = 2  # goes to every partition
    RAW = 3  # bytes to be sent as they are
    CONTAINER = 4  # for hub.containers
    RAW_CONTAINER = 5  # bytes to be sent as they are, for hub.containers


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records in the order in which they enter the log.

    `columns` has the fields of Scan, Advice, Tick and ContainerEvent by their names in the schemas, each with a row for
    every record; only the rows of the types that have the field mean anything. `lists` has the fields that are lists of
    texts: how many items each record has, and the items of all records one after the other.
    """

    types: NDArray[np.uint8]  # RecordType of each row
    append_times: NDArray[np.int64]  # when it enters the log, ms since 1970, never decreasing
    text: NDArray[np.uint8]
    keys: Column  # the record's key; null for ticks
    columns: Mapping[str, Column]
    lists: Mapping[str, tuple[NDArray[np.int64], Column]]
    # Values of the RAW and RAW_CONTAINER rows, in order; None is a record without a value.
    raw: Sequence[bytes | None]

    @property
    def rows(self) -> int:
        """How many records."""
        return len(self.types)
