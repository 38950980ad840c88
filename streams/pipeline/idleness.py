"""Whether there is nothing to do any more: for a worker that ends then (`--until-idle`)."""

import time
from typing import Final

# Far above what a turn of the worker's loop takes, far below a session with the group (6 s).
_STOOD_STILL_SECONDS: Final = 0.5


class Idleness:
    """For how long nothing came although something could have come.

    Time in which the process or its machine stood still does not count: nobody could have heard anything, and the place
    in the group may be gone since, which the client tells a moment after it has gone on.
    """

    def __init__(self) -> None:
        """Counts from now on."""
        self._heard = self._looked = time.monotonic()

    def heard(self, now: float) -> None:
        """Something came at this time.monotonic()."""
        self._heard = now

    def lasts(self, now: float, *, could_hear: bool) -> float:
        """Seconds until now without anything; asked in every turn of the loop.

        `could_hear`: whether this worker would have been given something now, if there were something.
        """
        stood_still = now - self._looked > _STOOD_STILL_SECONDS
        self._looked = now
        if stood_still or not could_hear:
            self._heard = now
        return now - self._heard
