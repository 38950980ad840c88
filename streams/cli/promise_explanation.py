"""Explanation of the promise clocks of a parcel: scan by scan, as fields for JSON and in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streams.cli.time_formats import format_time

if TYPE_CHECKING:
    from streams.domain.promises import Promise, Promises
    from streams.domain.reference.promise_clocks import Evaluation, ParcelRecord, PromiseClock


def reference_record(entry: Mapping[str, Any]) -> "ParcelRecord":
    """An entry of the timeline of ParcelState, as a record for the reference rules."""
    from streams.domain.reference.promise_clocks import ParcelRecord

    details = entry["details"] or {"site": "", "station": "", "lane": None, "reason": None}
    return ParcelRecord(
        entry["record_hash"],
        entry["kind"],
        entry["event_time"],
        details["site"],
        details["station"],
        details["lane"],
        details["reason"],
        entry["voids"],
        entry["plan"],
        entry["promised_at"],
        entry["container_id"],
        entry["inferred"],
    )


def explain_promises(
    promises: "Promises",
    records: Sequence["ParcelRecord"],
    hub_time: int | None,
    active_alerts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Explain every promise clock and anomaly of a parcel; times in ms since 1970, record hashes as bytes.

    Args:
        promises: the promises to apply.
        records: all known records of the parcel.
        hub_time: None before the first tick.
        active_alerts: the alerts in the state of the parcel.
    """
    from streams.domain.reference.promise_clocks import evaluate

    evaluation = evaluate(promises, records, hub_time)
    alerts = {alert["condition"]: {**alert} for alert in active_alerts}
    return {
        "hub_time": hub_time,
        "journeys": evaluation.journey_count,
        "promises": [
            _promise(promise, evaluation, records) | {"active_alert": alerts.get(promise.name)}
            for promise in promises.promises
        ],
        "anomalies": [
            {
                "condition": about,
                "since": anomaly.since,
                "evidence": [_record_fields(record) for record in anomaly.evidence],
                "active_alert": alerts.get(about),
            }
            for about, anomaly in evaluation.anomalies.items()
        ],
    }


def _promise(promise: "Promise", evaluation: "Evaluation", records: Sequence["ParcelRecord"]) -> dict[str, Any]:
    clock = evaluation.clocks.get(promise.name)
    head = {"promise": promise.name, "description": promise_sentence(promise)}
    if clock is None:
        return head | {"status": None, "no_clock_reason": _no_clock_reason(promise, evaluation), "steps": []}
    return head | {
        "status": clock.status,
        "since": clock.start.time,
        "limit_ms": clock.limit,
        "at_risk_since": clock.at_risk_time if clock.alert_level == "AT_RISK" else None,
        "deadline": clock.deadline,
        "remaining_ms": clock.remaining if clock.status == "PAUSED" else None,
        "stopped_at": clock.stop.time if clock.stop else None,
        "steps": [
            _record_fields(record) | {"description": text} for record, text in _steps(clock, evaluation, records)
        ],
    }


def _steps(
    clock: "PromiseClock", evaluation: "Evaluation", records: Sequence["ParcelRecord"]
) -> list[tuple["ParcelRecord", str]]:
    """The scans that start, pause or stop the clock, and the holds that do not pause it, in order of their times."""
    from streams.domain.promises import format_duration

    steps: list[tuple[ParcelRecord, str]] = []
    for hold, release in clock.holds:
        if _is_over(hold, clock, evaluation) or (clock.deadline is not None and hold.time > clock.deadline):
            continue
        steps.append((hold, "held with a reason, the clock pauses"))
        if release is not None:
            steps.append((release, "released, the clock resumes"))
    pausing = {hold.record_hash for hold, _ in steps}
    steps += [
        (record, f"does not pause the clock: {_no_pause_reason(record, clock, evaluation, records)}")
        for record in records
        if record.kind == "CUSTOMS_HELD"
        and record.record_hash not in pausing
        and not _is_over(record, clock, evaluation)
    ]
    if clock.stop is not None:
        steps.append((clock.stop, "the clock stops"))
    steps.sort(key=lambda step: step[0].time)
    return [(clock.start, f"the clock starts, with {format_duration(max(clock.limit, 0))}"), *steps]


def _is_over(hold: "ParcelRecord", clock: "PromiseClock", evaluation: "Evaluation") -> bool:
    """Whether the hold ended before the clock started, is of an earlier journey, or began after the clock stopped."""
    released = any(
        record.kind == "CUSTOMS_RELEASED" and hold.time <= record.time <= clock.start.time
        for record in evaluation.journey
    )
    other_journey = evaluation.journey_count > 1 and hold.time < evaluation.journey[0].time
    return released or other_journey or (clock.stop is not None and hold.time > clock.stop.time)


