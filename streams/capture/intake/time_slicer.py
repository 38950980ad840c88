"""Work on a large request in slices, between which the event loop answers others."""

import asyncio
import contextlib
import time
from typing import Final, Self

from streams.capture.intake.dedup_cache import DedupCache
from streams.capture.intake.intake_result import IntakeResult

# Whoever waits for an answer waits for three or four of them.
_SLICE_SECONDS: Final = 0.004


class TimeSlicer:
    """The slices of one request: an async context manager that lasts until the last one is done.

    What the request has brought so far is reserved between slices, as it is while it is stored, so that nobody else
    brings the same with other content meanwhile.

    >>> async def work(slices, records):
    ...     async with slices:
    ...         for record in records:
    ...             take(record)
    ...             if slices.over:
    ...                 await slices.others()
    """

    def __init__(self, taken: IntakeResult, known: DedupCache, queue: asyncio.Lock) -> None:
        """`queue`: where requests of more than one slice wait for each other, so that the small ones wait for one."""
        self._taken = taken
        self._known = known
        self._queue = queue
        self._queued = False
        self._reserved = 0
        self._until_end = contextlib.AsyncExitStack()
        self._ends = time.perf_counter() + _SLICE_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._until_end.aclose()

    @property
    def over(self) -> bool:
        """Has this slice lasted for long enough?"""
        return time.perf_counter() >= self._ends

    async def yield_to_others(self) -> None:
        """Let others go on; then begin the next slice."""
        fresh, remembered = self._taken.entries[self._reserved :], self._taken.dedup_entries
        self._reserved += len(fresh)
        reserved = {each.identity: remembered[each.identity] for each in fresh if each.identity in remembered}
        self._until_end.enter_context(self._known.reserve(reserved))
        if not self._queued:
            self._queued = True
            await self._until_end.enter_async_context(self._queue)
        await asyncio.sleep(0)
        self._ends = time.perf_counter() + _SLICE_SECONDS
