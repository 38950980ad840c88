"""Rows of the parcel table as columns of ParcelState, ready for the Avro encoder; its clocks are in alert_columns.py.

The encoder copies texts from the heap of the table. Locations and plans are already encoded there
(streams/kernel/interned_records.py). Record hashes are written to a buffer of their own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import DAMAGED, KINDS, LANE_KINDS, NO_READ, RECIRCULATED, VOID
from streams.domain.parcel import (
    CONTAINER,
    CONTAINER_LOCATION,
    COUNT,
    CUSTOMS_LOCATION,
    CUSTOMS_STEP,
    FIRST,
    IS_IN_HUB,
    LANE_LOCATION,
    LAST,
    LOCATION,
    NOT_SET,
    PACKED_INTO,
    PLAN,
    PROMISED,
    STAGE,
    STAGE_TIME,
    Facts,
    Times,
    apply_advice,
    apply_scan,
    contradicts_containment,
    is_held_by_customs,
    reset,
)
from streams.domain.promise_clocks import NO_SLOT
from streams.domain.record_hash import get_big_endian, put_big_endian
from streams.kernel.frames import (
    HASH_BYTES,
    FrameArrays,
    set_interned,
    set_location_text,
    set_null,
    set_number,
    set_parcel_id,
    set_text,
)
from streams.kernel.interned_records import LOCATION_LANE as LANE_TEXT
from streams.kernel.interned_records import (
    LOCATION_REASON,
    LOCATION_SITE,
    LOCATION_STATION,
    NULL_SIZE,
    location_text,
    sites_differ,
)
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, time_of, utc_offset_of
from streams.kernel.parcel_table import KEY_ALIGNMENT, NO_INTERN_ID, ByteArray, TableArrays, next_slot


class StateColumns(NamedTuple):
    """Indexes of the columns of ParcelState's root frame."""

    parcel_id: int
    version: int
    stage: int
    stage_time: int
    customs: int
    held: int
    hold_reason: int
    site: int
    station: int
    container_id: int
    lane: int
    damaged: int
    no_reads: int
    recirculations: int
    plan: int
    promised_at: int
    kinds: int
    timeline: int


class KindColumns(NamedTuple):
    """Indexes of the columns of the frame kinds[]."""

    kind: int
    first: int
    last: int
    scans: int  # count


class TimelineEntryColumns(NamedTuple):
    """Indexes of the columns of the frame timeline[]."""

    record_hash: int
    kind: int
    event_time: int
    utc_offset_minutes: int
    voided: int
    inferred: int
    details: int
    container_id: int
    voids: int
    plan: int
    promised_at: int


@jit_inline
def _set_promised_at(frame: FrameArrays, column: int, row: int, a: TableArrays, intern_id: int) -> None:
    if intern_id == NO_INTERN_ID:
        set_null(frame, column, row)
    else:
        set_number(frame, column, row, int64(get_big_endian(a.heap, int64(a.interned[intern_id]["heap_offset"]))))


@jit
def count_records(a: TableArrays, rows: NDArray[np.int32], count: int) -> int:
    """Total number of records in the first `count` of `rows`."""
    total = int64(0)
    for i in range(count):
        total += a.rows[rows[i]]["records"]
    return total


@jit_inline
def _fill_timeline_entry(
    a: TableArrays, slot: int, entries: FrameArrays, e: TimelineEntryColumns, row: int, hashes: ByteArray
) -> None:
    packed_key = int64(a.slots[slot]["packed_key"])
    kind = kind_of(packed_key)
    put_big_endian(hashes, row * HASH_BYTES, a.slots[slot]["high"])
    put_big_endian(hashes, row * HASH_BYTES + 8, a.slots[slot]["low"])
    set_text(entries, e.record_hash, row, row * HASH_BYTES, HASH_BYTES)
    set_number(entries, e.kind, row, kind)
    set_number(entries, e.event_time, row, time_of(packed_key))
    set_number(entries, e.utc_offset_minutes, row, utc_offset_of(packed_key))
    set_number(entries, e.voided, row, 1 if packed_key & VOIDED else 0)
    set_number(entries, e.inferred, row, 1 if packed_key & INFERRED else 0)
    location_or_plan = int64(a.slots[slot]["location_or_plan"])
    detail = int64(a.slots[slot]["detail"])
    if packed_key & ADVICE:
        set_null(entries, e.details, row)
        set_null(entries, e.container_id, row)
        set_null(entries, e.voids, row)
        set_interned(entries, e.plan, row, a, location_or_plan)
        _set_promised_at(entries, e.promised_at, row, a, detail)
    else:
        set_interned(entries, e.details, row, a, location_or_plan)
        set_null(entries, e.plan, row)
        set_null(entries, e.promised_at, row)
        set_interned(entries, e.container_id, row, a, NO_INTERN_ID if kind == VOID else detail)
        set_interned(entries, e.voids, row, a, detail if kind == VOID else NO_INTERN_ID)


