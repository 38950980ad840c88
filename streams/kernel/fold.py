"""The fold: adds the decoded records of one partition to its parcel table, one at a time, in the order of the log.

The changes that a record makes depend on the records before it only: neither on the batch boundaries nor on the wall
clock.
"""

from typing import Final

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import ADVISED, VOID
from streams.domain.limits import MAX_RECORDS_PER_PARCEL, MAX_VOIDS_PER_PARCEL
from streams.domain.promise_clocks import NO_SLOT, Integers, JourneyFacts, PromiseRules
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
    SCAN_INCREMENT,
    SCAN_KIND,
    SCAN_LOCATION,
    SCAN_TIME,
    InsertEffect,
    find_slot,
    insert,
)
from streams.kernel.insert_inferred import MAX_MILESTONES_PER_RECORD, FirstRecords, insert_and_apply_containment
from streams.kernel.interned_records import NULL_SIZE, intern_location, intern_plan
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, pack_key, time_of
from streams.kernel.parcel_table import (
    HUB_TIME,
    NO_INTERN_ID,
    PREFETCH_WINDOW,
    RETIRED_ROW_COUNT,
    ROW_RETIRED,
    TableArrays,
    find_or_add_row,
    intern_bytes,
    next_slot,
)
from streams.kernel.prefetch import prefetch_records
from streams.kernel.record_checks import (
    SCAN_RECORD,
    TICK_RECORD,
    DecodedBatch,
    ScanColumns,
    is_time_out_of_bounds,
    reject_reason_of_advice,
    reject_reason_of_key,
    reject_reason_of_scan,
)
from streams.kernel.tick_alerts import apply_tick

# Deltas that a record may cause for each record of its parcel: one because that record starts or stops to count, two
# because it is counted under another direction.
MAX_DELTAS_PER_RECORD: Final = 3

_OK: Final = int(RejectReason.OK)
_OUT_OF_BOUNDS: Final = int(RejectReason.OUT_OF_BOUNDS)
_PARCEL_LIMIT_EXCEEDED: Final = int(RejectReason.PARCEL_LIMIT_EXCEEDED)


@jit_inline
def _intern_scan_location(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int) -> int:
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
def _intern_advice_plan(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int) -> int:
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
def _void_record_hash(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int) -> tuple[np.uint64, np.uint64]:
    """Record hash of a VOID, over its event_id and its event_time.

    An error declaration repeats the event_id of its target (EPCIS 2.0), so the event_id alone is not unique.
    """
    size = int64(b.lengths[c.event_id, i])
    start = b.values[c.event_id, i]
    for j in range(size):
        a.scratch[j] = b.buffer[start + j]
    a.scratch[size] = 0
    put_big_endian(a.scratch, size + 1, np.uint64(b.values[c.event_time, i]))
    return record_hash(a.scratch, 0, size + 9)


@jit
def _is_known(a: TableArrays, b: DecodedBatch, c: ScanColumns, i: int, row: int, kind: int) -> bool:
    """Does the parcel already have the record?"""
    high, low = record_hash(b.buffer, b.values[c.event_id, i], int64(b.lengths[c.event_id, i]))
    if kind == VOID:
        high, low = _void_record_hash(a, b, c, i)
    return find_slot(a, row, high, low) != NO_SLOT


@jit_inline
def _intern_hash(a: TableArrays, high: np.uint64, low: np.uint64) -> int:
    put_big_endian(a.scratch, 0, high)
    put_big_endian(a.scratch, 8, low)
    return intern_bytes(a, a.scratch, 0, 16)


