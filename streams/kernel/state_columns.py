"""Rows of the parcel table as columns of ParcelState and Milestone, ready for the Avro encoder.

Texts stay where they are: the encoder copies them from the table's heap. Where and Plan are already encoded there
(streams/kernel/interned_records.py). Identities are written to a buffer of their own.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import DAMAGED, KINDS, LANE_KINDS, MILESTONE_RETRACTED, NO_READ, RECIRCULATED, VOID
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
from streams.domain.promise_clocks import NO_TIME
from streams.domain.record_hash import get_big_endian, put_big_endian, record_hash
from streams.kernel.batch_changes import BatchChanges
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
from streams.kernel.parcel_table import KEY_ALIGNMENT, NO_INTERN_ID, SLOTS_PER_CHUNK, ByteArray, TableArrays

IDENTITY_BYTES: Final = 16
# Sources of the encoder's texts, by number: the heap, and the buffer of identities.
HEAP_SOURCE, IDENTITY_SOURCE = range(2)
NOT_NULL: Final = 0


class StateColumns(NamedTuple):
    """Numbers of the columns of ParcelState's root frame."""

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
    """Numbers of the columns of the frame kinds[]."""

    kind: int
    first: int
    last: int
    scans: int  # count


class TimelineEntryColumns(NamedTuple):
    """Numbers of the columns of the frame timeline[]."""

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


class FrameArrays(NamedTuple):
    """Values and lengths of one frame: [column, row]."""

    values: NDArray[np.int64]
    lengths: NDArray[np.int32]


def allocate_frame(columns: int, rows: int) -> FrameArrays:
    """Room for `rows` rows; every value is present until it is set to null."""
    return FrameArrays(np.empty((columns, rows), np.int64), np.zeros((columns, rows), np.int32))


@jit_inline
def _null(frame: FrameArrays, column: int, row: int) -> None:
    frame.values[column, row] = 0
    frame.lengths[column, row] = NULL_SIZE


@jit_inline
def _number(frame: FrameArrays, column: int, row: int, value: int) -> None:
    frame.values[column, row] = value
    frame.lengths[column, row] = NOT_NULL


@jit_inline
def _text(frame: FrameArrays, column: int, row: int, at: int, size: int) -> None:
    frame.values[column, row] = at
    frame.lengths[column, row] = size


@jit_inline
def _word(frame: FrameArrays, column: int, row: int, a: TableArrays, word: int) -> None:
    """A word as it is: a text, or a record that is already encoded."""
    if word == NO_INTERN_ID:
        _null(frame, column, row)
    else:
        _text(frame, column, row, int64(a.interned[word]["heap_offset"]), int64(a.interned[word]["size"]))


@jit_inline
def _part(frame: FrameArrays, column: int, row: int, a: TableArrays, where: int, part: int) -> None:
    """One text of a Where."""
    if where == NO_INTERN_ID:
        _null(frame, column, row)
    else:
        at, size = location_text(a, where, part)
        _text(frame, column, row, at, size)


@jit_inline
def _promise(frame: FrameArrays, column: int, row: int, a: TableArrays, word: int) -> None:
    if word == NO_INTERN_ID:
        _null(frame, column, row)
    else:
        _number(frame, column, row, int64(get_big_endian(a.heap, int64(a.interned[word]["heap_offset"]))))


@jit
def count_records(a: TableArrays, touched: NDArray[np.int32], count: int) -> int:
    """Records of the first `count` rows of `touched` together."""
    total = int64(0)
    for i in range(count):
        total += a.rows[touched[i]]["records"]
    return total


@jit_inline
def _emit_entry(
    a: TableArrays, slot: int, entries: FrameArrays, e: TimelineEntryColumns, row: int, identities: ByteArray
) -> None:
    stamp = int64(a.slots[slot]["packed_key"])
    kind = kind_of(stamp)
    put_big_endian(identities, row * IDENTITY_BYTES, a.slots[slot]["high"])
    put_big_endian(identities, row * IDENTITY_BYTES + 8, a.slots[slot]["low"])
    _text(entries, e.record_hash, row, row * IDENTITY_BYTES, IDENTITY_BYTES)
    _number(entries, e.kind, row, kind)
    _number(entries, e.event_time, row, time_of(stamp))
    _number(entries, e.utc_offset_minutes, row, utc_offset_of(stamp))
    _number(entries, e.voided, row, 1 if stamp & VOIDED else 0)
    _number(entries, e.inferred, row, 1 if stamp & INFERRED else 0)
    at = int64(a.slots[slot]["location_or_plan"])
    what = int64(a.slots[slot]["detail"])
    if stamp & ADVICE:
        _null(entries, e.details, row)
        _null(entries, e.container_id, row)
        _null(entries, e.voids, row)
        _word(entries, e.plan, row, a, at)
        _promise(entries, e.promised_at, row, a, what)
    else:
        _word(entries, e.details, row, a, at)
        _null(entries, e.plan, row)
        _null(entries, e.promised_at, row)
        _word(entries, e.container_id, row, a, NO_INTERN_ID if kind == VOID else what)
        _word(entries, e.voids, row, a, what if kind == VOID else NO_INTERN_ID)