@jit_inline
def _apply_slot(a: TableArrays, slot: int, facts: Facts, times: Times) -> None:
    packed_key = int64(a.slots[slot]["packed_key"])
    kind = kind_of(packed_key)
    if kind == VOID or packed_key & VOIDED:
        return
    location_or_plan = int64(a.slots[slot]["location_or_plan"])
    detail = int64(a.slots[slot]["detail"])
    if packed_key & ADVICE:
        apply_advice(facts, times, kind, time_of(packed_key), location_or_plan, detail)
        return
    names_lane = False
    if (LANE_KINDS >> kind) & 1:
        names_lane = location_text(a, location_or_plan, LANE_TEXT)[1] != NULL_SIZE
    elsewhere = False
    if contradicts_containment(facts[PACKED_INTO], facts[CONTAINER_LOCATION], kind, detail, packed_key & INFERRED != 0):
        elsewhere = sites_differ(a, location_or_plan, facts[CONTAINER_LOCATION])
    apply_scan(facts, times, kind, time_of(packed_key), location_or_plan, detail, names_lane, elsewhere)


@jit_inline
def _fill_facts(a: TableArrays, facts: Facts, times: Times, states: FrameArrays, s: StateColumns, i: int) -> None:
    if facts[STAGE] == NOT_SET:
        set_null(states, s.stage, i)
        set_null(states, s.stage_time, i)
    else:
        set_number(states, s.stage, i, facts[STAGE])
        set_number(states, s.stage_time, i, facts[STAGE_TIME])
    if facts[CUSTOMS_STEP] == NOT_SET:
        set_null(states, s.customs, i)
    else:
        set_number(states, s.customs, i, facts[CUSTOMS_STEP])
    held = is_held_by_customs(facts)
    set_number(states, s.held, i, 1 if held else 0)
    set_location_text(states, s.hold_reason, i, a, facts[CUSTOMS_LOCATION] if held else NO_INTERN_ID, LOCATION_REASON)
    set_location_text(states, s.site, i, a, facts[LOCATION], LOCATION_SITE)
    set_location_text(states, s.station, i, a, facts[LOCATION], LOCATION_STATION)
    set_interned(states, s.container_id, i, a, facts[CONTAINER])
    set_location_text(states, s.lane, i, a, facts[LANE_LOCATION], LANE_TEXT)
    set_number(states, s.damaged, i, 1 if times[COUNT, DAMAGED] > 0 else 0)
    set_number(states, s.no_reads, i, times[COUNT, NO_READ])
    set_number(states, s.recirculations, i, times[COUNT, RECIRCULATED])
    set_interned(states, s.plan, i, a, facts[PLAN])
    _set_promised_at(states, s.promised_at, i, a, facts[PROMISED])


@jit
def fill_state_columns(
    a: TableArrays,
    rows: NDArray[np.int32],
    count: int,
    states: FrameArrays,
    s: StateColumns,
    kinds: FrameArrays,
    k: KindColumns,
    entries: FrameArrays,
    e: TimelineEntryColumns,
    hashes: ByteArray,
    facts: Facts,
    times: Times,
) -> None:
    """Fill the columns of the states of the first `count` of `rows`, and update the stage gauges.

    Args:
        states: room for one row a parcel.
        kinds: room for len(KINDS) rows a parcel.
        entries, hashes: room for one row and 16 bytes a record (`count_records`).
        s, k, e: indexes of the columns of these frames.
        facts, times: work space, overwritten.
    """
    entry = int64(0)
    kind_row = int64(0)
    for i in range(count):
        row = int64(rows[i])
        records = int64(a.rows[row]["records"])
        reset(facts, times)
        set_parcel_id(states, s.parcel_id, i, a, row)
        set_number(states, s.version, i, records)
        set_text(states, s.timeline, i, entry, records)
        slot = int64(NO_SLOT)
        for j in range(records):
            slot = next_slot(a, row, j, slot)
            _apply_slot(a, slot, facts, times)
            _fill_timeline_entry(a, slot, entries, e, entry, hashes)
            entry += 1
        _fill_facts(a, facts, times, states, s, i)
        first_kind_row = kind_row
        for kind in range(len(KINDS)):
            if times[COUNT, kind] > 0:
                set_number(kinds, k.kind, kind_row, kind)
                set_number(kinds, k.first, kind_row, times[FIRST, kind])
                set_number(kinds, k.last, kind_row, times[LAST, kind])
                set_number(kinds, k.scans, kind_row, times[COUNT, kind])
                kind_row += 1
        set_text(states, s.kinds, i, first_kind_row, kind_row - first_kind_row)
        update_stage_gauge(a, row, facts[STAGE], facts[IS_IN_HUB])


@jit_inline
def update_stage_gauge(a: TableArrays, row: int, stage: int, in_hub: int) -> None:
    """Move the parcel from its old stage in the gauge to its new stage; `in_hub`: 1 if it is in the hub, else 0."""
    counted = stage if in_hub else int64(0)
    a.parcels_by_stage[int64(a.rows[row]["stage"])] -= 1
    a.parcels_by_stage[counted] += 1
    a.rows[row]["stage"] = counted


@jit
def copy_keys(a: TableArrays, rows: NDArray[np.int32], count: int, keys: ByteArray, offsets: NDArray[np.int64]) -> None:
    """Copy the parcel ids of the first `count` rows to `keys`, back to back; `offsets` gets `count` + 1 entries."""
    end = int64(0)
    offsets[0] = 0
    for i in range(count):
        row = int64(rows[i])
        start = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
        size = int64(a.rows[row]["key_size"])
        for j in range(size):
            keys[end + j] = a.heap[start + j]
        end += size
        offsets[i + 1] = end
