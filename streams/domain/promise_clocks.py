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

from streams.domain.jit import inlined, int64
from streams.domain.kinds import (
    ADVISED,
    ARRIVED,
    CUSTOMS,
    CUSTOMS_HELD,
    CUSTOMS_RELEASED,
    DELIVERED,
    DISPATCHED,
    KINDS,
    LOST,
    MOVES,
    NO_READ,
    RECIRCULATED,
    RETURNED,
)
from streams.domain.limits import RECORDS_PER_PARCEL
from streams.domain.promises import (
    ANOMALIES,
    FROM_THE_FUTURE,
    HELD_TOO_LONG,
    LARGEST_NUMBER,
    NUMBER_REUSED,
    RECIRCULATING,
    REPEATED_NO_READ,
)

Integers = NDArray[np.int64]

NEVER: Final = -(1 << 63)  # no such instant, also: no Tick yet
OPEN: Final = 1 << 62  # an instant that has not come: the clock stands still
NOBODY: Final = -1  # no such slot
OFF: Final = -1
PROMISED_AT: Final = -1  # as a limit: until the instant that the advice promises

# What is told of a promise or an anomaly, by position in the Avro enum `AlertType`.
ALERT_TYPES: Final = ("OTHER", "AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY")
NOTHING, AT_RISK, BREACHED, WITHDRAWN, ODD = range(len(ALERT_TYPES))
# How a clock stands, by position in the Avro enum `Standing`; a clock that has not started is not shown.
STANDINGS: Final = ("OTHER", "RUNNING", "PAUSED", "KEPT", "BROKEN")
NOT_STARTED, RUNNING, PAUSED, KEPT, BROKEN = range(len(STANDINGS))

ENDED: Final = 1 << DELIVERED | 1 << RETURNED  # the journey is over
FINISHED: Final = ENDED | 1 << LOST
BEGINS: Final = 1 << ADVISED | 1 << ARRIVED  # a journey


class Rules(NamedTuple):
    """Promises, anomalies and retirement as compiled code sees them: a row for each promise."""

    starts: Integers  # kinds, one bit each
    stops: Integers
    start_kinds: Integers  # the same as lists: [promise, place], OFF after the last one
    stop_kinds: Integers
    renews: Integers  # kinds, one bit each: they start a clock anew that runs
    restarts: Integers  # 1: every start begins anew
    restarting: Integers  # which these are
    limit: Integers  # ms, or PROMISED_AT
    risk: Integers  # ten thousandths of the limit; 0: never at risk
    pauses: Integers  # 1: customs holds
    directions: Integers  # one bit each
    services: Integers  # [promise, 0 or 1]: first of its texts and the one after the last; equal: any service
    lanes: Integers
    text_at: Integers  # position in `text` where each text begins, and where the last one ends
    text: NDArray[np.uint8]
    anomalies: Integers  # threshold of each, OFF; NOT_RELEASED: directions that need a release, one bit each
    finished: Integers  # [0] ms after the last record of a finished parcel, [1] of any other; OFF


# What is known of a parcel while its records are told, by position in `facts`: of the number, and of its last journey,
# first the instants, then the slots, then numbers.
JOURNEYS, JOURNEY_AT, ENDED_AT, ENDED_SLOT, HEARD_AT, AHEAD_AT = range(6)
HELD_AT, LONG_AT, PAUSED_AT = range(AHEAD_AT + 1, AHEAD_AT + 4)
(
    JOURNEY_SLOT,
    HELD_SLOT,
    LONG_SLOT,
    LONG_END,
    ADVICE_SLOT,
    UNRELEASED_SLOT,
    UNDER_CUSTOMS_SLOT,
    NO_READ_SLOT,
    RECIRCULATED_SLOT,
    SEEN_SLOT,  # after it was in a container that was emptied
    FUTURE_SLOT,
) = range(PAUSED_AT + 1, PAUSED_AT + 12)
(
    STAGE,
    CUSTOMS_STEP,
    PAUSES,
    PLAN,
    PROMISED,
    CONTAINED,  # 1: it was packed, or taken out with its container
    FACTS,
) = range(FUTURE_SLOT + 1, FUTURE_SLOT + 8)

# First scan of each kind, by position in `firsts`.
TIME, SLOT, COUNT, FIRSTS = range(4)
# Last start of a clock that restarts and the first stop after it, by position in a row of `runs`.
RUN_AT, RUN_SLOT, RUN_STOP, RUN_STOP_SLOT, RUNS = range(5)


class Story(NamedTuple):
    """What the records of a parcel say, filled by `tell` and `tell_advice`."""

    facts: Integers
    firsts: Integers  # [TIME, SLOT or COUNT, kind]
    pauses: Integers  # [pause, 0 or 1]: from, until or OPEN
    runs: Integers  # [promise, RUN_AT...]


