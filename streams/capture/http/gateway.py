"""The parts of the capture gateway that its routes share, and the one function that stores records.

No request is answered with success before the spool reports that its records are on stable storage.
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
    """Limits of sizes and times for requests."""

    max_body_bytes: int = 8 << 20
    # Of all bodies together that are being received or processed; more is answered with 503.
    max_buffered_bytes: int = 512 << 20
    max_events: int = 10_000
    max_inflated_bytes: int = 32 << 20
    body_timeout_seconds: float = 30.0
    spool_timeout_seconds: float = 30.0
    max_connections: int = 2_000


@dataclass(slots=True)
class Gateway:
    """The parts that the routes share."""

    spool: Spool
    intake: Intake
    capture_jobs: CaptureJobs
    authenticator: Authenticator
    emit: GatewayEventListener
    request_limits: RequestLimits
    # Returns the metrics as Prometheus text. None where this port must show neither metrics nor reasons.
    exposition: Callable[[], bytes] | None = None
    event_cache: EventCache = field(default_factory=EventCache)
    # Bytes of request bodies held in memory now.
    buffered_bytes: int = 0
    # For measurements of the server alone: answer as if the spool had written.
    without_spool: bool = False

    async def store(self, result: IntakeResult) -> None:
        """Return when all accepted records are on stable storage.

        Raises:
            HttpProblem: they could not be stored.
        """
        if result.entries and not self.without_spool:
            frame = encode_frame(int(time.time() * 1000), result.entries)
            if len(frame) > MAX_FRAME_BYTES:
                # The spool could write such a frame, but not read it again.
                raise HttpProblem(
                    413,
                    "CaptureLimitExceededException",
                    f"the records of the request fill more than {MAX_FRAME_BYTES:,} bytes in the spool: send fewer at "
                    "once",
                )
            with self.intake.dedup_cache.reserve(result.dedup_entries):
                await self._write(frame)
        self.intake.dedup_cache.add(result.dedup_entries)
        self.event_cache.add(result.captured_events)

    async def _write(self, frame: bytes) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_done(error: Exception | None) -> None:
            if not written.done():
                written.set_exception(error) if error is not None else written.set_result(None)

        self.spool.append(frame, on_done)
        try:
            async with asyncio.timeout(self.request_limits.spool_timeout_seconds):
                await written
        except SpoolUnavailableError as error:
            raise retry_later(503, str(error), 5) from None
        except TimeoutError:
            raise retry_later(503, "the disk of the gateway does not answer: send the request again", 10) from None


def deliver_on_loop(loop: asyncio.AbstractEventLoop) -> Callable[[list[tuple[DoneCallback, Exception | None]]], None]:
    """Hand the outcomes of the spool's thread over to the event loop, one call per group."""

    def run(outcomes: list[tuple[DoneCallback, Exception | None]]) -> None:
        for on_done, error in outcomes:
            on_done(error)

    def deliver(outcomes: list[tuple[DoneCallback, Exception | None]]) -> None:
        # Once the loop has ended, no request waits for an outcome.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(run, outcomes)

    return deliver
