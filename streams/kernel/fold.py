"""The fold: decoded records of one partition, in offset order, into its parcel table.

One record at a time, in the order of the log. What a record changes depends on the records before it and on nothing
else: neither on where the batch begins nor on the wall clock.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import ADVISED, VOID
from streams.domain.limits import (
    EARLIEST_MS,
    EVENT_ID_BYTES,
    LATEST_MS,
    PARCEL_ID_BYTES,
    RECORDS_PER_PARCEL,
    UTC_OFFSET_MINUTES,
    VOIDS_PER_PARCEL,
    WORD_BYTES,
)
from streams.domain.promise_clocks import Integers, Rules, Story
from streams.domain.record_hash import identity, put_big_endian
from streams.domain.reject_reasons import Reason
from streams.kernel.batch_changes import DELTAS, DUPLICATES, MILESTONES, SCANS, Folded, put_delta, put_milestone, touch
from streams.kernel.due_index import mark_changed
from streams.kernel.insert import (
    AT,
    CONCERNS_OTHERS,
    DUPLICATE,
    INSERTED,
    PREVIOUS,
    SCAN_AT,
    SCAN_KIND,
    SCAN_TIME,
    STAGE,
    TIME,
    TYPE,
    Change,
    insert,
)
from streams.kernel.insert import SCANS as SCANS_BY
from streams.kernel.insert_inferred import MOST_MILESTONES, Firsts, insert_among
from streams.kernel.interned_records import ABSENT, plan_of, where_of
from streams.kernel.murmur2 import partition_of
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, stamp_of, time_of
from streams.kernel.parcel_table import CHUNK, GONE, HUB_TIME, NO_WORD, RETIRED, WINDOW, Arrays, Bytes, row_of, word_of
from streams.kernel.prefetch import look_ahead
from streams.kernel.tick_alerts import tick

# What a record may bring at most for each of its parcel: one that counts anew or does not any more, and two for the
# direction in which it was counted.
DELTAS_PER_RECORD: Final = 3
# Index of the record type in the decoder of hub.scans.
SCAN, ADVICE_RECORD, TICK = range(3)

_OK: Final = int(Reason.OK)
_BAD_PARCEL_ID: Final = int(Reason.BAD_PARCEL_ID)
_OUT_OF_BOUNDS: Final = int(Reason.OUT_OF_BOUNDS)
_BAD_VOID: Final = int(Reason.BAD_VOID)
_WRONG_PARTITION: Final = int(Reason.WRONG_PARTITION)
_PARCEL_FULL: Final = int(Reason.PARCEL_FULL)


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


class Batch(NamedTuple):
    """Decoded records: see streams/kernel/avro/decoder.py for the meaning of the columns."""

    buffer: Bytes
    values: NDArray[np.int64]
    lengths: NDArray[np.int32]
    record: NDArray[np.int8]
    status: Bytes  # Reason of each record; the fold adds its own


@inlined
def _has_control_characters(buffer: Bytes, at: int, size: int) -> bool:
    for i in range(at, at + size):
        if buffer[i] < 32 or buffer[i] == 127:
            return True
        # U+0080 to U+009F, of which terminals obey some as they obey an escape.
        if buffer[i] == 0xC2 and i + 1 < at + size and buffer[i + 1] < 0xA0:
            return True
    return False


@inlined
def _time_is_bad(time: int) -> bool:
    return time < EARLIEST_MS or time >= LATEST_MS


@inlined
def _key_reason(b: Batch, c: ScanColumns, i: int, partition: int, partitions: int) -> int:
    """Why the ids or the times of a scan or an advice cannot be used; OK if they can."""
    size = b.lengths[c.parcel_id, i]
    at = b.values[c.parcel_id, i]
    if size <= 0 or size > PARCEL_ID_BYTES or _has_control_characters(b.buffer, at, size):
        return _BAD_PARCEL_ID
    if b.lengths[c.event_id, i] <= 0 or b.lengths[c.event_id, i] > EVENT_ID_BYTES:
        return _OUT_OF_BOUNDS
    if _time_is_bad(b.values[c.event_time, i]) or _time_is_bad(b.values[c.record_time, i]):
        return _OUT_OF_BOUNDS
    if partition_of(b.buffer, at, size, partitions) != partition:
        return _WRONG_PARTITION
    return _OK


@inlined
def _scan_reason(b: Batch, c: ScanColumns, i: int) -> int:
    """Why the rest of a scan cannot be used; OK if it can."""
    if (
        b.lengths[c.site, i] > WORD_BYTES
        or b.lengths[c.station, i] > WORD_BYTES
        or b.lengths[c.lane, i] > WORD_BYTES
        or b.lengths[c.reason, i] > WORD_BYTES
        or b.lengths[c.container_id, i] > WORD_BYTES
        or b.lengths[c.voids, i] > EVENT_ID_BYTES
        or b.values[c.utc_offset_minutes, i] < -UTC_OFFSET_MINUTES
        or b.values[c.utc_offset_minutes, i] > UTC_OFFSET_MINUTES
    ):
        return _OUT_OF_BOUNDS
    if (b.values[c.kind, i] == VOID) != (b.lengths[c.voids, i] > 0):
        return _BAD_VOID
    return _OK


@inlined
def _advice_reason(b: Batch, c: ScanColumns, i: int) -> int:
    """Why the rest of an advice cannot be used; OK if it can."""
    if (
        b.lengths[c.service, i] > WORD_BYTES
        or b.lengths[c.origin, i] > WORD_BYTES
        or b.lengths[c.destination, i] > WORD_BYTES
        or b.lengths[c.planned_lane, i] > WORD_BYTES
        or b.lengths[c.owner, i] > WORD_BYTES
        or (b.lengths[c.promised_at, i] != ABSENT and _time_is_bad(b.values[c.promised_at, i]))
    ):
        return _OUT_OF_BOUNDS
    return _OK


@inlined
def _scan_where(a: Arrays, b: Batch, c: ScanColumns, i: int) -> int:
    v = b.values
    n = b.lengths
    return where_of(
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


@inlined
def _advice_plan(a: Arrays, b: Batch, c: ScanColumns, i: int) -> int:
    v = b.values
    n = b.lengths
    return plan_of(
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


@inlined
def _void_identity(a: Arrays, b: Batch, c: ScanColumns, i: int) -> tuple[np.uint64, np.uint64]:
    """An error declaration repeats the event_id of what it voids (EPCIS 2.0): its own time is part of its identity."""
    size = int64(b.lengths[c.event_id, i])
    at = b.values[c.event_id, i]
    for j in range(size):
        a.scratch[j] = b.buffer[at + j]
    a.scratch[size] = 0
    put_big_endian(a.scratch, size + 1, np.uint64(b.values[c.event_time, i]))
    return identity(a.scratch, 0, size + 9)


@compiled
def _is_known(a: Arrays, b: Batch, c: ScanColumns, i: int, row: int, kind: int) -> bool:
    """Whether the parcel has the record already."""
    high, low = identity(b.buffer, b.values[c.event_id, i], int64(b.lengths[c.event_id, i]))
    if kind == VOID:
        high, low = _void_identity(a, b, c, i)
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            if a.slots[slot]["high"] == high and a.slots[slot]["low"] == low:
                return True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return False


@inlined
def _identity_word(a: Arrays, high: np.uint64, low: np.uint64) -> int:
    put_big_endian(a.scratch, 0, high)
    put_big_endian(a.scratch, 8, low)
    return word_of(a, a.scratch, 0, 16)


@inlined
def _time_word(a: Arrays, time: int) -> int:
    put_big_endian(a.scratch, 0, np.uint64(time))
    return word_of(a, a.scratch, 0, 8)


@compiled
def fold(
    a: Arrays,
    b: Batch,
    c: ScanColumns,
    rules: Rules,
    partition: int,
    partitions: int,
    number: int,
    first: int,
    change: Change,
    firsts: Firsts,
    story: Story,
    found: Integers,
    out: Folded,
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
        if (i - first) % WINDOW == 0:
            end = min(i + WINDOW, len(b.status))
            look_ahead(a, b.buffer, b.values[c.parcel_id], b.lengths[c.parcel_id], i, end)
        if b.status[i] != _OK:
            continue
        if b.record[i] == TICK:
            if _time_is_bad(b.values[c.hub_time, i]):
                b.status[i] = _OUT_OF_BOUNDS
            elif b.values[c.hub_time, i] >= a.counts[HUB_TIME] and not tick(
                a, rules, b.values[c.hub_time, i], number, story, found, out
            ):
                return i
            continue
        # 1. Refuse what cannot be used, before anything is changed.
        reason = _key_reason(b, c, i, partition, partitions)
        if reason == _OK:
            reason = _scan_reason(b, c, i) if b.record[i] == SCAN else _advice_reason(b, c, i)
        if reason != _OK:
            b.status[i] = reason
            continue
        row = row_of(a, b.buffer, b.values[c.parcel_id, i], int64(b.lengths[c.parcel_id, i]))
        kind = b.values[c.kind, i] if b.record[i] == SCAN else int64(ADVISED)
        if a.rows[row]["records"] >= RECORDS_PER_PARCEL or (kind == VOID and a.rows[row]["voids"] >= VOIDS_PER_PARCEL):
            if _is_known(a, b, c, i, row, kind):
                out.counts[DUPLICATES] += 1
            else:
                b.status[i] = _PARCEL_FULL
            continue
        # An advice or a VOID may change the direction of every scan, and a record what others count for.
        if (
            len(out.delta_at) - out.counts[DELTAS] < DELTAS_PER_RECORD * (a.rows[row]["records"] + 2)
            or len(out.milestones) - out.counts[MILESTONES] < MOST_MILESTONES
        ):
            return i
        # 2. Make a slot of it.
        at = int64(NO_WORD)
        what = int64(NO_WORD)
        offset = int64(0)
        flags = int64(0)
        high, low = identity(b.buffer, b.values[c.event_id, i], int64(b.lengths[c.event_id, i]))
        if b.record[i] == SCAN:
            at = _scan_where(a, b, c, i)
            offset = b.values[c.utc_offset_minutes, i]
            if b.lengths[c.inferred_from, i] != ABSENT:
                flags = int64(INFERRED)
            if kind == VOID:
                high, low = _void_identity(a, b, c, i)
                target = identity(b.buffer, b.values[c.voids, i], int64(b.lengths[c.voids, i]))
                what = _identity_word(a, target[0], target[1])
            elif b.lengths[c.container_id, i] != ABSENT:
                what = word_of(a, b.buffer, b.values[c.container_id, i], int64(b.lengths[c.container_id, i]))
        else:
            at = _advice_plan(a, b, c, i)
            flags = int64(ADVICE)
            if b.lengths[c.promised_at, i] != ABSENT:
                what = _time_word(a, b.values[c.promised_at, i])
        # 3. Insert it; what it changes goes to the outputs.
        stamp = stamp_of(b.values[c.event_time, i], kind, offset, flags)
        direction = int64(a.rows[row]["direction"])
        outcome = insert(a, row, high, low, stamp, at, what, True, change)
        if outcome == DUPLICATE:
            out.counts[DUPLICATES] += 1
            continue
        if outcome == CONCERNS_OTHERS:
            insert_among(a, row, high, low, stamp, at, what, change, firsts, out)
        if a.rows[row]["batch"] == GONE:
            a.counts[RETIRED] -= 1
        touch(a, row, number, out)
        mark_changed(a, row)
        if b.record[i] == SCAN:
            n = out.counts[SCANS]
            out.scan_at[n] = at
            out.scan_kind[n] = kind
            out.scan_direction[n] = a.rows[row]["direction"]
            out.counts[SCANS] = n + 1
        if outcome == INSERTED:
            _tell_change(a, row, change, direction, out)
        if a.rows[row]["direction"] != direction:
            _turn(a, row, direction, out)
    return len(b.status)


@compiled
def _turn(a: Arrays, row: int, before: int, out: Folded) -> None:
    """The parcel goes in another direction than was known: its scans are counted under that one."""
    now = int64(a.rows[row]["direction"])
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if stamp & (VOIDED | ADVICE) or kind_of(stamp) == VOID:
                continue
            at = int64(a.slots[slot]["at"])
            put_delta(out, int64(-1), at, kind_of(stamp), time_of(stamp), before)
            put_delta(out, int64(1), at, kind_of(stamp), time_of(stamp), now)
        left -= CHUNK
        chunk = int64(a.following[chunk])


@inlined
def _tell_change(a: Arrays, row: int, change: Change, direction: int, out: Folded) -> None:
    n = change.numbers
    if n[TYPE] != 0:
        evidence = change.evidence
        put_milestone(a, row, n[TYPE], n[STAGE], n[TIME], n[PREVIOUS], n[AT], evidence[0], evidence[1], out)
    if n[SCANS_BY] != 0:
        put_delta(out, n[SCANS_BY], n[SCAN_AT], n[SCAN_KIND], n[SCAN_TIME], direction)
