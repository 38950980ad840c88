"""The rules of clocks and anomalies once more, in plain Python, one parcel at a time: slow, and easy to read.

`parcels promises explain`, the truth files of the simulator and the tests use this module and
`streams/domain/reference/alerts.py`; the worker runs `streams/domain/promise_clocks.py`. The two share no code but the
names of things, so that they can contradict each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.domain.containment import NO_LOCATION, ContainmentResult, evaluate_containment
from streams.domain.containment import ContainmentRecord as ToldOfContainer
from streams.domain.kinds import KINDS
from streams.domain.promises import Promise, Promises

_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
_ENDS: Final = ("DELIVERED", "RETURNED")
JOURNEY_START_KINDS: Final = ("ADVISED", "ARRIVED")
_MOVES: Final = frozenset(
    {
        "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
        "RETURNED", "LOST",
    }
)  # fmt: skip


class ParcelRecord(NamedTuple):
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
class PromiseClock:
    """How the clock of a promise stands; `deadline` and `risk` are None while it stands still before they come."""

    promise: Promise
    start: ParcelRecord
    stop: ParcelRecord | None
    limit: int
    deadline: int | None
    left: int
    level: str | None  # what there is to tell: AT_RISK, BREACHED or None
    standing: str
    risk: int | None  # the last instant at which it is not at risk
    holds: tuple[tuple[ParcelRecord, ParcelRecord | None], ...]  # with a reason, and their releases
    # The next instant after which it stands otherwise, without any further record.
    next: int | None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An anomaly that is there."""

    since: int
    limit: int | None
    evidence: tuple[ParcelRecord, ...]
    deadline: int | None = None


@dataclass(slots=True)
class Evaluation:
    """What is to say of a parcel at one time."""

    live: list[ParcelRecord]
    journey: list[ParcelRecord]
    journeys: int
    clocks: dict[str, PromiseClock]
    anomalies: dict[str, Anomaly]
    # None: nobody knows.
    retirement_time: int | None
    # When to look again, if no further record comes.
    next: int | None
    # The first that was seen of the parcel after the last emptying that it was in.
    seen_after_emptying: ParcelRecord | None


def sort_records(records: Iterable[ParcelRecord]) -> list[ParcelRecord]:
    """By event time, kind and identity."""
    return sorted(records, key=lambda record: (record.time, _RANK[record.kind], record.identity))


def effective_records(records: Sequence[ParcelRecord]) -> list[ParcelRecord]:
    """Those of the records, given in their order, that count: neither declared wrong nor set aside."""
    said, judged = _judged(records)
    aside = {record.identity for record, is_aside in zip(said, judged.superseded, strict=True) if is_aside}
    wrong = {record.voids for record in records if record.kind == "VOID"}
    return [record for record in records if record.kind != "VOID" and record.identity not in wrong | aside]


def _judged(records: Sequence[ParcelRecord]) -> tuple[list[ParcelRecord], ContainmentResult]:
    """The scans among the records, and what they say of containers."""
    wrong = {record.voids for record in records if record.kind == "VOID"}
    scans = [record for record in records if record.kind != "VOID" and record.plan is None]
    told = [
        ToldOfContainer(each.kind, each.site, each.container, each.inferred, each.identity in wrong, each.reason)
        for each in scans
    ]
    return scans, evaluate_containment(told)


def evaluate(promises: Promises, records: Iterable[ParcelRecord], now: int | None) -> Evaluation:
    """All clocks and anomalies of the parcel with these distinct records; `now`: hub time, None before a Tick."""
    known = sort_records(records)
    live = effective_records(known)
    journeys = _journeys(live, promises.anomalies.number_reused)
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
    return Evaluation(live, journey, len(journeys), clocks, oddities, retires, min(nexts, default=None), seen)


def _journeys(live: Sequence[ParcelRecord], reused: int | None) -> list[list[ParcelRecord]]:
    journeys: list[list[ParcelRecord]] = [[]]
    ended: int | None = None
    for record in live:
        again = (
            record.kind in JOURNEY_START_KINDS
            and ended is not None
            and reused is not None
            and record.time - ended > reused
        )
        if again:
            journeys.append([])
            ended = None
        journeys[-1].append(record)
        if record.kind in _ENDS:
            ended = record.time
    return journeys


