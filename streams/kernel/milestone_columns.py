"""Milestones of a batch as columns of Milestone, ready for the Avro encoder."""

from typing import NamedTuple

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import MILESTONE_RETRACTED
from streams.domain.promise_clocks import NO_TIME
from streams.domain.record_hash import put_big_endian, record_hash
from streams.kernel.batch_changes import BatchChanges
from streams.kernel.frames import (
    HASH_BYTES,
    FrameArrays,
    set_location_text,
    set_null,
    set_number,
    set_parcel_id,
    set_text,
)
from streams.kernel.interned_records import (
    LOCATION_SITE,
    LOCATION_STATION,
)
from streams.kernel.parcel_table import KEY_ALIGNMENT, NO_INTERN_ID, ByteArray, TableArrays


class MilestoneColumns(NamedTuple):
    """Indexes of the columns of Milestone."""

    milestone_id: int
    parcel_id: int
    version: int
    type: int
    stage: int
    event_time: int
    previous_time: int
    evidence: int
    site: int
    station: int
    direction: int


@jit_inline
def _milestone_id(a: TableArrays, row: int, milestone: np.void) -> tuple[np.uint64, np.uint64]:
    """Id of a milestone, a hash over its fields: see milestone_id in schemas/Milestone.avsc."""
    key_start = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
    size = int64(a.rows[row]["key_size"])
    message = a.scratch
    for i in range(size):
        message[i] = a.heap[key_start + i]
    message[size] = 0
    end = size + 1
    version = int64(milestone["version"])
    for i in range(4):
        message[end + i] = np.uint8((version >> (24 - 8 * i)) & 255)
    message[end + 4] = milestone["type"]
    message[end + 5] = milestone["stage"]
    put_big_endian(message, end + 6, milestone["high"])
    put_big_endian(message, end + 14, milestone["low"])
    put_big_endian(message, end + 22, np.uint64(int64(milestone["event_time"])))
    put_big_endian(message, end + 30, np.uint64(int64(milestone["previous_time"])))
    return record_hash(message, 0, end + 38)


@jit
def fill_milestone_columns(
    a: TableArrays, changes: BatchChanges, count: int, frame: FrameArrays, m: MilestoneColumns, hashes: ByteArray
) -> None:
    """Fill the columns of the first `count` milestones of a batch; `hashes` has room for 32 bytes each."""
    for i in range(count):
        milestone = changes.milestones[i]
        row = int64(milestone["row"])
        high, low = _milestone_id(a, row, milestone)
        offset = i * 2 * HASH_BYTES
        put_big_endian(hashes, offset, high)
        put_big_endian(hashes, offset + 8, low)
        put_big_endian(hashes, offset + HASH_BYTES, milestone["high"])
        put_big_endian(hashes, offset + HASH_BYTES + 8, milestone["low"])
        set_text(frame, m.milestone_id, i, offset, HASH_BYTES)
        set_text(frame, m.evidence, i, offset + HASH_BYTES, HASH_BYTES)
        set_parcel_id(frame, m.parcel_id, i, a, row)
        set_number(frame, m.version, i, int64(milestone["version"]))
        set_number(frame, m.type, i, int64(milestone["type"]))
        set_number(frame, m.stage, i, int64(milestone["stage"]))
        set_number(frame, m.event_time, i, int64(milestone["event_time"]))
        if int64(milestone["previous_time"]) == NO_TIME:
            set_null(frame, m.previous_time, i)
        else:
            set_number(frame, m.previous_time, i, int64(milestone["previous_time"]))
        location = int64(milestone["location"])
        if location == NO_INTERN_ID or milestone["type"] == MILESTONE_RETRACTED:
            set_text(frame, m.site, i, 0, 0)
            set_text(frame, m.station, i, 0, 0)
        else:
            set_location_text(frame, m.site, i, a, location, LOCATION_SITE)
            set_location_text(frame, m.station, i, a, location, LOCATION_STATION)
        set_number(frame, m.direction, i, int64(milestone["direction"]))
