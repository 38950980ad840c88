"""What a Tick makes of the parcels: alerts that fire, alerts that are withdrawn, parcels that leave.

Alerts are decided at Ticks only, each from the parcel's records and the Tick's time. So the order in which records
came between two Ticks means nothing, and neither do batches and restarts: a parcel that is looked at once more, with
nothing new known of it, says nothing new.
"""

from typing import Final

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import (
    CUSTOMS_HELD,
    CUSTOMS_RELEASED,
    DISPATCHED,
    KINDS,
    LANE_KINDS,
    NO_READ,
    PACKED,
    RECIRCULATED,
    UNPACKED,
    VOID,
)
from streams.domain.promise_clocks import (
    ADVICE_SLOT,
    ANOMALY,
    AT_RISK,
    BREACHED,
    COUNT,
    DEADLINE,
    FIRING,
    FIRST_EVIDENCE,
    FIRST_SLOT,
    JOURNEY_START_KINDS,
    JOURNEY_TIME,
    LEVEL,
    LIMIT,
    NEXT_CHANGE,
    NO_ALERT,
    NO_SLOT,
    NO_TIME,
    OPEN_ENDED,
    PAUSED,
    RUNNING,
    SECOND_EVIDENCE,
    SEEN_AFTER_EMPTYING_SLOT,
    SINCE,
    STATUS,
    STOPPED,
    WITHDRAWN,
    Integers,
    JourneyFacts,
    PromiseRules,
    add_running_time,
    first_future_time,
    retirement_time,
)
from streams.domain.promises import (
    ANOMALIES,
    FOUND_EXTRA,
    FOUND_OUTSIDE,
    FROM_THE_FUTURE,
    HELD_TOO_LONG,
    MISROUTED,
    MISSING,
    NOT_RELEASED,
    NUMBER_REUSED,
    RECIRCULATING,
    REPEATED_NO_READ,
)
from streams.domain.record_hash import put_big_endian, record_hash
from streams.kernel.active_alerts import (
    alert_type_of,
    find_active_alert,
    free_alert_capacity,
    remove_active_alert,
    remove_all_active_alerts,
    set_active_alert,
)
from streams.kernel.batch_changes import ALERT_COUNT, RETIREMENT_COUNT, BatchChanges, mark_updated
from streams.kernel.due_index import mark_changed, set_due_time
from streams.kernel.evaluate import evaluate_parcel
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import (
    CHANGED_COUNT,
    EVALUATED_COUNT,
    HUB_TIME,
    KEY_ALIGNMENT,
    NO_INTERN_ID,
    NONE,
    NOT_DUE,
    RETIRED_ROW_COUNT,
    ROW_COUNT,
    ROW_RETIRED,
    ROWS_PER_BLOCK,
    SLOTS_PER_CHUNK,
    TableArrays,
    clear_row,
)

# What a subject says at one Tick at most: an alert is withdrawn, and another fires.
MAX_ALERTS_PER_SUBJECT: Final = 2
# Kinds of scan that prove an anomaly, one bit each; where one was voided, it is why the anomaly is withdrawn.
_EVIDENCE_KINDS: Final = np.zeros(len(ANOMALIES), np.int64)
_EVIDENCE_KINDS[MISROUTED] = LANE_KINDS
_EVIDENCE_KINDS[REPEATED_NO_READ] = 1 << NO_READ
_EVIDENCE_KINDS[RECIRCULATING] = 1 << RECIRCULATED
_EVIDENCE_KINDS[NOT_RELEASED] = 1 << DISPATCHED
_EVIDENCE_KINDS[HELD_TOO_LONG] = 1 << CUSTOMS_HELD
_EVIDENCE_KINDS[FROM_THE_FUTURE] = (1 << len(KINDS)) - 1
_EVIDENCE_KINDS[NUMBER_REUSED] = JOURNEY_START_KINDS
_EVIDENCE_KINDS[FOUND_OUTSIDE] = (1 << len(KINDS)) - 1
_EVIDENCE_KINDS[MISSING] = 1 << PACKED | 1 << UNPACKED
_EVIDENCE_KINDS[FOUND_EXTRA] = 1 << UNPACKED
ANOMALY_EVIDENCE_KINDS: Final = tuple(_EVIDENCE_KINDS.tolist())


