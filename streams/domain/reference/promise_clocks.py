"""The rules of clocks and anomalies a second time, in plain Python, one parcel at a time: slow, and easy to read.

`parcels promises explain`, the truth files of the simulator and the tests use this module and
`streams/domain/reference/alerts.py`. The worker runs `streams/domain/promise_clocks.py`. The two share no code but the
names of things, so that a mistake in one of them shows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.domain.kinds import KIND_NUMBERS
from streams.domain.promises import Promise, Promises
from streams.domain.reference.containment import (
    NO_LOCATION,
    ChildScan,
    ContainmentProof,
    ContainmentVerdict,
    derive_containment,
)

_JOURNEY_ENDS: Final = ("DELIVERED", "RETURNED")
JOURNEY_START_KINDS: Final = ("ADVISED", "ARRIVED")
_STAGES: Final = frozenset(
    {
        "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
        "RETURNED", "LOST",
    }
)  # fmt: skip


class ParcelRecord(NamedTuple):
    """One distinct record of a parcel; times in ms since 1970."""

    record_hash: bytes
    kind: str  # ADVISED for an advice
    time: int
    site: str = ""
    station: str = ""
    lane: str | None = None
    reason: str | None = None
    voids: bytes | None = None  # record_hash of what a VOID declares wrong
    # Of an advice: direction, service, planned_lane.
    plan: Mapping[str, str | None] | None = None
    promised_at: int | None = None
    container: str | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class PromiseClock:
    """The state of the clock of a promise; `deadline` and `at_risk_time` are None if it is paused before they come."""

    promise: Promise
    start: ParcelRecord
    stop: ParcelRecord | None
    limit: int  # ms
    deadline: int | None
    remaining: int  # of a clock that is paused, ms
    alert_level: str | None  # AT_RISK, BREACHED or None
    status: str
    at_risk_time: int | None  # the last instant at which it is not at risk
    holds: tuple[tuple[ParcelRecord, ParcelRecord | None], ...]  # those with a reason, and their releases
    # The next instant after which it changes without any further record.
    next_change: int | None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An anomaly of a parcel."""

    since: int
    limit: int | None
    evidence: tuple[ParcelRecord, ...]
    deadline: int | None = None


@dataclass(slots=True)
class Evaluation:
    """The clocks and anomalies of a parcel at one time."""

    effective_records: list[ParcelRecord]
    journey: list[ParcelRecord]  # the effective records of the last journey
    journey_count: int
    clocks: dict[str, PromiseClock]
    anomalies: dict[str, Anomaly]
    # None: not known.
    retirement_time: int | None
    # The time of the next evaluation, if no further record comes.
    next_evaluation: int | None
    # The first scan that found the parcel after the last emptying of a container that it was in.
    seen_after_emptying: ParcelRecord | None


def sort_records(records: Iterable[ParcelRecord]) -> list[ParcelRecord]:
    """Sort by event time, kind and record_hash."""
    return sorted(records, key=lambda record: (record.time, KIND_NUMBERS[record.kind], record.record_hash))


def effective_records(records: Sequence[ParcelRecord]) -> list[ParcelRecord]:
    """Those of the records, given in their order, that count: neither voided nor superseded."""
    scans, verdict = _containment(records)
    superseded = {scan.record_hash for scan, aside in zip(scans, verdict.superseded, strict=True) if aside}
    voided = _voided(records)
    return [record for record in records if record.kind != "VOID" and record.record_hash not in voided | superseded]


def _voided(records: Iterable[ParcelRecord]) -> set[bytes | None]:
    return {record.voids for record in records if record.kind == "VOID"}


def _containment(records: Sequence[ParcelRecord]) -> tuple[list[ParcelRecord], ContainmentVerdict]:
    """The scans among the records, and the verdict of the rules of containment on them."""
    voided = _voided(records)
    scans = [record for record in records if record.kind != "VOID" and record.plan is None]
    child_scans = [
        ChildScan(each.kind, each.site, each.container, each.inferred, each.record_hash in voided, each.reason)
        for each in scans
    ]
    return scans, derive_containment(child_scans)


