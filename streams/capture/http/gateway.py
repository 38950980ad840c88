"""The parts of the capture gateway that its addresses use, and the one way in which they store something.

Nothing is answered with success before the spool says that it is on stable storage.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.capture.auth.authentication import Authenticator
from streams.capture.http.problems import HttpProblem, retry_later
from streams.capture.intake.capture_jobs import CaptureJobs
from streams.capture.intake.dedup_cache import EventCache
from streams.capture.intake.intake import Intake
from streams.capture.intake.intake_result import IntakeResult
from streams.capture.spool.segment_files import MAX_FRAME_BYTES, encode_frame
from streams.capture.spool.spool import DoneCallback, Spool, SpoolUnavailableError
from streams.telemetry.gateway_events import GatewayEventListener


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How much one request may be."""

    max_body_bytes: int = 8 << 20
    # Of all bodies together that are being read or worked on; beyond them, 503.
    max_buffered_bytes: int = 512 << 20
    events: int = 10_000
    max_inflated_bytes: int = 32 << 20
    body_timeout_seconds: float = 30.0
    spool_timeout_seconds: float = 30.0
    max_connections: int = 2_000


@dataclass(slots=True)
class Gateway:
    """The parts that the addresses use."""

    spool: Spool
    intake: Intake
    jobs: CaptureJobs
    doors: Authenticator
    watch: GatewayEventListener
    bounds: RequestLimits
    # Prometheus text, where this port shows how the gateway is; else it says only whether it works.
    exposition: Callable[[], bytes] | None = None
    events: EventCache = field(default_factory=EventCache)
    # Bytes of bodies that are held now.
    held: int = 0
    # For measurements of the server alone: answer as if the spool had written.
    without_spool: bool = False

    async def store(self, taken: IntakeResult) -> None:
        """Return when everything taken is on stable storage.

        Raises:
            Refusal: it is not.
        """
        if taken.entries and not self.without_spool:
            frame = encode_frame(int(time.time() * 1000), taken.entries)
            if len(frame) > MAX_FRAME_BYTES:
                # It would be written, and never read again.
                raise HttpProblem(413, "CaptureLimitExceededException", "the request becomes too many bytes of records")
            with self.intake.known.reserve(taken.dedup_entries):
                await self._written(frame)
        self.intake.known.add(taken.dedup_entries)
        self.events.add(taken.events)

    async def _written(self, frame: bytes) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if not stored.done():
                stored.set_exception(error) if error is not None else stored.set_result(None)

        self.spool.append(frame, done)
        try:
            async with asyncio.timeout(self.bounds.spool_timeout_seconds):
                await stored
        except SpoolUnavailableError as error:
            raise retry_later(503, str(error), 5) from None
        except TimeoutError:
            raise retry_later(503, "the disk does not answer", 10) from None


def deliver_on_loop(loop: asyncio.AbstractEventLoop) -> Callable[[list[tuple[DoneCallback, Exception | None]]], None]:
    """Hands outcomes of the spool's thread over to the event loop, a whole group at a time."""

    def run(outcomes: list[tuple[DoneCallback, Exception | None]]) -> None:
        for done, error in outcomes:
            done(error)

    def deliver(outcomes: list[tuple[DoneCallback, Exception | None]]) -> None:
        # A loop that has ended has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(run, outcomes)

    return deliver
