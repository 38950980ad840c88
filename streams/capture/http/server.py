"""The gateway as a process: its data folder, its socket, its threads, and its shutdown."""

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
_THREAD_SWITCH_SECONDS: Final = 0.0005
_STATE_SECONDS: Final = 1.0
_RETENTION_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The options of `parcels gateway`."""

    data_folder: Path
    host: str = "127.0.0.1"
    port: int = 8080
    registry_file: Path | None = None
    insecure_local: bool = False
    certificate_file: Path | None = None
    private_key_file: Path | None = None
    spool_limits: SpoolLimits = field(default_factory=SpoolLimits)
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    # Addresses and networks of proxies that terminate TLS for this gateway.
    trusted_proxies: tuple[str, ...] = ()
    # A client must send the whole head of a request within this time.
    head_timeout_seconds: float = 10.0
    without_spool: bool = False


class _HeadTimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a strict parser, and a time limit for the head of a request, however slowly a client sends it."""

    head_timeout_seconds = 10.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._cancel_head_timer()
        elif self._head_timer is None:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_seconds, self._on_head_timeout)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if not self._is_answering():
            self.transport.close()

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete


class _GracefulServer(uvicorn.Server):
    """Shuts down in order on a signal. Uvicorn itself would raise the signal again, which ends the process at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._request_exit)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _request_exit(self) -> None:
        # A second signal: do not wait for running requests.
        self.force_exit = self.should_exit
        self.should_exit = True


def run_gateway(
    options: GatewayOptions,
    settings: KafkaSettings,
    emit: GatewayEventListener,
    exposition: Callable[[], bytes] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Then let requests end, write the queue to disk, and forward what Kafka accepts.

    Raises:
        Misconfigured: an option or a file is wrong.
    """
    _check(options)
    _allow_connections(options.request_limits.max_connections)
    # Three threads share the interpreter. With the default of 5 ms an answer waits that long at each switch.
    sys.setswitchinterval(_THREAD_SWITCH_SECONDS)
    server_socket = _listen(options)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, settings, emit, exposition, on_ready, server_socket))
    finally:
        server_socket.close()


async def _serve(
    options: GatewayOptions,
    settings: KafkaSettings,
    emit: GatewayEventListener,
    exposition: Callable[[], bytes] | None,
    on_ready: Callable[[str], None] | None,
    server_socket: socket.socket,
) -> None:
    dedup_cache, event_cache = DedupCache(), EventCache()
    # The spool comes first because it syncs its files: only a record on stable storage may count as known.
    spool = Spool(options.data_folder / SPOOL_FOLDER, options.spool_limits, deliver_on_loop(asyncio.get_running_loop()))
    try:
        restore_caches(
            newest_entries(options.data_folder / SPOOL_FOLDER, DEDUP_GENERATION_SIZE), dedup_cache, event_cache
        )
        registry = (
            None
            if options.insecure_local
            else DeviceRegistry(options.registry_file or options.data_folder / REGISTRY_FILE)
        )
        authenticator = Authenticator(
            registry, options.data_folder / "nonces", trusted_proxies=parse_networks(options.trusted_proxies)
        )
        gateway = Gateway(
            spool,
            Intake(dedup_cache),
            CaptureJobs(options.data_folder / "captures.jsonl"),
            authenticator,
            emit,
            options.request_limits,
            # Behind a proxy, or on a public address, metrics and reasons are shown on --metrics-port only.
            exposition if options.host in LOOPBACK_HOSTS and not options.trusted_proxies else None,
            event_cache,
            options.without_spool,
        )
        forwarder = SpoolForwarder(spool, settings, emit)
        server = _GracefulServer(
            uvicorn.Config(
                create_application(gateway),
                http=type("Protocol", (_HeadTimeoutProtocol,), {"head_timeout_seconds": options.head_timeout_seconds}),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=options.request_limits.max_connections,
                h11_max_incomplete_event_size=32 << 10,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=3,
                ssl_certfile=options.certificate_file,
                ssl_keyfile=options.private_key_file,
            )
        )
        host, port = server_socket.getsockname()[:2]
        address = f"{'https' if options.certificate_file else 'http'}://{host}:{port}"
        forwarder.start()
        # These objects live as long as the process. Collecting them with every large request would cost 50 to 90 ms.
        gc.collect()
        gc.freeze()
        reporting = asyncio.create_task(_report_state(gateway, forwarder))
        emit(GatewayStarted(address, authenticator.allows_anonymous))
        if on_ready is not None:
            on_ready(address)
        try:
            await server.serve(sockets=[server_socket])
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting
            await asyncio.to_thread(forwarder.stop)
    finally:
        waiting_bytes = spool.waiting_bytes
        await asyncio.to_thread(spool.close)
        emit(GatewayStopped(waiting_bytes))


async def _report_state(gateway: Gateway, forwarder: SpoolForwarder) -> None:
    """Report the state once a second, and delete expired segments every ten minutes."""
    stopped_at, retention_checked_at = None, time.monotonic()
    while True:
        await asyncio.sleep(_STATE_SECONDS)
        spool = gateway.spool
        unavailable = spool.unavailable_reason() or spool.write_error
        now = time.monotonic()
        if unavailable is not None and stopped_at is None:
            stopped_at = now
            gateway.emit(SpoolStopped(unavailable.reason, str(unavailable)))
        elif unavailable is None and stopped_at is not None:
            gateway.emit(SpoolRecovered(now - stopped_at))
            stopped_at = None
        counters = spool.counters
        gateway.emit(
            GatewayState(
                spool.waiting_bytes,
                forwarder.sent_records,
                counters.group_commits,
                counters.frames,
                counters.sync_seconds,
                spool.limits.max_waiting_bytes,
            )
        )
        if now - retention_checked_at > _RETENTION_SECONDS:
            retention_checked_at = now
            await asyncio.to_thread(spool.delete_expired_segments)


def _allow_connections(concurrent: int) -> None:
    """Raise the limit of open files to what all connections and the spool need.

    Otherwise a client with a thousand open connections would keep other clients out, and the spool from a new segment.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * concurrent + 256
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def _check(options: GatewayOptions) -> None:
    if options.insecure_local and options.host not in LOOPBACK_HOSTS:
        raise Misconfigured(
            f"--insecure-local admits everybody, so it may listen on 127.0.0.1 only, not on {options.host}"
        )
    parse_networks(options.trusted_proxies)
    if (options.certificate_file is None) != (options.private_key_file is None):
        raise Misconfigured("--certificate and --key must be given together")
    if options.certificate_file is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                options.certificate_file, options.private_key_file
            )
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"the certificate {options.certificate_file} or its key cannot be used: {error}"
            ) from error


def _listen(options: GatewayOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    server_socket = socket.socket(family, socket.SOCK_STREAM)
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind((options.host, options.port))
        server_socket.listen(1024)
    except (OSError, OverflowError) as error:
        server_socket.close()
        raise Misconfigured(f"cannot listen on {options.host}:{options.port}: {error}") from error
    return server_socket
