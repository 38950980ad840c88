"""Why the clocks of a parcel are where they are: evidence by evidence, as lists and mappings, and in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streams.cli.time_formats import format_time

if TYPE_CHECKING:
    from streams.domain.promises import Promise, Promises
    from streams.domain.reference.promise_clocks import Evaluation, ParcelRecord, PromiseClock


def reference_record(entry: Mapping[str, Any]) -> "ParcelRecord":
    """An entry of ParcelState's timeline for the account of the rules."""
    from streams.domain.reference.promise_clocks import ParcelRecord

    at = entry["details"] or {"site": "", "station": "", "lane": None, "reason": None}
    return ParcelRecord(
        entry["record_hash"],
        entry["kind"],
        entry["event_time"],
        at["site"],
        at["station"],
        at["lane"],
        at["reason"],
        entry["voids"],
        entry["plan"],
        entry["promised_at"],
        entry["container_id"],
        entry["inferred"],
    )


def explain_promises(
    promises: "Promises", records: Sequence["ParcelRecord"], hub_time: int | None, standing: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What there is to tell of every clock and anomaly of a parcel; times in ms since 1970, identities as bytes.

    Args:
        promises: by which to look.
        records: all that are known of the parcel.
        hub_time: None before the first Tick.
        standing: the alerts of the parcel's state.
    """
    from streams.domain.reference.promise_clocks import evaluate

    looked = evaluate(promises, records, hub_time)
    told = {alert["condition"]: {**alert} for alert in standing}
    return {
        "hub_time": hub_time,
        "journeys": looked.journey_count,
        "promises": [_promise(each, looked, records) | {"told": told.get(each.name)} for each in promises.promises],
        "anomalies": [
            {
                "condition": about,
                "since": oddity.since,
                "evidence": [_place(record) for record in oddity.evidence],
                "told": told.get(about),
            }
            for about, oddity in looked.anomalies.items()
        ],
    }


def _promise(promise: "Promise", looked: "Evaluation", records: Sequence["ParcelRecord"]) -> dict[str, Any]:
    clock = looked.clocks.get(promise.name)
    head = {"promise": promise.name, "says": promise_sentence(promise)}
    if clock is None:
        return head | {"status": None, "why_no_clock": _why_no_clock(promise, looked), "steps": []}
    return head | {
        "status": clock.status,
        "since": clock.start.time,
        "limit_ms": clock.limit,
        "at_risk_since": clock.at_risk_time if clock.alert_level == "AT_RISK" else None,
        "deadline": clock.deadline,
        "remaining_ms": clock.remaining if clock.status == "PAUSED" else None,
        "stopped_at": clock.stop.time if clock.stop else None,
        "steps": [_place(record) | {"says": text} for record, text in _steps(clock, looked, records)],
    }


def _steps(
    clock: "PromiseClock", looked: "Evaluation", records: Sequence["ParcelRecord"]
) -> list[tuple["ParcelRecord", str]]:
    """The scans that move the clock, and the holds that do not, in the order of their times from its start on."""
    from streams.domain.promises import format_duration

    steps: list[tuple[ParcelRecord, str]] = []
    for hold, release in clock.holds:
        if _is_over(hold, clock, looked) or (clock.deadline is not None and hold.time > clock.deadline):
            continue
        steps.append((hold, "held with a reason, the clock stands still"))
        if release is not None:
            steps.append((release, "released, the clock goes on"))
    stopping = {hold.record_hash for hold, _ in steps}
    steps += [
        (record, f"does not stop the clock: {_why_no_pause(record, clock, looked, records)}")
        for record in records
        if record.kind == "CUSTOMS_HELD" and record.record_hash not in stopping and not _is_over(record, clock, looked)
    ]
    if clock.stop is not None:
        steps.append((clock.stop, "the clock stops"))
    steps.sort(key=lambda step: step[0].time)
    return [(clock.start, f"the clock starts, {format_duration(max(clock.limit, 0))} to go"), *steps]


def _is_over(hold: "ParcelRecord", clock: "PromiseClock", looked: "Evaluation") -> bool:
    """Does the hold lie before the clock's run or the journey, or after it stopped?"""
    released = any(
        record.kind == "CUSTOMS_RELEASED" and hold.time <= record.time <= clock.start.time for record in looked.journey
    )
    other_journey = looked.journey_count > 1 and hold.time < looked.journey[0].time
    return released or other_journey or (clock.stop is not None and hold.time > clock.stop.time)


def _why_no_pause(
    hold: "ParcelRecord", clock: "PromiseClock", looked: "Evaluation", records: Sequence["ParcelRecord"]
) -> str:
    wrong = next((record for record in records if record.kind == "VOID" and record.voids == hold.record_hash), None)
    if wrong is not None:
        return f"a VOID declares it wrong ({wrong.record_hash.hex()})"
    if hold.record_hash not in {record.record_hash for record in looked.effective_records}:
        return "it follows from a container that the parcel was not in"
    if not clock.promise.pauses:
        return "no hold stops the clock of this promise"
    if not hold.reason:
        return "it has no reason"
    if clock.deadline is not None and hold.time > clock.deadline:
        return "the limit was over before it"
    return "it stands still already"


def _why_no_clock(promise: "Promise", looked: "Evaluation") -> str:
    if not any(record.kind in promise.starts for record in looked.journey):
        return f"no scan of {' or '.join(promise.starts)} counts"
    advice = next((record for record in reversed(looked.journey) if record.plan is not None), None)
    if advice is None or advice.plan is None:
        return "the parcel was not advised, so nobody knows whether it is one of these"
    plan = f"{advice.plan['direction']}, service {advice.plan['service']}, lane {advice.plan['planned_lane']}"
    if promise.limit == "promised_at" and advice.promised_at is None:
        return f"the advice promises no instant ({plan})"
    return f"the promise is for other parcels than {plan}"


def _place(record: "ParcelRecord") -> dict[str, Any]:
    names = ("time", "kind", "site", "station", "lane", "reason", "record_hash")
    return {name: getattr(record, name) for name in names}


def explanation_lines(explained: Mapping[str, Any]) -> Iterator[str]:
    """The same in words."""
    if explained["journeys"] > 1:
        yield f"the number is used for the {explained['journeys']}. time; this is about the last journey"
    for promise in explained["promises"]:
        yield ""
        yield promise["says"]
        for step in promise["steps"]:
            yield f"  {_scan(step)}: {step['says']}"
        yield f"  {_stands(promise)}"
        if told := promise["told"]:
            yield f"  told {told['type']} about the clock of {format_time(told['since'])} (alert {told['alert_id'].hex()})"
    for oddity in explained["anomalies"]:
        yield ""
        yield f"{oddity['condition']} since {format_time(oddity['since'])}"
        for record in oddity["evidence"]:
            yield f"  {_scan(record)}"
        if told := oddity["told"]:
            yield f"  told (alert {told['alert_id'].hex()})"


def _stands(promise: Mapping[str, Any]) -> str:
    from streams.domain.promises import format_duration

    status, since = promise["status"], promise.get("at_risk_since")
    at_risk = "" if since is None else f" and {'was ' if status == 'MET' else ''}at risk since {format_time(since)}"
    match status:
        case None:
            return f"no clock: {promise['why_no_clock']}"
        case "PAUSED":
            return f"PAUSED{at_risk}, {format_duration(promise['remaining_ms'])} left"
        case "RUNNING" if at_risk:
            return f"RUNNING{at_risk}, until {format_time(promise['deadline'])}"
        case "MET" if promise["deadline"] is None:
            return f"MET{at_risk}, while the clock stands still"
        case _:
            return f"{status}{at_risk}, the last instant is {format_time(promise['deadline'])}"


def _scan(record: Mapping[str, Any]) -> str:
    where = " ".join(filter(None, (record["site"], record["station"])))
    words = (record["kind"], where and f"at {where}", record["lane"] and f"lane {record['lane']}", record["reason"])
    return f"{format_time(record['time'])} {' '.join(filter(None, words))} ({record['record_hash'].hex()})"


def promise_sentence(promise: "Promise") -> str:
    """What is promised, in words."""
    from streams.domain.promises import format_duration

    which = "".join(
        f", {name} {' or '.join(words)}"
        for name, words in (
            ("direction", promise.directions),
            ("service", promise.services),
            ("lane", promise.lanes),
        )
        if words
    )
    limit = "by the instant promised" if promise.limit == "promised_at" else f"within {format_duration(promise.limit)}"
    first = "the last" if promise.restarts else "the first"
    text = f"{promise.name}{which}: {limit} from {first} {' or '.join(promise.starts)}"
    if promise.renews:
        text += f" (or {' or '.join(promise.renews)} after it)"
    text += f" to {' or '.join(promise.stops)}"
    if promise.at_risk is not None:
        text += f", at risk after {promise.at_risk * 100:g}%"
    return text + (", standing still while customs hold it with a reason" if promise.pauses else "")
