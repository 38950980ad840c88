"""Whether the process or its machine stood still: time in which nobody could have heard anything."""

import time
from typing import Final

# Far above what a turn of the worker's loop takes, far below a session with the group (6 s).
_STOOD_STILL_SECONDS: Final = 1.0


class PauseDetector:
    """Noticed by whoever looks often; a SIGSTOP, a paused machine, a laptop that was closed."""

    def __init__(self) -> None:
        """Looks for the first time."""
        self._looked = time.monotonic()

    def detect_pause(self, now: float) -> bool:
        """Whether it stood still since the last look; asked in every turn of the loop. `now` is time.monotonic()."""
        before, self._looked = self._looked, now
        return now - before > _STOOD_STILL_SECONDS
