"""Promise clocks: what the records of a parcel and the hub's time say about each promise.

Plain functions about one parcel, compiled where they run over millions of them. The records are told in the order of
(event_time, kind, identity), without those that a VOID declares wrong; what comes out depends on nothing but them, the
promises and the hub's time. The rules in one place:

- A clock starts with the first scan of one of the promise's starts and stops with the first of its stops, also where
  clocks of devices disagree and the stop seems to be the earlier one. A clock that restarts starts with the last one;
  some kinds start it anew only while it runs.
- It stands still from a customs hold that has a reason to the next release, however many holds lie between. A hold
  without a reason does not stop it (PRIME event rules).
- The promise is broken when the clock ran for longer than the limit, at risk when it ran for longer than a share of
  it. The last instant of the limit still keeps it.
- A parcel that is announced or arrives again long after it was delivered or returned is another one with the same
  number: its clocks know nothing of the first.
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

NO_TIME: Final = -(1 << 63)  # no such instant, also: no Tick yet
OPEN_ENDED: Final = 1 << 62  # an instant that has not come: the clock stands still
NO_SLOT: Final = -1  # no such slot
DISABLED: Final = -1
PROMISED_AT: Final = -1  # as a limit: until the instant that the advice promises

# What is told of a promise or an anomaly, by position in the Avro enum `AlertType`.
ALERT_TYPES: Final = ("OTHER", "AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY")
NO_ALERT, AT_RISK, BREACHED, WITHDRAWN, ANOMALY = range(len(ALERT_TYPES))
# Status of a clock, by position in the Avro enum `ClockStatus`; a clock that has not started is not shown.
CLOCK_STATUSES: Final = ("OTHER", "RUNNING", "PAUSED", "MET", "BREACHED")
NOT_STARTED, RUNNING, PAUSED, CLOCK_MET, CLOCK_BREACHED = range(len(CLOCK_STATUSES))

JOURNEY_END_KINDS: Final = 1 << DELIVERED | 1 << RETURNED  # the journey is over
FINISHED_KINDS: Final = JOURNEY_END_KINDS | 1 << LOST
JOURNEY_START_KINDS: Final = 1 << ADVISED | 1 << ARRIVED  # a journey


class PromiseRules(NamedTuple):
    """Promises, anomalies and retirement as compiled code sees them: a row for each promise."""

    starts: Integers  # kinds, one bit each
    stops: Integers
    start_kinds: Integers  # the same as lists: [promise, place], OFF after the last one
    stop_kinds: Integers
    renews: Integers  # kinds, one bit each: they start a clock anew that runs
    restarts: Integers  # 1: every start begins anew
    restarting_promises: Integers  # which these are
    limit: Integers  # ms, or PROMISED_AT
    risk: Integers  # ten thousandths of the limit; 0: never at risk
    pauses: Integers  # 1: customs holds
    directions: Integers  # one bit each
    services: Integers  # [promise, 0 or 1]: first of its texts and the one after the last; equal: any service
    lanes: Integers
    text_offsets: Integers  # position in `text` where each text begins, and where the last one ends
    text: NDArray[np.uint8]
    anomalies: Integers  # threshold of each, OFF; NOT_RELEASED: directions that need a release, one bit each
    finished: Integers  # [0] ms after the last record of a finished parcel, [1] of any other; OFF


# What is known of a parcel while its records are told, by position in `facts`: of the number, and of its last journey,
# first the instants, then the slots, then numbers.
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
    SEEN_AFTER_EMPTYING_SLOT,  # after it was in a container that was emptied
    FUTURE_SLOT,
) = range(PAUSE_TIME + 1, PAUSE_TIME + 12)
(
    STAGE,
    CUSTOMS_STEP,
    PAUSE_COUNT,
    PLAN,
    PROMISED,
    WAS_CONTAINED,  # 1: it was packed, or taken out with its container
    JOURNEY_FACT_COUNT,
) = range(FUTURE_SLOT + 1, FUTURE_SLOT + 8)

# First scan of each kind, by position in `firsts`.
FIRST_TIME, FIRST_SLOT, COUNT, FIRST_FIELD_COUNT = range(4)
# Last start of a clock that restarts and the first stop after it, by position in a row of `runs`.
RUN_START_TIME, RUN_START_SLOT, RUN_STOP_TIME, RUN_STOP_SLOT, RUN_FIELD_COUNT = range(5)


class JourneyFacts(NamedTuple):
    """What the records of a parcel say, filled by `apply_scan` and `apply_advice`."""

    facts: Integers
    firsts: Integers  # [TIME, SLOT or COUNT, kind]
    pauses: Integers  # [pause, 0 or 1]: from, until or OPEN
    runs: Integers  # [promise, RUN_AT...]


def new_journey_facts() -> JourneyFacts:
    """Room for the story of one parcel after the other."""
    return JourneyFacts(
        np.zeros(JOURNEY_FACT_COUNT, np.int64),
        np.zeros((FIRST_FIELD_COUNT, len(KINDS)), np.int64),
        np.zeros((MAX_RECORDS_PER_PARCEL + 1, 2), np.int64),
        np.zeros((MAX_PROMISES, RUN_FIELD_COUNT), np.int64),
    )


@jit_inline
def reset(journey: JourneyFacts, rules: PromiseRules) -> None:
    """Make room for the next parcel."""
    journey.facts[JOURNEY_COUNT] = 0
    journey.facts[JOURNEY_TIME] = NO_TIME
    journey.facts[JOURNEY_END_TIME] = NO_TIME
    journey.facts[JOURNEY_END_SLOT] = NO_SLOT
    journey.facts[LAST_RECORD_TIME] = NO_TIME
    journey.facts[FIRST_FUTURE_TIME] = NO_TIME
    _forget_journey(journey, rules)


@jit_inline
def _forget_journey(story: JourneyFacts, rules: PromiseRules) -> None:
    for fact in range(HOLD_TIME, JOURNEY_SLOT):
        story.facts[fact] = NO_TIME
    for fact in range(JOURNEY_SLOT, STAGE):
        story.facts[fact] = NO_SLOT
    for fact in range(STAGE, JOURNEY_FACT_COUNT):
        story.facts[fact] = 0
    for kind in range(len(KINDS)):
        story.firsts[COUNT, kind] = 0
    for which in range(len(rules.restarting_promises)):
        story.runs[rules.restarting_promises[which], RUN_START_TIME] = NO_TIME
        story.runs[rules.restarting_promises[which], RUN_STOP_TIME] = NO_TIME


@jit_inline
def note_time(journey: JourneyFacts, time: int, now: int) -> None:
    """A record of any sort, also one that counts for nothing else; `now` is the hub's time."""
    if time <= now:
        journey.facts[LAST_RECORD_TIME] = time
    elif journey.facts[FIRST_FUTURE_TIME] == NO_TIME:
        journey.facts[FIRST_FUTURE_TIME] = time


