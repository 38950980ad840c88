"""Whether a worker process is alive, can receive records, and has anything left to do.

All of these measure time: `Watchdog` ends a process whose loop hangs, `PauseDetector` notices that the process itself
stood still, `BrokerMonitor` that no broker answers, `TickMonitor` that no ticks arrive, and `IdleTimer` that no records
arrive. They wait for nothing; `now` is always `time.monotonic()`.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Final

from streams.telemetry.worker_events import TicksResumed, TicksStopped

EXIT_CODE: Final = 70  # EX_SOFTWARE of sysexits.h
# Time to write the stacks to standard error.
_DUMP_SECONDS: Final = 2
# Far above what a turn of a worker's loop takes, far below a session with the group (6 s).
_PAUSE_SECONDS: Final = 1.0
# The tick producer sends a tick every second; a worker that is behind still processes some ticks within this time.
_TICKLESS_SECONDS: Final = 15.0
_BROKER_CHECK_SECONDS: Final = 1.0


class Heartbeat:
    """Time of a thread's last sign of life; a call that hangs leaves it behind."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> float:
        """Record a sign of life; returns its time (time.monotonic())."""
        self._last = time.monotonic()
        return self._last

    def age_seconds(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._last


class Watchdog:
    """Ends a hung process, so that its supervisor can start a new one: librdkafka calls can outlast their timeouts.

    It ends the process when one of the heartbeats that it watches is older than `seconds`.

    >>> watchdog = Watchdog(seconds=20)
    >>> heartbeat = watchdog.watch()
    >>> last_beat = heartbeat.beat()
    >>> watchdog.unwatch(heartbeat)
    >>> watchdog.stop()
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heartbeats: list[Heartbeat] = []
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def watch(self) -> Heartbeat:
        """A new heartbeat, which must beat at least every `seconds` from now on."""
        heartbeat = Heartbeat()
        self._heartbeats.append(heartbeat)
        return heartbeat

    def unwatch(self, heartbeat: Heartbeat) -> None:
        """Expect no more signs of life from this heartbeat."""
        self._heartbeats.remove(heartbeat)

    def stop(self) -> None:
        """End the watchdog's thread."""
        self._stopped.set()

    def _run(self) -> None:
        last_check = time.monotonic()
        while not self._stopped.wait(self._seconds / 20):
            now = time.monotonic()
            heartbeats = list(self._heartbeats)
            if now - last_check > self._seconds / 4:
                # The whole process was stopped (SIGSTOP, a suspended machine): the loops get their time again.
                for heartbeat in heartbeats:
                    heartbeat.beat()
            last_check = now
            if any(heartbeat.age_seconds() > self._seconds for heartbeat in heartbeats):
                # A blocked reader of standard error may be why the loop hangs: then SIGALRM ends the process.
                signal.alarm(_DUMP_SECONDS)
                sys.stderr.write(f"parcels: the worker's loop made no turn for {self._seconds:g} s; ending\n")
                faulthandler.dump_traceback(all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_CODE)


class PauseDetector:
    """Notices that the process or its machine stood still: a SIGSTOP, a paused machine, a laptop that was closed.

    No record could arrive in that time.
    """

    def __init__(self) -> None:
        self._last_check = time.monotonic()

    def detect_pause(self, now: float) -> bool:
        """Whether the process stood still since the last check; to be called several times a second."""
        previous, self._last_check = self._last_check, now
        return is_pause(now - previous)


def is_pause(seconds: float) -> bool:
    """Whether a loop that took so long for one turn stood still."""
    return seconds > _PAUSE_SECONDS


class BrokerMonitor:
    """Whether a client reaches any broker of its cluster.

    A client reports the loss of all brokers only after some delay, so the report may be out of date. It is therefore a
    suspicion, which `confirm` confirms or `clear` ends.
    """

    def __init__(self) -> None:
        self._suspicion: str | None = None
        self._last_check = 0.0
        # Error of the client since no broker answers; None while one answers or may answer.
        self.error: str | None = None

    @property
    def is_suspected(self) -> bool:
        """Whether the brokers may be unavailable."""
        return self._suspicion is not None

    def suspect(self, error: str) -> None:
        """The client reports that it lost all brokers."""
        self._suspicion = self._suspicion or error

    def is_check_due(self, now: float) -> bool:
        """Whether to ask a broker for an answer now: once a second while there is a suspicion."""
        if not self.is_suspected or now - self._last_check < _BROKER_CHECK_SECONDS:
            return False
        self._last_check = now
        return True

    def confirm(self) -> None:
        """No broker answered."""
        self.error = self._suspicion

    def clear(self) -> None:
        """A broker answered."""
        self._suspicion = self.error = None


class TickMonitor:
    """Whether ticks arrive in the partitions of a worker: reports once when they stop, and once when they resume."""

    def __init__(self) -> None:
        # Partition -> its hub time, and since when it has it although a tick could have arrived.
        self._times: dict[int, tuple[int, float]] = {}
        # Partitions that are reported as stopped -> hub time at which they stopped.
        self._stopped: dict[int, int] = {}
        self._stopped_since = 0.0

    def check(
        self, now: float, hub_times: Mapping[int, int | None], *, can_receive: bool
    ) -> TicksStopped | TicksResumed | None:
        """The event to report, if any; to be called several times a second.

        Args:
            now: time.monotonic().
            hub_times: hub time of each assigned partition, ms since 1970; None before its first tick, and while
                restoring.
            can_receive: whether a tick could have arrived by now. False while the brokers are unavailable, and when
                the process itself has just stood still.
        """
        if not can_receive:
            self._times.clear()
            return None
        self._times = {
            partition: previous if (previous := self._times.get(partition)) and previous[0] == time else (time, now)
            for partition, time in hub_times.items()
            if time is not None
        }
        # A restore brings back the hub time of before, which is no new tick.
        stopped = {
            partition: stopped_at
            for partition, stopped_at in self._stopped.items()
            if partition in hub_times and ((time := hub_times[partition]) is None or time <= stopped_at)
        }
        stopped |= {
            partition: time for partition, (time, since) in self._times.items() if now - since > _TICKLESS_SECONDS
        }
        reported, self._stopped = self._stopped, stopped
        if stopped and not reported:
            self._stopped_since = now - _TICKLESS_SECONDS
            return TicksStopped(tuple(sorted(stopped)), _TICKLESS_SECONDS)
        if reported and not stopped:
            return TicksResumed(now - self._stopped_since)
        return None


class IdleTimer:
    """Time without records although records could have arrived: for a process that ends when idle (`--until-idle`)."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def idle_seconds(self, now: float, *, last_record: float, can_receive: bool) -> float:
        """Seconds since the last record; to be called several times a second.

        Args:
            now: time.monotonic().
            last_record: when the last record arrived, by the same clock.
            can_receive: whether a record that exists would have arrived by now. False after the process stood still:
                its place in the group may be gone, which the client reports only a moment after it has gone on.
        """
        self._since = max(self._since, now if not can_receive else last_record)
        return now - self._since