def evaluate(promises: Promises, records: Iterable[ParcelRecord], now: int | None) -> Evaluation:
    """All clocks and anomalies of the parcel with these distinct records; `now`: hub time, None before a Tick."""
    known = sort_records(records)
    effective = effective_records(known)
    journeys = _journeys(effective, promises.anomalies.number_reused)
    journey = journeys[-1]
    advice = next((record for record in reversed(journey) if record.plan is not None), None)
    clocks = {}
    for promise in promises.promises:
        if _applies(promise, advice) and (clock := _clock(promise, journey, advice, now)) is not None:
            clocks[promise.name] = clock
    anomalies, hold_due = _scan_anomalies(promises, journeys, advice, now)
    containment_anomalies, seen, missing_due = _containment_anomalies(
        promises, known, journey if len(journeys) > 1 else None, now
    )
    past = [record.time for record in known if now is not None and record.time <= now]
    stage = next((record.kind for record in reversed(journey) if record.kind in _STAGES), None)
    is_finished = stage in (*_JOURNEY_ENDS, "LOST")
    delay = promises.retirement.finished if is_finished else promises.retirement.unfinished
    retirement_time = None if delay is None or not past else max(past) + delay
    # All records of the parcel lie in the future: it retires some time after the first of them has come.
    first_future = None if past or delay is None else min((record.time for record in known), default=None)
    changes = [clock.next_change for clock in clocks.values()]
    due = [
        instant
        for instant in (*changes, hold_due, missing_due, retirement_time, first_future)
        if instant is not None
    ]  # fmt: skip
    return Evaluation(
        effective,
        journey,
        len(journeys),
        clocks,
        anomalies | containment_anomalies,
        retirement_time,
        min(due, default=None),
        seen,
    )


def _journeys(records: Sequence[ParcelRecord], reused_after: int | None) -> list[list[ParcelRecord]]:
    journeys: list[list[ParcelRecord]] = [[]]
    ended: int | None = None
    for record in records:
        starts_another = (
            record.kind in JOURNEY_START_KINDS
            and ended is not None
            and reused_after is not None
            and record.time - ended > reused_after
        )
        if starts_another:
            journeys.append([])
            ended = None
        journeys[-1].append(record)
        if record.kind in _JOURNEY_ENDS:
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
    """Each hold with a reason, and the next release; None where there is none yet."""
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
    """The times at which holds pause a clock and releases resume it; None where there is no release yet."""
    return [(hold.time, None if release is None else release.time) for hold, release in customs_holds(journey)]


