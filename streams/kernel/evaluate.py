"""Evaluates the promise clocks and the anomalies of one parcel of the table, by `streams/domain/promise_clocks.py`."""

from streams.domain.jit import int64, jit_inline
from streams.domain.kinds import (
    CUSTOMS_HELD,
    LANE_KINDS,
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
    COUNT,
    DISABLED,
    DISPATCH_UNDER_CUSTOMS_SLOT,
    FIRST_SLOT,
    FIRST_TIME,
    FUTURE_SLOT,
    JOURNEY_COUNT,
    JOURNEY_SLOT,
    JOURNEY_TIME,
    NO_READ_SLOT,
    NO_SLOT,
    NO_TIME,
    PLAN,
    PROMISED,
    RECIRCULATED_SLOT,
    UNRELEASED_DISPATCH_SLOT,
    WAS_CONTAINED,
    Integers,
    JourneyFacts,
    PromiseRules,
    apply_advice,
    apply_scan,
    clear_finding,
    evaluate_customs_hold,
    evaluate_promise,
    note_time,
    reset,
    set_anomaly,
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
from streams.kernel.containment_anomalies import find_containment_anomalies
from streams.kernel.interned_records import LOCATION_LANE as LANE_TEXT
from streams.kernel.interned_records import (
    LOCATION_REASON,
    NULL_SIZE,
    PLAN_LANE,
    PLAN_SERVICE,
    direction_of,
    location_text,
    plan_text,
    same_text,
)
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import NO_INTERN_ID, SLOTS_PER_CHUNK, TableArrays


@jit_inline
def evaluate_parcel(
    a: TableArrays, rules: PromiseRules, row: int, now: int, story: JourneyFacts, found: Integers
) -> None:
    """Fill `story` and `found` with what is to say of a parcel at the hub's time `now`."""
    _read_journey(a, rules, row, now, story)
    plan = story.facts[PLAN]
    promised_at = int64(NO_TIME)
    if story.facts[PROMISED] != NO_INTERN_ID:
        promised_at = int64(get_big_endian(a.heap, int64(a.words[story.facts[PROMISED]]["at"])))
    for promise in range(len(rules.limit)):
        if _applies(a, rules, promise, plan):
            evaluate_promise(story, rules, promise, promised_at, now, found)
        else:
            clear_finding(found, promise)
    _find_anomalies(a, rules, row, now, story, found)


@jit_inline
def _read_journey(a: TableArrays, rules: PromiseRules, row: int, now: int, story: JourneyFacts) -> None:
    reset(story, rules)
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            stamp = int64(a.slots[slot]["stamp"])
            kind = kind_of(stamp)
            time = time_of(stamp)
            note_time(story, time, now)
            if stamp & ADVICE == 0 and (kind == PACKED or (kind == UNPACKED and stamp & INFERRED)):
                story.facts[WAS_CONTAINED] = 1
            if kind == VOID or stamp & VOIDED:
                continue
            at = int64(a.slots[slot]["at"])
            if stamp & ADVICE:
                apply_advice(story, rules, kind, time, slot, at, int64(a.slots[slot]["what"]))
                continue
            has_reason = False
            if kind == CUSTOMS_HELD:
                has_reason = location_text(a, at, LOCATION_REASON)[1] > 0
            apply_scan(story, rules, kind, time, slot, has_reason, now)
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])


@jit_inline
def _applies(a: TableArrays, rules: PromiseRules, promise: int, plan: int) -> bool:
    """Is the promise made for a parcel with this plan?"""
    if (rules.directions[promise] >> direction_of(a, plan)) & 1 == 0:
        return False
    return _listed(a, rules, rules.services, promise, plan, PLAN_SERVICE) and _listed(
        a, rules, rules.lanes, promise, plan, PLAN_LANE
    )


@jit_inline
def _listed(a: TableArrays, rules: PromiseRules, bounds: Integers, promise: int, plan: int, part: int) -> bool:
    first = bounds[promise, 0]
    end = bounds[promise, 1]
    if first == end:
        return True
    if plan == NO_INTERN_ID:
        return False
    at, size = plan_text(a, plan, part)
    if size == NULL_SIZE:
        return False
    for text in range(first, end):
        begin = rules.text_offsets[text]
        if same_text(rules.text, begin, rules.text_offsets[text + 1] - begin, a.heap, at, size):
            return True
    return False


