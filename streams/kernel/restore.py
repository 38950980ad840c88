"""Restores a parcel table from parcel.state: the state of a parcel holds every record that it was derived from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import VOID
from streams.domain.parcel import is_in_hub
from streams.domain.record_hash import get_big_endian
from streams.kernel.active_alerts import remove_all_active_alerts, set_active_alert
from streams.kernel.due_index import mark_changed
from streams.kernel.frames import FrameArrays
from streams.kernel.interned_records import NULL_SIZE, direction_of, intern_location, intern_plan
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, pack_key
from streams.kernel.parcel_table import (
    DUE_AT_NEXT_TICK,
    NO_BATCH,
    NO_CHUNK,
    NO_INTERN_ID,
    RETIRED_ROW_COUNT,
    ROW_RETIRED,
    SLOTS_PER_CHUNK,
    ByteArray,
    TableArrays,
    allocate_chunk,
    clear_row,
    find_or_add_row,
    intern_bytes,
)
from streams.kernel.state_columns import update_stage_gauge
from streams.kernel.tick_alerts import retire_row


class StateReaderColumns(NamedTuple):
    """Indexes of the columns of ParcelState's root frame that are restored."""

    parcel_id: int
    stage: int
    timeline: int
    active_alerts: int


class ActiveAlertReaderColumns(NamedTuple):
    """Indexes of the columns of the frame active_alerts[]."""

    condition: int
    type: int
    since: int
    alert_id: int


class TimelineEntryReaderColumns(NamedTuple):
    """Indexes of the columns of the frame timeline[]."""

    record_hash: int
    kind: int
    event_time: int
    utc_offset_minutes: int
    voided: int
    inferred: int
    details_site: int
    details_station: int
    details_lane: int
    details_reason: int
    container_id: int
    voids: int
    plan: int
    plan_direction: int
    plan_service: int
    plan_origin: int
    plan_destination: int
    plan_planned_lane: int
    plan_owner: int
    promised_at: int


@jit_inline
def _intern_location(a: TableArrays, buffer: ByteArray, f: FrameArrays, e: TimelineEntryReaderColumns, i: int) -> int:
    return intern_location(
        a,
        buffer,
        f.values[e.details_site, i],
        int64(f.lengths[e.details_site, i]),
        f.values[e.details_station, i],
        int64(f.lengths[e.details_station, i]),
        f.values[e.details_lane, i],
        int64(f.lengths[e.details_lane, i]),
        f.values[e.details_reason, i],
        int64(f.lengths[e.details_reason, i]),
    )


@jit_inline
def _intern_plan(a: TableArrays, buffer: ByteArray, f: FrameArrays, e: TimelineEntryReaderColumns, i: int) -> int:
    return intern_plan(
        a,
        buffer,
        f.values[e.plan_direction, i],
        f.values[e.plan_service, i],
        int64(f.lengths[e.plan_service, i]),
        f.values[e.plan_origin, i],
        int64(f.lengths[e.plan_origin, i]),
        f.values[e.plan_destination, i],
        int64(f.lengths[e.plan_destination, i]),
        f.values[e.plan_planned_lane, i],
        int64(f.lengths[e.plan_planned_lane, i]),
        f.values[e.plan_owner, i],
        int64(f.lengths[e.plan_owner, i]),
    )


@jit_inline
def _intern_text(a: TableArrays, buffer: ByteArray, f: FrameArrays, column: int, i: int) -> int:
    if f.lengths[column, i] == NULL_SIZE:
        return int64(NO_INTERN_ID)
    return intern_bytes(a, buffer, f.values[column, i], int64(f.lengths[column, i]))


@jit_inline
def _intern_time(a: TableArrays, f: FrameArrays, column: int, i: int) -> int:
    if f.lengths[column, i] == NULL_SIZE:
        return int64(NO_INTERN_ID)
    time = np.uint64(f.values[column, i])
    for j in range(8):
        a.scratch[j] = np.uint8((time >> np.uint64(56 - 8 * j)) & np.uint64(255))
    return intern_bytes(a, a.scratch, 0, 8)


