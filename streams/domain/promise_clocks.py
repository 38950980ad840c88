"""Promise clocks: the state of each promise of a parcel, by the records of the parcel and the hub's time.

Plain functions about one parcel, compiled where they run over millions of parcels. The records are applied in the order
of (event_time, kind, record hash), without voided and superseded ones. The result depends only on them, the promises
and the hub time. First `JourneyFacts` collects facts, record by record; then `evaluate_promise` makes findings of them.
The module has more than 400 lines, because both halves of each rule stand together. The rules:

- A clock starts with the first scan of the promise's `starts` and stops with the first scan of its `stops`. This holds
  even if the clocks of devices disagree and the stop seems to be earlier. A clock that restarts starts with the last
  scan of `starts`; some kinds (`renews`) restart it only while it runs.
- The clock pauses from a customs hold with a reason to the next release, however many holds lie between. A hold
  without a reason does not pause it (PRIME event rules).
- The promise is broken when the clock ran for longer than the limit, and at risk when it ran for longer than a share of
  the limit. At the last instant of the limit the promise is still kept.
- A parcel that is advised or arrives again long after it was delivered or returned is another parcel with the same
  number. Its clocks ignore the records of the first one.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit_inline
from streams.domain.kinds import (
    ADVISED,
    ARRIVED,
    CUSTOMS_HELD,
    CUSTOMS_KINDS,
    CUSTOMS_RELEASED,
    DELIVERED,
    DISPATCHED,
    KINDS,
    LOST,
    NO_READ,
    RECIRCULATED,
    RETURNED,
    STAGE_KINDS,
)
from streams.domain.limits import MAX_RECORDS_PER_PARCEL
from streams.domain.promises import (
    ANOMALIES,
    FROM_THE_FUTURE,
    HELD_TOO_LONG,
    MAX_PROMISES,
    NUMBER_REUSED,
    RECIRCULATING,
    REPEATED_NO_READ,
)

Integers = NDArray[np.int64]

NO_TIME: Final = -(1 << 63)  # no such instant; as hub time: no Tick yet
OPEN_ENDED: Final = 1 << 62  # an instant that is not known yet, because the clock is paused
NO_SLOT: Final = -1
DISABLED: Final = -1
PROMISED_AT: Final = -1  # a limit: until the instant that the advice promises

# Types of alerts, and alert levels of promises and anomalies, by position in the Avro enum `AlertType`.
ALERT_TYPES: Final = ("OTHER", "AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY")
NO_ALERT, AT_RISK, BREACHED, WITHDRAWN, ANOMALY = range(len(ALERT_TYPES))
# Status of a clock, by position in the Avro enum `ClockStatus`; a clock that has not started is not shown.
CLOCK_STATUSES: Final = ("OTHER", "RUNNING", "PAUSED", "MET", "BREACHED")
NOT_STARTED, RUNNING, PAUSED, CLOCK_MET, CLOCK_BREACHED = range(len(CLOCK_STATUSES))

JOURNEY_END_KINDS: Final = 1 << DELIVERED | 1 << RETURNED
FINISHED_KINDS: Final = JOURNEY_END_KINDS | 1 << LOST
JOURNEY_START_KINDS: Final = 1 << ADVISED | 1 << ARRIVED


class PromiseRules(NamedTuple):
    """Promises, anomalies and retirement as arrays for compiled code; a row for each promise."""

    starts: Integers  # kinds, one bit each
    stops: Integers
    start_kinds: Integers  # the same as lists: [promise, index], DISABLED after the last one
    stop_kinds: Integers
    renews: Integers  # kinds, one bit each, that restart a running clock
    restarts: Integers  # 1: every scan of `starts` restarts the clock
    restarting_promises: Integers  # the rows of promises with `restarts`
    limit: Integers  # ms, or PROMISED_AT
    at_risk_basis_points: Integers  # share of the limit; 0: never at risk
    pauses: Integers  # 1: customs holds pause the clock
    directions: Integers  # one bit each
    services: Integers  # [promise, 0 or 1]: index of its first text, and the one after its last; equal: any service
    lanes: Integers
    text_offsets: Integers  # offset in `text` of each text, and the end of the last one
    text: NDArray[np.uint8]
    anomalies: Integers  # threshold of each, or DISABLED; of NOT_RELEASED the directions that need a release, as bits
    retirement_delays: Integers  # ms after the last record, or DISABLED: [0] of a finished parcel, [1] of others


# The facts of a parcel while its records are applied, by index in `facts`. Those of the number come first, then those
# of its last journey: times, slots and numbers.
JOURNEY_COUNT, JOURNEY_TIME, JOURNEY_END_TIME, JOURNEY_END_SLOT, LAST_RECORD_TIME, FIRST_FUTURE_TIME = range(6)
HOLD_TIME, LONG_HOLD_TIME, PAUSE_TIME = range(FIRST_FUTURE_TIME + 1, FIRST_FUTURE_TIME + 4)
(
    JOURNEY_SLOT,
    HOLD_SLOT,
    LONG_HOLD_SLOT,
    LONG_HOLD_END_SLOT,
    ADVICE_SLOT,
    UNRELEASED_DISPATCH_SLOT,
    DISPATCH_UNDER_CUSTOMS_SLOT,
    NO_READ_SLOT,
    RECIRCULATED_SLOT,
    SEEN_AFTER_EMPTYING_SLOT,  # it was found after its container had been emptied
    FUTURE_SLOT,
) = range(PAUSE_TIME + 1, PAUSE_TIME + 12)
(
    STAGE,
    CUSTOMS_STEP,
    PAUSE_COUNT,
    PLAN,
    PROMISED,
    WAS_CONTAINED,  # 1: it was packed, or taken out of a container
    JOURNEY_FACT_COUNT,
) = range(FUTURE_SLOT + 1, FUTURE_SLOT + 8)

# First scan of each kind, by row of `firsts`.
FIRST_TIME, FIRST_SLOT, COUNT, FIRST_FIELD_COUNT = range(4)
# Last start of a clock that restarts, and the first stop after it, by index in a row of `runs`.
RUN_START_TIME, RUN_START_SLOT, RUN_STOP_TIME, RUN_STOP_SLOT, RUN_FIELD_COUNT = range(5)


class JourneyFacts(NamedTuple):
    """The facts of the journey of a parcel, filled by `apply_scan` and `apply_advice`."""

    facts: Integers
    firsts: Integers  # [FIRST_TIME, FIRST_SLOT or COUNT, kind]
    pauses: Integers  # [pause, 0 or 1]: start, end or OPEN_ENDED
    runs: Integers  # [promise, RUN_START_TIME and so on]


def new_journey_facts() -> JourneyFacts:
    """Facts that are used again for one parcel after the other."""
    return JourneyFacts(
        np.zeros(JOURNEY_FACT_COUNT, np.int64),
        np.zeros((FIRST_FIELD_COUNT, len(KINDS)), np.int64),
        np.zeros((MAX_RECORDS_PER_PARCEL + 1, 2), np.int64),
        np.zeros((MAX_PROMISES, RUN_FIELD_COUNT), np.int64),
    )


@jit_inline
def reset(journey: JourneyFacts, rules: PromiseRules) -> None:
    """Clear the facts for the next parcel."""
    journey.facts[JOURNEY_COUNT] = 0
    journey.facts[JOURNEY_TIME] = NO_TIME
    journey.facts[JOURNEY_END_TIME] = NO_TIME
    journey.facts[JOURNEY_END_SLOT] = NO_SLOT
    journey.facts[LAST_RECORD_TIME] = NO_TIME
    journey.facts[FIRST_FUTURE_TIME] = NO_TIME
    _reset_journey(journey, rules)


@jit_inline
def _reset_journey(journey: JourneyFacts, rules: PromiseRules) -> None:
    for fact in range(HOLD_TIME, JOURNEY_SLOT):
        journey.facts[fact] = NO_TIME
    for fact in range(JOURNEY_SLOT, STAGE):
        journey.facts[fact] = NO_SLOT
    for fact in range(STAGE, JOURNEY_FACT_COUNT):
        journey.facts[fact] = 0
    for kind in range(len(KINDS)):
        journey.firsts[COUNT, kind] = 0
    for index in range(len(rules.restarting_promises)):
        journey.runs[rules.restarting_promises[index], RUN_START_TIME] = NO_TIME
        journey.runs[rules.restarting_promises[index], RUN_STOP_TIME] = NO_TIME


@jit_inline
def note_time(journey: JourneyFacts, time: int, now: int) -> None:
    """Note the time of any record, including voided ones; `now` is the hub's time."""
    if time <= now:
        journey.facts[LAST_RECORD_TIME] = time
    elif journey.facts[FIRST_FUTURE_TIME] == NO_TIME:
        journey.facts[FIRST_FUTURE_TIME] = time


