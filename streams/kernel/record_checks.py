"""The decoded records of a batch, and the checks that a record must pass before it changes anything."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import jit_inline
from streams.domain.kinds import VOID
from streams.domain.limits import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_EVENT_ID_BYTES,
    MAX_PARCEL_ID_BYTES,
    MAX_TEXT_BYTES,
    MAX_UTC_OFFSET_MINUTES,
)
from streams.domain.reject_reasons import RejectReason
from streams.kernel.interned_records import NULL_SIZE
from streams.kernel.murmur2 import partition_of
from streams.kernel.parcel_table import ByteArray

# Types of record, by index of their schema in the decoder of hub.scans.
SCAN_RECORD, ADVICE_RECORD, TICK_RECORD = range(3)

_OK: Final = int(RejectReason.OK)
_BAD_PARCEL_ID: Final = int(RejectReason.BAD_PARCEL_ID)
_OUT_OF_BOUNDS: Final = int(RejectReason.OUT_OF_BOUNDS)
_BAD_VOID: Final = int(RejectReason.BAD_VOID)
_WRONG_PARTITION: Final = int(RejectReason.WRONG_PARTITION)


class ScanColumns(NamedTuple):
    """Indexes of the columns that the fold reads, named by their paths in schemas/Scan.avsc, Advice.avsc, Tick.avsc."""

    event_id: int
    parcel_id: int
    kind: int
    event_time: int
    record_time: int
    utc_offset_minutes: int
    site: int
    station: int
    lane: int
    reason: int
    container_id: int
    voids: int
    inferred_from: int
    direction: int
    service: int
    origin: int
    destination: int
    planned_lane: int
    owner: int
    promised_at: int
    hub_time: int


class DecodedBatch(NamedTuple):
    """Decoded records: see streams/kernel/avro/decoder.py for the meaning of the columns."""

    buffer: ByteArray
    values: NDArray[np.int64]
    lengths: NDArray[np.int32]
    record_type: NDArray[np.int8]
    status: ByteArray  # RejectReason of each record; the fold adds its own


@jit_inline
def _has_control_characters(buffer: ByteArray, start: int, size: int) -> bool:
    for i in range(start, start + size):
        if buffer[i] < 32 or buffer[i] == 127:
            return True
        # U+0080 to U+009F: terminals obey some of them like escape sequences.
        if buffer[i] == 0xC2 and i + 1 < start + size and buffer[i + 1] < 0xA0:
            return True
    return False


@jit_inline
def is_time_out_of_bounds(time: int) -> bool:
    """Is a time, in ms since 1970, outside the years 1900 to 2199?"""
    return time < EARLIEST_MS or time >= LATEST_MS


@jit_inline
def reject_reason_of_key(b: DecodedBatch, c: ScanColumns, i: int, partition: int, partitions: int) -> int:
    """Reject reason of the ids and times of a scan or an advice; OK if they are valid."""
    size = b.lengths[c.parcel_id, i]
    start = b.values[c.parcel_id, i]
    if size <= 0 or size > MAX_PARCEL_ID_BYTES or _has_control_characters(b.buffer, start, size):
        return _BAD_PARCEL_ID
    if b.lengths[c.event_id, i] <= 0 or b.lengths[c.event_id, i] > MAX_EVENT_ID_BYTES:
        return _OUT_OF_BOUNDS
    if is_time_out_of_bounds(b.values[c.event_time, i]) or is_time_out_of_bounds(b.values[c.record_time, i]):
        return _OUT_OF_BOUNDS
    if partition_of(b.buffer, start, size, partitions) != partition:
        return _WRONG_PARTITION
    return _OK


@jit_inline
def reject_reason_of_scan(b: DecodedBatch, c: ScanColumns, i: int) -> int:
    """Reject reason of the other fields of a scan; OK if they are valid."""
    if (
        b.lengths[c.site, i] > MAX_TEXT_BYTES
        or b.lengths[c.station, i] > MAX_TEXT_BYTES
        or b.lengths[c.lane, i] > MAX_TEXT_BYTES
        or b.lengths[c.reason, i] > MAX_TEXT_BYTES
        or b.lengths[c.container_id, i] > MAX_TEXT_BYTES
        or b.lengths[c.voids, i] > MAX_EVENT_ID_BYTES
        or b.values[c.utc_offset_minutes, i] < -MAX_UTC_OFFSET_MINUTES
        or b.values[c.utc_offset_minutes, i] > MAX_UTC_OFFSET_MINUTES
    ):
        return _OUT_OF_BOUNDS
    if (b.values[c.kind, i] == VOID) != (b.lengths[c.voids, i] > 0):
        return _BAD_VOID
    return _OK


@jit_inline
def reject_reason_of_advice(b: DecodedBatch, c: ScanColumns, i: int) -> int:
    """Reject reason of the other fields of an advice; OK if they are valid."""
    if (
        b.lengths[c.service, i] > MAX_TEXT_BYTES
        or b.lengths[c.origin, i] > MAX_TEXT_BYTES
        or b.lengths[c.destination, i] > MAX_TEXT_BYTES
        or b.lengths[c.planned_lane, i] > MAX_TEXT_BYTES
        or b.lengths[c.owner, i] > MAX_TEXT_BYTES
        or (b.lengths[c.promised_at, i] != NULL_SIZE and is_time_out_of_bounds(b.values[c.promised_at, i]))
    ):
        return _OUT_OF_BOUNDS
    return _OK
