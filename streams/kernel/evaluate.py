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
from streams.kernel.parcel_table import NO_INTERN_ID, TableArrays, next_slot


@jit_inline
def evaluate_parcel(
    a: TableArrays, rules: PromiseRules, row: int, now: int, journey: JourneyFacts, findings: Integers
) -> None:
    """Set `journey` and `findings` to the state of a parcel's clocks and anomalies at the hub time `now`."""
    _read_journey(a, rules, row, now, journey)
    plan = journey.facts[PLAN]
    promised_at = int64(NO_TIME)
    if journey.facts[PROMISED] != NO_INTERN_ID:
        promised_at = int64(get_big_endian(a.heap, int64(a.interned[journey.facts[PROMISED]]["heap_offset"])))
    for promise in range(len(rules.limit)):
        if _applies(a, rules, promise, plan):
            evaluate_promise(journey, rules, promise, promised_at, now, findings)
        else:
            clear_finding(findings, promise)
    _find_anomalies(a, rules, row, now, journey, findings)


@jit_inline
def _read_journey(a: TableArrays, rules: PromiseRules, row: int, now: int, journey: JourneyFacts) -> None:
    reset(journey, rules)
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        kind = kind_of(packed_key)
        time = time_of(packed_key)
        note_time(journey, time, now)
        if packed_key & ADVICE == 0 and (kind == PACKED or (kind == UNPACKED and packed_key & INFERRED)):
            journey.facts[WAS_CONTAINED] = 1
        if kind == VOID or packed_key & VOIDED:
            continue
        location_or_plan = int64(a.slots[slot]["location_or_plan"])
        if packed_key & ADVICE:
            apply_advice(journey, rules, kind, time, slot, location_or_plan, int64(a.slots[slot]["detail"]))
            continue
        has_reason = False
        if kind == CUSTOMS_HELD:
            has_reason = location_text(a, location_or_plan, LOCATION_REASON)[1] > 0
        apply_scan(journey, rules, kind, time, slot, has_reason, now)


@jit_inline
def _applies(a: TableArrays, rules: PromiseRules, promise: int, plan: int) -> bool:
    """Does the promise apply to a parcel with this plan?"""
    if (rules.directions[promise] >> direction_of(a, plan)) & 1 == 0:
        return False
    return _listed(a, rules, rules.services, promise, plan, PLAN_SERVICE) and _listed(
        a, rules, rules.lanes, promise, plan, PLAN_LANE
    )


@jit_inline
def _listed(a: TableArrays, rules: PromiseRules, bounds: Integers, promise: int, plan: int, field_index: int) -> bool:
    first_text = bounds[promise, 0]
    end_text = bounds[promise, 1]
    if first_text == end_text:
        return True
    if plan == NO_INTERN_ID:
        return False
    plan_text_start, plan_text_size = plan_text(a, plan, field_index)
    if plan_text_size == NULL_SIZE:
        return False
    for text in range(first_text, end_text):
        start = rules.text_offsets[text]
        if same_text(rules.text, start, rules.text_offsets[text + 1] - start, a.heap, plan_text_start, plan_text_size):
            return True
    return False


@jit_inline
def _find_anomalies(
    a: TableArrays, rules: PromiseRules, row: int, now: int, journey: JourneyFacts, findings: Integers
) -> None:
    facts = journey.facts
    first_anomaly = len(rules.limit)
    for anomaly in range(len(ANOMALIES)):
        clear_finding(findings, first_anomaly + anomaly)
    if rules.anomalies[MISROUTED] != DISABLED:
        _find_misrouted(a, row, journey, findings, first_anomaly + MISROUTED)
    if facts[NO_READ_SLOT] != NO_SLOT:
        _report_repeated_scans(
            journey,
            findings,
            first_anomaly + REPEATED_NO_READ,
            NO_READ,
            rules.anomalies[REPEATED_NO_READ],
            facts[NO_READ_SLOT],
        )
    if facts[RECIRCULATED_SLOT] != NO_SLOT:
        _report_repeated_scans(
            journey,
            findings,
            first_anomaly + RECIRCULATING,
            RECIRCULATED,
            rules.anomalies[RECIRCULATING],
            facts[RECIRCULATED_SLOT],
        )
    directions_to_release = rules.anomalies[NOT_RELEASED]
    if directions_to_release != DISABLED:
        slot = facts[DISPATCH_UNDER_CUSTOMS_SLOT]
        if (directions_to_release >> direction_of(a, facts[PLAN])) & 1:
            slot = facts[UNRELEASED_DISPATCH_SLOT]
        if slot != NO_SLOT:
            _report_scan_anomaly(a, findings, first_anomaly + NOT_RELEASED, slot, NO_TIME)
    evaluate_customs_hold(journey, rules, now, findings, first_anomaly + HELD_TOO_LONG)
    if facts[FUTURE_SLOT] != NO_SLOT:
        _report_scan_anomaly(
            a, findings, first_anomaly + FROM_THE_FUTURE, facts[FUTURE_SLOT], rules.anomalies[FROM_THE_FUTURE]
        )
    if facts[JOURNEY_COUNT] > 1:
        set_anomaly(
            findings,
            first_anomaly + NUMBER_REUSED,
            facts[JOURNEY_TIME],
            rules.anomalies[NUMBER_REUSED],
            facts[JOURNEY_SLOT],
            NO_SLOT,
        )
    if facts[WAS_CONTAINED]:
        find_containment_anomalies(a, rules, row, now, journey, findings)


@jit_inline
def _report_repeated_scans(
    journey: JourneyFacts, findings: Integers, finding: int, kind: int, threshold: int, last_slot: int
) -> None:
    """An anomaly of `threshold` scans of a kind, since the first of them."""
    set_anomaly(
        findings, finding, journey.firsts[FIRST_TIME, kind], threshold, journey.firsts[FIRST_SLOT, kind], last_slot
    )


@jit_inline
def _report_scan_anomaly(a: TableArrays, findings: Integers, finding: int, slot: int, limit: int) -> None:
    set_anomaly(findings, finding, time_of(a.slots[slot]["packed_key"]), limit, slot, int64(NO_SLOT))


@jit_inline
def _find_misrouted(a: TableArrays, row: int, journey: JourneyFacts, findings: Integers, finding: int) -> None:
    """Find the first scan that sorted or loaded the parcel to another lane than the latest advice plans."""
    plan = journey.facts[PLAN]
    if plan == NO_INTERN_ID or journey.firsts[COUNT, SORTED] + journey.firsts[COUNT, LOADED] == 0:
        return
    planned_start, planned_size = plan_text(a, plan, PLAN_LANE)
    if planned_size == NULL_SIZE:
        return
    in_last_journey = journey.facts[JOURNEY_SLOT] == NO_SLOT
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        in_last_journey |= slot == journey.facts[JOURNEY_SLOT]
        packed_key = int64(a.slots[slot]["packed_key"])
        if not in_last_journey or packed_key & (VOIDED | ADVICE) or (LANE_KINDS >> kind_of(packed_key)) & 1 == 0:
            continue
        lane_start, lane_size = location_text(a, int64(a.slots[slot]["location_or_plan"]), LANE_TEXT)
        if lane_size != NULL_SIZE and not same_text(a.heap, planned_start, planned_size, a.heap, lane_start, lane_size):
            set_anomaly(findings, finding, time_of(packed_key), NO_TIME, slot, journey.facts[ADVICE_SLOT])
            return