def _applies(promise: Promise, advice: ParcelRecord | None) -> bool:
    plan = (advice.plan if advice else None) or {"direction": "UNKNOWN", "service": None, "planned_lane": None}
    return (
        (promise.directions is None or plan["direction"] in promise.directions)
        and (promise.services is None or plan["service"] in promise.services)
        and (promise.lanes is None or plan["planned_lane"] in promise.lanes)
    )


def customs_holds(journey: Sequence[ParcelRecord]) -> list[tuple[ParcelRecord, ParcelRecord | None]]:
    """Each hold with a reason and the next release; None while there is none."""
    holds: list[tuple[ParcelRecord, ParcelRecord | None]] = []
    since: ParcelRecord | None = None
    for record in journey:
        if record.kind == "CUSTOMS_HELD" and record.reason and since is None:
            since = record
        elif record.kind == "CUSTOMS_RELEASED" and since is not None:
            holds.append((since, record))
            since = None
    return holds if since is None else [*holds, (since, None)]


def clock_pauses(journey: Sequence[ParcelRecord]) -> list[tuple[int, int | None]]:
    """From when until when holds stop a clock; None while there is no release."""
    return [(hold.time, None if release is None else release.time) for hold, release in customs_holds(journey)]


def add_running_time(start: int, budget: int, pauses: Sequence[tuple[int, int | None]]) -> tuple[int | None, int]:
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