@jit_inline
def apply_advice(
    journey: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int, plan: int, promised: int
) -> None:
    """Apply one advice that counts: the plan and the promise of the latest advice hold."""
    _note(journey, rules, kind, time, slot)
    journey.facts[PLAN] = plan
    journey.facts[PROMISED] = promised
    journey.facts[ADVICE_SLOT] = slot


@jit_inline
def apply_scan(
    journey: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int, has_reason: bool, now: int
) -> None:
    """Apply one scan that counts; `now` is the hub's time."""
    facts = journey.facts
    _note(journey, rules, kind, time, slot)
    if (CUSTOMS_KINDS >> kind) & 1:
        _customs(journey, rules, kind, time, slot, has_reason)
    elif kind == DISPATCHED:
        if facts[CUSTOMS_STEP] != CUSTOMS_RELEASED:
            if facts[UNRELEASED_DISPATCH_SLOT] == NO_SLOT:
                facts[UNRELEASED_DISPATCH_SLOT] = slot
            if facts[CUSTOMS_STEP] != 0 and facts[DISPATCH_UNDER_CUSTOMS_SLOT] == NO_SLOT:
                facts[DISPATCH_UNDER_CUSTOMS_SLOT] = slot
    elif kind == NO_READ:
        if journey.firsts[COUNT, NO_READ] == rules.anomalies[REPEATED_NO_READ]:
            facts[NO_READ_SLOT] = slot
    elif kind == RECIRCULATED and journey.firsts[COUNT, RECIRCULATED] == rules.anomalies[RECIRCULATING]:
        facts[RECIRCULATED_SLOT] = slot
    tolerance = rules.anomalies[FROM_THE_FUTURE]
    if tolerance != DISABLED and now != NO_TIME and time > now + tolerance and facts[FUTURE_SLOT] == NO_SLOT:
        facts[FUTURE_SLOT] = slot


