"""The children that container events name. A list is kept as long as a copy of its event may still enter the log."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.simulate.compact_records import HOUR, MINUTE

Ints = NDArray[np.int64]

_EMPTY: Final = np.zeros(0, np.int64)


class ChildLists:
    """Lists of child numbers by key: above 0 for lists of parcels, below 0 for containers; 0 is the empty list."""

    def __init__(self) -> None:
        self._lists: dict[int, Ints] = {0: _EMPTY}
        self._next = 1
        # Key -> the hour in which the last copy enters the log; and that hour -> its keys.
        self._last_hours: dict[int, int] = {}
        self._keys_by_hour: dict[int, list[int]] = {}

    def put(self, children: Ints, starts: Ints, *, containers: bool = False) -> Ints:
        """Store `children` as several lists, cut before each of `starts` (the first is 0); returns their keys."""
        keys = self._next + np.arange(len(starts), dtype=np.int64)
        self._next += len(starts)
        if containers:
            keys = -keys
        if len(starts):
            self._lists.update(zip(keys.tolist(), np.split(children, starts[1:]), strict=True))
        return keys

    def __getitem__(self, key: int) -> Ints:
        return self._lists[key]

    def retain_until(self, keys: Ints, times: Ints) -> None:
        """Set the latest time at which a copy enters the log, for each key; a key without one is kept for ever."""
        for key, hour in zip(keys.tolist(), ((times + 2 * MINUTE) // HOUR).tolist(), strict=True):
            if key and hour > self._last_hours.get(key, -1):
                self._last_hours[key] = hour
                self._keys_by_hour.setdefault(hour, []).append(key)

    def expire(self, before: int) -> None:
        """Drop the lists that are not needed after `before` (ms)."""
        for hour in [hour for hour in self._keys_by_hour if (hour + 1) * HOUR <= before]:
            for key in self._keys_by_hour.pop(hour):
                if self._last_hours.get(key) == hour:
                    del self._last_hours[key], self._lists[key]