def add_running_time(start: int, budget: int, pauses: Sequence[tuple[int, int | None]]) -> tuple[int | None, int]:
    """When a clock has run for `budget` ms, and 0; None and the remaining ms if it is paused before that."""
    resumed, remaining = start, budget
    for since, until in pauses:
        since = max(since, start)
        if until is not None and until <= since:
            continue
        if since - resumed > remaining:
            break
        remaining -= since - resumed
        if until is None:
            return None, remaining
        resumed = until
    return resumed + remaining, 0


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
    deadline, remaining = add_running_time(start.time, limit, pauses)
    at_risk_time, _ = add_running_time(start.time, limit * at_risk_basis_points(promise) // 10_000, pauses)
    is_stopped = stop is not None and now is not None and stop.time <= now
    ran_until = stop.time if stop is not None and is_stopped else now
    alert_level = alert_level_at(promise, ran_until, at_risk_time, deadline)
    if is_past(stop.time if stop else now, deadline):
        status = "BREACHED"
    elif stop is not None:
        status = "MET"
    else:
        status = "PAUSED" if deadline is None else "RUNNING"
    next_change = None
    if not is_stopped and alert_level != "BREACHED":
        next_change = deadline
        if alert_level is None and promise.at_risk is not None and at_risk_time is not None and deadline is not None:
            next_change = min(at_risk_time, deadline)
        elif alert_level is None and promise.at_risk is not None:
            next_change = at_risk_time
    holds = tuple(customs_holds(journey)) if promise.pauses else ()
    return PromiseClock(
        promise, start, stop, limit, deadline, remaining, alert_level, status, at_risk_time, holds, next_change
    )


def clock_starts(promise: Promise, journey: Sequence[ParcelRecord]) -> list[ParcelRecord]:
    """The scans that started a clock that restarts, in their order."""
    started: list[ParcelRecord] = []
    is_running = False
    for record in journey:
        if record.kind in promise.starts or (is_running and record.kind in promise.renews):
            started.append(record)
            is_running = True
        elif record.kind in promise.stops:
            is_running = False
    return started


def at_risk_basis_points(promise: Promise) -> int:
    """The at-risk share in ten-thousandths; 0 where there is none."""
    return round((promise.at_risk or 0) * 10_000)


def is_past(instant: int | None, limit: int | None) -> bool:
    """Is the instant later than the limit? False if one of them is not known."""
    return instant is not None and limit is not None and instant > limit


def alert_level_at(
    promise: Promise, ran_until: int | None, at_risk_time: int | None, deadline: int | None
) -> str | None:
    """The alert level of a clock that ran until then: AT_RISK, BREACHED or None."""
    if is_past(ran_until, deadline):
        return "BREACHED"
    return "AT_RISK" if promise.at_risk is not None and is_past(ran_until, at_risk_time) else None


def _scan_anomalies(
    promises: Promises,
    journeys: Sequence[Sequence[ParcelRecord]],
    advice: ParcelRecord | None,
    now: int | None,
) -> tuple[dict[str, Anomaly], int | None]:
    """The anomalies of the last journey but those of containment, and when a hold will have lasted too long."""
    thresholds, journey = promises.anomalies, journeys[-1]
    scans = [record for record in journey if record.plan is None]
    anomalies: dict[str, Anomaly] = {}
    due: int | None = None
    planned = advice.plan["planned_lane"] if advice is not None and advice.plan is not None else None
    if thresholds.misrouted and planned is not None and advice is not None:
        for record in scans:
            if record.kind in ("SORTED", "LOADED") and record.lane is not None and record.lane != planned:
                anomalies["MISROUTED"] = Anomaly(record.time, None, (record, advice))
                break
    for name, kind, threshold in (
        ("REPEATED_NO_READ", "NO_READ", thresholds.repeated_no_read),
        ("RECIRCULATING", "RECIRCULATED", thresholds.recirculating),
    ):
        of_kind = [record for record in scans if record.kind == kind]
        if threshold is not None and len(of_kind) >= threshold:
            anomalies[name] = Anomaly(of_kind[0].time, threshold, (of_kind[0], of_kind[threshold - 1]))
    if thresholds.not_released is not None:
        direction = advice.plan["direction"] if advice is not None and advice.plan is not None else "UNKNOWN"
        needs_release = direction in thresholds.not_released
        step = None
        for record in scans:
            if record.kind.startswith("CUSTOMS_"):
                step = record.kind
            elif record.kind == "DISPATCHED" and step != "CUSTOMS_RELEASED" and (step or needs_release):
                anomalies["NOT_RELEASED"] = Anomaly(record.time, None, (record,))
                break
    if thresholds.held_too_long is not None:
        for hold, answer in _answered_holds(scans):
            end = hold.time + thresholds.held_too_long
            if answer is not None and answer.time <= end:
                continue
            if is_past(now, end):
                evidence = (hold,) if answer is None else (hold, answer)
                anomalies["HELD_TOO_LONG"] = Anomaly(hold.time, thresholds.held_too_long, evidence, end)
            else:
                due = end
            break
    if thresholds.from_the_future is not None and now is not None:
        future = [record for record in scans if record.time > now + thresholds.from_the_future]
        if future:
            anomalies["FROM_THE_FUTURE"] = Anomaly(future[0].time, thresholds.from_the_future, (future[0],))
    if len(journeys) > 1:
        anomalies["NUMBER_REUSED"] = Anomaly(journey[0].time, thresholds.number_reused, (journey[0],))
    return anomalies, due


def _containment_anomalies(
    promises: Promises, known: Sequence[ParcelRecord], journey: Sequence[ParcelRecord] | None, now: int | None
) -> tuple[dict[str, Anomaly], ParcelRecord | None, int | None]:
    """The anomalies of the parcel and its containers.

    Args:
        promises: with the thresholds.
        known: all records of the parcel, in their order.
        journey: the last one, where there are several; else None.
        now: hub time.

    Returns:
        The anomalies; the first scan that found the parcel after the last emptying; when it will be missing.
    """
    thresholds = promises.anomalies
    scans, verdict = _containment(known)
    first = 0
    if journey is not None:
        before = known[: known.index(journey[0])]
        first = sum(record.kind != "VOID" and record.plan is None for record in before)
    anomalies: dict[str, Anomaly] = {}

    def evidence(proof: ContainmentProof) -> tuple[ParcelRecord, ...]:
        return (scans[proof.scan],) if proof.packing is None else (scans[proof.packing], scans[proof.scan])

    for name, is_enabled, proofs in (
        ("FOUND_OUTSIDE", thresholds.found_outside, verdict.found_outside),
        ("FOUND_EXTRA", thresholds.found_extra, verdict.found_extra),
    ):
        of_journey = [proof for proof in proofs if proof.scan >= first]
        if is_enabled and of_journey:
            anomalies[name] = Anomaly(scans[of_journey[0].scan].time, None, evidence(of_journey[0]))
    emptied = [proof for proof in verdict.emptied if proof.scan >= first]
    if not emptied:
        return anomalies, None, None
    last = emptied[-1]
    voided = _voided(known)
    later = [
        record
        for index, record in enumerate(scans)
        if index > last.scan and not verdict.superseded[index] and record.record_hash not in voided
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
    if seen is not None or thresholds.missing is None:
        return anomalies, seen, None
    end = scans[last.scan].time + thresholds.missing
    if not is_past(now, end):
        return anomalies, seen, end
    anomalies["MISSING"] = Anomaly(scans[last.scan].time, thresholds.missing, evidence(last), end)
    return anomalies, seen, None


def _answered_holds(scans: Sequence[ParcelRecord]) -> list[tuple[ParcelRecord, ParcelRecord | None]]:
    """Every hold, with a reason or without, and the release or refusal that answers it."""
    holds: list[tuple[ParcelRecord, ParcelRecord | None]] = []
    hold: ParcelRecord | None = None
    for record in scans:
        if record.kind == "CUSTOMS_HELD" and hold is None:
            hold = record
        elif record.kind in ("CUSTOMS_RELEASED", "CUSTOMS_REFUSED") and hold is not None:
            holds.append((hold, record))
            hold = None
    return holds if hold is None else [*holds, (hold, None)]