@jit_inline
def _note(journey: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int) -> None:
    facts = journey.facts
    if facts[JOURNEY_COUNT] == 0:
        facts[JOURNEY_COUNT] = 1
    elif (JOURNEY_START_KINDS >> kind) & 1 and facts[JOURNEY_END_TIME] != NO_TIME:
        # Advised or arrived again: the same parcel soon after the end of its journey, another parcel long after it.
        reused_after = rules.anomalies[NUMBER_REUSED]
        if reused_after != DISABLED and time - facts[JOURNEY_END_TIME] > reused_after:
            _reset_journey(journey, rules)
            facts[JOURNEY_END_TIME] = NO_TIME
            facts[JOURNEY_COUNT] += 1
            facts[JOURNEY_TIME] = time
            facts[JOURNEY_SLOT] = slot
    if (STAGE_KINDS >> kind) & 1 and kind != ADVISED:
        facts[STAGE] = kind
        if (JOURNEY_END_KINDS >> kind) & 1:
            facts[JOURNEY_END_TIME] = time
            facts[JOURNEY_END_SLOT] = slot
    if journey.firsts[COUNT, kind] == 0:
        journey.firsts[FIRST_TIME, kind] = time
        journey.firsts[FIRST_SLOT, kind] = slot
    journey.firsts[COUNT, kind] += 1
    for index in range(len(rules.restarting_promises)):
        promise = rules.restarting_promises[index]
        is_running = (
            journey.runs[promise, RUN_START_TIME] != NO_TIME and journey.runs[promise, RUN_STOP_TIME] == NO_TIME
        )
        if (rules.starts[promise] >> kind) & 1 or (is_running and (rules.renews[promise] >> kind) & 1):
            journey.runs[promise, RUN_START_TIME] = time
            journey.runs[promise, RUN_START_SLOT] = slot
            journey.runs[promise, RUN_STOP_TIME] = NO_TIME
        elif (rules.stops[promise] >> kind) & 1 and journey.runs[promise, RUN_STOP_TIME] == NO_TIME:
            journey.runs[promise, RUN_STOP_TIME] = time
            journey.runs[promise, RUN_STOP_SLOT] = slot


