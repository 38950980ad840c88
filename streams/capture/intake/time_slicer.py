"""Splits the processing of a large request into time slices, between which the event loop answers other requests."""

import asyncio
import contextlib
import time
from typing import Final, Self

from streams.capture.intake.dedup_cache import DedupCache
from streams.capture.intake.intake_result import IntakeResult

# A small request waits for three or four slices.
_SLICE_SECONDS: Final = 0.004


class TimeSlicer:
    """The time slices of one request: an async context manager around the whole processing.

    Between slices the identities of the records accepted so far stay reserved, as they are while records are stored.
    So no other request can bring a record with the same identity and other content meanwhile.

    >>> async def work(time_slicer, records):
    ...     async with time_slicer:
    ...         for record in records:
    ...             accept(record)
    ...             if time_slicer.is_expired:
    ...                 await time_slicer.yield_to_others()
    """

    def __init__(self, result: IntakeResult, dedup_cache: DedupCache, large_request_lock: asyncio.Lock) -> None:
        """`large_request_lock` is held from the second slice on, so that small requests wait for one large one only."""
        self._result = result
        self._dedup_cache = dedup_cache
        self._large_request_lock = large_request_lock
        self._is_large = False
        self._reserved_entries = 0
        self._exit_stack = contextlib.AsyncExitStack()
        self._slice_end = time.perf_counter() + _SLICE_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit_stack.aclose()

    @property
    def is_expired(self) -> bool:
        """Has the current slice used up its time?"""
        return time.perf_counter() >= self._slice_end

    async def yield_to_others(self) -> None:
        """Let other requests run, then begin the next slice."""
        new_entries, dedup_entries = self._result.entries[self._reserved_entries :], self._result.dedup_entries
        self._reserved_entries += len(new_entries)
        reserved = {
            entry.identity: dedup_entries[entry.identity] for entry in new_entries if entry.identity in dedup_entries
        }
        self._exit_stack.enter_context(self._dedup_cache.reserve(reserved))
        if not self._is_large:
            self._is_large = True
            await self._exit_stack.enter_async_context(self._large_request_lock)
        await asyncio.sleep(0)
        self._slice_end = time.perf_counter() + _SLICE_SECONDS
