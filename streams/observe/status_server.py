"""HTTP server for the status of a worker or a gateway: `/metrics`, and `/healthz` and `/readyz` for its supervisor."""

import threading
from collections.abc import Iterable
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Protocol, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from streams.errors import Misconfigured

# A scrape takes milliseconds. A client that needs longer than this only occupies a thread.
_REQUEST_SECONDS = 10.0


class _StatusHttpServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # `server_close` does not wait for a client that reads slowly.
    block_on_close = False

    def server_bind(self) -> None:
        """Bind as the base classes do, but without a name look-up of this host, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected: it says nothing about this process."""


class _StatusRequestHandler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def address_string(self) -> str:
        """The client's address, without a name look-up, which can take seconds."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the overridden parameter
        """Log nothing: there is a request every few seconds."""


class StatusServer:
    """A running server, in a thread of its own. End it with `close()`, or use it as a context manager."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening and free the port; do not wait for requests that are being answered."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class StatusSource(Protocol):
    """Metrics and readiness of a process."""

    registry: CollectorRegistry

    def not_ready_reason(self) -> str | None:
        """Reason why the process is not ready; None when it is."""


def start_status_server(source: StatusSource, port: int, *, host: str = "127.0.0.1") -> StatusServer:
    """Start a server on `port` (0: any free port).

    `/metrics` shows the metrics. `/healthz` is 200 as long as the process answers; its watchdog ends a process that
    hangs. `/readyz` is 200 while the worker processes its partitions, or the gateway accepts records. Otherwise it is
    503 with the reason.

    Raises:
        Misconfigured: the port is not available.
    """
    exposition = make_wsgi_app(source.registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return exposition(environ, start_response)  # type: ignore[no-any-return]
            case "/healthz":
                return _text(start_response, "200 OK", "ok")
            case "/readyz":
                reason = source.not_ready_reason()
                return (
                    _text(start_response, "503 Service Unavailable", reason)
                    if reason
                    else _text(start_response, "200 OK", "ok")
                )
            case _:
                return _text(start_response, "404 Not Found", "there are /metrics, /healthz and /readyz")

    try:
        server = _StatusHttpServer((host, port), _StatusRequestHandler)
    except (OSError, OverflowError) as error:
        message = f"metrics cannot be served on {host}:{port}: {error}; choose another port with --metrics-port"
        raise Misconfigured(message) from error
    server.set_app(application)
    return StatusServer(server)


def _text(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [f"{text}\n".encode()]