def _clock(
    promise: Promise, journey: Sequence[ParcelRecord], advice: ParcelRecord | None, now: int | None
) -> PromiseClock | None:
    starts = [record for record in journey if record.kind in promise.starts]
    stops = [record for record in journey if record.kind in promise.stops]
    if not starts:
        return None
    start = starts[0]
    if promise.restarts:
        start = clock_starts(promise, journey)[-1]
        after = journey[journey.index(start) :]
        stops = [record for record in after if record.kind in promise.stops]
    stop = stops[0] if stops else None
    if promise.limit == "promised_at":
        if advice is None or advice.promised_at is None:
            return None
        limit = advice.promised_at - start.time
    else:
        limit = promise.limit
    pauses = clock_pauses(journey) if promise.pauses else []
    deadline, left = add_running_time(start.time, limit, pauses)
    risk, _ = add_running_time(start.time, limit * at_risk_basis_points(promise) // 10_000, pauses)
    stopped = stop is not None and now is not None and stop.time <= now
    ran_until = stop.time if stop is not None and stopped else now
    level = alert_level_at(promise, ran_until, risk, deadline)
    if is_past(stop.time if stop else now, deadline):
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
    holds = tuple(customs_holds(journey)) if promise.pauses else ()
    return PromiseClock(promise, start, stop, limit, deadline, left, level, standing, risk, holds, upcoming)


def clock_starts(promise: Promise, journey: Sequence[ParcelRecord]) -> list[ParcelRecord]:
    """The scans with which a clock that restarts started, each time."""
    started: list[ParcelRecord] = []
    runs = False
    for record in journey:
        if record.kind in promise.starts or (runs and record.kind in promise.renews):
            started.append(record)
            runs = True
        elif record.kind in promise.stops:
            runs = False
    return started


def at_risk_basis_points(promise: Promise) -> int:
    """The at-risk share in ten-thousandths; 0 where there is none."""
    return round((promise.at_risk or 0) * 10_000)


def is_past(instant: int | None, limit: int | None) -> bool:
    """Is the instant later than the limit? Not where one of them is not known."""
    return instant is not None and limit is not None and instant > limit


def alert_level_at(promise: Promise, ran_until: int | None, risk: int | None, deadline: int | None) -> str | None:
    """What there is to tell of a clock that ran until then: AT_RISK, BREACHED or None."""
    if is_past(ran_until, deadline):
        return "BREACHED"
    return "AT_RISK" if promise.at_risk is not None and is_past(ran_until, risk) else None


def _oddities(
    promises: Promises,
    journeys: Sequence[Sequence[ParcelRecord]],
    advice: ParcelRecord | None,
    now: int | None,
) -> tuple[dict[str, Anomaly], int | None]:
    odd, journey = promises.anomalies, journeys[-1]
    scans = [record for record in journey if record.plan is None]
    found: dict[str, Anomaly] = {}
    due: int | None = None
    planned = advice.plan["planned_lane"] if advice is not None and advice.plan is not None else None
    if odd.misrouted and planned is not None and advice is not None:
        for record in scans:
            if record.kind in ("SORTED", "LOADED") and record.lane is not None and record.lane != planned:
                found["MISROUTED"] = Anomaly(record.time, None, (record, advice))
                break
    for name, kind, most in (
        ("REPEATED_NO_READ", "NO_READ", odd.repeated_no_read),
        ("RECIRCULATING", "RECIRCULATED", odd.recirculating),
    ):
        those = [record for record in scans if record.kind == kind]
        if most is not None and len(those) >= most:
            found[name] = Anomaly(those[0].time, most, (those[0], those[most - 1]))
    if odd.not_released is not None:
        direction = advice.plan["direction"] if advice is not None and advice.plan is not None else "UNKNOWN"
        step = None
        for record in scans:
            if record.kind.startswith("CUSTOMS_"):
                step = record.kind
            elif record.kind == "DISPATCHED" and step != "CUSTOMS_RELEASED" and (step or direction in odd.not_released):
                found["NOT_RELEASED"] = Anomaly(record.time, None, (record,))
                break
    if odd.held_too_long is not None:
        for hold, answer in _holds(scans):
            ends = hold.time + odd.held_too_long
            if answer is not None and answer.time <= ends:
                continue
            if is_past(now, ends):
                proofs = (hold,) if answer is None else (hold, answer)
                found["HELD_TOO_LONG"] = Anomaly(hold.time, odd.held_too_long, proofs, ends)
            else:
                due = ends
            break
    if odd.from_the_future is not None and now is not None:
        ahead = [record for record in scans if record.time > now + odd.from_the_future]
        if ahead:
            found["FROM_THE_FUTURE"] = Anomaly(ahead[0].time, odd.from_the_future, (ahead[0],))
    if len(journeys) > 1:
        found["NUMBER_REUSED"] = Anomaly(journey[0].time, odd.number_reused, (journey[0],))
    return found, due


def _astray(
    promises: Promises, known: Sequence[ParcelRecord], journey: Sequence[ParcelRecord] | None, now: int | None
) -> tuple[dict[str, Anomaly], ParcelRecord | None, int | None]:
    """What is odd about the parcel and its containers; what was seen of it after an emptying; when to look again.

    `journey`: the last one, where there are several.
    """
    odd = promises.anomalies
    scans, judged = _judged(known)
    begins = 0
    if journey is not None:
        before = known[: known.index(journey[0])]
        begins = sum(record.kind != "VOID" and record.plan is None for record in before)
    found: dict[str, Anomaly] = {}

    def proofs(place: int, packing: int | None) -> tuple[ParcelRecord, ...]:
        return (scans[place],) if packing is None else (scans[packing], scans[place])

    for name, wanted, places in (
        ("FOUND_OUTSIDE", odd.found_outside, judged.found_outside),
        ("FOUND_EXTRA", odd.found_extra, judged.extra),
    ):
        here = [each for each in places if each.at >= begins]
        if wanted and here:
            found[name] = Anomaly(scans[here[0].at].time, None, proofs(*here[0]))
    emptied = [each for each in judged.emptied if each.at >= begins]
    if not emptied:
        return found, None, None
    last = emptied[-1]
    wrong = {record.voids for record in known if record.kind == "VOID"}
    later = [
        record
        for place, record in enumerate(scans)
        if place > last.at and not judged.superseded[place] and record.identity not in wrong
    ]
    seen = next(
        (
            record
            for record in later
            if (record.kind == "PACKED" and record.container is not None)
            or (not record.inferred and record.kind not in NO_LOCATION)
        ),
        None,
    )
    if seen is not None or odd.missing is None:
        return found, seen, None
    ends = scans[last.at].time + odd.missing
    if not is_past(now, ends):
        return found, seen, ends
    found["MISSING"] = Anomaly(scans[last.at].time, odd.missing, proofs(*last), ends)
    return found, seen, None


def _holds(scans: Sequence[ParcelRecord]) -> list[tuple[ParcelRecord, ParcelRecord | None]]:
    """Every hold, whatever its reason, with the release or refusal that answers it."""
    holds: list[tuple[ParcelRecord, ParcelRecord | None]] = []
    held: ParcelRecord | None = None
    for record in scans:
        if record.kind == "CUSTOMS_HELD" and held is None:
            held = record
        elif record.kind in ("CUSTOMS_RELEASED", "CUSTOMS_REFUSED") and held is not None:
            holds.append((held, record))
            held = None
    return holds if held is None else [*holds, (held, None)]