@jit_inline
def _intern_time(a: TableArrays, time: int) -> int:
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
    batch_number: int,
    start: int,
    effect: InsertEffect,
    first_records: FirstRecords,
    journey: JourneyFacts,
    findings: Integers,
    changes: BatchChanges,
) -> int:
    """Fold a batch into a table that has room for it (`ParcelTable.reserve`).

    Args:
        b, c: the batch and the indexes of its columns; reject reasons of records are written to `b.status`.
        rules: promises, anomalies and retirement.
        partition: partition of the records.
        partitions: number of partitions of the topic.
        batch_number: differs from that of every earlier batch of this table.
        start: index of the first record to fold: 0, or the result of the previous call for this batch.
        effect, first_records, journey, findings: work space, overwritten.
        changes: filled.

    Returns:
        The number of records if all are folded; otherwise the record to continue with, after the caller has made more
        room for alerts, deltas and milestones (`ParcelTable.reserve_alerts`, `grow_batch_changes`).
    """
    for i in range(start, len(b.status)):
        if (i - start) % PREFETCH_WINDOW == 0:
            end = min(i + PREFETCH_WINDOW, len(b.status))
            prefetch_records(a, b.buffer, b.values[c.parcel_id], b.lengths[c.parcel_id], i, end)
        if b.status[i] != _OK:
            continue
        if b.record_type[i] == TICK_RECORD:
            if is_time_out_of_bounds(b.values[c.hub_time, i]):
                b.status[i] = _OUT_OF_BOUNDS
            elif b.values[c.hub_time, i] >= a.counts[HUB_TIME] and not apply_tick(
                a, rules, b.values[c.hub_time, i], batch_number, journey, findings, changes
            ):
                return i
            continue
        # 1. Reject an invalid record before anything changes.
        reason = reject_reason_of_key(b, c, i, partition, partitions)
        if reason == _OK:
            reason = (
                reject_reason_of_scan(b, c, i) if b.record_type[i] == SCAN_RECORD else reject_reason_of_advice(b, c, i)
            )
        if reason != _OK:
            b.status[i] = reason
            continue
        row = find_or_add_row(a, b.buffer, b.values[c.parcel_id, i], int64(b.lengths[c.parcel_id, i]))
        kind = b.values[c.kind, i] if b.record_type[i] == SCAN_RECORD else int64(ADVISED)
        if a.rows[row]["records"] >= MAX_RECORDS_PER_PARCEL or (
            kind == VOID and a.rows[row]["voids"] >= MAX_VOIDS_PER_PARCEL
        ):
            if _is_known(a, b, c, i, row, kind):
                changes.counts[DUPLICATE_COUNT] += 1
            else:
                b.status[i] = _PARCEL_LIMIT_EXCEEDED
            continue
        # An advice or a VOID may change the direction of every scan; any record may change which others count.
        if (
            len(changes.delta_locations) - changes.counts[DELTA_COUNT]
            < MAX_DELTAS_PER_RECORD * (a.rows[row]["records"] + 2)
            or len(changes.milestones) - changes.counts[MILESTONE_COUNT] < MAX_MILESTONES_PER_RECORD
        ):
            return i
        # 2. Derive the fields of its slot.
        location_or_plan = int64(NO_INTERN_ID)
        detail = int64(NO_INTERN_ID)
        utc_offset = int64(0)
        flags = int64(0)
        high, low = record_hash(b.buffer, b.values[c.event_id, i], int64(b.lengths[c.event_id, i]))
        if b.record_type[i] == SCAN_RECORD:
            location_or_plan = _intern_scan_location(a, b, c, i)
            utc_offset = b.values[c.utc_offset_minutes, i]
            if b.lengths[c.inferred_from, i] != NULL_SIZE:
                flags = int64(INFERRED)
            if kind == VOID:
                high, low = _void_record_hash(a, b, c, i)
                target = record_hash(b.buffer, b.values[c.voids, i], int64(b.lengths[c.voids, i]))
                detail = _intern_hash(a, target[0], target[1])
            elif b.lengths[c.container_id, i] != NULL_SIZE:
                detail = intern_bytes(a, b.buffer, b.values[c.container_id, i], int64(b.lengths[c.container_id, i]))
        else:
            location_or_plan = _intern_advice_plan(a, b, c, i)
            flags = int64(ADVICE)
            if b.lengths[c.promised_at, i] != NULL_SIZE:
                detail = _intern_time(a, b.values[c.promised_at, i])
        # 3. Insert it and append its effects to the changes.
        packed_key = pack_key(b.values[c.event_time, i], kind, utc_offset, flags)
        direction = int64(a.rows[row]["direction"])
        outcome = insert(a, row, high, low, packed_key, location_or_plan, detail, True, effect)
        if outcome == DUPLICATE:
            changes.counts[DUPLICATE_COUNT] += 1
            continue
        if outcome == AFFECTS_INFERRED:
            insert_and_apply_containment(
                a, row, high, low, packed_key, location_or_plan, detail, effect, first_records, changes
            )
        if a.rows[row]["last_batch"] == ROW_RETIRED:
            a.counts[RETIRED_ROW_COUNT] -= 1
        mark_updated(a, row, batch_number, changes)
        mark_changed(a, row)
        if b.record_type[i] == SCAN_RECORD:
            n = changes.counts[SCAN_COUNT]
            changes.scan_locations[n] = location_or_plan
            changes.scan_kinds[n] = kind
            changes.scan_directions[n] = a.rows[row]["direction"]
            changes.counts[SCAN_COUNT] = n + 1
        if outcome == INSERTED:
            _append_effect(a, row, effect, direction, changes)
        if a.rows[row]["direction"] != direction:
            _recount_for_direction(a, row, direction, changes)
    return len(b.status)


@jit
def _recount_for_direction(a: TableArrays, row: int, previous_direction: int, changes: BatchChanges) -> None:
    """Count the scans of a parcel whose direction changed under the new direction."""
    new_direction = int64(a.rows[row]["direction"])
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        if packed_key & (VOIDED | ADVICE) or kind_of(packed_key) == VOID:
            continue
        location = int64(a.slots[slot]["location_or_plan"])
        append_delta(changes, int64(-1), location, kind_of(packed_key), time_of(packed_key), previous_direction)
        append_delta(changes, int64(1), location, kind_of(packed_key), time_of(packed_key), new_direction)


@jit_inline
def _append_effect(a: TableArrays, row: int, effect: InsertEffect, direction: int, changes: BatchChanges) -> None:
    values = effect.values
    if values[MILESTONE_TYPE] != 0:
        evidence = effect.evidence
        append_milestone(
            a,
            row,
            values[MILESTONE_TYPE],
            values[MILESTONE_STAGE],
            values[MILESTONE_TIME],
            values[MILESTONE_PREVIOUS_TIME],
            values[MILESTONE_LOCATION],
            evidence[0],
            evidence[1],
            changes,
        )
    if values[SCAN_INCREMENT] != 0:
        append_delta(
            changes, values[SCAN_INCREMENT], values[SCAN_LOCATION], values[SCAN_KIND], values[SCAN_TIME], direction
        )
