"""Which parcels or containers an event of a container names, as long as a copy of the event may still come."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.simulate.compact_records import HOUR, MINUTE

Ints = NDArray[np.int64]

_NOTHING: Final = np.zeros(0, np.int64)


class ChildLists:
    """Lists of numbers, by key: above 0 of parcels, below 0 of containers; 0 is the empty one."""

    def __init__(self) -> None:
        self._of: dict[int, Ints] = {0: _NOTHING}
        self._next = 1
        # Key -> hour in which the last copy enters the log, and the other way round.
        self._last: dict[int, int] = {}
        self._until: dict[int, list[int]] = {}

    def put(self, members: Ints, starts: Ints, *, containers: bool = False) -> Ints:
        """Keep `members`, cut before each of `starts` (the first is 0); the keys."""
        keys = self._next + np.arange(len(starts), dtype=np.int64)
        self._next += len(starts)
        if containers:
            keys = -keys
        if len(starts):
            self._of.update(zip(keys.tolist(), np.split(members, starts[1:]), strict=True))
        return keys

    def __getitem__(self, key: int) -> Ints:
        return self._of[key]

    def keep(self, keys: Ints, times: Ints) -> None:
        """Say when copies of each enter the log at the latest; one of which nothing was said stays."""
        for key, hour in zip(keys.tolist(), ((times + 2 * MINUTE) // HOUR).tolist(), strict=True):
            if key and hour > self._last.get(key, -1):
                self._last[key] = hour
                self._until.setdefault(hour, []).append(key)

    def forget(self, before: int) -> None:
        """Let go of what is not needed from `before` (ms) on."""
        for hour in [hour for hour in self._until if (hour + 1) * HOUR <= before]:
            for key in self._until.pop(hour):
                if self._last.get(key) == hour:
                    del self._last[key], self._of[key]