@jit_inline
def _tell_slot(a: TableArrays, slot: int, facts: Facts, times: Times) -> None:
    stamp = int64(a.slots[slot]["packed_key"])
    kind = kind_of(stamp)
    if kind == VOID or stamp & VOIDED:
        return
    at = int64(a.slots[slot]["location_or_plan"])
    what = int64(a.slots[slot]["detail"])
    if stamp & ADVICE:
        apply_advice(facts, times, kind, time_of(stamp), at, what)
        return
    names_lane = False
    if (LANE_KINDS >> kind) & 1:
        names_lane = location_text(a, at, LANE_TEXT)[1] != NULL_SIZE
    elsewhere = False
    if contradicts_containment(facts[PACKED_INTO], facts[CONTAINER_LOCATION], kind, what, stamp & INFERRED != 0):
        elsewhere = sites_differ(a, at, facts[CONTAINER_LOCATION])
    apply_scan(facts, times, kind, time_of(stamp), at, what, names_lane, elsewhere)


@jit_inline
def _emit_facts(a: TableArrays, facts: Facts, times: Times, states: FrameArrays, s: StateColumns, i: int) -> None:
    if facts[STAGE] == NOT_SET:
        _null(states, s.stage, i)
        _null(states, s.stage_time, i)
    else:
        _number(states, s.stage, i, facts[STAGE])
        _number(states, s.stage_time, i, facts[STAGE_TIME])
    if facts[CUSTOMS_STEP] == NOT_SET:
        _null(states, s.customs, i)
    else:
        _number(states, s.customs, i, facts[CUSTOMS_STEP])
    held = is_held_by_customs(facts)
    _number(states, s.held, i, 1 if held else 0)
    _part(states, s.hold_reason, i, a, facts[CUSTOMS_LOCATION] if held else NO_INTERN_ID, LOCATION_REASON)
    _part(states, s.site, i, a, facts[LOCATION], LOCATION_SITE)
    _part(states, s.station, i, a, facts[LOCATION], LOCATION_STATION)
    _word(states, s.container_id, i, a, facts[CONTAINER])
    _part(states, s.lane, i, a, facts[LANE_LOCATION], LANE_TEXT)
    _number(states, s.damaged, i, 1 if times[COUNT, DAMAGED] > 0 else 0)
    _number(states, s.no_reads, i, times[COUNT, NO_READ])
    _number(states, s.recirculations, i, times[COUNT, RECIRCULATED])
    _word(states, s.plan, i, a, facts[PLAN])
    _promise(states, s.promised_at, i, a, facts[PROMISED])


@jit
def fill_state_columns(
    a: TableArrays,
    touched: NDArray[np.int32],
    count: int,
    states: FrameArrays,
    s: StateColumns,
    kinds: FrameArrays,
    k: KindColumns,
    entries: FrameArrays,
    e: TimelineEntryColumns,
    identities: ByteArray,
    facts: Facts,
    times: Times,
) -> None:
    """Columns of the states of the first `count` rows of `touched`, and the gauges of stages brought up to date.

    Room: `states` one row a parcel, `kinds` len(KINDS) a parcel, `entries` and `identities` one (16 bytes) a record.
    `facts`, `times`: from `parcel.blank`, overwritten.
    """
    entry = int64(0)
    kind_row = int64(0)
    for i in range(count):
        row = int64(touched[i])
        records = int64(a.rows[row]["records"])
        reset(facts, times)
        _text(
            states,
            s.parcel_id,
            i,
            int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT,
            int64(a.rows[row]["key_size"]),
        )
        _number(states, s.version, i, records)
        _text(states, s.timeline, i, entry, records)
        chunk = int64(a.rows[row]["first_chunk"])
        left = records
        while left > 0:
            for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
                _tell_slot(a, slot, facts, times)
                _emit_entry(a, slot, entries, e, entry, identities)
                entry += 1
            left -= SLOTS_PER_CHUNK
            chunk = int64(a.next_chunk[chunk])
        _emit_facts(a, facts, times, states, s, i)
        first_kind_row = kind_row
        for kind in range(len(KINDS)):
            if times[COUNT, kind] > 0:
                _number(kinds, k.kind, kind_row, kind)
                _number(kinds, k.first, kind_row, times[FIRST, kind])
                _number(kinds, k.last, kind_row, times[LAST, kind])
                _number(kinds, k.scans, kind_row, times[COUNT, kind])
                kind_row += 1
        _text(states, s.kinds, i, first_kind_row, kind_row - first_kind_row)
        update_stage_gauge(a, row, facts[STAGE], facts[IS_IN_HUB])