def blank_story() -> Story:
    """Room for the story of one parcel after the other."""
    return Story(
        np.zeros(FACTS, np.int64),
        np.zeros((FIRSTS, len(KINDS)), np.int64),
        np.zeros((RECORDS_PER_PARCEL + 1, 2), np.int64),
        np.zeros((LARGEST_NUMBER, RUNS), np.int64),
    )


@inlined
def forget(story: Story, rules: Rules) -> None:
    """Make room for the next parcel."""
    story.facts[JOURNEYS] = 0
    story.facts[JOURNEY_AT] = NEVER
    story.facts[ENDED_AT] = NEVER
    story.facts[ENDED_SLOT] = NOBODY
    story.facts[HEARD_AT] = NEVER
    story.facts[AHEAD_AT] = NEVER
    _forget_journey(story, rules)


@inlined
def _forget_journey(story: Story, rules: Rules) -> None:
    for fact in range(HELD_AT, JOURNEY_SLOT):
        story.facts[fact] = NEVER
    for fact in range(JOURNEY_SLOT, STAGE):
        story.facts[fact] = NOBODY
    for fact in range(STAGE, FACTS):
        story.facts[fact] = 0
    for kind in range(len(KINDS)):
        story.firsts[COUNT, kind] = 0
    for which in range(len(rules.restarting)):
        story.runs[rules.restarting[which], RUN_AT] = NEVER
        story.runs[rules.restarting[which], RUN_STOP] = NEVER


@inlined
def hear(story: Story, time: int, now: int) -> None:
    """A record of any sort, also one that counts for nothing else; `now` is the hub's time."""
    if time <= now:
        story.facts[HEARD_AT] = time
    elif story.facts[AHEAD_AT] == NEVER:
        story.facts[AHEAD_AT] = time


@inlined
def tell_advice(story: Story, rules: Rules, kind: int, time: int, slot: int, plan: int, promised: int) -> None:
    """One advice that counts: the latest one's plan and promise hold."""
    _note(story, rules, kind, time, slot)
    story.facts[PLAN] = plan
    story.facts[PROMISED] = promised
    story.facts[ADVICE_SLOT] = slot


@inlined
def tell(story: Story, rules: Rules, kind: int, time: int, slot: int, has_reason: bool, now: int) -> None:
    """One scan that counts; `now` is the hub's time."""
    facts = story.facts
    _note(story, rules, kind, time, slot)
    if (CUSTOMS >> kind) & 1:
        _customs(story, rules, kind, time, slot, has_reason)
    elif kind == DISPATCHED:
        if facts[CUSTOMS_STEP] != CUSTOMS_RELEASED:
            if facts[UNRELEASED_SLOT] == NOBODY:
                facts[UNRELEASED_SLOT] = slot
            if facts[CUSTOMS_STEP] != 0 and facts[UNDER_CUSTOMS_SLOT] == NOBODY:
                facts[UNDER_CUSTOMS_SLOT] = slot
    elif kind == NO_READ:
        if story.firsts[COUNT, NO_READ] == rules.anomalies[REPEATED_NO_READ]:
            facts[NO_READ_SLOT] = slot
    elif kind == RECIRCULATED and story.firsts[COUNT, RECIRCULATED] == rules.anomalies[RECIRCULATING]:
        facts[RECIRCULATED_SLOT] = slot
    ahead = rules.anomalies[FROM_THE_FUTURE]
    if ahead != OFF and now != NEVER and time > now + ahead and facts[FUTURE_SLOT] == NOBODY:
        facts[FUTURE_SLOT] = slot


@inlined
def _note(story: Story, rules: Rules, kind: int, time: int, slot: int) -> None:
    facts = story.facts
    if facts[JOURNEYS] == 0:
        facts[JOURNEYS] = 1
    elif (BEGINS >> kind) & 1 and facts[ENDED_AT] != NEVER:
        # Announced or arrived again: the same parcel, if it is soon; long after it, another one.
        again = rules.anomalies[NUMBER_REUSED]
        if again != OFF and time - facts[ENDED_AT] > again:
            _forget_journey(story, rules)
            facts[ENDED_AT] = NEVER
            facts[JOURNEYS] += 1
            facts[JOURNEY_AT] = time
            facts[JOURNEY_SLOT] = slot
    if (MOVES >> kind) & 1 and kind != ADVISED:
        facts[STAGE] = kind
        if (ENDED >> kind) & 1:
            facts[ENDED_AT] = time
            facts[ENDED_SLOT] = slot
    if story.firsts[COUNT, kind] == 0:
        story.firsts[TIME, kind] = time
        story.firsts[SLOT, kind] = slot
    story.firsts[COUNT, kind] += 1
    for which in range(len(rules.restarting)):
        promise = rules.restarting[which]
        runs = story.runs[promise, RUN_AT] != NEVER and story.runs[promise, RUN_STOP] == NEVER
        if (rules.starts[promise] >> kind) & 1 or (runs and (rules.renews[promise] >> kind) & 1):
            story.runs[promise, RUN_AT] = time
            story.runs[promise, RUN_SLOT] = slot
            story.runs[promise, RUN_STOP] = NEVER
        elif (rules.stops[promise] >> kind) & 1 and story.runs[promise, RUN_STOP] == NEVER:
            story.runs[promise, RUN_STOP] = time
            story.runs[promise, RUN_STOP_SLOT] = slot


