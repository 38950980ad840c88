"""Evaluates the promise clocks and the anomalies of one parcel of the table, by `streams/domain/promise_clocks.py`."""

from streams.domain.jit import inlined, int64
from streams.domain.kinds import (
    CUSTOMS_HELD,
    LANE,
    LOADED,
    NO_READ,
    PACKED,
    RECIRCULATED,
    SORTED,
    UNPACKED,
    VOID,
)
from streams.domain.promise_clocks import (
    ADVICE_SLOT,
    CONTAINED,
    COUNT,
    FUTURE_SLOT,
    JOURNEY_AT,
    JOURNEY_SLOT,
    JOURNEYS,
    NEVER,
    NO_READ_SLOT,
    NOBODY,
    OFF,
    PLAN,
    PROMISED,
    RECIRCULATED_SLOT,
    SLOT,
    TIME,
    UNDER_CUSTOMS_SLOT,
    UNRELEASED_SLOT,
    Integers,
    Rules,
    Story,
    forget,
    hear,
    judge_held,
    judge_promise,
    nothing_found,
    odd,
    tell,
    tell_advice,
)
from streams.domain.promises import (
    ANOMALIES,
    FROM_THE_FUTURE,
    HELD_TOO_LONG,
    MISROUTED,
    NOT_RELEASED,
    NUMBER_REUSED,
    RECIRCULATING,
    REPEATED_NO_READ,
)
from streams.domain.record_hash import get_big_endian
from streams.kernel.containment_anomalies import find_astray
from streams.kernel.interned_records import (
    ABSENT,
    PLANNED_LANE,
    REASON,
    SERVICE,
    direction_of,
    plan_text,
    same_text,
    text_in,
)
from streams.kernel.interned_records import LANE as LANE_TEXT
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import CHUNK, NO_WORD, Arrays


@inlined
def look(a: Arrays, rules: Rules, row: int, now: int, story: Story, found: Integers) -> None:
    """Fill `story` and `found` with what is to say of a parcel at the hub's time `now`."""
    _read(a, rules, row, now, story)
    plan = story.facts[PLAN]
    promised_at = int64(NEVER)
    if story.facts[PROMISED] != NO_WORD:
        promised_at = int64(get_big_endian(a.heap, int64(a.words[story.facts[PROMISED]]["at"])))
    for promise in range(len(rules.limit)):
        if _applies(a, rules, promise, plan):
            judge_promise(story, rules, promise, promised_at, now, found)
        else:
            nothing_found(found, promise)
    _find_anomalies(a, rules, row, now, story, found)


@inlined
def _read(a: Arrays, rules: Rules, row: int, now: int, story: Story) -> None:
    forget(story, rules)
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            time = time_of(stamp)
            hear(story, time, now)
            if stamp & ADVICE == 0 and (kind == PACKED or (kind == UNPACKED and stamp & INFERRED)):
                story.facts[CONTAINED] = 1
            if kind == VOID or stamp & VOIDED:
                continue
            at = int64(a.slots[slot]["at"])
            if stamp & ADVICE:
                tell_advice(story, rules, kind, time, slot, at, int64(a.slots[slot]["what"]))
                continue
            has_reason = False
            if kind == CUSTOMS_HELD:
                has_reason = text_in(a, at, REASON)[1] > 0
            tell(story, rules, kind, time, slot, has_reason, now)
        left -= CHUNK
        chunk = int64(a.following[chunk])


@inlined
def _applies(a: Arrays, rules: Rules, promise: int, plan: int) -> bool:
    """Is the promise made for a parcel with this plan?"""
    if (rules.directions[promise] >> direction_of(a, plan)) & 1 == 0:
        return False
    return _listed(a, rules, rules.services, promise, plan, SERVICE) and _listed(
        a, rules, rules.lanes, promise, plan, PLANNED_LANE
    )