@jit_inline
def apply_advice(
    journey: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int, plan: int, promised: int
) -> None:
    """One advice that counts: the latest one's plan and promise hold."""
    _note(journey, rules, kind, time, slot)
    journey.facts[PLAN] = plan
    journey.facts[PROMISED] = promised
    journey.facts[ADVICE_SLOT] = slot


@jit_inline
def apply_scan(
    journey: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int, has_reason: bool, now: int
) -> None:
    """One scan that counts; `now` is the hub's time."""
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
    ahead = rules.anomalies[FROM_THE_FUTURE]
    if ahead != DISABLED and now != NO_TIME and time > now + ahead and facts[FUTURE_SLOT] == NO_SLOT:
        facts[FUTURE_SLOT] = slot


@jit_inline
def _note(story: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int) -> None:
    facts = story.facts
    if facts[JOURNEY_COUNT] == 0:
        facts[JOURNEY_COUNT] = 1
    elif (JOURNEY_START_KINDS >> kind) & 1 and facts[JOURNEY_END_TIME] != NO_TIME:
        # Announced or arrived again: the same parcel, if it is soon; long after it, another one.
        again = rules.anomalies[NUMBER_REUSED]
        if again != DISABLED and time - facts[JOURNEY_END_TIME] > again:
            _forget_journey(story, rules)
            facts[JOURNEY_END_TIME] = NO_TIME
            facts[JOURNEY_COUNT] += 1
            facts[JOURNEY_TIME] = time
            facts[JOURNEY_SLOT] = slot
    if (STAGE_KINDS >> kind) & 1 and kind != ADVISED:
        facts[STAGE] = kind
        if (JOURNEY_END_KINDS >> kind) & 1:
            facts[JOURNEY_END_TIME] = time
            facts[JOURNEY_END_SLOT] = slot
    if story.firsts[COUNT, kind] == 0:
        story.firsts[FIRST_TIME, kind] = time
        story.firsts[FIRST_SLOT, kind] = slot
    story.firsts[COUNT, kind] += 1
    for which in range(len(rules.restarting_promises)):
        promise = rules.restarting_promises[which]
        runs = story.runs[promise, RUN_START_TIME] != NO_TIME and story.runs[promise, RUN_STOP_TIME] == NO_TIME
        if (rules.starts[promise] >> kind) & 1 or (runs and (rules.renews[promise] >> kind) & 1):
            story.runs[promise, RUN_START_TIME] = time
            story.runs[promise, RUN_START_SLOT] = slot
            story.runs[promise, RUN_STOP_TIME] = NO_TIME
        elif (rules.stops[promise] >> kind) & 1 and story.runs[promise, RUN_STOP_TIME] == NO_TIME:
            story.runs[promise, RUN_STOP_TIME] = time
            story.runs[promise, RUN_STOP_SLOT] = slot


