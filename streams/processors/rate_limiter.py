"""How fast a worker tells children what happened to their container, while it is not behind.

What is told becomes the work of the parcel stage, and whoever is scanned meanwhile waits behind it. A ULD of 15,000
told at once keeps both stages and the broker busy for a quarter of a second (docs/decisions/fan-out.md).
"""

import threading
import time
from collections.abc import Callable
from typing import Final

# Records a second, of all partitions of a worker together.
_RATE: Final = 20_000
# What a transaction costs is worth it for so many, and more are not saved up.
_AT_ONCE: Final = 1_000
# Whoever waits for longer than this is behind, and goes on as fast as it can.
MAX_THROTTLE_SECONDS: Final = 1.0


class RateLimiter:
    """An allowance of records, shared by threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self.clock = clock
        self._lock = threading.Lock()
        self._allowed = float(_AT_ONCE)
        self._at = clock()

    @property
    def can_acquire(self) -> bool:
        """Is enough allowed for a transaction?"""
        with self._lock:
            return self._now() >= _AT_ONCE

    def take(self, most: int, least: int) -> int:
        """How many records may be written now: `most`, as far as allowed; where too few are for a transaction, `least`.

        What is taken beyond the allowance is missing from the next ones, up to as many as go at once.
        """
        with self._lock:
            allowed = self._now()
            granted = min(most, int(allowed)) if allowed >= _AT_ONCE else least
            self._allowed = max(self._allowed - granted, -_AT_ONCE)
            return granted

    def return_unused(self, records: int) -> None:
        """So many of those taken were not written."""
        with self._lock:
            self._allowed += records

    def _now(self) -> float:
        now = self.clock()
        self._allowed = min(self._allowed + (now - self._at) * _RATE, _AT_ONCE)
        self._at = now
        return self._allowed