@jit_inline
def _find_anomalies(
    a: TableArrays, rules: PromiseRules, row: int, now: int, story: JourneyFacts, found: Integers
) -> None:
    facts = story.facts
    first = len(rules.limit)
    for anomaly in range(len(ANOMALIES)):
        clear_finding(found, first + anomaly)
    if rules.anomalies[MISROUTED] != DISABLED:
        _find_misrouted(a, row, story, found, first + MISROUTED)
    if facts[NO_READ_SLOT] != NO_SLOT:
        _report_repeated_scans(
            story, found, first + REPEATED_NO_READ, NO_READ, rules.anomalies[REPEATED_NO_READ], facts[NO_READ_SLOT]
        )
    if facts[RECIRCULATED_SLOT] != NO_SLOT:
        _report_repeated_scans(
            story, found, first + RECIRCULATING, RECIRCULATED, rules.anomalies[RECIRCULATING], facts[RECIRCULATED_SLOT]
        )
    needed = rules.anomalies[NOT_RELEASED]
    if needed != DISABLED:
        slot = facts[DISPATCH_UNDER_CUSTOMS_SLOT]
        if (needed >> direction_of(a, facts[PLAN])) & 1:
            slot = facts[UNRELEASED_DISPATCH_SLOT]
        if slot != NO_SLOT:
            _report_scan_anomaly(a, found, first + NOT_RELEASED, slot, NO_TIME)
    evaluate_customs_hold(story, rules, now, found, first + HELD_TOO_LONG)
    if facts[FUTURE_SLOT] != NO_SLOT:
        _report_scan_anomaly(a, found, first + FROM_THE_FUTURE, facts[FUTURE_SLOT], rules.anomalies[FROM_THE_FUTURE])
    if facts[JOURNEY_COUNT] > 1:
        set_anomaly(
            found,
            first + NUMBER_REUSED,
            facts[JOURNEY_TIME],
            rules.anomalies[NUMBER_REUSED],
            facts[JOURNEY_SLOT],
            NO_SLOT,
        )
    if facts[WAS_CONTAINED]:
        find_containment_anomalies(a, rules, row, now, story, found)


@jit_inline
def _report_repeated_scans(story: JourneyFacts, found: Integers, which: int, kind: int, most: int, last: int) -> None:
    """As many scans of a kind as are odd: since the first of them."""
    set_anomaly(found, which, story.firsts[FIRST_TIME, kind], most, story.firsts[FIRST_SLOT, kind], last)


@jit_inline
def _report_scan_anomaly(a: TableArrays, found: Integers, which: int, slot: int, limit: int) -> None:
    set_anomaly(found, which, time_of(a.slots[slot]["stamp"]), limit, slot, int64(NO_SLOT))


@jit_inline
def _find_misrouted(a: TableArrays, row: int, story: JourneyFacts, found: Integers, which: int) -> None:
    """The first scan that sorted or loaded the parcel to another lane than the latest advice plans."""
    plan = story.facts[PLAN]
    if plan == NO_INTERN_ID or story.firsts[COUNT, SORTED] + story.firsts[COUNT, LOADED] == 0:
        return
    at, size = plan_text(a, plan, PLAN_LANE)
    if size == NULL_SIZE:
        return
    here = story.facts[JOURNEY_SLOT] == NO_SLOT
    chunk = int64(a.rows[row]["head"])
    left = int64(a.rows[row]["records"])
    while left > 0:
        for slot in range(chunk * SLOTS_PER_CHUNK, chunk * SLOTS_PER_CHUNK + min(SLOTS_PER_CHUNK, left)):
            here |= slot == story.facts[JOURNEY_SLOT]
            stamp = int64(a.slots[slot]["stamp"])
            if not here or stamp & (VOIDED | ADVICE) or (LANE_KINDS >> kind_of(stamp)) & 1 == 0:
                continue
            lane, lane_size = location_text(a, int64(a.slots[slot]["at"]), LANE_TEXT)
            if lane_size != NULL_SIZE and not same_text(a.heap, at, size, a.heap, lane, lane_size):
                set_anomaly(found, which, time_of(stamp), NO_TIME, slot, story.facts[ADVICE_SLOT])
                return
        left -= SLOTS_PER_CHUNK
        chunk = int64(a.next_chunk[chunk])
