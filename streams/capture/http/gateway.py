"""The parts of the capture gateway that its addresses use, and the one way in which they store something.

Nothing is answered with success before the spool says that it is on stable storage.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.capture.auth.authentication import Doors
from streams.capture.http.problems import Refusal, later
from streams.capture.intake.capture_jobs import Jobs
from streams.capture.intake.dedup_cache import Events
from streams.capture.intake.intake import Intake
from streams.capture.intake.intake_result import Taken
from streams.capture.spool.segment_files import LARGEST_FRAME, encode_frame
from streams.capture.spool.spool import Done, Spool, SpoolUnavailable
from streams.telemetry.gateway_events import Watcher


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one request may be."""

    body_bytes: int = 8 << 20
    # Of all bodies together that are being read or worked on; beyond them, 503.
    held_bytes: int = 512 << 20
    events: int = 10_000
    inflated_bytes: int = 32 << 20
    body_seconds: float = 30.0
    spool_seconds: float = 30.0
    concurrent: int = 2_000


@dataclass(slots=True)
class Gateway:
    """The parts that the addresses use."""

    spool: Spool
    intake: Intake
    jobs: Jobs
    doors: Doors
    watch: Watcher
    bounds: Bounds
    # Prometheus text, where this port shows how the gateway is; else it says only whether it works.
    exposition: Callable[[], bytes] | None = None
    events: Events = field(default_factory=Events)
    # Bytes of bodies that are held now.
    held: int = 0
    # For measurements of the server alone: answer as if the spool had written.
    without_spool: bool = False

    async def store(self, taken: Taken) -> None:
        """Return when everything taken is on stable storage.

        Raises:
            Refusal: it is not.
        """
        if taken.entries and not self.without_spool:
            frame = encode_frame(int(time.time() * 1000), taken.entries)
            if len(frame) > LARGEST_FRAME:
                # It would be written, and never read again.
                raise Refusal(413, "CaptureLimitExceededException", "the request becomes too many bytes of records")
            with self.intake.known.storing(taken.remembered):
                await self._written(frame)
        self.intake.known.add(taken.remembered)
        self.events.add(taken.events)

    async def _written(self, frame: bytes) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if not stored.done():
                stored.set_exception(error) if error is not None else stored.set_result(None)

        self.spool.append(frame, done)
        try:
            async with asyncio.timeout(self.bounds.spool_seconds):
                await stored
        except SpoolUnavailable as error:
            raise later(503, str(error), 5) from None
        except TimeoutError:
            raise later(503, "the disk does not answer", 10) from None


def deliver_to(loop: asyncio.AbstractEventLoop) -> Callable[[list[tuple[Done, Exception | None]]], None]:
    """Hands outcomes of the spool's thread over to the event loop, a whole group at a time."""

    def run(outcomes: list[tuple[Done, Exception | None]]) -> None:
        for done, error in outcomes:
            done(error)

    def deliver(outcomes: list[tuple[Done, Exception | None]]) -> None:
        # A loop that has ended has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(run, outcomes)

    return deliver