@inlined
def _customs(story: Story, rules: Rules, kind: int, time: int, slot: int, has_reason: bool) -> None:
    facts = story.facts
    facts[CUSTOMS_STEP] = kind
    if kind == CUSTOMS_HELD:
        if facts[HELD_AT] == NEVER:
            facts[HELD_AT] = time
            facts[HELD_SLOT] = slot
        if has_reason and facts[PAUSED_AT] == NEVER:
            facts[PAUSED_AT] = time
            story.pauses[facts[PAUSES], 0] = time
            story.pauses[facts[PAUSES], 1] = OPEN
            facts[PAUSES] += 1
        return
    if kind == CUSTOMS_RELEASED and facts[PAUSED_AT] != NEVER:
        facts[PAUSED_AT] = NEVER
        story.pauses[facts[PAUSES] - 1, 1] = time
    # A presentation answers no hold.
    if kind > CUSTOMS_HELD and facts[HELD_AT] != NEVER:
        most = rules.anomalies[HELD_TOO_LONG]
        if most != OFF and time - facts[HELD_AT] > most and facts[LONG_SLOT] == NOBODY:
            facts[LONG_AT] = facts[HELD_AT]
            facts[LONG_SLOT] = facts[HELD_SLOT]
            facts[LONG_END] = slot
        facts[HELD_AT] = NEVER
        facts[HELD_SLOT] = NOBODY


@inlined
def reached(story: Story, start: int, ran: int, pausable: bool) -> tuple[int, int]:
    """When a clock that starts at `start` has run for `ran` ms; OPEN and what is left of them while it stands still."""
    end = start + ran
    if pausable:
        for pause in range(story.facts[PAUSES]):
            begin = max(story.pauses[pause, 0], start)
            until = story.pauses[pause, 1]
            if until <= begin:
                continue
            # Not one that begins at the last instant: the clock has not run for longer then.
            if begin > end:
                break
            if until == OPEN:
                return int64(OPEN), end - begin
            end += until - begin
    return end, int64(0)


@inlined
def first_of(story: Story, kinds: Integers, promise: int) -> tuple[int, int]:
    """Time and slot of the first scan of one of the kinds of a promise; NEVER and NOBODY without one."""
    time = int64(NEVER)
    slot = int64(NOBODY)
    for place in range(kinds.shape[1]):
        kind = kinds[promise, place]
        if kind == OFF:
            break
        if story.firsts[COUNT, kind] > 0 and (slot == NOBODY or story.firsts[TIME, kind] < time):
            time = story.firsts[TIME, kind]
            slot = story.firsts[SLOT, kind]
    return time, slot


# What is found of each promise and, after them, of each anomaly, by position in a row of `found`.
(
    LEVEL,  # NOTHING, AT_RISK, BREACHED or ODD
    FIRES,  # 1: it is worth an alert now; 0: it was so once, and nobody has to be told any more
    SINCE,  # when the clock started, or of the first evidence
    DEADLINE,  # when the limit is reached; OPEN while the clock stands still; NEVER where there is none
    LIMIT,  # ms, or how many
    STOPPED,  # when it was stopped, or NEVER
    LEFT,  # of a clock that stands still, ms
    STANDING,
    NEXT,  # the next instant after which it will be different without any further record; OPEN for none
    ONE,  # slots of the evidence
    OTHER,
    FOUND,
) = range(12)
MOST_FOUND: Final = LARGEST_NUMBER + len(ANOMALIES)


def blank_found() -> Integers:
    """Room for what is found of one parcel after the other."""
    found = np.zeros((MOST_FOUND, FOUND), np.int64)
    for which in range(MOST_FOUND):
        found[which, LEVEL] = ODD
        nothing_found(found, which)
    return found


@inlined
def nothing_found(found: Integers, which: int) -> None:
    """The clock has not started, or the anomaly is not there."""
    if found[which, STANDING] == NOT_STARTED and found[which, LEVEL] == NOTHING and found[which, NEXT] == OPEN:
        return
    found[which, LEVEL] = NOTHING
    found[which, FIRES] = 0
    found[which, SINCE] = NEVER
    found[which, DEADLINE] = NEVER
    found[which, LIMIT] = NEVER
    found[which, STOPPED] = NEVER
    found[which, LEFT] = 0
    found[which, STANDING] = NOT_STARTED
    found[which, NEXT] = OPEN
    found[which, ONE] = NOBODY
    found[which, OTHER] = NOBODY