@jit_inline
def _customs(journey: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int, has_reason: bool) -> None:
    facts = journey.facts
    facts[CUSTOMS_STEP] = kind
    if kind == CUSTOMS_HELD:
        if facts[HOLD_TIME] == NO_TIME:
            facts[HOLD_TIME] = time
            facts[HOLD_SLOT] = slot
        if has_reason and facts[PAUSE_TIME] == NO_TIME:
            facts[PAUSE_TIME] = time
            journey.pauses[facts[PAUSE_COUNT], 0] = time
            journey.pauses[facts[PAUSE_COUNT], 1] = OPEN_ENDED
            facts[PAUSE_COUNT] += 1
        return
    if kind == CUSTOMS_RELEASED and facts[PAUSE_TIME] != NO_TIME:
        facts[PAUSE_TIME] = NO_TIME
        journey.pauses[facts[PAUSE_COUNT] - 1, 1] = time
    # A hold is answered by a release or a refusal, not by a presentation.
    if kind > CUSTOMS_HELD and facts[HOLD_TIME] != NO_TIME:
        limit = rules.anomalies[HELD_TOO_LONG]
        if limit != DISABLED and time - facts[HOLD_TIME] > limit and facts[LONG_HOLD_SLOT] == NO_SLOT:
            facts[LONG_HOLD_TIME] = facts[HOLD_TIME]
            facts[LONG_HOLD_SLOT] = facts[HOLD_SLOT]
            facts[LONG_HOLD_END_SLOT] = slot
        facts[HOLD_TIME] = NO_TIME
        facts[HOLD_SLOT] = NO_SLOT


@jit_inline
def add_running_time(journey: JourneyFacts, start: int, running_time: int, pausable: bool) -> tuple[int, int]:
    """When a clock that starts at `start` has run for `running_time` ms; OPEN_ENDED and the rest if it is paused."""
    end = start + running_time
    if pausable:
        for pause in range(journey.facts[PAUSE_COUNT]):
            begin = max(journey.pauses[pause, 0], start)
            until = journey.pauses[pause, 1]
            if until <= begin:
                continue
            # A pause that begins at the last instant counts: the clock has not run for longer by then.
            if begin > end:
                break
            if until == OPEN_ENDED:
                return int64(OPEN_ENDED), end - begin
            end += until - begin
    return end, int64(0)


@jit_inline
def first_scan_of(journey: JourneyFacts, kinds: Integers, promise: int) -> tuple[int, int]:
    """Time and slot of the first scan of one of the kinds of a promise; NO_TIME and NO_SLOT without one."""
    time = int64(NO_TIME)
    slot = int64(NO_SLOT)
    for index in range(kinds.shape[1]):
        kind = kinds[promise, index]
        if kind == DISABLED:
            break
        if journey.firsts[COUNT, kind] > 0 and (slot == NO_SLOT or journey.firsts[FIRST_TIME, kind] < time):
            time = journey.firsts[FIRST_TIME, kind]
            slot = journey.firsts[FIRST_SLOT, kind]
    return time, slot


