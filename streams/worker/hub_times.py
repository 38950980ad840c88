"""Whether Ticks come into the partitions of a worker: told once when they stay away, and once when they are back."""

from collections.abc import Mapping
from typing import Final

from streams.telemetry.worker_events import TicksResumed, TicksStopped

# Clocks tick every second; a worker that is behind still folds some ticks within this.
_TICKLESS_SECONDS: Final = 15.0


class TickMonitor:
    """How far the Ticks of each partition have come, and since when they are there."""

    def __init__(self) -> None:
        """Of no partition yet."""
        # Partition -> its hub time, and since when it is that although another could have come (time.monotonic).
        self._times: dict[int, tuple[int, float]] = {}
        # Partitions that were told to stand still -> at which hub time.
        self._still: dict[int, int] = {}
        self._still_since = 0.0

    def look(
        self, now: float, times: Mapping[int, int | None], *, can_receive: bool
    ) -> TicksStopped | TicksResumed | None:
        """What is new about them; asked in every turn of the loop.

        Args:
            now: time.monotonic().
            times: hub time of each partition held, ms since 1970; None before its first Tick, and while restoring.
            can_receive: whether a Tick would have been heard by now. Not while the broker is away, nor when the process
                itself has just stood still.
        """
        if not can_receive:
            self._times.clear()
            return None
        self._times = {
            number: before if (before := self._times.get(number)) and before[0] == time else (time, now)
            for number, time in times.items()
            if time is not None
        }
        # That it was restored is no Tick.
        still = {
            number: at
            for number, at in self._still.items()
            if number in times and ((time := times[number]) is None or time <= at)
        }
        still |= {number: at for number, (at, since) in self._times.items() if now - since > _TICKLESS_SECONDS}
        told, self._still = self._still, still
        if still and not told:
            self._still_since = now - _TICKLESS_SECONDS
            return TicksStopped(tuple(sorted(still)), _TICKLESS_SECONDS)
        if told and not still:
            return TicksResumed(now - self._still_since)
        return None