@jit_inline
def _customs(story: JourneyFacts, rules: PromiseRules, kind: int, time: int, slot: int, has_reason: bool) -> None:
    facts = story.facts
    facts[CUSTOMS_STEP] = kind
    if kind == CUSTOMS_HELD:
        if facts[HOLD_TIME] == NO_TIME:
            facts[HOLD_TIME] = time
            facts[HOLD_SLOT] = slot
        if has_reason and facts[PAUSE_TIME] == NO_TIME:
            facts[PAUSE_TIME] = time
            story.pauses[facts[PAUSE_COUNT], 0] = time
            story.pauses[facts[PAUSE_COUNT], 1] = OPEN_ENDED
            facts[PAUSE_COUNT] += 1
        return
    if kind == CUSTOMS_RELEASED and facts[PAUSE_TIME] != NO_TIME:
        facts[PAUSE_TIME] = NO_TIME
        story.pauses[facts[PAUSE_COUNT] - 1, 1] = time
    # A presentation answers no hold.
    if kind > CUSTOMS_HELD and facts[HOLD_TIME] != NO_TIME:
        most = rules.anomalies[HELD_TOO_LONG]
        if most != DISABLED and time - facts[HOLD_TIME] > most and facts[LONG_HOLD_SLOT] == NO_SLOT:
            facts[LONG_HOLD_TIME] = facts[HOLD_TIME]
            facts[LONG_HOLD_SLOT] = facts[HOLD_SLOT]
            facts[LONG_HOLD_END_SLOT] = slot
        facts[HOLD_TIME] = NO_TIME
        facts[HOLD_SLOT] = NO_SLOT