@jit
def apply_tick(
    a: TableArrays,
    rules: PromiseRules,
    hub_time: int,
    number: int,
    story: JourneyFacts,
    found: Integers,
    out: BatchChanges,
) -> bool:
    """A Tick that does not set the hub's time back: look at every parcel that is due, or changed since the last one.

    Returns:
        False when there is no room for what it may say: call again with more (`ParcelTable.reserve_told`,
        `folded.with_room`), nothing is said twice.
    """
    # 1. What became due by the time alone joins what changed since the last Tick.
    rows = a.counts[ROW_COUNT]
    for block in range((rows + ROWS_PER_BLOCK - 1) // ROWS_PER_BLOCK):
        if a.block_due_times[block] >= hub_time:
            continue
        least = int64(NOT_DUE)
        for row in range(block * ROWS_PER_BLOCK, min(rows, (block + 1) * ROWS_PER_BLOCK)):
            if a.due[row] >= hub_time:
                least = min(least, a.due[row])
            else:
                mark_changed(a, row)
        a.block_due_times[block] = least
    # 2. Look at all of them.
    while a.counts[EVALUATED_COUNT] < a.counts[CHANGED_COUNT]:
        if not _has_room(a, out):
            return False
        row = int64(a.changed[a.counts[EVALUATED_COUNT]])
        a.counts[EVALUATED_COUNT] += 1
        _evaluate_row(a, rules, row, hub_time, number, story, found, out)
    a.counts[CHANGED_COUNT] = 0
    a.counts[EVALUATED_COUNT] = 0
    a.counts[HUB_TIME] = hub_time
    return True


@jit_inline
def _has_room(a: TableArrays, out: BatchChanges) -> bool:
    most = MAX_ALERTS_PER_SUBJECT * len(a.subject_intern_ids)
    return len(out.alerts) - out.counts[ALERT_COUNT] >= most and free_alert_capacity(a) >= most


@jit_inline
def _evaluate_row(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    now: int,
    number: int,
    story: JourneyFacts,
    found: Integers,
    out: BatchChanges,
) -> None:
    evaluate_parcel(a, rules, row, now, story, found)
    leaves = retirement_time(story, rules)
    if now > leaves:
        retire_row(a, row)
        out.retired[out.counts[RETIREMENT_COUNT]] = row
        out.counts[RETIREMENT_COUNT] += 1
        return
    due = min(leaves, first_future_time(story))
    _count_running(a, rules, row, found)
    for subject in range(len(a.subject_intern_ids)):
        due = min(due, found[subject, NEXT_CHANGE])
        if a.rows[row]["told"] != NONE or found[subject, FIRING]:
            _update_alert(a, rules, row, subject, now, number, story, found, out)
    set_due_time(a, row, due)


@jit_inline
def _count_running(a: TableArrays, rules: PromiseRules, row: int, found: Integers) -> None:
    before = int64(a.rows[row]["running"])
    now = int64(0)
    for promise in range(len(rules.limit)):
        if found[promise, STATUS] == RUNNING or found[promise, STATUS] == PAUSED:
            now |= 1 << promise
    if now != before:
        _set_running(a, row, before, now)


@jit_inline
def _set_running(a: TableArrays, row: int, before: int, now: int) -> None:
    for promise in range(len(a.running)):
        a.running[promise] += ((now >> promise) & 1) - ((before >> promise) & 1)
    a.rows[row]["running"] = now


@jit
def retire_row(a: TableArrays, row: int) -> None:
    """The parcel leaves the table; the row stays until `streams/kernel/compact.py` takes it away."""
    clear_row(a, row)
    remove_all_active_alerts(a, row)
    _set_running(a, row, int64(a.rows[row]["running"]), int64(0))
    a.stages[int64(a.rows[row]["stage"])] -= 1
    a.stages[0] += 1
    a.rows[row]["stage"] = 0
    a.rows[row]["batch"] = ROW_RETIRED
    a.due[row] = NOT_DUE
    a.counts[RETIRED_ROW_COUNT] += 1


@jit
def _update_alert(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    subject: int,
    now: int,
    number: int,
    story: JourneyFacts,
    found: Integers,
    out: BatchChanges,
) -> None:
    """What was told about a subject, and what is to tell."""
    word = int64(a.subject_intern_ids[subject])
    told = find_active_alert(a, row, word)
    anomaly = subject - len(rules.limit)
    level = found[subject, LEVEL]
    if told != NONE:
        since = int64(a.told[told]["since"])
        was = alert_type_of(a.told[told]["what"])
        if anomaly == FROM_THE_FUTURE:
            # The hub's time catches up with it; it was from the future all the same.
            level = int64(ANOMALY if _scan_at(a, row, since) else NO_ALERT)
        elif anomaly != NUMBER_REUSED and since < story.facts[JOURNEY_TIME]:
            # Told of an earlier parcel with this number: over.
            remove_active_alert(a, row, word)
            mark_updated(a, row, number, out)
            told = int64(NONE)
        elif anomaly < 0 and rules.restarts[subject] and since != found[subject, SINCE]:
            # The clock was started anew since: is what was told of it before still so?
            if _level_of_run(a, rules, row, subject, since, now, story) < was:
                _withdraw(a, rules, row, subject, told, now, number, story, found, out)
            remove_active_alert(a, row, word)
            mark_updated(a, row, number, out)
            told = int64(NONE)
        elif anomaly == NUMBER_REUSED and level == ANOMALY and since != found[subject, SINCE]:
            remove_active_alert(a, row, word)
            told = int64(NONE)
        if told != NONE and level < was:
            _withdraw(a, rules, row, subject, told, now, number, story, found, out)
            remove_active_alert(a, row, word)
            told = int64(NONE)
            level = found[subject, LEVEL]
    stands = int64(NO_ALERT)
    if told != NONE:
        stands = alert_type_of(a.told[told]["what"])
    if level > stands and found[subject, FIRING]:
        n = _put_alert(a, rules, row, subject, level, found[subject, SINCE], now, number, story, found, out)
        set_active_alert(a, row, word, level, found[subject, SINCE], out.alerts[n]["high"], out.alerts[n]["low"])


@jit_inline
def _withdraw(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    subject: int,
    told: int,
    now: int,
    number: int,
    story: JourneyFacts,
    found: Integers,
    out: BatchChanges,
) -> None:
    n = out.counts[ALERT_COUNT]
    out.alerts[n]["taken_high"] = a.told[told]["high"]
    out.alerts[n]["taken_low"] = a.told[told]["low"]
    since = int64(a.told[told]["since"])
    _put_alert(a, rules, row, subject, int64(WITHDRAWN), since, now, number, story, found, out)


@jit
def _put_alert(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    subject: int,
    kind: int,
    since: int,
    now: int,
    number: int,
    story: JourneyFacts,
    found: Integers,
    out: BatchChanges,
) -> int:
    """One alert more; returns its place."""
    mark_updated(a, row, number, out)
    n = out.counts[ALERT_COUNT]
    out.counts[ALERT_COUNT] = n + 1
    alert = out.alerts[n]
    alert["row"] = row
    alert["version"] = a.rows[row]["records"]
    alert["type"] = kind
    alert["subject"] = subject
    alert["direction"] = a.rows[row]["direction"]
    alert["hub_time"] = now
    alert["since"] = since
    alert["deadline"] = found[subject, DEADLINE] if found[subject, DEADLINE] != OPEN_ENDED else NO_TIME
    alert["limit"] = found[subject, LIMIT]
    alert["stopped_at"] = found[subject, STOPPED]
    one = found[subject, FIRST_EVIDENCE]
    other = found[subject, SECOND_EVIDENCE]
    if kind == WITHDRAWN:
        if one == NO_SLOT:
            one = _reason_to_withdraw(a, rules, row, subject, story)
    else:
        alert["taken_high"] = 0
        alert["taken_low"] = 0
    alert["evidence"] = 0 if one == NO_SLOT else 1 if other == NO_SLOT else 2
    alert["one_high"] = a.slots[one]["high"] if one != NO_SLOT else np.uint64(0)
    alert["one_low"] = a.slots[one]["low"] if one != NO_SLOT else np.uint64(0)
    alert["other_high"] = a.slots[other]["high"] if other != NO_SLOT else np.uint64(0)
    alert["other_low"] = a.slots[other]["low"] if other != NO_SLOT else np.uint64(0)
    place = one
    if other != NO_SLOT and int64(a.slots[other]["stamp"]) & ADVICE == 0:
        place = other
    alert["at"] = NO_INTERN_ID
    if place != NO_SLOT and int64(a.slots[place]["stamp"]) & ADVICE == 0:
        alert["at"] = a.slots[place]["at"]
    high, low = _alert_identity(a, out, n)
    alert["high"] = high
    alert["low"] = low
    return int64(n)


@jit_inline
def _reason_to_withdraw(a: TableArrays, rules: PromiseRules, row: int, subject: int, story: JourneyFacts) -> int:
    """Slot of what takes an alert back: the voided scan it rested on, the release that came to light, or the advice."""
    anomaly = subject - len(rules.limit)
    if anomaly < 0:
        kinds = rules.starts[subject] | rules.renews[subject]
    else:
        kinds = int64(ANOMALY_EVIDENCE_KINDS[anomaly])
        if (anomaly == NOT_RELEASED or anomaly == HELD_TOO_LONG) and story.firsts[COUNT, CUSTOMS_RELEASED] > 0:  # noqa: PLR1714
            return int64(story.firsts[FIRST_SLOT, CUSTOMS_RELEASED])
        if anomaly == MISSING and story.facts[SEEN_AFTER_EMPTYING_SLOT] != NO_SLOT:
            return int64(story.facts[SEEN_AFTER_EMPTYING_SLOT])
        if anomaly == FOUND_OUTSIDE and story.firsts[COUNT, UNPACKED] > 0:
            return int64(story.firsts[FIRST_SLOT, UNPACKED])
        if anomaly == FOUND_EXTRA and story.firsts[COUNT, PACKED] > 0:
            return int64(story.firsts[FIRST_SLOT, PACKED])
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if stamp & VOIDED and (kinds >> kind_of(stamp)) & 1:
                return slot
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return int64(story.facts[ADVICE_SLOT])


@jit
def _scan_at(a: TableArrays, row: int, time: int) -> bool:
    """Does a scan that counts say it happened at that instant?"""
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if time_of(stamp) == time and kind_of(stamp) != VOID and stamp & (VOIDED | ADVICE) == 0:
                return True
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    return False


@jit
def _level_of_run(
    a: TableArrays, rules: PromiseRules, row: int, promise: int, since: int, now: int, story: JourneyFacts
) -> int:
    """What the clock that started at `since`, and was started anew after it, came to."""
    starts = rules.starts[promise]
    stops = rules.stops[promise]
    renews = rules.renews[promise]
    runs = False
    begun = False
    until = now
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            time = time_of(stamp)
            if kind == VOID or stamp & VOIDED or time < story.facts[JOURNEY_TIME]:
                continue
            starts_it = (starts >> kind) & 1 or (runs and (renews >> kind) & 1)
            if not starts_it and not (stops >> kind) & 1:
                continue
            runs = starts_it != 0
            if time == since and runs:
                begun = True
            elif time > since:
                until = min(until, time)
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
    if not begun:
        return int64(NO_ALERT)
    pausable = rules.pauses[promise] != 0
    limit = rules.limit[promise]
    if until > add_running_time(story, since, limit, pausable)[0]:
        return int64(BREACHED)
    risk = rules.risk[promise]
    if risk != 0 and until > add_running_time(story, since, limit * risk // 10_000, pausable)[0]:
        return int64(AT_RISK)
    return int64(NO_ALERT)


@jit_inline
def _alert_identity(a: TableArrays, out: BatchChanges, n: int) -> tuple[np.uint64, np.uint64]:
    """Identity of what the alert says: see alert_id in schemas/Alert.avsc."""
    alert = out.alerts[n]
    row = int64(alert["row"])
    said = a.scratch
    key_at = int64(a.rows[row]["key_at"]) * KEY_ALIGNMENT
    at = int64(a.rows[row]["key_size"])
    for i in range(at):
        said[i] = a.heap[key_at + i]
    said[at] = 0
    at += 1
    subject = int64(alert["subject"])
    word = int64(a.subject_intern_ids[subject])
    name = int64(a.words[word]["at"])
    size = int64(a.words[word]["size"])
    for i in range(size):
        said[at + i] = a.heap[name + i]
    said[at + size] = 0
    at += size + 1
    said[at] = alert["type"]
    said[at + 1] = alert["evidence"]
    at += 2
    version = int64(alert["version"])
    for i in range(4):
        said[at + i] = np.uint8((version >> (24 - 8 * i)) & 255)
    at += 4
    put_big_endian(said, at, np.uint64(int64(alert["hub_time"])))
    put_big_endian(said, at + 8, np.uint64(int64(alert["since"])))
    put_big_endian(said, at + 16, np.uint64(int64(alert["deadline"])))
    put_big_endian(said, at + 24, np.uint64(int64(alert["limit"])))
    put_big_endian(said, at + 32, np.uint64(int64(alert["stopped_at"])))
    put_big_endian(said, at + 40, alert["one_high"])
    put_big_endian(said, at + 48, alert["one_low"])
    put_big_endian(said, at + 56, alert["other_high"])
    put_big_endian(said, at + 64, alert["other_low"])
    put_big_endian(said, at + 72, alert["taken_high"])
    put_big_endian(said, at + 80, alert["taken_low"])
    return record_hash(said, 0, at + 88)
