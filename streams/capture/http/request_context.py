"""One request on its way: who asks, with what, within which limits."""

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from streams.capture.auth.authentication import RateLimitExceededError
from streams.capture.auth.devices import Device
from streams.capture.auth.signatures import AuthenticationError, field_value
from streams.capture.auth.signatures import MessageComponents as SignedRequest
from streams.capture.http.gateway import Gateway
from streams.capture.http.problems import HttpProblem, retry_later
from streams.capture.intake.intake_result import IntakeResult
from streams.telemetry.gateway_events import RequestDenied

# Of content that is refused, so many times what a request may have is read, within the time that content may take.
_SKIPPED_TIMES: Final = 8


class RequestContext:
    """One request on its way: who asks, with what."""

    def __init__(self, gateway: Gateway, request: Request, route: str) -> None:
        self.gateway, self.request, self.route = gateway, request, route
        self.taken = IntakeResult()
        self.device: Device | None = None
        self.body = b""
        self._charged = False
        self._held = 0
        self._parts: list[bytes] = []
        # Was content asked for, is all of it here, was it too slow?
        self._asked = self._ended = self._late = False

    @property
    def sender(self) -> str:
        """Who sends; empty where everybody is let in."""
        return self.device.name if self.device is not None else ""

    async def enter(self) -> None:
        """Read the body and find out who sends it.

        Raises:
            Refusal: too large, too slow, in a form that is not taken, or from somebody who may not.
        """
        refused = self.gateway.spool.unavailable_reason() if self.request.method == "POST" else None
        if refused is not None and not self.gateway.without_spool:
            raise retry_later(503, str(refused), 10)
        headers = self._headers()
        url = self.request.scope
        path = url.get("raw_path", b"").partition(b"?")[0].decode("latin-1") or url["path"]
        signed = SignedRequest(self.request.method, path, url["query_string"].decode("latin-1"), headers)
        peer = url.get("client") or ("",)
        secure = self.gateway.doors.is_secure(url["scheme"], str(peer[0]), headers)
        try:
            seen = self.gateway.doors.authenticate_headers(signed, secure=secure)
            self.body = await self._read(headers)
            self.device = self.gateway.doors.enter(seen, signed, self.body, secure=secure)
        except AuthenticationError as denied:
            self.gateway.watch(RequestDenied(denied.reason, denied.device))
            scheme = {"WWW-Authenticate": 'Bearer realm="parcels"'}
            raise HttpProblem(401, "SecurityException", str(denied), headers=scheme) from None
        except OSError as error:
            # The nonce cannot be written down, so a restarted gateway would take the request twice.
            raise retry_later(503, f"the nonces cannot be written: {error.strerror or error}", 5) from None
        except RateLimitExceededError as error:
            self.gateway.watch(RequestDenied("rate_limited", error.device))
            raise retry_later(429, str(error), error.seconds, "TooManyRequestsException") from None

    def charge(self, records: int) -> None:
        """Count records against the device's rate."""
        if self.device is not None and records:
            self._charged = True
            self.gateway.doors.rates.charge(self.device.name, self.device.rate, records)

    async def reject(self, refusal: HttpProblem) -> Response:
        """The answer that says why, once nothing of the content stands in its way.

        Most clients look for an answer when they have sent everything, and where a connection is closed with bytes
        unread, its other end loses the answer. Where too much is left, the answer may be lost, and the connection ends.
        """
        self.release()
        if not await self._skipped():
            refusal.headers["Connection"] = "close"
        return refusal.response()

    def release(self) -> None:
        """The body is not needed any more."""
        self.body, self._parts = b"", []
        self.gateway.held -= self._held
        self._held = 0

    def charge_rejected_request(self) -> None:
        """Whoever sends what is refused before it is counted sends something all the same."""
        if self.request.method == "POST" and not self._charged:
            self.charge(1)

    def count(self, taken: IntakeResult) -> None:
        """Remember what became of the records, for the metrics."""
        self.taken = taken
        for _ in range(taken.out_of_scope):
            self.gateway.watch(RequestDenied("out_of_scope", self.sender))

    def media_type(self, *accepted_types: str) -> str:
        """The kind of content, one of `wanted`.

        Raises:
            Refusal: it is another one.
        """
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in accepted_types:
            raise HttpProblem(
                415, "UnsupportedMediaTypeException", f"Content-Type must be {' or '.join(accepted_types)}"
            )
        return kind

    def _headers(self) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for name, value in self.request.scope["headers"]:
            found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        return {name: field_value(values) for name, values in found.items()}

    async def _read(self, headers: dict[str, str]) -> bytes:
        bounds = self.gateway.bounds
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HttpProblem(
                415, "UnsupportedMediaTypeException", "content is taken as it is: leave Content-Encoding out"
            )
        said = headers.get("content-length", "0")
        if said.isdigit() and int(said) > bounds.max_body_bytes:
            raise self._too_large()
        size, self._asked = 0, True
        try:
            async with asyncio.timeout(bounds.body_timeout_seconds):
                async for part in self.request.stream():
                    size += len(part)
                    if size > bounds.max_body_bytes:
                        raise self._too_large()
                    self._hold(len(part))
                    self._parts.append(part)
        except TimeoutError:
            # It had its time.
            self._late = True
            raise HttpProblem(408, "ImplementationException", "the content did not come in time") from None
        self._ended = True
        return b"".join(self._parts)

    async def _skipped(self) -> bool:
        """Read what is left of the content and keep nothing of it; False where that would be too much or too long."""
        if self._ended:
            return True
        bounds, headers = self.gateway.bounds, self.request.headers
        most = _SKIPPED_TIMES * bounds.max_body_bytes
        waits = not self._asked and headers.get("expect", "").lower() == "100-continue"
        said = headers.get("content-length", "0")
        # Whoever waits to be told to go on has nothing on the way.
        if self._late or waits or not said.isdigit() or int(said) > most:
            return False
        size = 0
        try:
            async with asyncio.timeout(bounds.body_timeout_seconds):
                async for part in self.request.stream():
                    size += len(part)
                    if size > most:
                        return False
        except (TimeoutError, ClientDisconnect):
            return False
        return True

    def _hold(self, size: int) -> None:
        self.gateway.held += size
        self._held += size
        if self.gateway.held > self.gateway.bounds.max_buffered_bytes:
            raise retry_later(503, "too much is being sent at once", 1)

    def _too_large(self) -> HttpProblem:
        most = self.gateway.bounds.max_body_bytes
        return HttpProblem(413, "CaptureLimitExceededException", f"at most {most:,} bytes a request")