@jit_inline
def add_running_time(journey: JourneyFacts, start: int, running_time: int, pausable: bool) -> tuple[int, int]:
    """When a clock that starts at `start` has run for `ran` ms; OPEN and what is left of them while it stands still."""
    end = start + running_time
    if pausable:
        for pause in range(journey.facts[PAUSE_COUNT]):
            begin = max(journey.pauses[pause, 0], start)
            until = journey.pauses[pause, 1]
            if until <= begin:
                continue
            # Not one that begins at the last instant: the clock has not run for longer then.
            if begin > end:
                break
            if until == OPEN_ENDED:
                return int64(OPEN_ENDED), end - begin
            end += until - begin
    return end, int64(0)


@jit_inline
def first_scan_of(journey: JourneyFacts, kinds: Integers, promise: int) -> tuple[int, int]:
    """Time and slot of the first scan of one of the kinds of a promise; NEVER and NOBODY without one."""
    time = int64(NO_TIME)
    slot = int64(NO_SLOT)
    for place in range(kinds.shape[1]):
        kind = kinds[promise, place]
        if kind == DISABLED:
            break
        if journey.firsts[COUNT, kind] > 0 and (slot == NO_SLOT or journey.firsts[FIRST_TIME, kind] < time):
            time = journey.firsts[FIRST_TIME, kind]
            slot = journey.firsts[FIRST_SLOT, kind]
    return time, slot


# What is found of each promise and, after them, of each anomaly, by position in a row of `found`.
(
    LEVEL,  # NOTHING, AT_RISK, BREACHED or ODD
    FIRING,  # 1: it is worth an alert now; 0: it was so once, and nobody has to be told any more
    SINCE,  # when the clock started, or of the first evidence
    DEADLINE,  # when the limit is reached; OPEN while the clock stands still; NEVER where there is none
    LIMIT,  # ms, or how many
    STOPPED,  # when it was stopped, or NEVER
    REMAINING,  # of a clock that stands still, ms
    STATUS,
    NEXT_CHANGE,  # the next instant after which it will be different without any further record; OPEN for none
    FIRST_EVIDENCE,  # slots of the evidence
    SECOND_EVIDENCE,
    FINDING_FIELD_COUNT,
) = range(12)
MAX_FINDINGS: Final = MAX_PROMISES + len(ANOMALIES)


def new_findings() -> Integers:
    """Room for what is found of one parcel after the other."""
    found = np.zeros((MAX_FINDINGS, FINDING_FIELD_COUNT), np.int64)
    for which in range(MAX_FINDINGS):
        found[which, LEVEL] = ANOMALY
        clear_finding(found, which)
    return found


@jit_inline
def clear_finding(found: Integers, which: int) -> None:
    """The clock has not started, or the anomaly is not there."""
    if (
        found[which, STATUS] == NOT_STARTED
        and found[which, LEVEL] == NO_ALERT
        and found[which, NEXT_CHANGE] == OPEN_ENDED
    ):
        return
    found[which, LEVEL] = NO_ALERT
    found[which, FIRING] = 0
    found[which, SINCE] = NO_TIME
    found[which, DEADLINE] = NO_TIME
    found[which, LIMIT] = NO_TIME
    found[which, STOPPED] = NO_TIME
    found[which, REMAINING] = 0
    found[which, STATUS] = NOT_STARTED
    found[which, NEXT_CHANGE] = OPEN_ENDED
    found[which, FIRST_EVIDENCE] = NO_SLOT
    found[which, SECOND_EVIDENCE] = NO_SLOT


