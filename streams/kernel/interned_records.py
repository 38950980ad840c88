"""Words that are small Avro records: the Where of a scan and the Plan of an advice (schemas/ParcelState.avsc).

A word's bytes are the record's Avro encoding. So equal places share one word, and the encoder of the state copies
them as they are.
"""

from typing import Final

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.kernel.parcel_table import NO_INTERN_ID, ByteArray, TableArrays, intern_bytes

NULL_SIZE: Final = -1  # size of a text that is null
LOCATION_SITE, LOCATION_STATION, LOCATION_LANE, LOCATION_REASON = range(4)
PLAN_SERVICE, PLAN_ORIGIN, PLAN_DESTINATION, PLAN_LANE = range(4)  # after the direction


@jit_inline
def _put_size(target: ByteArray, at: int, size: int) -> int:
    """A length as Avro writes it (zigzag varint); texts here stay below 8,192 bytes."""
    code = size << 1
    if code < 128:
        target[at] = np.uint8(code)
        return at + 1
    target[at] = np.uint8((code & 127) | 128)
    target[at + 1] = np.uint8(code >> 7)
    return at + 2


@jit_inline
def _put_text(target: ByteArray, at: int, source: ByteArray, start: int, size: int) -> int:
    at = _put_size(target, at, size)
    for i in range(size):
        target[at + i] = source[start + i]
    return at + size


@jit_inline
def _put_optional(target: ByteArray, at: int, source: ByteArray, start: int, size: int) -> int:
    if size == NULL_SIZE:
        target[at] = 0
        return at + 1
    target[at] = 2
    return _put_text(target, at + 1, source, start, size)


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
    """Word of a Where, from positions and sizes of its texts in `buffer` (size ABSENT for null)."""
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
    """Word of a Plan, from its direction and the positions and sizes of its texts in `buffer`."""
    end = _put_size(a.scratch, 0, direction)
    end = _put_text(a.scratch, end, buffer, service, service_size)
    end = _put_text(a.scratch, end, buffer, origin, origin_size)
    end = _put_text(a.scratch, end, buffer, destination, destination_size)
    end = _put_optional(a.scratch, end, buffer, lane, lane_size)
    end = _put_text(a.scratch, end, buffer, owner, owner_size)
    return intern_bytes(a, a.scratch, 0, end)


@jit_inline
def direction_of(a: TableArrays, plan: int) -> int:
    """Direction of a Plan word; 0 (UNKNOWN) for none."""
    if plan == NO_INTERN_ID:
        return 0
    return int64(a.heap[int64(a.words[plan]["at"])]) >> 1


@jit_inline
def _size_at(heap: ByteArray, at: int) -> tuple[int, int]:
    code = int64(heap[at])
    if code < 128:
        return code >> 1, at + 1
    return ((code & 127) | (int64(heap[at + 1]) << 7)) >> 1, at + 2


@jit_inline
def location_text(a: TableArrays, where: int, part: int) -> tuple[int, int]:
    """Position in the heap and size of SITE, STATION, LANE or REASON of a Where word; size ABSENT for null."""
    at = int64(a.words[where]["at"])
    for field in range(part + 1):
        if field >= LOCATION_LANE:
            present = a.heap[at]
            at += 1
            if present == 0:
                if field == part:
                    return int64(0), int64(NULL_SIZE)
                continue
        size, at = _size_at(a.heap, at)
        if field == part:
            return at, size
        at += size
    return int64(0), int64(NULL_SIZE)


@jit_inline
def plan_text(a: TableArrays, plan: int, part: int) -> tuple[int, int]:
    """Position in the heap and size of SERVICE, ORIGIN, DESTINATION or PLANNED_LANE of a Plan word; ABSENT for null."""
    at = int64(a.words[plan]["at"]) + 1
    for field in range(part + 1):
        if field == PLAN_LANE:
            present = a.heap[at]
            at += 1
            if present == 0:
                return int64(0), int64(NULL_SIZE)
        size, at = _size_at(a.heap, at)
        if field == part:
            return at, size
        at += size
    return int64(0), int64(NULL_SIZE)


@jit_inline
def same_text(left: ByteArray, left_at: int, left_size: int, right: ByteArray, right_at: int, right_size: int) -> bool:
    """Are the two texts, neither of them null, the same?"""
    if left_size != right_size:
        return False
    for i in range(left_size):
        if left[left_at + i] != right[right_at + i]:
            return False
    return True


@jit
def sites_differ(a: TableArrays, one: int, other: int) -> bool:
    """Are the two Where words of different sites?"""
    if one == other:
        return False
    at, size = location_text(a, one, LOCATION_SITE)
    other_at, other_size = location_text(a, other, LOCATION_SITE)
    return not same_text(a.heap, at, size, a.heap, other_at, other_size)