@jit_inline
def update_stage_gauge(a: TableArrays, row: int, stage: int, here: int) -> None:
    """Count the parcel under its new stage, no longer under the old one; `here`: 1 if it is in the hub, else 0."""
    counted = stage if here else int64(0)
    a.parcels_by_stage[int64(a.rows[row]["stage"])] -= 1
    a.parcels_by_stage[counted] += 1
    a.rows[row]["stage"] = counted


class MilestoneColumns(NamedTuple):
    """Numbers of the columns of Milestone."""

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
def _milestone_identity(a: TableArrays, row: int, milestone: np.void) -> tuple[np.uint64, np.uint64]:
    """Identity of what the milestone says: see milestone_id in schemas/Milestone.avsc."""
    key_at = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
    size = int64(a.rows[row]["key_size"])
    said = a.scratch
    for i in range(size):
        said[i] = a.heap[key_at + i]
    said[size] = 0
    at = size + 1
    version = int64(milestone["version"])
    for i in range(4):
        said[at + i] = np.uint8((version >> (24 - 8 * i)) & 255)
    said[at + 4] = milestone["type"]
    said[at + 5] = milestone["stage"]
    put_big_endian(said, at + 6, milestone["high"])
    put_big_endian(said, at + 14, milestone["low"])
    put_big_endian(said, at + 22, np.uint64(int64(milestone["event_time"])))
    put_big_endian(said, at + 30, np.uint64(int64(milestone["previous_time"])))
    return record_hash(said, 0, at + 38)


@jit
def fill_milestone_columns(
    a: TableArrays, out: BatchChanges, count: int, frame: FrameArrays, m: MilestoneColumns, identities: ByteArray
) -> None:
    """Columns of the first `count` milestones of a batch; `identities` has room for 32 bytes each."""
    for i in range(count):
        milestone = out.milestones[i]
        row = int64(milestone["row"])
        high, low = _milestone_identity(a, row, milestone)
        at = i * 2 * IDENTITY_BYTES
        put_big_endian(identities, at, high)
        put_big_endian(identities, at + 8, low)
        put_big_endian(identities, at + IDENTITY_BYTES, milestone["high"])
        put_big_endian(identities, at + IDENTITY_BYTES + 8, milestone["low"])
        _text(frame, m.milestone_id, i, at, IDENTITY_BYTES)
        _text(frame, m.evidence, i, at + IDENTITY_BYTES, IDENTITY_BYTES)
        _text(
            frame, m.parcel_id, i, int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT, int64(a.rows[row]["key_size"])
        )
        _number(frame, m.version, i, int64(milestone["version"]))
        _number(frame, m.type, i, int64(milestone["type"]))
        _number(frame, m.stage, i, int64(milestone["stage"]))
        _number(frame, m.event_time, i, int64(milestone["event_time"]))
        if int64(milestone["previous_time"]) == NO_TIME:
            _null(frame, m.previous_time, i)
        else:
            _number(frame, m.previous_time, i, int64(milestone["previous_time"]))
        where = int64(milestone["location"])
        if where == NO_INTERN_ID or milestone["type"] == MILESTONE_RETRACTED:
            _text(frame, m.site, i, 0, 0)
            _text(frame, m.station, i, 0, 0)
        else:
            _part(frame, m.site, i, a, where, LOCATION_SITE)
            _part(frame, m.station, i, a, where, LOCATION_STATION)
        _number(frame, m.direction, i, int64(milestone["direction"]))


@jit
def copy_keys(a: TableArrays, rows: NDArray[np.int32], count: int, keys: ByteArray, offsets: NDArray[np.int64]) -> None:
    """Parcel ids of the first `count` of `rows`, back to back; `offsets` gets `count` + 1 positions."""
    at = int64(0)
    offsets[0] = 0
    for i in range(count):
        row = int64(rows[i])
        start = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
        size = int64(a.rows[row]["key_size"])
        for j in range(size):
            keys[at + j] = a.heap[start + j]
        at += size
        offsets[i + 1] = at
