"""The fold: decoded records of one partition, in offset order, into its parcel table.

One record at a time, in the order of the log. What a record changes depends on the records before it and on nothing
else: neither on where the batch begins nor on the wall clock.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import ADVISED, VOID
from streams.domain.limits import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_EVENT_ID_BYTES,
    MAX_PARCEL_ID_BYTES,
    MAX_RECORDS_PER_PARCEL,
    MAX_TEXT_BYTES,
    MAX_UTC_OFFSET_MINUTES,
    MAX_VOIDS_PER_PARCEL,
)
from streams.domain.promise_clocks import Integers, JourneyFacts, PromiseRules
from streams.domain.record_hash import put_big_endian, record_hash
from streams.domain.reject_reasons import RejectReason
from streams.kernel.batch_changes import (
    DELTA_COUNT,
    DUPLICATE_COUNT,
    MILESTONE_COUNT,
    SCAN_COUNT,
    BatchChanges,
    append_delta,
    append_milestone,
    mark_updated,
)
from streams.kernel.due_index import mark_changed
from streams.kernel.insert import (
    AFFECTS_INFERRED,
    DUPLICATE,
    INSERTED,
    MILESTONE_LOCATION,
    MILESTONE_PREVIOUS_TIME,
    MILESTONE_STAGE,
    MILESTONE_TIME,
    MILESTONE_TYPE,
    SCAN_KIND,
    SCAN_LOCATION,
    SCAN_TIME,
    InsertEffect,
    insert,
)
from streams.kernel.insert import SCAN_INCREMENT as SCANS_BY
from streams.kernel.insert_inferred import MAX_MILESTONES_PER_RECORD, FirstRecords, insert_and_apply_containment
from streams.kernel.interned_records import NULL_SIZE, intern_location, intern_plan
from streams.kernel.murmur2 import partition_of
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, pack_key, time_of
from streams.kernel.parcel_table import (
    HUB_TIME,
    NO_INTERN_ID,
    PREFETCH_WINDOW,
    RETIRED_ROW_COUNT,
    ROW_RETIRED,
    SLOTS_PER_CHUNK,
    ByteArray,
    TableArrays,
    find_or_add_row,
    intern_bytes,
)
from streams.kernel.prefetch import prefetch_records
from streams.kernel.tick_alerts import apply_tick

# What a record may bring at most for each of its parcel: one that counts anew or does not any more, and two for the
# direction in which it was counted.
MAX_DELTAS_PER_RECORD: Final = 3
# Index of the record type in the decoder of hub.scans.
SCAN_RECORD, ADVICE_RECORD, TICK_RECORD = range(3)

_OK: Final = int(RejectReason.OK)
_BAD_PARCEL_ID: Final = int(RejectReason.BAD_PARCEL_ID)
_OUT_OF_BOUNDS: Final = int(RejectReason.OUT_OF_BOUNDS)
_BAD_VOID: Final = int(RejectReason.BAD_VOID)
_WRONG_PARTITION: Final = int(RejectReason.WRONG_PARTITION)
_PARCEL_LIMIT_EXCEEDED: Final = int(RejectReason.PARCEL_LIMIT_EXCEEDED)


class ScanColumns(NamedTuple):
    """Numbers of the columns that the fold reads, by the paths of schemas/Scan.avsc, Advice.avsc and Tick.avsc."""

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
    record: NDArray[np.int8]
    status: ByteArray  # Reason of each record; the fold adds its own


@jit_inline
def _has_control_characters(buffer: ByteArray, at: int, size: int) -> bool:
    for i in range(at, at + size):
        if buffer[i] < 32 or buffer[i] == 127:
            return True
        # U+0080 to U+009F, of which terminals obey some as they obey an escape.
        if buffer[i] == 0xC2 and i + 1 < at + size and buffer[i + 1] < 0xA0:
            return True
    return False


@jit_inline
def _time_is_bad(time: int) -> bool:
    return time < EARLIEST_MS or time >= LATEST_MS


@jit_inline
def _key_reason(b: DecodedBatch, c: ScanColumns, i: int, partition: int, partitions: int) -> int:
    """Why the ids or the times of a scan or an advice cannot be used; OK if they can."""
    size = b.lengths[c.parcel_id, i]
    at = b.values[c.parcel_id, i]
    if size <= 0 or size > MAX_PARCEL_ID_BYTES or _has_control_characters(b.buffer, at, size):
        return _BAD_PARCEL_ID
    if b.lengths[c.event_id, i] <= 0 or b.lengths[c.event_id, i] > MAX_EVENT_ID_BYTES:
        return _OUT_OF_BOUNDS
    if _time_is_bad(b.values[c.event_time, i]) or _time_is_bad(b.values[c.record_time, i]):
        return _OUT_OF_BOUNDS
    if partition_of(b.buffer, at, size, partitions) != partition:
        return _WRONG_PARTITION
    return _OK


@jit_inline
def _scan_reason(b: DecodedBatch, c: ScanColumns, i: int) -> int:
    """Why the rest of a scan cannot be used; OK if it can."""
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
def _advice_reason(b: DecodedBatch, c: ScanColumns, i: int) -> int:
    """Why the rest of an advice cannot be used; OK if it can."""
    if (
        b.lengths[c.service, i] > MAX_TEXT_BYTES
        or b.lengths[c.origin, i] > MAX_TEXT_BYTES
        or b.lengths[c.destination, i] > MAX_TEXT_BYTES
        or b.lengths[c.planned_lane, i] > MAX_TEXT_BYTES
        or b.lengths[c.owner, i] > MAX_TEXT_BYTES
        or (b.lengths[c.promised_at, i] != NULL_SIZE and _time_is_bad(b.values[c.promised_at, i]))
    ):
        return _OUT_OF_BOUNDS
    return _OK


@jit_inline
def _scan_where(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int) -> int:
    v = b.values
    n = b.lengths
    return intern_location(
        a,
        b.buffer,
        v[c.site, i],
        int64(n[c.site, i]),
        v[c.station, i],
        int64(n[c.station, i]),
        v[c.lane, i],
        int64(n[c.lane, i]),
        v[c.reason, i],
        int64(n[c.reason, i]),
    )


@jit_inline
def _advice_plan(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int) -> int:
    v = b.values
    n = b.lengths
    return intern_plan(
        a,
        b.buffer,
        v[c.direction, i],
        v[c.service, i],
        int64(n[c.service, i]),
        v[c.origin, i],
        int64(n[c.origin, i]),
        v[c.destination, i],
        int64(n[c.destination, i]),
        v[c.planned_lane, i],
        int64(n[c.planned_lane, i]),
        v[c.owner, i],
        int64(n[c.owner, i]),
    )


@jit_inline
def _void_identity(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int) -> tuple[np.uint64, np.uint64]:
    """An error declaration repeats the event_id of what it voids (EPCIS 2.0): its own time is part of its identity."""
    size = int64(b.lengths[c.event_id, i])
    at = b.values[c.event_id, i]
    for j in range(size):
        a.scratch[j] = b.buffer[at + j]
    a.scratch[size] = 0
    put_big_endian(a.scratch, size + 1, np.uint64(b.values[c.event_time, i]))
    return record_hash(a.scratch, 0, size + 9)


@jit
def _is_known(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int, row: int, kind: int) -> bool:
    """Whether the parcel has the record already."""
    high, low = record_hash(b.buffer, b.values[c.event_id, i], int64(b.lengths[c.event_id, i]))
    if kind == VOID:
        high, low = _void_identity(a, b, c, i)
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
                return True
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return False


@jit_inline
def _identity_word(a: TableArrays, high: np.uint64, low: np.uint64) -> int:
    put_big_endian(a.scratch, 0, high)
    put_big_endian(a.scratch, 8, low)
    return intern_bytes(a, a.scratch, 0, 16)


@jit_inline
def _time_word(a: TableArrays, time: int) -> int:
    put_big_endian(a.scratch, 0, np.uint64(time))
    return intern_bytes(a, a.scratch, 0, 8)


@jit
def fold(
    a: TableArrays,
    b: DecodedBatch,
    c: ScanColumns,
    rules: PromiseRules,
    partition: int,
    partitions: int,
    number: int,
    first: int,
    change: InsertEffect,
    firsts: FirstRecords,
    story: JourneyFacts,
    found: Integers,
    out: BatchChanges,
) -> int:
    """Fold a batch into a table that has room for it (`ParcelTable.reserve`).

    Args:
        rules: what is promised.
        partition, partitions: which partition of how many the records come from.
        number: of this batch; differs from that of every batch before it in this table.
        first: record to begin with; 0, or what a call before this one returned.
        change, firsts, story, found: from the functions `blank_...` beside their types, overwritten.
        out: from `blank_folded`, filled; reasons of refused records go to `b.status`.

    Returns:
        The record to go on with when there is more room for alerts and deltas; how many there are when all is done.
    """
    for i in range(first, len(b.status)):
        if (i - first) % PREFETCH_WINDOW == 0:
            end = min(i + PREFETCH_WINDOW, len(b.status))
            prefetch_records(a, b.buffer, b.values[c.parcel_id], b.lengths[c.parcel_id], i, end)
        if b.status[i] != _OK:
            continue
        if b.record[i] == TICK_RECORD:
            if _time_is_bad(b.values[c.hub_time, i]):
                b.status[i] = _OUT_OF_BOUNDS
            elif b.values[c.hub_time, i] >= a.counts[HUB_TIME] and not apply_tick(
                a, rules, b.values[c.hub_time, i], number, story, found, out
            ):
                return i
            continue
        # 1. Refuse what cannot be used, before anything is changed.
        reason = _key_reason(b, c, i, partition, partitions)
        if reason == _OK:
            reason = _scan_reason(b, c, i) if b.record[i] == SCAN_RECORD else _advice_reason(b, c, i)
        if reason != _OK:
            b.status[i] = reason
            continue
        row = find_or_add_row(a, b.buffer, b.values[c.parcel_id, i], int64(b.lengths[c.parcel_id, i]))
        kind = b.values[c.kind, i] if b.record[i] == SCAN_RECORD else int64(ADVISED)
        if a.rows[row]["records"] >= MAX_RECORDS_PER_PARCEL or (
            kind == VOID and a.rows[row]["voids"] >= MAX_VOIDS_PER_PARCEL
        ):
            if _is_known(a, b, c, i, row, kind):
                out.counts[DUPLICATE_COUNT] += 1
            else:
                b.status[i] = _PARCEL_LIMIT_EXCEEDED
            continue
        # An advice or a VOID may change the direction of every scan, and a record what others count for.
        if (
            len(out.delta_locations) - out.counts[DELTA_COUNT] < MAX_DELTAS_PER_RECORD * (a.rows[row]["records"] + 2)
            or len(out.milestones) - out.counts[MILESTONE_COUNT] < MAX_MILESTONES_PER_RECORD
        ):
            return i
        # 2. Make a slot of it.
        at = int64(NO_INTERN_ID)
        what = int64(NO_INTERN_ID)
        offset = int64(0)
        flags = int64(0)
        high, low = record_hash(b.buffer, b.values[c.event_id, i], int64(b.lengths[c.event_id, i]))
        if b.record[i] == SCAN_RECORD:
            at = _scan_where(a, b, c, i)
            offset = b.values[c.utc_offset_minutes, i]
            if b.lengths[c.inferred_from, i] != NULL_SIZE:
                flags = int64(INFERRED)
            if kind == VOID:
                high, low = _void_identity(a, b, c, i)
                target = record_hash(b.buffer, b.values[c.voids, i], int64(b.lengths[c.voids, i]))
                what = _identity_word(a, target[0], target[1])
            elif b.lengths[c.container_id, i] != NULL_SIZE:
                what = intern_bytes(a, b.buffer, b.values[c.container_id, i], int64(b.lengths[c.container_id, i]))
        else:
            at = _advice_plan(a, b, c, i)
            flags = int64(ADVICE)
            if b.lengths[c.promised_at, i] != NULL_SIZE:
                what = _time_word(a, b.values[c.promised_at, i])
        # 3. Insert it; what it changes goes to the outputs.
        stamp = pack_key(b.values[c.event_time, i], kind, offset, flags)
        direction = int64(a.rows[row]["direction"])
        outcome = insert(a, row, high, low, stamp, at, what, True, change)
        if outcome == DUPLICATE:
            out.counts[DUPLICATE_COUNT] += 1
            continue
        if outcome == AFFECTS_INFERRED:
            insert_and_apply_containment(a, row, high, low, stamp, at, what, change, firsts, out)
        if a.rows[row]["batch"] == ROW_RETIRED:
            a.counts[RETIRED_ROW_COUNT] -= 1
        mark_updated(a, row, number, out)
        mark_changed(a, row)
        if b.record[i] == SCAN_RECORD:
            n = out.counts[SCAN_COUNT]
            out.scan_locations[n] = at
            out.scan_kinds[n] = kind
            out.scan_directions[n] = a.rows[row]["direction"]
            out.counts[SCAN_COUNT] = n + 1
        if outcome == INSERTED:
            _append_effect(a, row, change, direction, out)
        if a.rows[row]["direction"] != direction:
            _recount_for_direction(a, row, direction, out)
    return len(b.status)


@jit
def _recount_for_direction(a: TableArrays, row: int, before: int, out: BatchChanges) -> None:
    """The parcel goes in another direction than was known: its scans are counted under that one."""
    now = int64(a.rows[row]["direction"])
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if stamp & (VOIDED | ADVICE) or kind_of(stamp) == VOID:
                continue
            at = int64(a.slots[slot]["at"])
            append_delta(out, int64(-1), at, kind_of(stamp), time_of(stamp), before)
            append_delta(out, int64(1), at, kind_of(stamp), time_of(stamp), now)
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])


@jit_inline
def _append_effect(a: TableArrays, row: int, change: InsertEffect, direction: int, out: BatchChanges) -> None:
    n = change.numbers
    if n[MILESTONE_TYPE] != 0:
        evidence = change.evidence
        append_milestone(
            a,
            row,
            n[MILESTONE_TYPE],
            n[MILESTONE_STAGE],
            n[MILESTONE_TIME],
            n[MILESTONE_PREVIOUS_TIME],
            n[MILESTONE_LOCATION],
            evidence[0],
            evidence[1],
            out,
        )
    if n[SCANS_BY] != 0:
        append_delta(out, n[SCANS_BY], n[SCAN_LOCATION], n[SCAN_KIND], n[SCAN_TIME], direction)
