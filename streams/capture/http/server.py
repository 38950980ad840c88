"""The gateway as a process: its folder, its socket, its threads, and how it stops."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from uvicorn.protocols.http.h11_impl import H11Protocol

from streams.capture.auth.authentication import LOOPBACK, Doors, networks
from streams.capture.auth.devices import Registry
from streams.capture.http.application import application
from streams.capture.http.gateway import Bounds, Gateway, deliver_to
from streams.capture.intake.capture_jobs import Jobs
from streams.capture.intake.dedup_cache import MOST, Events, Known, newest_entries, remember
from streams.capture.intake.intake import Intake
from streams.capture.spool.spool import Limits, Spool
from streams.capture.spool.spool_forwarder import Sender
from streams.errors import Misconfigured
from streams.kafka.settings import Settings
from streams.telemetry.gateway_events import (
    GatewayStarted,
    GatewayState,
    GatewayStopped,
    SpoolStopped,
    SpoolWorks,
    Watcher,
)

REGISTRY: Final = "devices.json"
SPOOL: Final = "spool"
_TURN_SECONDS: Final = 0.0005
_LOOK_SECONDS: Final = 1.0
_FORGET_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    registry: Path | None = None
    insecure_local: bool = False
    certificate: Path | None = None
    key: Path | None = None
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = field(default_factory=Bounds)
    # Addresses and networks of proxies that end TLS for this gateway.
    trusted_proxies: tuple[str, ...] = ()
    # How long the head of a request may take.
    head_seconds: float = 10.0
    without_spool: bool = False


class _Protocol(H11Protocol):
    """HTTP/1.1 by a strict parser; a client has so many seconds for the head of its request, however it drips."""

    head_seconds = 10.0
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._head_is_there()
        elif self._head is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.head_seconds, self._too_slow)

    def _head_is_there(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if not self._answering():
            self.transport.close()

    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete


class _Server(uvicorn.Server):
    """Ends in order when asked: uvicorn's own way sends the signal to the process once more, which ends it at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        # Asked twice: do not wait for requests any more.
        self.force_exit = self.should_exit
        self.should_exit = True


def run(
    options: Options,
    settings: Settings,
    watch: Watcher,
    exposition: Callable[[], bytes] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then let requests end, write what waits, and send what Kafka takes.

    Raises:
        Misconfigured: an option or a file does not let it start.
    """
    _check(options)
    _allow_connections(options.bounds.concurrent)
    # Three threads share the interpreter; with the default of 5 ms an answer waits that long for each of its turns.
    sys.setswitchinterval(_TURN_SECONDS)
    listening = _listen(options)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, settings, watch, exposition, ready, listening))
    finally:
        listening.close()


async def _serve(
    options: Options,
    settings: Settings,
    watch: Watcher,
    exposition: Callable[[], bytes] | None,
    ready: Callable[[str], None] | None,
    listening: socket.socket,
) -> None:
    known, events = Known(), Events()
    # First the spool, which syncs what is there: only what is on disk may be called a duplicate.
    spool = Spool(options.data / SPOOL, options.limits, deliver_to(asyncio.get_running_loop()))
    try:
        remember(newest_entries(options.data / SPOOL, MOST), known, events)
        registry = None if options.insecure_local else Registry(options.registry or options.data / REGISTRY)
        doors = Doors(registry, options.data / "nonces", trusted_proxies=networks(options.trusted_proxies))
        gateway = Gateway(
            spool,
            Intake(known),
            Jobs(options.data / "captures.jsonl"),
            doors,
            watch,
            options.bounds,
            # Behind a proxy or beyond this machine, what it says of itself is on a port of its own, or nowhere.
            exposition if options.host in LOOPBACK and not options.trusted_proxies else None,
            events,
            options.without_spool,
        )
        sender = Sender(spool, settings, watch)
        server = _Server(
            uvicorn.Config(
                application(gateway),
                http=type("Protocol", (_Protocol,), {"head_seconds": options.head_seconds}),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=options.bounds.concurrent,
                h11_max_incomplete_event_size=32 << 10,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=3,
                ssl_certfile=options.certificate,
                ssl_keyfile=options.key,
            )
        )
        host, port = listening.getsockname()[:2]
        address = f"{'https' if options.certificate else 'http'}://{host}:{port}"
        sender.start()
        # What is there now stays: visited with every large request, it costs all others 50 to 90 ms.
        gc.collect()
        gc.freeze()
        looking = asyncio.create_task(_look(gateway, sender))
        watch(GatewayStarted(address, doors.open_to_all))
        if ready is not None:
            ready(address)
        try:
            await server.serve(sockets=[listening])
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            await asyncio.to_thread(sender.stop)
    finally:
        waiting = spool.waiting_bytes
        await asyncio.to_thread(spool.close)
        watch(GatewayStopped(waiting))


async def _look(gateway: Gateway, sender: Sender) -> None:
    """Once a second: how things stand, and what changed."""
    stopped_at, forgotten = None, time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        spool = gateway.spool
        trouble = spool.room() or spool.trouble
        now = time.monotonic()
        if trouble is not None and stopped_at is None:
            stopped_at = now
            gateway.watch(SpoolStopped(trouble.reason, str(trouble)))
        elif trouble is None and stopped_at is not None:
            gateway.watch(SpoolWorks(now - stopped_at))
            stopped_at = None
        tally = spool.tally
        gateway.watch(
            GatewayState(
                spool.waiting_bytes,
                sender.sent,
                tally.groups,
                tally.frames,
                tally.sync_seconds,
                spool.limits.waiting_bytes,
            )
        )
        if now - forgotten > _FORGET_SECONDS:
            forgotten = now
            await asyncio.to_thread(spool.forget_old)


def _allow_connections(concurrent: int) -> None:
    """Let the process have as many files as there may be connections, and those of the spool.

    Otherwise whoever holds a thousand connections open keeps everybody else out, and the spool from a new segment.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * concurrent + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _check(options: Options) -> None:
    if options.insecure_local and options.host not in LOOPBACK:
        raise Misconfigured(
            f"--insecure-local lets everybody in, so it listens on 127.0.0.1 only, not on {options.host}"
        )
    networks(options.trusted_proxies)
    if (options.certificate is None) != (options.key is None):
        raise Misconfigured("--certificate and --key go together")
    if options.certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(options.certificate, options.key)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"the certificate cannot be used: {error}") from error


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        listening.close()
        raise Misconfigured(f"{options.host}:{options.port} cannot be listened on: {error}") from error
    return listening