# The finding of each promise and, after them, of each anomaly, by index in a row of `findings`.
(
    LEVEL,  # NO_ALERT, AT_RISK, BREACHED or ANOMALY
    FIRING,  # 1: it raises an alert now; 0: an alert would come too late
    SINCE,  # when the clock started, or the time of the first evidence
    DEADLINE,  # when the limit is reached; OPEN_ENDED while the clock is paused; NO_TIME where there is none
    LIMIT,  # ms, or a count
    STOPPED,  # when the clock stopped, or NO_TIME
    REMAINING,  # of a clock that is paused, ms
    STATUS,
    NEXT_CHANGE,  # the next instant after which it changes without any further record; OPEN_ENDED for none
    FIRST_EVIDENCE,  # slots of the evidence
    SECOND_EVIDENCE,
    FINDING_FIELD_COUNT,
) = range(12)
MAX_FINDINGS: Final = MAX_PROMISES + len(ANOMALIES)


def new_findings() -> Integers:
    """Findings that are used again for one parcel after the other."""
    findings = np.zeros((MAX_FINDINGS, FINDING_FIELD_COUNT), np.int64)
    for row in range(MAX_FINDINGS):
        findings[row, LEVEL] = ANOMALY
        clear_finding(findings, row)
    return findings


@jit_inline
def clear_finding(findings: Integers, row: int) -> None:
    """Clear a finding: the clock has not started, or there is no such anomaly."""
    if (
        findings[row, STATUS] == NOT_STARTED
        and findings[row, LEVEL] == NO_ALERT
        and findings[row, NEXT_CHANGE] == OPEN_ENDED
    ):
        return
    findings[row, LEVEL] = NO_ALERT
    findings[row, FIRING] = 0
    findings[row, SINCE] = NO_TIME
    findings[row, DEADLINE] = NO_TIME
    findings[row, LIMIT] = NO_TIME
    findings[row, STOPPED] = NO_TIME
    findings[row, REMAINING] = 0
    findings[row, STATUS] = NOT_STARTED
    findings[row, NEXT_CHANGE] = OPEN_ENDED
    findings[row, FIRST_EVIDENCE] = NO_SLOT
    findings[row, SECOND_EVIDENCE] = NO_SLOT


