"""The context of one request: its sender, its body, and the limits that apply to both."""

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from streams.capture.auth.authentication import RateLimitExceededError
from streams.capture.auth.devices import Device
from streams.capture.auth.signatures import AuthenticationError, MessageComponents, field_value
from streams.capture.http.gateway import Gateway
from streams.capture.http.problems import HttpProblem, retry_later
from streams.capture.intake.intake_result import IntakeResult
from streams.telemetry.gateway_events import RequestDenied

# Of a rejected body, this many times the size limit is read and discarded, within the time limit of a body.
_DISCARD_FACTOR: Final = 8


class RequestContext:
    """One request during its processing."""

    def __init__(self, gateway: Gateway, request: Request, route: str) -> None:
        self.gateway, self.request, self.route = gateway, request, route
        self.intake_result = IntakeResult()
        self.device: Device | None = None
        self.body = b""
        self._charged = False
        self._buffered_bytes = 0
        self._parts: list[bytes] = []
        self._body_requested = self._body_complete = self._body_timed_out = False

    @property
    def principal_name(self) -> str:
        """Name of the sender; empty where the gateway admits everybody."""
        return self.device.name if self.device is not None else ""

    async def read_and_authenticate(self) -> None:
        """Read the body and find the device that sent it.

        Raises:
            HttpProblem: the body is too large, too slow or encoded, or the sender is not authenticated.
        """
        unavailable = self.gateway.spool.unavailable_reason() if self.request.method == "POST" else None
        if unavailable is not None and not self.gateway.without_spool:
            raise retry_later(503, str(unavailable), 10)
        headers = self._joined_headers()
        scope = self.request.scope
        path = scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1") or scope["path"]
        components = MessageComponents(self.request.method, path, scope["query_string"].decode("latin-1"), headers)
        peer = scope.get("client") or ("",)
        authenticator = self.gateway.authenticator
        secure = authenticator.is_secure(scope["scheme"], str(peer[0]), headers)
        try:
            header_auth = authenticator.authenticate_headers(components, secure=secure)
            self.body = await self._read(headers)
            self.device = authenticator.authenticate_body(header_auth, components, self.body, secure=secure)
        except AuthenticationError as error:
            self.gateway.emit(RequestDenied(error.reason, error.device))
            challenge = {"WWW-Authenticate": 'Bearer realm="parcels"'}
            raise HttpProblem(401, "SecurityException", str(error), headers=challenge) from None
        except OSError as error:
            # A nonce that is not on disk would let a restarted gateway accept a replay of the request.
            raise retry_later(
                503, f"the gateway cannot write its file of nonces: {error.strerror or error}", 5
            ) from None
        except RateLimitExceededError as error:
            self.gateway.emit(RequestDenied("rate_limited", error.device))
            raise retry_later(429, str(error), error.retry_after_seconds, "TooManyRequestsException") from None

    def charge_rate(self, record_count: int) -> None:
        """Count records against the device's rate."""
        if self.device is not None and record_count:
            self._charged = True
            self.gateway.authenticator.rate_limiter.charge(self.device.name, self.device.rate, record_count)

    async def reject(self, problem: HttpProblem) -> Response:
        """The error answer, after the rest of the body has been read and discarded.

        Most clients read the answer only after they have sent the whole body. A connection that is closed with unread
        bytes loses its answer. A body with too much left is not read: the connection ends and the answer may be lost.
        """
        self.release_body()
        if not await self._discard_body():
            problem.headers["Connection"] = "close"
        return problem.to_response()

    def release_body(self) -> None:
        """Free the memory of the body."""
        self.body, self._parts = b"", []
        self.gateway.buffered_bytes -= self._buffered_bytes
        self._buffered_bytes = 0

    def charge_rejected_request(self) -> None:
        """Count a request that was rejected before its records were counted as one record."""
        if self.request.method == "POST" and not self._charged:
            self.charge_rate(1)

    def record_result(self, result: IntakeResult) -> None:
        """Keep the result for the metrics."""
        self.intake_result = result
        for _ in range(result.out_of_scope):
            self.gateway.emit(RequestDenied("out_of_scope", self.principal_name))

    def require_media_type(self, *accepted_types: str) -> str:
        """The media type of the body, which is one of `accepted_types`.

        Raises:
            HttpProblem: it is another one.
        """
        media_type = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in accepted_types:
            raise HttpProblem(
                415, "UnsupportedMediaTypeException", f"Content-Type must be {' or '.join(accepted_types)}"
            )
        return media_type

    def _joined_headers(self) -> dict[str, str]:
        values_by_name: dict[str, list[str]] = {}
        for name, value in self.request.scope["headers"]:
            values_by_name.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        return {name: field_value(values) for name, values in values_by_name.items()}

    async def _read(self, headers: dict[str, str]) -> bytes:
        limits = self.gateway.request_limits
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HttpProblem(
                415,
                "UnsupportedMediaTypeException",
                "compressed bodies are not supported: send the body without Content-Encoding",
            )
        content_length = headers.get("content-length", "0")
        if content_length.isdigit() and int(content_length) > limits.max_body_bytes:
            raise self._body_too_large()
        size, self._body_requested = 0, True
        try:
            async with asyncio.timeout(limits.body_timeout_seconds):
                async for part in self.request.stream():
                    size += len(part)
                    if size > limits.max_body_bytes:
                        raise self._body_too_large()
                    self._buffer(len(part))
                    self._parts.append(part)
        except TimeoutError:
            self._body_timed_out = True
            raise HttpProblem(
                408,
                "ImplementationException",
                f"the body did not arrive within {limits.body_timeout_seconds:g} s: send fewer records at once",
            ) from None
        self._body_complete = True
        return b"".join(self._parts)

    async def _discard_body(self) -> bool:
        """Read the rest of the body and discard it; False where that would exceed the limit of size or time."""
        if self._body_complete:
            return True
        limits, headers = self.gateway.request_limits, self.request.headers
        max_discarded_bytes = _DISCARD_FACTOR * limits.max_body_bytes
        # A client that waits for "100 Continue" has not sent any of the body.
        waits = not self._body_requested and headers.get("expect", "").lower() == "100-continue"
        content_length = headers.get("content-length", "0")
        if self._body_timed_out or waits or not content_length.isdigit() or int(content_length) > max_discarded_bytes:
            return False
        size = 0
        try:
            async with asyncio.timeout(limits.body_timeout_seconds):
                async for part in self.request.stream():
                    size += len(part)
                    if size > max_discarded_bytes:
                        return False
        except (TimeoutError, ClientDisconnect):
            return False
        return True

    def _buffer(self, size: int) -> None:
        self.gateway.buffered_bytes += size
        self._buffered_bytes += size
        if self.gateway.buffered_bytes > self.gateway.request_limits.max_buffered_bytes:
            raise retry_later(503, "the gateway is receiving too many bytes at once: send the request again", 1)

    def _body_too_large(self) -> HttpProblem:
        max_bytes = self.gateway.request_limits.max_body_bytes
        return HttpProblem(
            413,
            "CaptureLimitExceededException",
            f"the body is larger than {max_bytes:,} bytes: send the records in several requests",
        )