@jit_inline
def evaluate_promise(
    journey: JourneyFacts, rules: PromiseRules, promise: int, promised_at: int, now: int, found: Integers
) -> None:
    """How the clock of a promise stands that applies to the parcel.

    Args:
        story, rules, promise: what is known, and which promise.
        promised_at: by the latest advice, or NEVER.
        now: the hub's time, NEVER before the first Tick.
        found: its row `promise` is filled.
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
        clear_finding(found, promise)
        return
    if limit == PROMISED_AT:
        limit = promised_at - start
    pausable = rules.pauses[promise] != 0
    end, left = add_running_time(journey, start, limit, pausable)
    risky = rules.risk[promise] != 0
    risk = end
    if risky:
        risk = add_running_time(journey, start, limit * rules.risk[promise] // 10_000, pausable)[0]
    ran_until = now if stop == NO_TIME else min(stop, now)
    runs = stop == NO_TIME or stop > now
    level = int64(NO_ALERT)
    if ran_until > end:
        level = int64(BREACHED)
    elif risky and ran_until > risk:
        level = int64(AT_RISK)
    found[promise, LEVEL] = level
    # Nobody has to be told that a promise was at risk when it is known to be kept.
    found[promise, FIRING] = level == BREACHED or (level == AT_RISK and runs)
    found[promise, SINCE] = start
    found[promise, DEADLINE] = end
    found[promise, LIMIT] = limit
    found[promise, STOPPED] = stop
    found[promise, FIRST_EVIDENCE] = start_slot
    found[promise, SECOND_EVIDENCE] = stop_slot
    found[promise, REMAINING] = 0
    found[promise, NEXT_CHANGE] = OPEN_ENDED
    if stop > end or now > end:
        found[promise, STATUS] = CLOCK_BREACHED if stop == NO_TIME or stop > end else CLOCK_MET
    elif stop != NO_TIME:
        found[promise, STATUS] = CLOCK_MET
    elif end == OPEN_ENDED:
        found[promise, STATUS] = PAUSED
        found[promise, REMAINING] = left
    else:
        found[promise, STATUS] = RUNNING
    if runs and level == NO_ALERT and risky:
        # An instant that was promised may lie before the start.
        found[promise, NEXT_CHANGE] = min(risk, end)
    elif runs and level != BREACHED:
        found[promise, NEXT_CHANGE] = end


@jit_inline
def evaluate_customs_hold(journey: JourneyFacts, rules: PromiseRules, now: int, found: Integers, which: int) -> None:
    """Is or was the parcel held by customs for too long?"""
    most = rules.anomalies[HELD_TOO_LONG]
    clear_finding(found, which)
    since = journey.facts[LONG_HOLD_TIME]
    slot = journey.facts[LONG_HOLD_SLOT]
    if most == DISABLED or (slot == NO_SLOT and journey.facts[HOLD_SLOT] == NO_SLOT):
        return
    if slot == NO_SLOT:
        since = journey.facts[HOLD_TIME]
        slot = journey.facts[HOLD_SLOT]
    if now > since + most:
        set_anomaly(found, which, since, most, slot, journey.facts[LONG_HOLD_END_SLOT])
        found[which, DEADLINE] = since + most
    else:
        found[which, NEXT_CHANGE] = since + most


@jit_inline
def set_anomaly(found: Integers, which: int, since: int, limit: int, one: int, other: int) -> None:
    """An anomaly is there."""
    found[which, LEVEL] = ANOMALY
    found[which, FIRING] = 1
    found[which, SINCE] = since
    found[which, LIMIT] = limit
    found[which, FIRST_EVIDENCE] = one
    found[which, SECOND_EVIDENCE] = other


@jit_inline
def retirement_time(journey: JourneyFacts, rules: PromiseRules) -> int:
    """After which instant nobody needs the parcel any more; OPEN for never, or when that is not known yet."""
    after = rules.finished[0] if (FINISHED_KINDS >> journey.facts[STAGE]) & 1 else rules.finished[1]
    if after == DISABLED or journey.facts[LAST_RECORD_TIME] == NO_TIME:
        return int64(OPEN_ENDED)
    return int64(journey.facts[LAST_RECORD_TIME] + after)


@jit_inline
def first_future_time(journey: JourneyFacts) -> int:
    """When the hub's time comes to the first record, of a parcel that is known from the future only; else OPEN."""
    if journey.facts[LAST_RECORD_TIME] == NO_TIME and journey.facts[FIRST_FUTURE_TIME] != NO_TIME:
        return int64(journey.facts[FIRST_FUTURE_TIME])
    return int64(OPEN_ENDED)