@jit_inline
def evaluate_promise(
    journey: JourneyFacts, rules: PromiseRules, promise: int, promised_at: int, now: int, findings: Integers
) -> None:
    """Evaluate the clock of a promise that applies to the parcel.

    Args:
        journey: the facts of the parcel.
        rules, promise: the promises, and the row of this one.
        promised_at: by the latest advice, or NO_TIME.
        now: the hub's time; NO_TIME before the first Tick.
        findings: its row `promise` is filled.
    """
    if rules.restarts[promise]:
        start = journey.runs[promise, RUN_START_TIME]
        stop = journey.runs[promise, RUN_STOP_TIME]
        start_slot = journey.runs[promise, RUN_START_SLOT]
        stop_slot = journey.runs[promise, RUN_STOP_SLOT] if stop != NO_TIME else int64(NO_SLOT)
    else:
        start, start_slot = first_scan_of(journey, rules.start_kinds, promise)
        stop, stop_slot = first_scan_of(journey, rules.stop_kinds, promise)
    limit = rules.limit[promise]
    if start == NO_TIME or (limit == PROMISED_AT and promised_at == NO_TIME):
        clear_finding(findings, promise)
        return
    if limit == PROMISED_AT:
        limit = promised_at - start
    pausable = rules.pauses[promise] != 0
    end, remaining = add_running_time(journey, start, limit, pausable)
    share = rules.at_risk_basis_points[promise]
    can_be_at_risk = share != 0
    at_risk_time = end
    if can_be_at_risk:
        at_risk_time = add_running_time(journey, start, limit * share // 10_000, pausable)[0]
    ran_until = now if stop == NO_TIME else min(stop, now)
    is_running = stop == NO_TIME or stop > now
    level = int64(NO_ALERT)
    if ran_until > end:
        level = int64(BREACHED)
    elif can_be_at_risk and ran_until > at_risk_time:
        level = int64(AT_RISK)
    findings[promise, LEVEL] = level
    # A promise that is known to be kept needs no alert that it was at risk.
    findings[promise, FIRING] = level == BREACHED or (level == AT_RISK and is_running)
    findings[promise, SINCE] = start
    findings[promise, DEADLINE] = end
    findings[promise, LIMIT] = limit
    findings[promise, STOPPED] = stop
    findings[promise, FIRST_EVIDENCE] = start_slot
    findings[promise, SECOND_EVIDENCE] = stop_slot
    findings[promise, REMAINING] = 0
    findings[promise, NEXT_CHANGE] = OPEN_ENDED
    if stop > end or now > end:
        findings[promise, STATUS] = CLOCK_BREACHED if stop == NO_TIME or stop > end else CLOCK_MET
    elif stop != NO_TIME:
        findings[promise, STATUS] = CLOCK_MET
    elif end == OPEN_ENDED:
        findings[promise, STATUS] = PAUSED
        findings[promise, REMAINING] = remaining
    else:
        findings[promise, STATUS] = RUNNING
    if is_running and level == NO_ALERT and can_be_at_risk:
        # A promised instant may lie before the start.
        findings[promise, NEXT_CHANGE] = min(at_risk_time, end)
    elif is_running and level != BREACHED:
        findings[promise, NEXT_CHANGE] = end


@jit_inline
def evaluate_customs_hold(journey: JourneyFacts, rules: PromiseRules, now: int, findings: Integers, row: int) -> None:
    """Evaluate whether customs holds or held the parcel for too long."""
    limit = rules.anomalies[HELD_TOO_LONG]
    clear_finding(findings, row)
    since = journey.facts[LONG_HOLD_TIME]
    slot = journey.facts[LONG_HOLD_SLOT]
    if limit == DISABLED or (slot == NO_SLOT and journey.facts[HOLD_SLOT] == NO_SLOT):
        return
    if slot == NO_SLOT:
        since = journey.facts[HOLD_TIME]
        slot = journey.facts[HOLD_SLOT]
    if now > since + limit:
        set_anomaly(findings, row, since, limit, slot, journey.facts[LONG_HOLD_END_SLOT])
        findings[row, DEADLINE] = since + limit
    else:
        findings[row, NEXT_CHANGE] = since + limit


@jit_inline
def set_anomaly(findings: Integers, row: int, since: int, limit: int, first_slot: int, second_slot: int) -> None:
    """Fill the finding of an anomaly."""
    findings[row, LEVEL] = ANOMALY
    findings[row, FIRING] = 1
    findings[row, SINCE] = since
    findings[row, LIMIT] = limit
    findings[row, FIRST_EVIDENCE] = first_slot
    findings[row, SECOND_EVIDENCE] = second_slot


@jit_inline
def retirement_time(journey: JourneyFacts, rules: PromiseRules) -> int:
    """The instant after which the parcel retires; OPEN_ENDED if never, or if it is not known yet."""
    is_finished = (FINISHED_KINDS >> journey.facts[STAGE]) & 1
    delay = rules.retirement_delays[0] if is_finished else rules.retirement_delays[1]
    if delay == DISABLED or journey.facts[LAST_RECORD_TIME] == NO_TIME:
        return int64(OPEN_ENDED)
    return int64(journey.facts[LAST_RECORD_TIME] + delay)


@jit_inline
def first_future_time(journey: JourneyFacts) -> int:
    """The time of the first record of a parcel whose records all lie in the future; else OPEN_ENDED."""
    if journey.facts[LAST_RECORD_TIME] == NO_TIME and journey.facts[FIRST_FUTURE_TIME] != NO_TIME:
        return int64(journey.facts[FIRST_FUTURE_TIME])
    return int64(OPEN_ENDED)
