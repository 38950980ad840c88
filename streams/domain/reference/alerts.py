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

NO_TIME: Final = -(1 << 63)
_TYPE: Final = {"AT_RISK": 1, "BREACHED": 2, "WITHDRAWN": 3, "ANOMALY": 4}


@dataclass(slots=True)
class ActiveAlert:
    """An alert that stands."""

    type: str
    since: int
    alert_id: bytes


# Kinds of scan that an anomaly rests on.
_RESTS_ON: Final[Mapping[str, tuple[str, ...]]] = {
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
_LEVELS: Final = {None: 0, "AT_RISK": 1, "BREACHED": 2, "ANOMALY": 3}


@dataclass
class ReferenceAlertEvaluator:
    """What is told of one parcel, Tick by Tick."""

    parcel_id: str
    promises: Promises
    hashed: Callable[[bytes], bytes]
    told: dict[str, ActiveAlert] = field(default_factory=dict)

    def tick(self, records: Sequence[ParcelRecord], now: int) -> tuple[list[dict[str, Any]], Evaluation]:
        """The alerts of a Tick, as parcel.alerts has them; the parcel has these distinct records."""
        looked = evaluate(self.promises, records, now)
        said: list[dict[str, Any]] = []
        if is_past(now, looked.retirement_time):
            self.told.clear()
            return said, looked
        for about in (*(promise.name for promise in self.promises.promises), *_RESTS_ON):
            self._subject(about, records, now, looked, said)
        return said, looked

    def _subject(
        self, about: str, records: Sequence[ParcelRecord], now: int, looked: Evaluation, said: list[dict[str, Any]]
    ) -> None:
        clock, oddity = looked.clocks.get(about), looked.anomalies.get(about)
        level = clock.level if clock else "ANOMALY" if oddity else None
        since = clock.start.time if clock else oddity.since if oddity else None
        told = self.told.get(about)
        if told is not None:
            still, over = self._still(about, told, level, since, looked, now)
            if not still:
                said.append(self._alert("WITHDRAWN", about, told.since, records, now, looked, told.alert_id))
            if over or not still:
                del self.told[about]
                told = None
        if level is None or since is None or _LEVELS[level] <= _LEVELS[told.type if told else None]:
            return
        # Nobody has to be told that a promise was at risk when it is known to be kept.
        if level == "AT_RISK" and clock is not None and clock.stop is not None and clock.stop.time <= now:
            return
        alert = self._alert(level, about, since, records, now, looked, None)
        said.append(alert)
        self.told[about] = ActiveAlert(level, since, alert["alert_id"])

    def _still(
        self, about: str, told: ActiveAlert, level: str | None, since: int | None, looked: Evaluation, now: int
    ) -> tuple[bool, bool]:
        """Is what was told still so? And is it over, so that it may be told again?"""
        if about == "FROM_THE_FUTURE":
            return any(each.time == told.since and each.plan is None for each in looked.live), False
        if about != "NUMBER_REUSED" and looked.journeys > 1 and told.since < looked.journey[0].time:
            return True, True
        promise = next((each for each in self.promises.promises if each.name == about), None)
        if promise is not None and promise.restarts and told.since != since:
            return _LEVELS[self._run(promise, told.since, looked, now)] >= _LEVELS[told.type], True
        if about == "NUMBER_REUSED" and level is not None and told.since != since:
            return True, True
        return _LEVELS[level] >= _LEVELS[told.type], False

    @staticmethod
    def _run(promise: Promise, since: int, looked: Evaluation, now: int) -> str | None:
        """What an earlier run of a clock that restarts came to."""
        started = clock_starts(promise, looked.journey)
        if not any(each.time == since for each in started):
            return None
        assert isinstance(promise.limit, int)
        pauses = clock_pauses(looked.journey) if promise.pauses else []
        ends = [each.time for each in started if each.time > since]
        ends += [each.time for each in looked.journey if each.time > since and each.kind in promise.stops]
        deadline, _ = add_running_time(since, promise.limit, pauses)
        risk, _ = add_running_time(since, promise.limit * at_risk_basis_points(promise) // 10_000, pauses)
        return alert_level_at(promise, min([*ends, now]), risk, deadline)

    def _alert(
        self,
        type_: str,
        about: str,
        since: int,
        records: Sequence[ParcelRecord],
        now: int,
        looked: Evaluation,
        withdraws: bytes | None,
    ) -> dict[str, Any]:
        clock, oddity = looked.clocks.get(about), looked.anomalies.get(about)
        evidence: tuple[ParcelRecord, ...] = ()
        if clock is not None:
            evidence = (clock.start,) if clock.stop is None else (clock.start, clock.stop)
        elif oddity is not None:
            evidence = oddity.evidence
        else:
            evidence = self._why_withdrawn(about, records, looked)
        place = next((each for each in reversed(evidence) if each.plan is None), None)
        advice = next((each for each in reversed(looked.live) if each.plan is not None), None)
        alert = {
            "parcel_id": self.parcel_id,
            "version": len(records),
            "type": type_,
            "condition": about,
            "hub_time": now,
            "since": since,
            "deadline": clock.deadline if clock else oddity.deadline if oddity else None,
            "limit": clock.limit if clock else oddity.limit if oddity else None,
            "stopped_at": clock.stop.time if clock and clock.stop else None,
            "withdraws": withdraws,
            "evidence": [each.record_hash for each in evidence],
            "site": place.site if place else "",
            "station": place.station if place else "",
            "direction": advice.plan["direction"] if advice and advice.plan else "UNKNOWN",
        }
        return {"alert_id": self.hashed(alert_hash_input(alert)), **alert}

    def _why_withdrawn(
        self, about: str, records: Sequence[ParcelRecord], looked: Evaluation
    ) -> tuple[ParcelRecord, ...]:
        if about in ("NOT_RELEASED", "HELD_TOO_LONG"):
            for record in looked.journey:
                if record.kind == "CUSTOMS_RELEASED":
                    return (record,)
        if about == "MISSING" and looked.seen_after_emptying is not None:
            return (looked.seen_after_emptying,)
        answer = {"FOUND_OUTSIDE": "UNPACKED", "FOUND_EXTRA": "PACKED"}.get(about)
        if first := next((record for record in looked.journey if record.kind == answer), None):
            return (first,)
        starts = {promise.name: promise.starts + promise.renews for promise in self.promises.promises}
        kinds = starts.get(about) or _RESTS_ON[about]
        alive = set(map(attrgetter("record_hash"), looked.live))
        for record in sort_records(records):
            if record.kind in kinds and record.kind != "VOID" and record.record_hash not in alive:
                return (record,)
        return next(((each,) for each in reversed(looked.journey) if each.plan is not None), ())


def alert_hash_input(alert: Mapping[str, Any]) -> bytes:
    """The bytes whose identity is the id of an alert: see alert_id in schemas/Alert.avsc."""
    one, other = [*alert["evidence"], bytes(16), bytes(16)][:2]
    times = [
        NO_TIME if alert[name] is None else alert[name]
        for name in ("hub_time", "since", "deadline", "limit", "stopped_at")
    ]
    head = f"{alert['parcel_id']}\0{alert['condition']}\0".encode()
    numbers = struct.pack(">BBi5q", _TYPE[alert["type"]], len(alert["evidence"]), alert["version"], *times)
    taken: bytes = alert["withdraws"] or bytes(16)
    said: bytes = head + numbers + one + other + taken
    return said
