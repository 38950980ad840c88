"""A rate limit for fan-outs, which a worker keeps while it is not behind.

The records of a fan-out become work of the parcel processor, and every scan that arrives meanwhile waits behind them.
A ULD of 15,000 children written at once keeps both processors and the broker busy for a quarter of a second
(docs/decisions/fan-out.md).
"""

import threading
import time
from collections.abc import Callable
from typing import Final

# Records a second, of all partitions of a worker together.
_RECORDS_PER_SECOND: Final = 20_000
# The least number of records that is worth a transaction, and the most that is saved up.
_BURST_RECORDS: Final = 1_000
# A fan-out that is pending for longer than this goes on without a limit.
MAX_THROTTLE_SECONDS: Final = 1.0


class RateLimiter:
    """A token bucket of records, shared by threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self.clock = clock
        self._lock = threading.Lock()
        self._available = float(_BURST_RECORDS)
        self._updated_at = clock()

    @property
    def can_acquire(self) -> bool:
        """Whether enough records are available for a transaction."""
        with self._lock:
            return self._refill() >= _BURST_RECORDS

    def acquire(self, maximum: int, minimum: int) -> int:
        """How many records may be written now.

        Records beyond those that are available are missing from the next calls, up to the size of one burst.

        Args:
            maximum: records that there are to write.
            minimum: records to grant when too few are available for a transaction.
        """
        with self._lock:
            available = self._refill()
            granted = min(maximum, int(available)) if available >= _BURST_RECORDS else minimum
            self._available = max(self._available - granted, -_BURST_RECORDS)
            return granted

    def return_unused(self, records: int) -> None:
        """Give back records that were acquired and not written."""
        with self._lock:
            self._available += records

    def _refill(self) -> float:
        now = self.clock()
        self._available = min(self._available + (now - self._updated_at) * _RECORDS_PER_SECOND, _BURST_RECORDS)
        self._updated_at = now
        return self._available
