"""HTTP of a worker or a gateway about itself: `/metrics`, and `/healthz` and `/readyz` for its supervisor."""

import threading
from collections.abc import Iterable
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Protocol, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from streams.errors import Misconfigured

# A scrape takes milliseconds; whoever is slower than this holds a thread for nothing.
_REQUEST_SECONDS = 10.0


class _StatusHttpServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # `server_close` need not wait for a client that reads slowly.
    block_on_close = False

    def server_bind(self) -> None:
        """As its parents do, without asking the name service who this host is: that can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news of the process."""


class _StatusRequestHandler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def address_string(self) -> str:
        """Without a look-up of the client's name, which can take seconds."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the overridden parameter
        """Requests are not logged: there is one every few seconds."""


class StatusServer:
    """The server while it runs, in a thread of its own. Ends with `close()` or as a context manager."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening and free the port; requests being answered are let go."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class StatusSource(Protocol):
    """What a process says of itself."""

    registry: CollectorRegistry

    def not_ready_reason(self) -> str | None:
        """Why it does not do its work; None when it does."""


def start_status_server(metrics: StatusSource, port: int, *, host: str = "127.0.0.1") -> StatusServer:
    """Answer on `port` (0: any free one) until closed.

    `/metrics` shows the metrics. `/healthz` is 200 as long as the process answers: one that hangs is ended by its
    watchdog. `/readyz` is 200 while the worker folds its partitions, or the gateway takes records, else 503 and why.

    Raises:
        Misconfigured: the port cannot be had.
    """
    exposition = make_wsgi_app(metrics.registry)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return exposition(environ, start)  # type: ignore[no-any-return]
            case "/healthz":
                return _text(start, "200 OK", "ok")
            case "/readyz":
                reason = metrics.not_ready_reason()
                return _text(start, "503 Service Unavailable", reason) if reason else _text(start, "200 OK", "ok")
            case _:
                return _text(start, "404 Not Found", "there are /metrics, /healthz and /readyz")

    try:
        server = _StatusHttpServer((host, port), _StatusRequestHandler)
    except (OSError, OverflowError) as error:
        message = f"metrics cannot be served on {host}:{port}: {error}; choose another port with --metrics-port"
        raise Misconfigured(message) from error
    server.set_app(answer)
    return StatusServer(server)


def _text(start: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [f"{text}\n".encode()]
