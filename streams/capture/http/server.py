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

from streams.capture.auth.authentication import LOOPBACK_HOSTS, Authenticator, parse_networks
from streams.capture.auth.devices import DeviceRegistry
from streams.capture.http.application import create_application
from streams.capture.http.gateway import Gateway, RequestLimits, deliver_on_loop
from streams.capture.intake.capture_jobs import CaptureJobs
from streams.capture.intake.dedup_cache import (
    DEDUP_GENERATION_SIZE,
    DedupCache,
    EventCache,
    newest_entries,
    restore_caches,
)
from streams.capture.intake.intake import Intake
from streams.capture.spool.spool import Spool, SpoolLimits
from streams.capture.spool.spool_forwarder import SpoolForwarder
from streams.errors import Misconfigured
from streams.kafka.settings import KafkaSettings
from streams.telemetry.gateway_events import (
    GatewayEventListener,
    GatewayStarted,
    GatewayState,
    GatewayStopped,
    SpoolRecovered,
    SpoolStopped,
)

REGISTRY_FILE: Final = "devices.json"
SPOOL_FOLDER: Final = "spool"
_TURN_SECONDS: Final = 0.0005
_LOOK_SECONDS: Final = 1.0
_FORGET_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What the command line says."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    registry: Path | None = None
    insecure_local: bool = False
    certificate_file: Path | None = None
    key: Path | None = None
    limits: SpoolLimits = field(default_factory=SpoolLimits)
    bounds: RequestLimits = field(default_factory=RequestLimits)
    # Addresses and networks of proxies that end TLS for this gateway.
    trusted_proxies: tuple[str, ...] = ()
    # How long the head of a request may take.
    head_seconds: float = 10.0
    without_spool: bool = False


class _HeadTimeoutProtocol(H11Protocol):
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


class _GracefulServer(uvicorn.Server):
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


def run_gateway(
    options: GatewayOptions,
    settings: KafkaSettings,
    watch: GatewayEventListener,
    exposition: Callable[[], bytes] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then let requests end, write what waits, and send what Kafka takes.

    Raises:
        Misconfigured: an option or a file does not let it start.
    """
    _check(options)
    _allow_connections(options.bounds.max_connections)
    # Three threads share the interpreter; with the default of 5 ms an answer waits that long for each of its turns.
    sys.setswitchinterval(_TURN_SECONDS)
    listening = _listen(options)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, settings, watch, exposition, ready, listening))
    finally:
        listening.close()


async def _serve(
    options: GatewayOptions,
    settings: KafkaSettings,
    watch: GatewayEventListener,
    exposition: Callable[[], bytes] | None,
    ready: Callable[[str], None] | None,
    listening: socket.socket,
) -> None:
    known, events = DedupCache(), EventCache()
    # First the spool, which syncs what is there: only what is on disk may be called a duplicate.
    spool = Spool(options.data / SPOOL_FOLDER, options.limits, deliver_on_loop(asyncio.get_running_loop()))
    try:
        restore_caches(newest_entries(options.data / SPOOL_FOLDER, DEDUP_GENERATION_SIZE), known, events)
        registry = None if options.insecure_local else DeviceRegistry(options.registry or options.data / REGISTRY_FILE)
        doors = Authenticator(
            registry, options.data / "nonces", trusted_proxies=parse_networks(options.trusted_proxies)
        )
        gateway = Gateway(
            spool,
            Intake(known),
            CaptureJobs(options.data / "captures.jsonl"),
            doors,
            watch,
            options.bounds,
            # Behind a proxy or beyond this machine, what it says of itself is on a port of its own, or nowhere.
            exposition if options.host in LOOPBACK_HOSTS and not options.trusted_proxies else None,
            events,
            options.without_spool,
        )
        sender = SpoolForwarder(spool, settings, watch)
        server = _GracefulServer(
            uvicorn.Config(
                create_application(gateway),
                http=type("Protocol", (_HeadTimeoutProtocol,), {"head_seconds": options.head_seconds}),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=options.bounds.max_connections,
                h11_max_incomplete_event_size=32 << 10,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=3,
                ssl_certfile=options.certificate_file,
                ssl_keyfile=options.key,
            )
        )
        host, port = listening.getsockname()[:2]
        address = f"{'https' if options.certificate_file else 'http'}://{host}:{port}"
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


async def _look(gateway: Gateway, sender: SpoolForwarder) -> None:
    """Once a second: how things stand, and what changed."""
    stopped_at, forgotten = None, time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        spool = gateway.spool
        trouble = spool.unavailable_reason() or spool.write_error
        now = time.monotonic()
        if trouble is not None and stopped_at is None:
            stopped_at = now
            gateway.watch(SpoolStopped(trouble.reason, str(trouble)))
        elif trouble is None and stopped_at is not None:
            gateway.watch(SpoolRecovered(now - stopped_at))
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
            await asyncio.to_thread(spool.delete_expired_segments)


def _allow_connections(concurrent: int) -> None:
    """Let the process have as many files as there may be connections, and those of the spool.

    Otherwise whoever holds a thousand connections open keeps everybody else out, and the spool from a new segment.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * concurrent + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _check(options: GatewayOptions) -> None:
    if options.insecure_local and options.host not in LOOPBACK_HOSTS:
        raise Misconfigured(
            f"--insecure-local lets everybody in, so it listens on 127.0.0.1 only, not on {options.host}"
        )
    parse_networks(options.trusted_proxies)
    if (options.certificate_file is None) != (options.key is None):
        raise Misconfigured("--certificate and --key go together")
    if options.certificate_file is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(options.certificate_file, options.key)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"the certificate cannot be used: {error}") from error


def _listen(options: GatewayOptions) -> socket.socket:
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
