"""What a Tick makes of the parcels: alerts that fire, alerts that are withdrawn, parcels that leave.

Alerts are decided at Ticks only, each from the parcel's records and the Tick's time. So the order in which records
came between two Ticks means nothing, and neither do batches and restarts: a parcel that is looked at once more, with
nothing new known of it, says nothing new.
"""

from typing import Final

import numpy as np

from streams.domain.jit import compiled, inlined, int64
from streams.domain.kinds import (
    CUSTOMS_HELD,
    CUSTOMS_RELEASED,
    DISPATCHED,
    KINDS,
    LANE,
    NO_READ,
    PACKED,
    RECIRCULATED,
    UNPACKED,
    VOID,
)
from streams.domain.promise_clocks import (
    ADVICE_SLOT,
    AT_RISK,
    BEGINS,
    BREACHED,
    COUNT,
    DEADLINE,
    FIRES,
    JOURNEY_AT,
    LEVEL,
    LIMIT,
    NEVER,
    NEXT,
    NOBODY,
    NOTHING,
    ODD,
    ONE,
    OPEN,
    OTHER,
    PAUSED,
    RUNNING,
    SEEN_SLOT,
    SINCE,
    SLOT,
    STANDING,
    STOPPED,
    WITHDRAWN,
    Integers,
    Rules,
    Story,
    heard_again_at,
    reached,
    retires_at,
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
from streams.domain.record_hash import identity, put_big_endian
from streams.kernel.active_alerts import drop_all_told, drop_told, put_told, room_for_told, told_of, type_in
from streams.kernel.batch_changes import ALERTS, LEFT, Folded, touch
from streams.kernel.due_index import mark_changed, set_due
from streams.kernel.evaluate import look
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import (
    BLOCK,
    CHANGED,
    CHANGED_DONE,
    CHUNK,
    GONE,
    HUB_TIME,
    KEY_ALIGN,
    NO_WORD,
    NONE,
    NOT_DUE,
    RETIRED,
    ROWS,
    Arrays,
    clear_row,
)

# What a subject says at one Tick at most: an alert is withdrawn, and another fires.
ALERTS_PER_SUBJECT: Final = 2
# Kinds of scan that prove an anomaly, one bit each; where one was voided, it is why the anomaly is withdrawn.
_PROVE: Final = np.zeros(len(ANOMALIES), np.int64)
_PROVE[MISROUTED] = LANE
_PROVE[REPEATED_NO_READ] = 1 << NO_READ
_PROVE[RECIRCULATING] = 1 << RECIRCULATED
_PROVE[NOT_RELEASED] = 1 << DISPATCHED
_PROVE[HELD_TOO_LONG] = 1 << CUSTOMS_HELD
_PROVE[FROM_THE_FUTURE] = (1 << len(KINDS)) - 1
_PROVE[NUMBER_REUSED] = BEGINS
_PROVE[FOUND_OUTSIDE] = (1 << len(KINDS)) - 1
_PROVE[MISSING] = 1 << PACKED | 1 << UNPACKED
_PROVE[FOUND_EXTRA] = 1 << UNPACKED
PROVE: Final = tuple(_PROVE.tolist())


@compiled
def tick(a: Arrays, rules: Rules, hub_time: int, number: int, story: Story, found: Integers, out: Folded) -> bool:
    """A Tick that does not set the hub's time back: look at every parcel that is due, or changed since the last one.

    Returns:
        False when there is no room for what it may say: call again with more (`ParcelTable.reserve_told`,
        `folded.with_room`), nothing is said twice.
    """
    # 1. What became due by the time alone joins what changed since the last Tick.
    rows = a.counts[ROWS]
    for block in range((rows + BLOCK - 1) // BLOCK):
        if a.due_blocks[block] >= hub_time:
            continue
        least = int64(NOT_DUE)
        for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            if a.due[row] >= hub_time:
                least = min(least, a.due[row])
            else:
                mark_changed(a, row)
        a.due_blocks[block] = least
    # 2. Look at all of them.
    while a.counts[CHANGED_DONE] < a.counts[CHANGED]:
        if not _has_room(a, out):
            return False
        row = int64(a.changed[a.counts[CHANGED_DONE]])
        a.counts[CHANGED_DONE] += 1
        _watch(a, rules, row, hub_time, number, story, found, out)
    a.counts[CHANGED] = 0
    a.counts[CHANGED_DONE] = 0
    a.counts[HUB_TIME] = hub_time
    return True


@inlined
def _has_room(a: Arrays, out: Folded) -> bool:
    most = ALERTS_PER_SUBJECT * len(a.subjects)
    return len(out.alerts) - out.counts[ALERTS] >= most and room_for_told(a) >= most


@inlined
def _watch(
    a: Arrays, rules: Rules, row: int, now: int, number: int, story: Story, found: Integers, out: Folded
) -> None:
    look(a, rules, row, now, story, found)
    leaves = retires_at(story, rules)
    if now > leaves:
        retire(a, row)
        out.retired[out.counts[LEFT]] = row
        out.counts[LEFT] += 1
        return
    due = min(leaves, heard_again_at(story))
    _count_running(a, rules, row, found)
    for subject in range(len(a.subjects)):
        due = min(due, found[subject, NEXT])
        if a.rows[row]["told"] != NONE or found[subject, FIRES]:
            _compare(a, rules, row, subject, now, number, story, found, out)
    set_due(a, row, due)


@inlined
def _count_running(a: Arrays, rules: Rules, row: int, found: Integers) -> None:
    before = int64(a.rows[row]["running"])
    now = int64(0)
    for promise in range(len(rules.limit)):
        if found[promise, STANDING] == RUNNING or found[promise, STANDING] == PAUSED:
            now |= 1 << promise
    if now != before:
        _set_running(a, row, before, now)


@inlined
def _set_running(a: Arrays, row: int, before: int, now: int) -> None:
    for promise in range(len(a.running)):
        a.running[promise] += ((now >> promise) & 1) - ((before >> promise) & 1)
    a.rows[row]["running"] = now


@compiled
def retire(a: Arrays, row: int) -> None:
    """The parcel leaves the table; the row stays until `streams/kernel/compact.py` takes it away."""
    clear_row(a, row)
    drop_all_told(a, row)
    _set_running(a, row, int64(a.rows[row]["running"]), int64(0))
    a.stages[int64(a.rows[row]["stage"])] -= 1
    a.stages[0] += 1
    a.rows[row]["stage"] = 0
    a.rows[row]["batch"] = GONE
    a.due[row] = NOT_DUE
    a.counts[RETIRED] += 1


@compiled
def _compare(
    a: Arrays, rules: Rules, row: int, subject: int, now: int, number: int, story: Story, found: Integers, out: Folded
) -> None:
    """What was told about a subject, and what is to tell."""
    word = int64(a.subjects[subject])
    told = told_of(a, row, word)
    anomaly = subject - len(rules.limit)
    level = found[subject, LEVEL]
    if told != NONE:
        since = int64(a.told[told]["since"])
        was = type_in(a.told[told]["what"])
        if anomaly == FROM_THE_FUTURE:
            # The hub's time catches up with it; it was from the future all the same.
            level = int64(ODD if _scan_at(a, row, since) else NOTHING)
        elif anomaly != NUMBER_REUSED and since < story.facts[JOURNEY_AT]:
            # Told of an earlier parcel with this number: over.
            drop_told(a, row, word)
            touch(a, row, number, out)
            told = int64(NONE)
        elif anomaly < 0 and rules.restarts[subject] and since != found[subject, SINCE]:
            # The clock was started anew since: is what was told of it before still so?
            if _level_of_run(a, rules, row, subject, since, now, story) < was:
                _withdraw(a, rules, row, subject, told, now, number, story, found, out)
            drop_told(a, row, word)
            touch(a, row, number, out)
            told = int64(NONE)
        elif anomaly == NUMBER_REUSED and level == ODD and since != found[subject, SINCE]:
            drop_told(a, row, word)
            told = int64(NONE)
        if told != NONE and level < was:
            _withdraw(a, rules, row, subject, told, now, number, story, found, out)
            drop_told(a, row, word)
            told = int64(NONE)
            level = found[subject, LEVEL]
    stands = int64(NOTHING)
    if told != NONE:
        stands = type_in(a.told[told]["what"])
    if level > stands and found[subject, FIRES]:
        n = _put_alert(a, rules, row, subject, level, found[subject, SINCE], now, number, story, found, out)
        put_told(a, row, word, level, found[subject, SINCE], out.alerts[n]["high"], out.alerts[n]["low"])


@inlined
def _withdraw(
    a: Arrays,
    rules: Rules,
    row: int,
    subject: int,
    told: int,
    now: int,
    number: int,
    story: Story,
    found: Integers,
    out: Folded,
) -> None:
    n = out.counts[ALERTS]
    out.alerts[n]["taken_high"] = a.told[told]["high"]
    out.alerts[n]["taken_low"] = a.told[told]["low"]
    since = int64(a.told[told]["since"])
    _put_alert(a, rules, row, subject, int64(WITHDRAWN), since, now, number, story, found, out)


@compiled
def _put_alert(
    a: Arrays,
    rules: Rules,
    row: int,
    subject: int,
    kind: int,
    since: int,
    now: int,
    number: int,
    story: Story,
    found: Integers,
    out: Folded,
) -> int:
    """One alert more; returns its place."""
    touch(a, row, number, out)
    n = out.counts[ALERTS]
    out.counts[ALERTS] = n + 1
    alert = out.alerts[n]
    alert["row"] = row
    alert["version"] = a.rows[row]["records"]
    alert["type"] = kind
    alert["subject"] = subject
    alert["direction"] = a.rows[row]["direction"]
    alert["hub_time"] = now
    alert["since"] = since
    alert["deadline"] = found[subject, DEADLINE] if found[subject, DEADLINE] != OPEN else NEVER
    alert["limit"] = found[subject, LIMIT]
    alert["stopped"] = found[subject, STOPPED]
    one = found[subject, ONE]
    other = found[subject, OTHER]
    if kind == WITHDRAWN:
        if one == NOBODY:
            one = _reason_to_withdraw(a, rules, row, subject, story)
    else:
        alert["taken_high"] = 0
        alert["taken_low"] = 0
    alert["evidence"] = 0 if one == NOBODY else 1 if other == NOBODY else 2
    alert["one_high"] = a.slots[one]["high"] if one != NOBODY else np.uint64(0)
    alert["one_low"] = a.slots[one]["low"] if one != NOBODY else np.uint64(0)
    alert["other_high"] = a.slots[other]["high"] if other != NOBODY else np.uint64(0)
    alert["other_low"] = a.slots[other]["low"] if other != NOBODY else np.uint64(0)
    place = one
    if other != NOBODY and int64(a.slots[other]["stamp"]) & ADVICE == 0:
        place = other
    alert["at"] = NO_WORD
    if place != NOBODY and int64(a.slots[place]["stamp"]) & ADVICE == 0:
        alert["at"] = a.slots[place]["at"]
    high, low = _alert_identity(a, out, n)
    alert["high"] = high
    alert["low"] = low
    return int64(n)


@inlined
def _reason_to_withdraw(a: Arrays, rules: Rules, row: int, subject: int, story: Story) -> int:
    """Slot of what takes an alert back: the voided scan it rested on, the release that came to light, or the advice."""
    anomaly = subject - len(rules.limit)
    if anomaly < 0:
        kinds = rules.starts[subject] | rules.renews[subject]
    else:
        kinds = int64(PROVE[anomaly])
        if (anomaly == NOT_RELEASED or anomaly == HELD_TOO_LONG) and story.firsts[COUNT, CUSTOMS_RELEASED] > 0:  # noqa: PLR1714
            return int64(story.firsts[SLOT, CUSTOMS_RELEASED])
        if anomaly == MISSING and story.facts[SEEN_SLOT] != NOBODY:
            return int64(story.facts[SEEN_SLOT])
        if anomaly == FOUND_OUTSIDE and story.firsts[COUNT, UNPACKED] > 0:
            return int64(story.firsts[SLOT, UNPACKED])
        if anomaly == FOUND_EXTRA and story.firsts[COUNT, PACKED] > 0:
            return int64(story.firsts[SLOT, PACKED])
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if stamp & VOIDED and (kinds >> kind_of(stamp)) & 1:
                return slot
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return int64(story.facts[ADVICE_SLOT])


@compiled
def _scan_at(a: Arrays, row: int, time: int) -> bool:
    """Does a scan that counts say it happened at that instant?"""
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            if time_of(stamp) == time and kind_of(stamp) != VOID and stamp & (VOIDED | ADVICE) == 0:
                return True
        left -= CHUNK
        chunk = int64(a.following[chunk])
    return False


@compiled
def _level_of_run(a: Arrays, rules: Rules, row: int, promise: int, since: int, now: int, story: Story) -> int:
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
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            time = time_of(stamp)
            if kind == VOID or stamp & VOIDED or time < story.facts[JOURNEY_AT]:
                continue
            starts_it = (starts >> kind) & 1 or (runs and (renews >> kind) & 1)
            if not starts_it and not (stops >> kind) & 1:
                continue
            runs = starts_it != 0
            if time == since and runs:
                begun = True
            elif time > since:
                until = min(until, time)
        left -= CHUNK
        chunk = int64(a.following[chunk])
    if not begun:
        return int64(NOTHING)
    pausable = rules.pauses[promise] != 0
    limit = rules.limit[promise]
    if until > reached(story, since, limit, pausable)[0]:
        return int64(BREACHED)
    risk = rules.risk[promise]
    if risk != 0 and until > reached(story, since, limit * risk // 10_000, pausable)[0]:
        return int64(AT_RISK)
    return int64(NOTHING)


@inlined
def _alert_identity(a: Arrays, out: Folded, n: int) -> tuple[np.uint64, np.uint64]:
    """Identity of what the alert says: see alert_id in schemas/Alert.avsc."""
    alert = out.alerts[n]
    row = int64(alert["row"])
    said = a.scratch
    key_at = int64(a.rows[row]["key_at"]) * KEY_ALIGN
    at = int64(a.rows[row]["key_size"])
    for i in range(at):
        said[i] = a.heap[key_at + i]
    said[at] = 0
    at += 1
    subject = int64(alert["subject"])
    word = int64(a.subjects[subject])
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
    put_big_endian(said, at + 32, np.uint64(int64(alert["stopped"])))
    put_big_endian(said, at + 40, alert["one_high"])
    put_big_endian(said, at + 48, alert["one_low"])
    put_big_endian(said, at + 56, alert["other_high"])
    put_big_endian(said, at + 64, alert["other_low"])
    put_big_endian(said, at + 72, alert["taken_high"])
    put_big_endian(said, at + 80, alert["taken_low"])
    return identity(said, 0, at + 88)
