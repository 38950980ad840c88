"""Which alerts must fire of a parcel, at which tick, and what must stand in its state at the end of the log.

The reference rules (streams/domain/reference/promise_clocks.py) are evaluated at each Tick after which anything can be
new, over what was in the log before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.domain.promises import Promises
from streams.domain.reference.alerts import ReferenceAlertEvaluator
from streams.domain.reference.promise_clocks import ParcelRecord, evaluate


@dataclass(frozen=True, slots=True)
class TickSchedule:
    """The ticks of a log: one every `step` ms from `first` on, the last one before `end`."""

    first: int
    step: int
    end: int

    def after(self, instant: int) -> int | None:
        """The first one later than `instant`."""
        tick = max(self.first, self.first + ((instant - self.first) // self.step + 1) * self.step)
        return tick if tick < self.end else None

    @property
    def last(self) -> int:
        """The last one."""
        return self.first + (self.end - 1 - self.first) // self.step * self.step


@dataclass(slots=True)
class ExpectedAlerts:
    """What happened to one parcel."""

    # As parcel.alerts has them, in the order in which they are told.
    alerts: list[dict[str, Any]] = field(default_factory=list)
    # Its distinct records at the end; none when it retired.
    known: list[ParcelRecord] = field(default_factory=list)
    # What was known each time that it retired.
    retired_records: list[list[ParcelRecord]] = field(default_factory=list)
    # Did it leave parcel.state, if only for a while?
    retired: bool = False
    clocks: list[dict[str, Any]] = field(default_factory=list)
    journeys: int = 1
    # about -> type of what was told and stands.
    standing: dict[str, str] = field(default_factory=dict)


def derive_alerts(
    parcel_id: str,
    log_records: Sequence[tuple[int, ParcelRecord]],
    ticks: TickSchedule,
    promises: Promises,
    hashed: Callable[[bytes], bytes],
) -> ExpectedAlerts:
    """Follow a parcel through the log.

    Args:
        parcel_id: which parcel.
        arrived: when each of its distinct records entered the log (ms since 1970), and the record, in that order. A
            record that enters at the instant of a tick comes after it.
        ticks, promises: what fires, and when.
        hashed: 128-bit MurmurHash3, as the ids of alerts are made.
    """
    teller, made = ReferenceAlertEvaluator(parcel_id, promises, hashed), ExpectedAlerts()
    place = 0
    due: int | None = None
    while True:
        instants = [*(time for time, _ in log_records[place : place + 1]), *([] if due is None else [due])]
        tick = min((tick for tick in map(ticks.after, instants) if tick is not None), default=None)
        if tick is None:
            break
        while place < len(log_records) and log_records[place][0] < tick:
            made.known.append(log_records[place][1])
            place += 1
        said, looked = teller.tick(made.known, tick)
        made.alerts += said
        due = looked.next_evaluation
        if looked.retirement_time is not None and tick > looked.retirement_time:
            made.retired_records.append(made.known)
            made.known, made.retired, due = [], True, None
    made.known += [record for _, record in log_records[place:]]
    if made.known:
        looked = evaluate(promises, made.known, ticks.last)
        made.journeys = looked.journey_count
        made.clocks = [
            {
                "promise": name,
                "status": clock.status,
                "since": clock.start.time,
                "deadline": clock.deadline,
                "remaining_ms": clock.remaining if clock.status == "PAUSED" else None,
                "stopped_at": clock.stop.time if clock.stop else None,
            }
            for name, clock in looked.clocks.items()
        ]
        made.standing = {about: told.type for about, told in teller.active_alerts.items()}
    return made
