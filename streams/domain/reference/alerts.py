"""The alerts of one parcel, Tick by Tick, in plain Python, by the rules of `reference/promise_clocks.py`."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from streams.domain.kinds import KINDS
from streams.domain.promises import Promise, Promises
from streams.domain.reference.promise_clocks import (
    JOURNEY_START_KINDS,
    Evaluation,
    ParcelRecord,
    add_running_time,
    alert_level_at,
    at_risk_basis_points,
    clock_pauses,
    clock_starts,
    evaluate,
    is_past,
    sort_records,
)

# Stands for a time that is absent in the bytes that are hashed.
NO_TIME: Final = -(1 << 63)
_ALERT_TYPE_NUMBERS: Final = {"AT_RISK": 1, "BREACHED": 2, "WITHDRAWN": 3, "ANOMALY": 4}


@dataclass(slots=True)
class ActiveAlert:
    """An alert that was raised and not withdrawn."""

    type: str
    since: int
    alert_id: bytes


# Kinds of scan that are the evidence of an anomaly.
_EVIDENCE_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "MISROUTED": ("SORTED", "LOADED"),
    "REPEATED_NO_READ": ("NO_READ",),
    "RECIRCULATING": ("RECIRCULATED",),
    "NOT_RELEASED": ("DISPATCHED",),
    "HELD_TOO_LONG": ("CUSTOMS_HELD",),
    "FROM_THE_FUTURE": KINDS,
    "NUMBER_REUSED": JOURNEY_START_KINDS,
    "FOUND_OUTSIDE": KINDS,
    "MISSING": ("PACKED", "UNPACKED"),
    "FOUND_EXTRA": ("UNPACKED",),
}
_SEVERITIES: Final = {None: 0, "AT_RISK": 1, "BREACHED": 2, "ANOMALY": 3}


@dataclass
class ReferenceAlertEvaluator:
    """Raises and withdraws the alerts of one parcel, Tick by Tick."""

    parcel_id: str
    promises: Promises
    hash_bytes: Callable[[bytes], bytes]
    # The name of a promise or an anomaly -> its alert.
    active_alerts: dict[str, ActiveAlert] = field(default_factory=dict)

    def tick(self, records: Sequence[ParcelRecord], now: int) -> tuple[list[dict[str, Any]], Evaluation]:
        """The alerts of a Tick, as parcel.alerts has them; the parcel has these distinct records."""
        evaluation = evaluate(self.promises, records, now)
        alerts: list[dict[str, Any]] = []
        if is_past(now, evaluation.retirement_time):
            self.active_alerts.clear()
            return alerts, evaluation
        for about in (*(promise.name for promise in self.promises.promises), *_EVIDENCE_KINDS):
            self._evaluate_subject(about, records, now, evaluation, alerts)
        return alerts, evaluation

    def _evaluate_subject(
        self,
        about: str,
        records: Sequence[ParcelRecord],
        now: int,
        evaluation: Evaluation,
        alerts: list[dict[str, Any]],
    ) -> None:
        clock, anomaly = evaluation.clocks.get(about), evaluation.anomalies.get(about)
        level = clock.alert_level if clock else "ANOMALY" if anomaly else None
        since = clock.start.time if clock else anomaly.since if anomaly else None
        active = self.active_alerts.get(about)
        if active is not None:
            holds, is_over = self._still_holds(about, active, level, since, evaluation, now)
            if not holds:
                alerts.append(self._alert("WITHDRAWN", about, active.since, records, now, evaluation, active.alert_id))
            if is_over or not holds:
                del self.active_alerts[about]
                active = None
        if level is None or since is None or _SEVERITIES[level] <= _SEVERITIES[active.type if active else None]:
            return
        # A promise that is known to be kept needs no alert that it was at risk.
        if level == "AT_RISK" and clock is not None and clock.stop is not None and clock.stop.time <= now:
            return
        alert = self._alert(level, about, since, records, now, evaluation, None)
        alerts.append(alert)
        self.active_alerts[about] = ActiveAlert(level, since, alert["alert_id"])

    def _still_holds(
        self, about: str, active: ActiveAlert, level: str | None, since: int | None, evaluation: Evaluation, now: int
    ) -> tuple[bool, bool]:
        """Is what the alert reports still true? And is it over, so that it may be reported again?"""
        if about == "FROM_THE_FUTURE":
            return any(each.time == active.since and each.plan is None for each in evaluation.effective_records), False
        if about != "NUMBER_REUSED" and evaluation.journey_count > 1 and active.since < evaluation.journey[0].time:
            return True, True
        promise = next((each for each in self.promises.promises if each.name == about), None)
        if promise is not None and promise.restarts and active.since != since:
            level = self._level_of_run(promise, active.since, evaluation, now)
            return _SEVERITIES[level] >= _SEVERITIES[active.type], True
        if about == "NUMBER_REUSED" and level is not None and active.since != since:
            return True, True
        return _SEVERITIES[level] >= _SEVERITIES[active.type], False

    @staticmethod
    def _level_of_run(promise: Promise, since: int, evaluation: Evaluation, now: int) -> str | None:
        """The alert level that an earlier run of a clock that restarts ended with."""
        starts = clock_starts(promise, evaluation.journey)
        if not any(each.time == since for each in starts):
            return None
        assert isinstance(promise.limit, int)
        pauses = clock_pauses(evaluation.journey) if promise.pauses else []
        ends = [each.time for each in starts if each.time > since]
        ends += [each.time for each in evaluation.journey if each.time > since and each.kind in promise.stops]
        deadline, _ = add_running_time(since, promise.limit, pauses)
        at_risk_time, _ = add_running_time(since, promise.limit * at_risk_basis_points(promise) // 10_000, pauses)
        return alert_level_at(promise, min([*ends, now]), at_risk_time, deadline)

    def _alert(
        self,
        type_: str,
        about: str,
        since: int,
        records: Sequence[ParcelRecord],
        now: int,
        evaluation: Evaluation,
        withdraws: bytes | None,
    ) -> dict[str, Any]:
        clock, anomaly = evaluation.clocks.get(about), evaluation.anomalies.get(about)
        evidence: tuple[ParcelRecord, ...] = ()
        if clock is not None:
            evidence = (clock.start,) if clock.stop is None else (clock.start, clock.stop)
        elif anomaly is not None:
            evidence = anomaly.evidence
        else:
            evidence = self._withdrawal_evidence(about, records, evaluation)
        last_scan = next((each for each in reversed(evidence) if each.plan is None), None)
        advice = next((each for each in reversed(evaluation.effective_records) if each.plan is not None), None)
        alert = {
            "parcel_id": self.parcel_id,
            "version": len(records),
            "type": type_,
            "condition": about,
            "hub_time": now,
            "since": since,
            "deadline": clock.deadline if clock else anomaly.deadline if anomaly else None,
            "limit": clock.limit if clock else anomaly.limit if anomaly else None,
            "stopped_at": clock.stop.time if clock and clock.stop else None,
            "withdraws": withdraws,
            "evidence": [each.record_hash for each in evidence],
            "site": last_scan.site if last_scan else "",
            "station": last_scan.station if last_scan else "",
            "direction": advice.plan["direction"] if advice and advice.plan else "UNKNOWN",
        }
        return {"alert_id": self.hash_bytes(alert_hash_input(alert)), **alert}

    def _withdrawal_evidence(
        self, about: str, records: Sequence[ParcelRecord], evaluation: Evaluation
    ) -> tuple[ParcelRecord, ...]:
        """The record that refutes an alert: one that answers it, or its former evidence that counts no more."""
        if about in ("NOT_RELEASED", "HELD_TOO_LONG"):
            for record in evaluation.journey:
                if record.kind == "CUSTOMS_RELEASED":
                    return (record,)
        if about == "MISSING" and evaluation.seen_after_emptying is not None:
            return (evaluation.seen_after_emptying,)
        answer = {"FOUND_OUTSIDE": "UNPACKED", "FOUND_EXTRA": "PACKED"}.get(about)
        if first := next((record for record in evaluation.journey if record.kind == answer), None):
            return (first,)
        starts = {promise.name: promise.starts + promise.renews for promise in self.promises.promises}
        kinds = starts.get(about) or _EVIDENCE_KINDS[about]
        effective = set(map(attrgetter("record_hash"), evaluation.effective_records))
        for record in sort_records(records):
            if record.kind in kinds and record.kind != "VOID" and record.record_hash not in effective:
                return (record,)
        return next(((each,) for each in reversed(evaluation.journey) if each.plan is not None), ())


def alert_hash_input(alert: Mapping[str, Any]) -> bytes:
    """The bytes whose hash is the id of an alert: see alert_id in schemas/Alert.avsc."""
    first, second = [*alert["evidence"], bytes(16), bytes(16)][:2]
    times = [
        NO_TIME if alert[name] is None else alert[name]
        for name in ("hub_time", "since", "deadline", "limit", "stopped_at")
    ]
    head = f"{alert['parcel_id']}\0{alert['condition']}\0".encode()
    type_number = _ALERT_TYPE_NUMBERS[alert["type"]]
    numbers = struct.pack(">BBi5q", type_number, len(alert["evidence"]), alert["version"], *times)
    withdrawn: bytes = alert["withdraws"] or bytes(16)
    return head + numbers + bytes(first) + bytes(second) + withdrawn
