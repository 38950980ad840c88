"""Rows of the parcel table as columns of ParcelState and Milestone, ready for the Avro encoder.

Texts stay where they are: the encoder copies them from the table's heap. Where and Plan are already encoded there
(streams/kernel/interned_records.py). Identities are written to a buffer of their own.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import DAMAGED, KINDS, LANE, NO_READ, RECIRCULATED, STAGE_LOST, VOID
from streams.domain.parcel import (
    CONTAINER,
    COUNT,
    CUSTOMS_AT,
    CUSTOMS_STEP,
    FIRST,
    INSIDE,
    INSIDE_AT,
    IS_HERE,
    LANE_AT,
    LAST,
    NOTHING,
    PLACE,
    PLAN,
    PROMISED,
    STAGE,
    STAGE_TIME,
    Facts,
    Times,
    forget,
    is_held,
    may_be_apart,
    tell,
    tell_advice,
)
from streams.domain.record_hash import get_big_endian, identity, put_big_endian
from streams.kernel.batch_changes import Folded
from streams.kernel.insert import NO_TIME
from streams.kernel.interned_records import ABSENT, REASON, SITE, STATION, other_site, text_in
from streams.kernel.interned_records import LANE as LANE_TEXT
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, offset_of, time_of
from streams.kernel.parcel_table import CHUNK, KEY_ALIGN, NO_WORD, Arrays, Bytes

IDENTITY_BYTES: Final = 16
# Sources of the encoder's texts, by number: the heap, and the buffer of identities.
FROM_HEAP, FROM_IDENTITIES = range(2)
PRESENT: Final = 0


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
    scans: int


class KindColumns(NamedTuple):
    """Numbers of the columns of the frame kinds[]."""

    kind: int
    first: int
    last: int
    scans: int  # count


class EntryColumns(NamedTuple):
    """Numbers of the columns of the frame scans[]."""

    identity: int
    kind: int
    event_time: int
    utc_offset_minutes: int
    voided: int
    inferred: int
    at: int
    container_id: int
    voids: int
    plan: int
    promised_at: int


class Frame(NamedTuple):
    """Values and lengths of one frame: [column, row]."""

    values: NDArray[np.int64]
    lengths: NDArray[np.int32]


def blank_frame(columns: int, rows: int) -> Frame:
    """Room for `rows` rows; every value is present until it is set to null."""
    return Frame(np.empty((columns, rows), np.int64), np.zeros((columns, rows), np.int32))


@inlined
def _null(frame: Frame, column: int, row: int) -> None:
    frame.values[column, row] = 0
    frame.lengths[column, row] = ABSENT


@inlined
def _number(frame: Frame, column: int, row: int, value: int) -> None:
    frame.values[column, row] = value
    frame.lengths[column, row] = PRESENT


@inlined
def _text(frame: Frame, column: int, row: int, at: int, size: int) -> None:
    frame.values[column, row] = at
    frame.lengths[column, row] = size


@inlined
def _word(frame: Frame, column: int, row: int, a: Arrays, word: int) -> None:
    """A word as it is: a text, or a record that is already encoded."""
    if word == NO_WORD:
        _null(frame, column, row)
    else:
        _text(frame, column, row, int64(a.words[word]["at"]), int64(a.words[word]["size"]))


@inlined
def _part(frame: Frame, column: int, row: int, a: Arrays, where: int, part: int) -> None:
    """One text of a Where."""
    if where == NO_WORD:
        _null(frame, column, row)
    else:
        at, size = text_in(a, where, part)
        _text(frame, column, row, at, size)


@inlined
def _promise(frame: Frame, column: int, row: int, a: Arrays, word: int) -> None:
    if word == NO_WORD:
        _null(frame, column, row)
    else:
        _number(frame, column, row, int64(get_big_endian(a.heap, int64(a.words[word]["at"]))))


@compiled
def count_records(a: Arrays, touched: NDArray[np.int32], count: int) -> int:
    """Records of the first `count` rows of `touched` together."""
    total = int64(0)
    for i in range(count):
        total += a.rows[touched[i]]["records"]
    return total


@inlined
def _emit_entry(a: Arrays, slot: int, entries: Frame, e: EntryColumns, row: int, identities: Bytes) -> None:
    stamp = int64(a.slots[slot]["stamp"])
    kind = kind_of(stamp)
    put_big_endian(identities, row * IDENTITY_BYTES, a.slots[slot]["high"])
    put_big_endian(identities, row * IDENTITY_BYTES + 8, a.slots[slot]["low"])
    _text(entries, e.identity, row, row * IDENTITY_BYTES, IDENTITY_BYTES)
    _number(entries, e.kind, row, kind)
    _number(entries, e.event_time, row, time_of(stamp))
    _number(entries, e.utc_offset_minutes, row, offset_of(stamp))
    _number(entries, e.voided, row, 1 if stamp & VOIDED else 0)
    _number(entries, e.inferred, row, 1 if stamp & INFERRED else 0)
    at = int64(a.slots[slot]["at"])
    what = int64(a.slots[slot]["what"])
    if stamp & ADVICE:
        _null(entries, e.at, row)
        _null(entries, e.container_id, row)
        _null(entries, e.voids, row)
        _word(entries, e.plan, row, a, at)
        _promise(entries, e.promised_at, row, a, what)
    else:
        _word(entries, e.at, row, a, at)
        _null(entries, e.plan, row)
        _null(entries, e.promised_at, row)
        _word(entries, e.container_id, row, a, NO_WORD if kind == VOID else what)
        _word(entries, e.voids, row, a, what if kind == VOID else NO_WORD)


@inlined
def _tell_slot(a: Arrays, slot: int, facts: Facts, times: Times) -> None:
    stamp = int64(a.slots[slot]["stamp"])
    kind = kind_of(stamp)
    if kind == VOID or stamp & VOIDED:
        return
    at = int64(a.slots[slot]["at"])
    what = int64(a.slots[slot]["what"])
    if stamp & ADVICE:
        tell_advice(facts, times, kind, time_of(stamp), at, what)
        return
    names_lane = False
    if (LANE >> kind) & 1:
        names_lane = text_in(a, at, LANE_TEXT)[1] != ABSENT
    elsewhere = False
    if may_be_apart(facts[INSIDE], facts[INSIDE_AT], kind, what, stamp & INFERRED != 0):
        elsewhere = other_site(a, at, facts[INSIDE_AT])
    tell(facts, times, kind, time_of(stamp), at, what, names_lane, elsewhere)


@inlined
def _emit_facts(a: Arrays, facts: Facts, times: Times, states: Frame, s: StateColumns, i: int) -> None:
    if facts[STAGE] == NOTHING:
        _null(states, s.stage, i)
        _null(states, s.stage_time, i)
    else:
        _number(states, s.stage, i, facts[STAGE])
        _number(states, s.stage_time, i, facts[STAGE_TIME])
    if facts[CUSTOMS_STEP] == NOTHING:
        _null(states, s.customs, i)
    else:
        _number(states, s.customs, i, facts[CUSTOMS_STEP])
    held = is_held(facts)
    _number(states, s.held, i, 1 if held else 0)
    _part(states, s.hold_reason, i, a, facts[CUSTOMS_AT] if held else NO_WORD, REASON)
    _part(states, s.site, i, a, facts[PLACE], SITE)
    _part(states, s.station, i, a, facts[PLACE], STATION)
    _word(states, s.container_id, i, a, facts[CONTAINER])
    _part(states, s.lane, i, a, facts[LANE_AT], LANE_TEXT)
    _number(states, s.damaged, i, 1 if times[COUNT, DAMAGED] > 0 else 0)
    _number(states, s.no_reads, i, times[COUNT, NO_READ])
    _number(states, s.recirculations, i, times[COUNT, RECIRCULATED])
    _word(states, s.plan, i, a, facts[PLAN])
    _promise(states, s.promised_at, i, a, facts[PROMISED])


@compiled
def emit_states(
    a: Arrays,
    touched: NDArray[np.int32],
    count: int,
    states: Frame,
    s: StateColumns,
    kinds: Frame,
    k: KindColumns,
    entries: Frame,
    e: EntryColumns,
    identities: Bytes,
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
        forget(facts, times)
        _text(states, s.parcel_id, i, int64(a.rows[row]["key_at"]) * KEY_ALIGN, int64(a.rows[row]["key_size"]))
        _number(states, s.version, i, records)
        _text(states, s.scans, i, entry, records)
        chunk = int64(a.rows[row]["head"])
        left = records
        while left > 0:
            for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
                _tell_slot(a, slot, facts, times)
                _emit_entry(a, slot, entries, e, entry, identities)
                entry += 1
            left -= CHUNK
            chunk = int64(a.following[chunk])
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
        move_gauge(a, row, facts[STAGE], facts[IS_HERE])


@inlined
def move_gauge(a: Arrays, row: int, stage: int, here: int) -> None:
    """Count the parcel under its new stage, no longer under the old one; `here`: 1 if it is in the hub, else 0."""
    counted = stage if here else int64(0)
    a.stages[int64(a.rows[row]["stage"])] -= 1
    a.stages[counted] += 1
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


@inlined
def _milestone_identity(a: Arrays, row: int, milestone: np.void) -> tuple[np.uint64, np.uint64]:
    """Identity of what the milestone says: see milestone_id in schemas/Milestone.avsc."""
    key_at = int64(a.rows[row]["key_at"]) * KEY_ALIGN
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
    return identity(said, 0, at + 38)


@compiled
def emit_milestones(a: Arrays, out: Folded, count: int, frame: Frame, m: MilestoneColumns, identities: Bytes) -> None:
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
        _text(frame, m.parcel_id, i, int64(a.rows[row]["key_at"]) * KEY_ALIGN, int64(a.rows[row]["key_size"]))
        _number(frame, m.version, i, int64(milestone["version"]))
        _number(frame, m.type, i, int64(milestone["type"]))
        _number(frame, m.stage, i, int64(milestone["stage"]))
        _number(frame, m.event_time, i, int64(milestone["event_time"]))
        if int64(milestone["previous_time"]) == NO_TIME:
            _null(frame, m.previous_time, i)
        else:
            _number(frame, m.previous_time, i, int64(milestone["previous_time"]))
        where = int64(milestone["at"])
        if where == NO_WORD or milestone["type"] == STAGE_LOST:
            _text(frame, m.site, i, 0, 0)
            _text(frame, m.station, i, 0, 0)
        else:
            _part(frame, m.site, i, a, where, SITE)
            _part(frame, m.station, i, a, where, STATION)
        _number(frame, m.direction, i, int64(milestone["direction"]))


@compiled
def copy_keys(a: Arrays, rows: NDArray[np.int32], count: int, keys: Bytes, offsets: NDArray[np.int64]) -> None:
    """Parcel ids of the first `count` of `rows`, back to back; `offsets` gets `count` + 1 positions."""
    at = int64(0)
    offsets[0] = 0
    for i in range(count):
        row = int64(rows[i])
        start = int64(a.rows[row]["key_at"]) * KEY_ALIGN
        size = int64(a.rows[row]["key_size"])
        for j in range(size):
            keys[at + j] = a.heap[start + j]
        at += size
        offsets[i + 1] = at
