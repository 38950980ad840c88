"""Interned Avro records: the location of a scan and the plan of an advice (schemas/ParcelState.avsc).

A location is the site, station, lane and reason of a scan. The interned bytes are the Avro encoding of the record. So
equal locations share one intern id, and the encoder of the state copies the bytes unchanged.
"""

from typing import Final

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.kernel.parcel_table import NO_INTERN_ID, ByteArray, TableArrays, intern_bytes

NULL_SIZE: Final = -1  # size of a text that is null
# Indexes of the fields of a location, and of those of a plan after its direction.
LOCATION_SITE, LOCATION_STATION, LOCATION_LANE, LOCATION_REASON = range(4)
PLAN_SERVICE, PLAN_ORIGIN, PLAN_DESTINATION, PLAN_LANE = range(4)


@jit_inline
def _put_size(target: ByteArray, offset: int, size: int) -> int:
    """Write a length as Avro does (zigzag varint); texts here are shorter than 8,192 bytes. Returns the end offset."""
    code = size << 1
    if code < 128:
        target[offset] = np.uint8(code)
        return offset + 1
    target[offset] = np.uint8((code & 127) | 128)
    target[offset + 1] = np.uint8(code >> 7)
    return offset + 2


@jit_inline
def _put_text(target: ByteArray, offset: int, source: ByteArray, start: int, size: int) -> int:
    offset = _put_size(target, offset, size)
    for i in range(size):
        target[offset + i] = source[start + i]
    return offset + size


@jit_inline
def _put_optional(target: ByteArray, offset: int, source: ByteArray, start: int, size: int) -> int:
    if size == NULL_SIZE:
        target[offset] = 0
        return offset + 1
    target[offset] = 2
    return _put_text(target, offset + 1, source, start, size)


@jit_inline
def intern_location(
    a: TableArrays,
    buffer: ByteArray,
    site: int,
    site_size: int,
    station: int,
    station_size: int,
    lane: int,
    lane_size: int,
    reason: int,
    reason_size: int,
) -> int:
    """Intern id of a location, from the positions and sizes of its texts in `buffer` (size NULL_SIZE for null)."""
    end = _put_text(a.scratch, 0, buffer, site, site_size)
    end = _put_text(a.scratch, end, buffer, station, station_size)
    end = _put_optional(a.scratch, end, buffer, lane, lane_size)
    end = _put_optional(a.scratch, end, buffer, reason, reason_size)
    return intern_bytes(a, a.scratch, 0, end)


@jit_inline
def intern_plan(
    a: TableArrays,
    buffer: ByteArray,
    direction: int,
    service: int,
    service_size: int,
    origin: int,
    origin_size: int,
    destination: int,
    destination_size: int,
    lane: int,
    lane_size: int,
    owner: int,
    owner_size: int,
) -> int:
    """Intern id of a plan, from its direction and the positions and sizes of its texts in `buffer`."""
    end = _put_size(a.scratch, 0, direction)
    end = _put_text(a.scratch, end, buffer, service, service_size)
    end = _put_text(a.scratch, end, buffer, origin, origin_size)
    end = _put_text(a.scratch, end, buffer, destination, destination_size)
    end = _put_optional(a.scratch, end, buffer, lane, lane_size)
    end = _put_text(a.scratch, end, buffer, owner, owner_size)
    return intern_bytes(a, a.scratch, 0, end)


@jit_inline
def direction_of(a: TableArrays, plan: int) -> int:
    """Direction of a plan (an intern id); 0 (UNKNOWN) for NO_INTERN_ID."""
    if plan == NO_INTERN_ID:
        return 0
    return int64(a.heap[int64(a.interned[plan]["heap_offset"])]) >> 1


@jit_inline
def _read_size(heap: ByteArray, offset: int) -> tuple[int, int]:
    code = int64(heap[offset])
    if code < 128:
        return code >> 1, offset + 1
    return ((code & 127) | (int64(heap[offset + 1]) << 7)) >> 1, offset + 2


@jit_inline
def location_text(a: TableArrays, location: int, field_index: int) -> tuple[int, int]:
    """Position in the heap and size of one text of a location (an intern id); size NULL_SIZE for null.

    `field_index`: LOCATION_SITE, LOCATION_STATION, LOCATION_LANE or LOCATION_REASON.
    """
    offset = int64(a.interned[location]["heap_offset"])
    for field in range(field_index + 1):
        if field >= LOCATION_LANE:
            present = a.heap[offset]
            offset += 1
            if present == 0:
                if field == field_index:
                    return int64(0), int64(NULL_SIZE)
                continue
        size, offset = _read_size(a.heap, offset)
        if field == field_index:
            return offset, size
        offset += size
    return int64(0), int64(NULL_SIZE)


@jit_inline
def plan_text(a: TableArrays, plan: int, field_index: int) -> tuple[int, int]:
    """Position in the heap and size of one text of a plan (an intern id); size NULL_SIZE for null.

    `field_index`: PLAN_SERVICE, PLAN_ORIGIN, PLAN_DESTINATION or PLAN_LANE.
    """
    offset = int64(a.interned[plan]["heap_offset"]) + 1
    for field in range(field_index + 1):
        if field == PLAN_LANE:
            present = a.heap[offset]
            offset += 1
            if present == 0:
                return int64(0), int64(NULL_SIZE)
        size, offset = _read_size(a.heap, offset)
        if field == field_index:
            return offset, size
        offset += size
    return int64(0), int64(NULL_SIZE)


@jit_inline
def same_text(
    left: ByteArray, left_start: int, left_size: int, right: ByteArray, right_start: int, right_size: int
) -> bool:
    """Are two texts equal? Neither of them may be null."""
    if left_size != right_size:
        return False
    for i in range(left_size):
        if left[left_start + i] != right[right_start + i]:
            return False
    return True


@jit
def sites_differ(a: TableArrays, left: int, right: int) -> bool:
    """Do two locations (intern ids) have different sites?"""
    if left == right:
        return False
    left_start, left_size = location_text(a, left, LOCATION_SITE)
    right_start, right_size = location_text(a, right, LOCATION_SITE)
    return not same_text(a.heap, left_start, left_size, a.heap, right_start, right_size)