@jit
def restore_states(
    a: TableArrays,
    buffer: ByteArray,
    status: ByteArray,
    states: FrameArrays,
    s: StateReaderColumns,
    entries: FrameArrays,
    e: TimelineEntryReaderColumns,
    alerts: FrameArrays,
    t: ActiveAlertReaderColumns,
) -> None:
    """Restore decoded states in the order of the topic: a later state of a parcel replaces an earlier one.

    Records whose `status` is not 0 are skipped; the caller raises an error if there are any.
    """
    for i in range(len(status)):
        if status[i] != 0:
            continue
        row = find_or_add_row(a, buffer, states.values[s.parcel_id, i], int64(states.lengths[s.parcel_id, i]))
        if a.rows[row]["last_batch"] == ROW_RETIRED:
            a.rows[row]["last_batch"] = NO_BATCH
            a.counts[RETIRED_ROW_COUNT] -= 1
        if a.rows[row]["first_chunk"] != NO_CHUNK:
            clear_row(a, row)
        remove_all_active_alerts(a, row)
        first = states.values[s.timeline, i]
        records = int64(states.lengths[s.timeline, i])
        last_chunk = int64(NO_CHUNK)
        plan = int64(NO_INTERN_ID)
        in_hub = int64(0)
        for j in range(records):
            entry = first + j
            if j % SLOTS_PER_CHUNK == 0:
                new_chunk = allocate_chunk(a)
                if last_chunk == NO_CHUNK:
                    a.rows[row]["first_chunk"] = new_chunk
                else:
                    a.next_chunk[last_chunk] = new_chunk
                last_chunk = new_chunk
            kind = entries.values[e.kind, entry]
            flags = int64(0)
            if entries.values[e.voided, entry] != 0:
                flags |= VOIDED
            if entries.values[e.inferred, entry] != 0:
                flags |= INFERRED
            if entries.lengths[e.plan, entry] != NULL_SIZE:
                flags |= ADVICE
                location_or_plan = _intern_plan(a, buffer, entries, e, entry)
                detail = _intern_time(a, entries, e.promised_at, entry)
                if flags & VOIDED == 0:
                    plan = location_or_plan
            else:
                location_or_plan = _intern_location(a, buffer, entries, e, entry)
                detail = _intern_text(a, buffer, entries, e.voids if kind == VOID else e.container_id, entry)
                if flags & VOIDED == 0:
                    in_hub = is_in_hub(in_hub, kind)
            if kind == VOID:
                a.rows[row]["voids"] += 1
            slot = last_chunk * SLOTS_PER_CHUNK + j % SLOTS_PER_CHUNK
            hash_offset = entries.values[e.record_hash, entry]
            a.slots[slot]["high"] = get_big_endian(buffer, hash_offset)
            a.slots[slot]["low"] = get_big_endian(buffer, hash_offset + 8)
            utc_offset = entries.values[e.utc_offset_minutes, entry]
            a.slots[slot]["packed_key"] = pack_key(entries.values[e.event_time, entry], kind, utc_offset, flags)
            a.slots[slot]["location_or_plan"] = location_or_plan
            a.slots[slot]["detail"] = detail
        a.rows[row]["records"] = records
        a.rows[row]["direction"] = direction_of(a, plan)
        stage = int64(0)
        if states.lengths[s.stage, i] != NULL_SIZE:
            stage = states.values[s.stage, i]
        update_stage_gauge(a, row, stage, in_hub)
        # From the last to the first, because the list of a row begins with the alert that was added last.
        alert = states.values[s.active_alerts, i] + states.lengths[s.active_alerts, i]
        for _ in range(states.lengths[s.active_alerts, i]):
            alert -= 1
            size = int64(alerts.lengths[t.condition, alert])
            condition = intern_bytes(a, buffer, alerts.values[t.condition, alert], size)
            id_offset = alerts.values[t.alert_id, alert]
            high = get_big_endian(buffer, id_offset)
            low = get_big_endian(buffer, id_offset + 8)
            set_active_alert(a, row, condition, alerts.values[t.type, alert], alerts.values[t.since, alert], high, low)
        # The next Tick evaluates the parcel, because its due time follows from its records and the promises.
        mark_changed(a, row)


@jit
def apply_tombstones(a: TableArrays, key_bytes: ByteArray, key_ends: NDArray[np.int64]) -> None:
    """Retire the parcels with these ids, for which parcel.state holds a tombstone."""
    for i in range(len(key_ends) - 1):
        row = find_or_add_row(a, key_bytes, key_ends[i], key_ends[i + 1] - key_ends[i])
        if a.rows[row]["last_batch"] != ROW_RETIRED:
            was_changed = a.due_times[row] == DUE_AT_NEXT_TICK
            retire_row(a, row)
            if was_changed:
                a.due_times[row] = DUE_AT_NEXT_TICK
