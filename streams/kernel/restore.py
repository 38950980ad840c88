"""Back from parcel.state into a parcel table: the state of a parcel holds every record that it was derived from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import VOID
from streams.domain.parcel import is_in_hub
from streams.domain.record_hash import get_big_endian
from streams.kernel.active_alerts import remove_all_active_alerts, set_active_alert
from streams.kernel.due_index import mark_changed
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
from streams.kernel.state_columns import FrameArrays, update_stage_gauge
from streams.kernel.tick_alerts import retire_row


class StateReaderColumns(NamedTuple):
    """Numbers of the columns of ParcelState's root frame that a table is made of."""

    parcel_id: int
    stage: int
    timeline: int
    active_alerts: int


class ActiveAlertReaderColumns(NamedTuple):
    """Numbers of the columns of the frame active_alerts[]."""

    condition: int
    type: int
    since: int
    alert_id: int


class TimelineEntryReaderColumns(NamedTuple):
    """Numbers of the columns of the frame timeline[]."""

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
def _where(a: TableArrays, buffer: ByteArray, f: FrameArrays, e: TimelineEntryReaderColumns, i: int) -> int:
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
def _plan(a: TableArrays, buffer: ByteArray, f: FrameArrays, e: TimelineEntryReaderColumns, i: int) -> int:
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
def _text_word(a: TableArrays, buffer: ByteArray, f: FrameArrays, column: int, i: int) -> int:
    if f.lengths[column, i] == NULL_SIZE:
        return int64(NO_INTERN_ID)
    return intern_bytes(a, buffer, f.values[column, i], int64(f.lengths[column, i]))


@jit_inline
def _time_word(a: TableArrays, f: FrameArrays, column: int, i: int) -> int:
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
    """Take decoded states into the table, in the order of the topic: a later state of a parcel replaces an earlier one.

    Records whose `status` is not 0 are passed over; the caller refuses to go on if there are any.
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
        last = int64(NO_CHUNK)
        plan = int64(NO_INTERN_ID)
        here = int64(0)
        for j in range(records):
            entry = first + j
            if j % SLOTS_PER_CHUNK == 0:
                fresh = allocate_chunk(a)
                if last == NO_CHUNK:
                    a.rows[row]["first_chunk"] = fresh
                else:
                    a.next_chunk[last] = fresh
                last = fresh
            kind = entries.values[e.kind, entry]
            flags = int64(0)
            if entries.values[e.voided, entry] != 0:
                flags |= VOIDED
            if entries.values[e.inferred, entry] != 0:
                flags |= INFERRED
            if entries.lengths[e.plan, entry] != NULL_SIZE:
                flags |= ADVICE
                at = _plan(a, buffer, entries, e, entry)
                what = _time_word(a, entries, e.promised_at, entry)
                if flags & VOIDED == 0:
                    plan = at
            else:
                at = _where(a, buffer, entries, e, entry)
                what = _text_word(a, buffer, entries, e.voids if kind == VOID else e.container_id, entry)
                if flags & VOIDED == 0:
                    here = is_in_hub(here, kind)
            if kind == VOID:
                a.rows[row]["voids"] += 1
            slot = last * SLOTS_PER_CHUNK + j % SLOTS_PER_CHUNK
            position = entries.values[e.record_hash, entry]
            a.slots[slot]["high"] = get_big_endian(buffer, position)
            a.slots[slot]["low"] = get_big_endian(buffer, position + 8)
            offset = entries.values[e.utc_offset_minutes, entry]
            a.slots[slot]["packed_key"] = pack_key(entries.values[e.event_time, entry], kind, offset, flags)
            a.slots[slot]["location_or_plan"] = at
            a.slots[slot]["detail"] = what
        a.rows[row]["records"] = records
        a.rows[row]["direction"] = direction_of(a, plan)
        stage = int64(0)
        if states.lengths[s.stage, i] != NULL_SIZE:
            stage = states.values[s.stage, i]
        update_stage_gauge(a, row, stage, here)
        # From the last to the first, as the list of a row begins with what came last.
        told = states.values[s.active_alerts, i] + states.lengths[s.active_alerts, i]
        for _ in range(states.lengths[s.active_alerts, i]):
            told -= 1
            size = int64(alerts.lengths[t.condition, told])
            condition = intern_bytes(a, buffer, alerts.values[t.condition, told], size)
            at = alerts.values[t.alert_id, told]
            high = get_big_endian(buffer, at)
            low = get_big_endian(buffer, at + 8)
            set_active_alert(a, row, condition, alerts.values[t.type, told], alerts.values[t.since, told], high, low)
        # Looked at once more at the next Tick: what is due comes from the records and the promises.
        mark_changed(a, row)


@jit
def apply_tombstones(a: TableArrays, keys: ByteArray, ends: NDArray[np.int64]) -> None:
    """Take away the parcels with these ids, of which parcel.state holds a tombstone."""
    for i in range(len(ends) - 1):
        row = find_or_add_row(a, keys, ends[i], ends[i + 1] - ends[i])
        if a.rows[row]["last_batch"] != ROW_RETIRED:
            listed = a.due_times[row] == DUE_AT_NEXT_TICK
            retire_row(a, row)
            if listed:
                a.due_times[row] = DUE_AT_NEXT_TICK
