"""The rules of clocks and anomalies once more, in plain Python, one parcel at a time: slow, and easy to read.

`parcels promises explain`, the truth files of the simulator and the tests use this module and
`streams/domain/reference/alerts.py`; the worker runs `streams/domain/promise_clocks.py`. The two share no code but the
names of things, so that they can contradict each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.domain.containment import OFFICE, Judged, judge
from streams.domain.containment import Told as ToldOfContainer
from streams.domain.kinds import KINDS
from streams.domain.promises import Promise, Promises

_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
_ENDS: Final = ("DELIVERED", "RETURNED")
BEGINS: Final = ("ADVISED", "ARRIVED")
_MOVES: Final = frozenset(
    {
        "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
        "RETURNED", "LOST",
    }
)  # fmt: skip


class Record(NamedTuple):
    """One distinct record of a parcel; times in ms since 1970."""

    identity: bytes
    kind: str  # ADVISED for an advice
    time: int
    site: str = ""
    station: str = ""
    lane: str | None = None
    reason: str | None = None
    voids: bytes | None = None  # identity of what a VOID declares wrong
    # Of an advice: direction, service, planned_lane.
    plan: Mapping[str, str | None] | None = None
    promised_at: int | None = None
    container: str | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """How the clock of a promise stands; `deadline` and `risk` are None while it stands still before they come."""

    promise: Promise
    start: Record
    stop: Record | None
    limit: int
    deadline: int | None
    left: int
    level: str | None  # what there is to tell: AT_RISK, BREACHED or None
    standing: str
    risk: int | None  # the last instant at which it is not at risk
    holds: tuple[tuple[Record, Record | None], ...]  # with a reason, and their releases
    # The next instant after which it stands otherwise, without any further record.
    next: int | None


@dataclass(frozen=True, slots=True)
class Oddity:
    """An anomaly that is there."""

    since: int
    limit: int | None
    evidence: tuple[Record, ...]
    deadline: int | None = None


@dataclass(slots=True)
class Looked:
    """What is to say of a parcel at one time."""

    live: list[Record]
    journey: list[Record]
    journeys: int
    clocks: dict[str, Clock]
    oddities: dict[str, Oddity]
    # None: nobody knows.
    retires: int | None
    # When to look again, if no further record comes.
    next: int | None
    # The first that was seen of the parcel after the last emptying that it was in.
    seen: Record | None


def in_order(records: Iterable[Record]) -> list[Record]:
    """By event time, kind and identity."""
    return sorted(records, key=lambda record: (record.time, _RANK[record.kind], record.identity))


def live_of(records: Sequence[Record]) -> list[Record]:
    """Those of the records, given in their order, that count: neither declared wrong nor set aside."""
    said, judged = _judged(records)
    aside = {record.identity for record, is_aside in zip(said, judged.aside, strict=True) if is_aside}
    wrong = {record.voids for record in records if record.kind == "VOID"}
    return [record for record in records if record.kind != "VOID" and record.identity not in wrong | aside]


def _judged(records: Sequence[Record]) -> tuple[list[Record], Judged]:
    """The scans among the records, and what they say of containers."""
    wrong = {record.voids for record in records if record.kind == "VOID"}
    scans = [record for record in records if record.kind != "VOID" and record.plan is None]
    told = [
        ToldOfContainer(each.kind, each.site, each.container, each.inferred, each.identity in wrong, each.reason)
        for each in scans
    ]
    return scans, judge(told)


def look(promises: Promises, records: Iterable[Record], now: int | None) -> Looked:
    """All clocks and anomalies of the parcel with these distinct records; `now`: hub time, None before a Tick."""
    known = in_order(records)
    live = live_of(known)
    journeys = _journeys(live, promises.anomalies.reused)
    journey = journeys[-1]
    advice = next((record for record in reversed(journey) if record.plan is not None), None)
    clocks = {}
    for promise in promises.promises:
        if _applies(promise, advice) and (clock := _clock(promise, journey, advice, now)) is not None:
            clocks[promise.name] = clock
    oddities, due = _oddities(promises, journeys, advice, now)
    astray, seen, seen_due = _astray(promises, known, journey if len(journeys) > 1 else None, now)
    oddities |= astray
    due = min((instant for instant in (due, seen_due) if instant is not None), default=None)
    heard = [record.time for record in known if now is not None and record.time <= now]
    stage = next((record.kind for record in reversed(journey) if record.kind in _MOVES), None)
    finished = stage in (*_ENDS, "LOST")
    after = promises.retirement.finished if finished else promises.retirement.unfinished
    retires = None if after is None or not heard else max(heard) + after
    # Of a parcel of which everything lies ahead nothing has been heard yet.
    heard_from = None if heard or after is None else min((record.time for record in known), default=None)
    nexts = [
        instant
        for instant in (*(clock.next for clock in clocks.values()), due, retires, heard_from)
        if instant is not None
    ]
    return Looked(live, journey, len(journeys), clocks, oddities, retires, min(nexts, default=None), seen)


def _journeys(live: Sequence[Record], reused: int | None) -> list[list[Record]]:
    journeys: list[list[Record]] = [[]]
    ended: int | None = None
    for record in live:
        again = record.kind in BEGINS and ended is not None and reused is not None and record.time - ended > reused
        if again:
            journeys.append([])
            ended = None
        journeys[-1].append(record)
        if record.kind in _ENDS:
            ended = record.time
    return journeys


def _applies(promise: Promise, advice: Record | None) -> bool:
    plan = (advice.plan if advice else None) or {"direction": "UNKNOWN", "service": None, "planned_lane": None}
    return (
        (promise.directions is None or plan["direction"] in promise.directions)
        and (promise.services is None or plan["service"] in promise.services)
        and (promise.lanes is None or plan["planned_lane"] in promise.lanes)
    )


def holds_of(journey: Sequence[Record]) -> list[tuple[Record, Record | None]]:
    """Each hold with a reason and the next release; None while there is none."""
    holds: list[tuple[Record, Record | None]] = []
    since: Record | None = None
    for record in journey:
        if record.kind == "CUSTOMS_HELD" and record.reason and since is None:
            since = record
        elif record.kind == "CUSTOMS_RELEASED" and since is not None:
            holds.append((since, record))
            since = None
    return holds if since is None else [*holds, (since, None)]


def pauses_of(journey: Sequence[Record]) -> list[tuple[int, int | None]]:
    """From when until when holds stop a clock; None while there is no release."""
    return [(hold.time, None if release is None else release.time) for hold, release in holds_of(journey)]


def used_up(start: int, budget: int, pauses: Sequence[tuple[int, int | None]]) -> tuple[int | None, int]:
    """When a clock has run for `budget`, and 0; None and what is left when it stands still before that."""
    at, left = start, budget
    for since, until in pauses:
        since = max(since, start)
        if until is not None and until <= since:
            continue
        if since - at > left:
            break
        left -= since - at
        if until is None:
            return None, left
        at = until
    return at + left, 0


def _clock(promise: Promise, journey: Sequence[Record], advice: Record | None, now: int | None) -> Clock | None:
    starts = [record for record in journey if record.kind in promise.starts]
    stops = [record for record in journey if record.kind in promise.stops]
    if not starts:
        return None
    start = starts[0]
    if promise.restarts:
        start = runs_of(promise, journey)[-1]
        after = journey[journey.index(start) :]
        stops = [record for record in after if record.kind in promise.stops]
    stop = stops[0] if stops else None
    if promise.limit == "promised_at":
        if advice is None or advice.promised_at is None:
            return None
        limit = advice.promised_at - start.time
    else:
        limit = promise.limit
    pauses = pauses_of(journey) if promise.pauses else []
    deadline, left = used_up(start.time, limit, pauses)
    risk, _ = used_up(start.time, limit * risk_parts(promise) // 10_000, pauses)
    stopped = stop is not None and now is not None and stop.time <= now
    ran_until = stop.time if stop is not None and stopped else now
    level = level_of(promise, ran_until, risk, deadline)
    if past(stop.time if stop else now, deadline):
        standing = "BROKEN"
    elif stop is not None:
        standing = "KEPT"
    else:
        standing = "PAUSED" if deadline is None else "RUNNING"
    upcoming = None
    if not stopped and level != "BREACHED":
        upcoming = deadline
        if level is None and promise.at_risk is not None and risk is not None and deadline is not None:
            upcoming = min(risk, deadline)
        elif level is None and promise.at_risk is not None:
            upcoming = risk
    holds = tuple(holds_of(journey)) if promise.pauses else ()
    return Clock(promise, start, stop, limit, deadline, left, level, standing, risk, holds, upcoming)


def runs_of(promise: Promise, journey: Sequence[Record]) -> list[Record]:
    """The scans with which a clock that restarts started, each time."""
    started: list[Record] = []
    runs = False
    for record in journey:
        if record.kind in promise.starts or (runs and record.kind in promise.renews):
            started.append(record)
            runs = True
        elif record.kind in promise.stops:
            runs = False
    return started


def risk_parts(promise: Promise) -> int:
    """The at-risk share in ten-thousandths; 0 where there is none."""
    return round((promise.at_risk or 0) * 10_000)


def past(instant: int | None, limit: int | None) -> bool:
    """Is the instant later than the limit? Not where one of them is not known."""
    return instant is not None and limit is not None and instant > limit


def level_of(promise: Promise, ran_until: int | None, risk: int | None, deadline: int | None) -> str | None:
    """What there is to tell of a clock that ran until then: AT_RISK, BREACHED or None."""
    if past(ran_until, deadline):
        return "BREACHED"
    return "AT_RISK" if promise.at_risk is not None and past(ran_until, risk) else None


def _oddities(
    promises: Promises,
    journeys: Sequence[Sequence[Record]],
    advice: Record | None,
    now: int | None,
) -> tuple[dict[str, Oddity], int | None]:
    odd, journey = promises.anomalies, journeys[-1]
    scans = [record for record in journey if record.plan is None]
    found: dict[str, Oddity] = {}
    due: int | None = None
    planned = advice.plan["planned_lane"] if advice is not None and advice.plan is not None else None
    if odd.misrouted and planned is not None and advice is not None:
        for record in scans:
            if record.kind in ("SORTED", "LOADED") and record.lane is not None and record.lane != planned:
                found["MISROUTED"] = Oddity(record.time, None, (record, advice))
                break
    for name, kind, most in (
        ("REPEATED_NO_READ", "NO_READ", odd.no_reads),
        ("RECIRCULATING", "RECIRCULATED", odd.recirculations),
    ):
        those = [record for record in scans if record.kind == kind]
        if most is not None and len(those) >= most:
            found[name] = Oddity(those[0].time, most, (those[0], those[most - 1]))
    if odd.unreleased is not None:
        direction = advice.plan["direction"] if advice is not None and advice.plan is not None else "UNKNOWN"
        step = None
        for record in scans:
            if record.kind.startswith("CUSTOMS_"):
                step = record.kind
            elif record.kind == "DISPATCHED" and step != "CUSTOMS_RELEASED" and (step or direction in odd.unreleased):
                found["NOT_RELEASED"] = Oddity(record.time, None, (record,))
                break
    if odd.held_too_long is not None:
        for hold, answer in _holds(scans):
            ends = hold.time + odd.held_too_long
            if answer is not None and answer.time <= ends:
                continue
            if past(now, ends):
                proofs = (hold,) if answer is None else (hold, answer)
                found["HELD_TOO_LONG"] = Oddity(hold.time, odd.held_too_long, proofs, ends)
            else:
                due = ends
            break
    if odd.future is not None and now is not None:
        ahead = [record for record in scans if record.time > now + odd.future]
        if ahead:
            found["FROM_THE_FUTURE"] = Oddity(ahead[0].time, odd.future, (ahead[0],))
    if len(journeys) > 1:
        found["NUMBER_REUSED"] = Oddity(journey[0].time, odd.reused, (journey[0],))
    return found, due


def _astray(
    promises: Promises, known: Sequence[Record], journey: Sequence[Record] | None, now: int | None
) -> tuple[dict[str, Oddity], Record | None, int | None]:
    """What is odd about the parcel and its containers; what was seen of it after an emptying; when to look again.

    `journey`: the last one, where there are several.
    """
    odd = promises.anomalies
    scans, judged = _judged(known)
    begins = 0
    if journey is not None:
        before = known[: known.index(journey[0])]
        begins = sum(record.kind != "VOID" and record.plan is None for record in before)
    found: dict[str, Oddity] = {}

    def proofs(place: int, packing: int | None) -> tuple[Record, ...]:
        return (scans[place],) if packing is None else (scans[packing], scans[place])

    for name, wanted, places in (
        ("FOUND_OUTSIDE", odd.found_outside, judged.outside),
        ("FOUND_EXTRA", odd.found_extra, judged.extra),
    ):
        here = [each for each in places if each.at >= begins]
        if wanted and here:
            found[name] = Oddity(scans[here[0].at].time, None, proofs(*here[0]))
    emptied = [each for each in judged.emptied if each.at >= begins]
    if not emptied:
        return found, None, None
    last = emptied[-1]
    wrong = {record.voids for record in known if record.kind == "VOID"}
    later = [
        record
        for place, record in enumerate(scans)
        if place > last.at and not judged.aside[place] and record.identity not in wrong
    ]
    seen = next(
        (
            record
            for record in later
            if (record.kind == "PACKED" and record.container is not None)
            or (not record.inferred and record.kind not in OFFICE)
        ),
        None,
    )
    if seen is not None or odd.missing is None:
        return found, seen, None
    ends = scans[last.at].time + odd.missing
    if not past(now, ends):
        return found, seen, ends
    found["MISSING"] = Oddity(scans[last.at].time, odd.missing, proofs(*last), ends)
    return found, seen, None


def _holds(scans: Sequence[Record]) -> list[tuple[Record, Record | None]]:
    """Every hold, whatever its reason, with the release or refusal that answers it."""
    holds: list[tuple[Record, Record | None]] = []
    held: Record | None = None
    for record in scans:
        if record.kind == "CUSTOMS_HELD" and held is None:
            held = record
        elif record.kind in ("CUSTOMS_RELEASED", "CUSTOMS_REFUSED") and held is not None:
            holds.append((held, record))
            held = None
    return holds if held is None else [*holds, (held, None)]
