"""Ends a hung process, so that its supervisor can start a new one: librdkafka calls can hang whatever their timeout."""

import faulthandler
import os
import signal
import sys
import threading
import time
from typing import Final

EXIT_CODE: Final = 70  # EX_SOFTWARE of sysexits.h
_LAST_WORDS_SECONDS: Final = 2


class Watchdog:
    """Ends the process when nobody called `beat` for `seconds`.

    >>> watchdog = Watchdog(seconds=20)
    >>> watchdog.beat()
    >>> watchdog.stop()
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self) -> None:
        """Say that the loop made a turn."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stopped.wait(self._seconds / 20):
            now = time.monotonic()
            if now - looked > self._seconds / 4:
                # The whole process was stopped (SIGSTOP, a suspended machine): the loop gets its time again.
                self._last = max(self._last, now)
            looked = now
            if now - self._last > self._seconds:
                # Nobody may be reading standard error, which may be why the loop hangs: then SIGALRM ends the process.
                signal.alarm(_LAST_WORDS_SECONDS)
                sys.stderr.write(f"parcels: the worker's loop made no turn for {self._seconds:g} s; ending\n")
                faulthandler.dump_traceback(all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_CODE)
