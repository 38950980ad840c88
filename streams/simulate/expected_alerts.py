"""The alerts that a parcel must raise, each at its tick, and the clocks and alerts in its state at the end of the log.

The reference rules (streams/domain/reference/promise_clocks.py) are evaluated at each tick at which something can have
changed, over the records that were in the log before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.domain.promises import Promises
from streams.domain.reference.alerts import ReferenceAlertEvaluator
from streams.domain.reference.promise_clocks import ParcelRecord, evaluate


@dataclass(frozen=True, slots=True)
class TickSchedule:
    """The ticks of a log: every `interval_ms` from `first_ms` on, the last one before `end_ms`."""

    first_ms: int
    interval_ms: int
    end_ms: int

    def next_after(self, instant: int) -> int | None:
        """The first tick after `instant`; None after the last one."""
        tick = max(
            self.first_ms, self.first_ms + ((instant - self.first_ms) // self.interval_ms + 1) * self.interval_ms
        )
        return tick if tick < self.end_ms else None

    @property
    def last(self) -> int:
        """The last tick."""
        return self.first_ms + (self.end_ms - 1 - self.first_ms) // self.interval_ms * self.interval_ms


@dataclass(slots=True)
class ExpectedAlerts:
    """The expected alerts and final clocks of one parcel."""

    # As in parcel.alerts, in the order in which they are written.
    alerts: list[dict[str, Any]] = field(default_factory=list)
    # Its distinct records at the end of the log; none if it is retired by then.
    records: list[ParcelRecord] = field(default_factory=list)
    # Its records at each of its retirements.
    retired_records: list[list[ParcelRecord]] = field(default_factory=list)
    # Whether it was removed from parcel.state, at least for some time.
    retired: bool = False
    clocks: list[dict[str, Any]] = field(default_factory=list)
    journeys: int = 1
    # Condition -> type of the alert that is active at the end.
    active_alerts: dict[str, str] = field(default_factory=dict)


def derive_alerts(
    parcel_id: str,
    log_records: Sequence[tuple[int, ParcelRecord]],
    schedule: TickSchedule,
    promises: Promises,
    hash_128: Callable[[bytes], bytes],
) -> ExpectedAlerts:
    """Derive the alerts of a parcel from its records in the log.

    Args:
        parcel_id: the parcel.
        log_records: for each of its distinct records the time at which it entered the log (ms since 1970), and the
            record, in log order. A record that enters at the instant of a tick follows the tick.
        schedule: the ticks, at which alerts are raised.
        promises: the promises and anomalies to evaluate.
        hash_128: 128-bit MurmurHash3, which makes the alert ids.
    """
    evaluator, expected = ReferenceAlertEvaluator(parcel_id, promises, hash_128), ExpectedAlerts()
    index = 0
    due: int | None = None
    while True:
        instants = [*(time for time, _ in log_records[index : index + 1]), *([] if due is None else [due])]
        tick = min((tick for tick in map(schedule.next_after, instants) if tick is not None), default=None)
        if tick is None:
            break
        while index < len(log_records) and log_records[index][0] < tick:
            expected.records.append(log_records[index][1])
            index += 1
        alerts, evaluation = evaluator.tick(expected.records, tick)
        expected.alerts += alerts
        due = evaluation.next_evaluation
        if evaluation.retirement_time is not None and tick > evaluation.retirement_time:
            expected.retired_records.append(expected.records)
            expected.records, expected.retired, due = [], True, None
    expected.records += [record for _, record in log_records[index:]]
    if expected.records:
        evaluation = evaluate(promises, expected.records, schedule.last)
        expected.journeys = evaluation.journey_count
        expected.clocks = [
            {
                "promise": name,
                "status": clock.status,
                "since": clock.start.time,
                "deadline": clock.deadline,
                "remaining_ms": clock.remaining if clock.status == "PAUSED" else None,
                "stopped_at": clock.stop.time if clock.stop else None,
            }
            for name, clock in evaluation.clocks.items()
        ]
        expected.active_alerts = {condition: alert.type for condition, alert in evaluator.active_alerts.items()}
    return expected
