"""Back from parcel.state into a parcel table: the state of a parcel holds every record that it was derived from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import VOID
from streams.domain.parcel import is_here
from streams.domain.record_hash import get_big_endian
from streams.kernel.active_alerts import drop_all_told, put_told
from streams.kernel.due_index import mark_changed
from streams.kernel.interned_records import ABSENT, direction_of, plan_of, where_of
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, stamp_of
from streams.kernel.parcel_table import (
    CHUNK,
    GONE,
    NEVER,
    NO_WORD,
    NONE,
    RETIRED,
    Arrays,
    Bytes,
    chunk_from,
    clear_row,
    row_of,
    word_of,
)
from streams.kernel.state_columns import Frame, move_gauge
from streams.kernel.tick_alerts import retire


class StateParts(NamedTuple):
    """Numbers of the columns of ParcelState's root frame that a table is made of."""

    parcel_id: int
    stage: int
    scans: int
    alerts: int


class AlertParts(NamedTuple):
    """Numbers of the columns of the frame alerts[]."""

    about: int
    type: int
    since: int
    alert_id: int


class EntryParts(NamedTuple):
    """Numbers of the columns of the frame scans[]."""

    identity: int
    kind: int
    event_time: int
    utc_offset_minutes: int
    voided: int
    inferred: int
    at_site: int
    at_station: int
    at_lane: int
    at_reason: int
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


@inlined
def _where(a: Arrays, buffer: Bytes, f: Frame, e: EntryParts, i: int) -> int:
    return where_of(
        a,
        buffer,
        f.values[e.at_site, i],
        int64(f.lengths[e.at_site, i]),
        f.values[e.at_station, i],
        int64(f.lengths[e.at_station, i]),
        f.values[e.at_lane, i],
        int64(f.lengths[e.at_lane, i]),
        f.values[e.at_reason, i],
        int64(f.lengths[e.at_reason, i]),
    )


@inlined
def _plan(a: Arrays, buffer: Bytes, f: Frame, e: EntryParts, i: int) -> int:
    return plan_of(
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


@inlined
def _text_word(a: Arrays, buffer: Bytes, f: Frame, column: int, i: int) -> int:
    if f.lengths[column, i] == ABSENT:
        return int64(NO_WORD)
    return word_of(a, buffer, f.values[column, i], int64(f.lengths[column, i]))


@inlined
def _time_word(a: Arrays, f: Frame, column: int, i: int) -> int:
    if f.lengths[column, i] == ABSENT:
        return int64(NO_WORD)
    time = np.uint64(f.values[column, i])
    for j in range(8):
        a.scratch[j] = np.uint8((time >> np.uint64(56 - 8 * j)) & np.uint64(255))
    return word_of(a, a.scratch, 0, 8)


@compiled
def restore_rows(
    a: Arrays,
    buffer: Bytes,
    status: Bytes,
    states: Frame,
    s: StateParts,
    entries: Frame,
    e: EntryParts,
    alerts: Frame,
    t: AlertParts,
) -> None:
    """Take decoded states into the table, in the order of the topic: a later state of a parcel replaces an earlier one.

    Records whose `status` is not 0 are passed over; the caller refuses to go on if there are any.
    """
    for i in range(len(status)):
        if status[i] != 0:
            continue
        row = row_of(a, buffer, states.values[s.parcel_id, i], int64(states.lengths[s.parcel_id, i]))
        if a.rows[row]["batch"] == GONE:
            a.rows[row]["batch"] = NONE
            a.counts[RETIRED] -= 1
        if a.rows[row]["head"] != NONE:
            clear_row(a, row)
        drop_all_told(a, row)
        first = states.values[s.scans, i]
        records = int64(states.lengths[s.scans, i])
        last = int64(NONE)
        plan = int64(NO_WORD)
        here = int64(0)
        for j in range(records):
            entry = first + j
            if j % CHUNK == 0:
                fresh = chunk_from(a)
                if last == NONE:
                    a.rows[row]["head"] = fresh
                else:
                    a.following[last] = fresh
                last = fresh
            kind = entries.values[e.kind, entry]
            flags = int64(0)
            if entries.values[e.voided, entry] != 0:
                flags |= VOIDED
            if entries.values[e.inferred, entry] != 0:
                flags |= INFERRED
            if entries.lengths[e.plan, entry] != ABSENT:
                flags |= ADVICE
                at = _plan(a, buffer, entries, e, entry)
                what = _time_word(a, entries, e.promised_at, entry)
                if flags & VOIDED == 0:
                    plan = at
            else:
                at = _where(a, buffer, entries, e, entry)
                what = _text_word(a, buffer, entries, e.voids if kind == VOID else e.container_id, entry)
                if flags & VOIDED == 0:
                    here = is_here(here, kind)
            if kind == VOID:
                a.rows[row]["voids"] += 1
            slot = last * CHUNK + j % CHUNK
            position = entries.values[e.identity, entry]
            a.slots[slot]["high"] = get_big_endian(buffer, position)
            a.slots[slot]["low"] = get_big_endian(buffer, position + 8)
            offset = entries.values[e.utc_offset_minutes, entry]
            a.slots[slot]["stamp"] = stamp_of(entries.values[e.event_time, entry], kind, offset, flags)
            a.slots[slot]["at"] = at
            a.slots[slot]["what"] = what
        a.rows[row]["records"] = records
        a.rows[row]["direction"] = direction_of(a, plan)
        stage = int64(0)
        if states.lengths[s.stage, i] != ABSENT:
            stage = states.values[s.stage, i]
        move_gauge(a, row, stage, here)
        # From the last to the first, as the list of a row begins with what came last.
        told = states.values[s.alerts, i] + states.lengths[s.alerts, i]
        for _ in range(states.lengths[s.alerts, i]):
            told -= 1
            about = word_of(a, buffer, alerts.values[t.about, told], int64(alerts.lengths[t.about, told]))
            at = alerts.values[t.alert_id, told]
            high = get_big_endian(buffer, at)
            low = get_big_endian(buffer, at + 8)
            put_told(a, row, about, alerts.values[t.type, told], alerts.values[t.since, told], high, low)
        # Looked at once more at the next Tick: what is due comes from the records and the promises.
        mark_changed(a, row)


@compiled
def retire_rows(a: Arrays, keys: Bytes, ends: NDArray[np.int64]) -> None:
    """Take away the parcels with these ids, of which parcel.state holds a tombstone."""
    for i in range(len(ends) - 1):
        row = row_of(a, keys, ends[i], ends[i + 1] - ends[i])
        if a.rows[row]["batch"] != GONE:
            listed = a.due[row] == NEVER
            retire(a, row)
            if listed:
                a.due[row] = NEVER