@inlined
def judge_promise(story: Story, rules: Rules, promise: int, promised_at: int, now: int, found: Integers) -> None:
    """How the clock of a promise stands that applies to the parcel.

    Args:
        story, rules, promise: what is known, and which promise.
        promised_at: by the latest advice, or NEVER.
        now: the hub's time, NEVER before the first Tick.
        found: its row `promise` is filled.
    """
    if rules.restarts[promise]:
        start = story.runs[promise, RUN_AT]
        stop = story.runs[promise, RUN_STOP]
        start_slot = story.runs[promise, RUN_SLOT]
        stop_slot = story.runs[promise, RUN_STOP_SLOT] if stop != NEVER else int64(NOBODY)
    else:
        start, start_slot = first_of(story, rules.start_kinds, promise)
        stop, stop_slot = first_of(story, rules.stop_kinds, promise)
    limit = rules.limit[promise]
    if start == NEVER or (limit == PROMISED_AT and promised_at == NEVER):
        nothing_found(found, promise)
        return
    if limit == PROMISED_AT:
        limit = promised_at - start
    pausable = rules.pauses[promise] != 0
    end, left = reached(story, start, limit, pausable)
    risky = rules.risk[promise] != 0
    risk = end
    if risky:
        risk = reached(story, start, limit * rules.risk[promise] // 10_000, pausable)[0]
    ran_until = now if stop == NEVER else min(stop, now)
    runs = stop == NEVER or stop > now
    level = int64(NOTHING)
    if ran_until > end:
        level = int64(BREACHED)
    elif risky and ran_until > risk:
        level = int64(AT_RISK)
    found[promise, LEVEL] = level
    # Nobody has to be told that a promise was at risk when it is known to be kept.
    found[promise, FIRES] = level == BREACHED or (level == AT_RISK and runs)
    found[promise, SINCE] = start
    found[promise, DEADLINE] = end
    found[promise, LIMIT] = limit
    found[promise, STOPPED] = stop
    found[promise, ONE] = start_slot
    found[promise, OTHER] = stop_slot
    found[promise, LEFT] = 0
    found[promise, NEXT] = OPEN
    if stop > end or now > end:
        found[promise, STANDING] = BROKEN if stop == NEVER or stop > end else KEPT
    elif stop != NEVER:
        found[promise, STANDING] = KEPT
    elif end == OPEN:
        found[promise, STANDING] = PAUSED
        found[promise, LEFT] = left
    else:
        found[promise, STANDING] = RUNNING
    if runs and level == NOTHING and risky:
        # An instant that was promised may lie before the start.
        found[promise, NEXT] = min(risk, end)
    elif runs and level != BREACHED:
        found[promise, NEXT] = end


@inlined
def judge_held(story: Story, rules: Rules, now: int, found: Integers, which: int) -> None:
    """Is or was the parcel held by customs for too long?"""
    most = rules.anomalies[HELD_TOO_LONG]
    nothing_found(found, which)
    since = story.facts[LONG_AT]
    slot = story.facts[LONG_SLOT]
    if most == OFF or (slot == NOBODY and story.facts[HELD_SLOT] == NOBODY):
        return
    if slot == NOBODY:
        since = story.facts[HELD_AT]
        slot = story.facts[HELD_SLOT]
    if now > since + most:
        odd(found, which, since, most, slot, story.facts[LONG_END])
        found[which, DEADLINE] = since + most
    else:
        found[which, NEXT] = since + most


@inlined
def odd(found: Integers, which: int, since: int, limit: int, one: int, other: int) -> None:
    """An anomaly is there."""
    found[which, LEVEL] = ODD
    found[which, FIRES] = 1
    found[which, SINCE] = since
    found[which, LIMIT] = limit
    found[which, ONE] = one
    found[which, OTHER] = other


@inlined
def retires_at(story: Story, rules: Rules) -> int:
    """After which instant nobody needs the parcel any more; OPEN for never, or when that is not known yet."""
    after = rules.finished[0] if (FINISHED >> story.facts[STAGE]) & 1 else rules.finished[1]
    if after == OFF or story.facts[HEARD_AT] == NEVER:
        return int64(OPEN)
    return int64(story.facts[HEARD_AT] + after)


@inlined
def heard_again_at(story: Story) -> int:
    """When the hub's time comes to the first record, of a parcel that is known from the future only; else OPEN."""
    if story.facts[HEARD_AT] == NEVER and story.facts[AHEAD_AT] != NEVER:
        return int64(story.facts[AHEAD_AT])
    return int64(OPEN)