def _no_pause_reason(
    hold: "ParcelRecord", clock: "PromiseClock", evaluation: "Evaluation", records: Sequence["ParcelRecord"]
) -> str:
    void = next((record for record in records if record.kind == "VOID" and record.voids == hold.record_hash), None)
    if void is not None:
        return f"a VOID declares it wrong ({void.record_hash.hex()})"
    if hold.record_hash not in {record.record_hash for record in evaluation.effective_records}:
        return "it was inferred from a container that the parcel was not in"
    if not clock.promise.pauses:
        return "holds do not pause the clock of this promise"
    if not hold.reason:
        return "it has no reason"
    if clock.deadline is not None and hold.time > clock.deadline:
        return "the limit had passed before it"
    return "the clock is paused already"


def _no_clock_reason(promise: "Promise", evaluation: "Evaluation") -> str:
    if not any(record.kind in promise.starts for record in evaluation.journey):
        return f"there is no valid scan {' or '.join(promise.starts)}"
    advice = next((record for record in reversed(evaluation.journey) if record.plan is not None), None)
    if advice is None or advice.plan is None:
        return "the parcel has no advice, so it is unknown whether the promise is about it"
    plan = f"{advice.plan['direction']}, service {advice.plan['service']}, lane {advice.plan['planned_lane']}"
    if promise.limit == "promised_at" and advice.promised_at is None:
        return f"the advice has no promised time ({plan})"
    return f"the promise is about other parcels than {plan}"


def _record_fields(record: "ParcelRecord") -> dict[str, Any]:
    names = ("time", "kind", "site", "station", "lane", "reason", "record_hash")
    return {name: getattr(record, name) for name in names}


def explanation_lines(explanation: Mapping[str, Any]) -> Iterator[str]:
    """The explanation in words."""
    if explanation["journeys"] > 1:
        yield f"the number was used {explanation['journeys']} times; this is about the last journey"
    for promise in explanation["promises"]:
        yield ""
        yield promise["description"]
        for step in promise["steps"]:
            yield f"  {_scan(step)}: {step['description']}"
        yield f"  {_status(promise)}"
        if alert := promise["active_alert"]:
            clock = f"the clock that started {format_time(alert['since'])}"
            yield f"  active alert: {alert['type']}, of {clock} (alert {alert['alert_id'].hex()})"
    for anomaly in explanation["anomalies"]:
        yield ""
        yield f"{anomaly['condition']} since {format_time(anomaly['since'])}"
        for record in anomaly["evidence"]:
            yield f"  {_scan(record)}"
        if alert := anomaly["active_alert"]:
            yield f"  active alert (alert {alert['alert_id'].hex()})"


def _status(promise: Mapping[str, Any]) -> str:
    from streams.domain.promises import format_duration

    status, since = promise["status"], promise.get("at_risk_since")
    at_risk = "" if since is None else f" and {'was ' if status == 'MET' else ''}at risk since {format_time(since)}"
    match status:
        case None:
            return f"no clock: {promise['no_clock_reason']}"
        case "PAUSED":
            return f"PAUSED{at_risk}, {format_duration(promise['remaining_ms'])} left"
        case "RUNNING" if at_risk:
            return f"RUNNING{at_risk}, until {format_time(promise['deadline'])}"
        case "MET" if promise["deadline"] is None:
            return f"MET{at_risk}, while the clock is paused"
        case _:
            return f"{status}{at_risk}, the deadline is {format_time(promise['deadline'])}"


def _scan(record: Mapping[str, Any]) -> str:
    location = " ".join(filter(None, (record["site"], record["station"])))
    words = (
        record["kind"],
        location and f"at {location}",
        record["lane"] and f"lane {record['lane']}",
        record["reason"],
    )
    return f"{format_time(record['time'])} {' '.join(filter(None, words))} ({record['record_hash'].hex()})"


def promise_sentence(promise: "Promise") -> str:
    """The promise in words."""
    from streams.domain.promises import format_duration

    parcels = "".join(
        f", {name} {' or '.join(words)}"
        for name, words in (
            ("direction", promise.directions),
            ("service", promise.services),
            ("lane", promise.lanes),
        )
        if words
    )
    limit = "by the promised time" if promise.limit == "promised_at" else f"within {format_duration(promise.limit)}"
    first = "the last" if promise.restarts else "the first"
    text = f"{promise.name}{parcels}: {limit} from {first} {' or '.join(promise.starts)}"
    if promise.renews:
        text += f" (or {' or '.join(promise.renews)} after it)"
    text += f" to {' or '.join(promise.stops)}"
    if promise.at_risk is not None:
        text += f", at risk after {promise.at_risk * 100:g}%"
    return text + (", paused while customs hold the parcel with a reason" if promise.pauses else "")
