"""Whether there is nothing to do any more: for a worker that ends then (`--until-idle`)."""

import time


class IdleTimer:
    """For how long nothing came although something could have come."""

    def __init__(self) -> None:
        """Counts from now on."""
        self._heard = time.monotonic()

    def heard(self, now: float) -> None:
        """Something came at this time.monotonic()."""
        self._heard = now

    def idle_seconds(self, now: float, *, can_receive: bool) -> float:
        """Seconds until now without anything; asked in every turn of the loop.

        `can_receive`: whether this worker would have been given something by now, if there were something. Not after it
        stood still: its place in the group may be gone, which the client tells a moment after it has gone on.
        """
        if not can_receive:
            self._heard = now
        return now - self._heard