@inlined
def _listed(a: Arrays, rules: Rules, bounds: Integers, promise: int, plan: int, part: int) -> bool:
    first = bounds[promise, 0]
    end = bounds[promise, 1]
    if first == end:
        return True
    if plan == NO_WORD:
        return False
    at, size = plan_text(a, plan, part)
    if size == ABSENT:
        return False
    for text in range(first, end):
        begin = rules.text_at[text]
        if same_text(rules.text, begin, rules.text_at[text + 1] - begin, a.heap, at, size):
            return True
    return False


@inlined
def _find_anomalies(a: Arrays, rules: Rules, row: int, now: int, story: Story, found: Integers) -> None:
    facts = story.facts
    first = len(rules.limit)
    for anomaly in range(len(ANOMALIES)):
        nothing_found(found, first + anomaly)
    if rules.anomalies[MISROUTED] != OFF:
        _find_misrouted(a, row, story, found, first + MISROUTED)
    if facts[NO_READ_SLOT] != NOBODY:
        _odd_row(
            story, found, first + REPEATED_NO_READ, NO_READ, rules.anomalies[REPEATED_NO_READ], facts[NO_READ_SLOT]
        )
    if facts[RECIRCULATED_SLOT] != NOBODY:
        _odd_row(
            story, found, first + RECIRCULATING, RECIRCULATED, rules.anomalies[RECIRCULATING], facts[RECIRCULATED_SLOT]
        )
    needed = rules.anomalies[NOT_RELEASED]
    if needed != OFF:
        slot = facts[UNDER_CUSTOMS_SLOT]
        if (needed >> direction_of(a, facts[PLAN])) & 1:
            slot = facts[UNRELEASED_SLOT]
        if slot != NOBODY:
            _odd_scan(a, found, first + NOT_RELEASED, slot, NEVER)
    judge_held(story, rules, now, found, first + HELD_TOO_LONG)
    if facts[FUTURE_SLOT] != NOBODY:
        _odd_scan(a, found, first + FROM_THE_FUTURE, facts[FUTURE_SLOT], rules.anomalies[FROM_THE_FUTURE])
    if facts[JOURNEYS] > 1:
        odd(
            found, first + NUMBER_REUSED, facts[JOURNEY_AT], rules.anomalies[NUMBER_REUSED], facts[JOURNEY_SLOT], NOBODY
        )
    if facts[CONTAINED]:
        find_astray(a, rules, row, now, story, found)


@inlined
def _odd_row(story: Story, found: Integers, which: int, kind: int, most: int, last: int) -> None:
    """As many scans of a kind as are odd: since the first of them."""
    odd(found, which, story.firsts[TIME, kind], most, story.firsts[SLOT, kind], last)


@inlined
def _odd_scan(a: Arrays, found: Integers, which: int, slot: int, limit: int) -> None:
    odd(found, which, time_of(a.slots[slot]["stamp"]), limit, slot, int64(NOBODY))


@inlined
def _find_misrouted(a: Arrays, row: int, story: Story, found: Integers, which: int) -> None:
    """The first scan that sorted or loaded the parcel to another lane than the latest advice plans."""
    plan = story.facts[PLAN]
    if plan == NO_WORD or story.firsts[COUNT, SORTED] + story.firsts[COUNT, LOADED] == 0:
        return
    at, size = plan_text(a, plan, PLANNED_LANE)
    if size == ABSENT:
        return
    here = story.facts[JOURNEY_SLOT] == NOBODY
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * CHUNK, chunk * CHUNK + min(CHUNK, left)):
            here |= slot == story.facts[JOURNEY_SLOT]
            stamp = int64(a.slots[slot]["stamp"])
            if not here or stamp & (VOIDED | ADVICE) or (LANE >> kind_of(stamp)) & 1 == 0:
                continue
            lane, lane_size = text_in(a, int64(a.slots[slot]["at"]), LANE_TEXT)
            if lane_size != ABSENT and not same_text(a.heap, at, size, a.heap, lane, lane_size):
                odd(found, which, time_of(stamp), NEVER, slot, story.facts[ADVICE_SLOT])
                return
        left -= CHUNK
        chunk = int64(a.following[chunk])
