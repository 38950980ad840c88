"""A small client of the gateway. It signs requests and repeats them until the gateway has acknowledged them.

    client = CaptureClient("https://gateway.example:8443", "LGG/SRT-07/1", private_key)
    client.send_scans([{"event_id": "a1", "parcel_id": "LP1", "kind": "SORTED", ...}])

The client needs the standard library, `cryptography`, and two modules of this package that need nothing more:
`streams.errors` and `streams.capture.auth.signatures`.
"""

import base64
import http.client
import json
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from streams.capture.auth.signatures import MessageComponents, sign_request
from streams.errors import StreamsError

_RETRIABLE_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
_FIRST_RETRY_SECONDS: Final = 0.1
_MAX_RETRY_SECONDS: Final = 5.0
_JOB_POLL_SECONDS: Final = 0.1


class RequestRejectedError(StreamsError):
    """The gateway rejected the request, and would reject it again."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail', 'the answer gives no reason')}")
        self.status, self.problem = status, problem


class GatewayUnreachableError(StreamsError):
    """The gateway did not acknowledge the request in time. It may have stored it; a repeat does no harm."""


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """An answer of the gateway. `content` is parsed where the answer is JSON, else it is text."""

    status: int
    headers: Mapping[str, str]
    content: Any


class CaptureClient:
    """The client of one device or partner. It must not be shared by threads."""

    def __init__(
        self,
        address: str,
        name: str = "",
        private_key: str = "",
        *,
        token: str = "",
        delivery_timeout_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a client; it connects with the first request.

        Args:
            address: base URL of the gateway.
            name: name under which the device is registered.
            private_key: base64, as printed by `parcels devices add`. Without it, requests carry `token` instead of
                a signature.
            token: bearer token. Without a key and a token, requests carry no credentials.
            delivery_timeout_seconds: for one request with all its retries.
            timeout_seconds: for one attempt.
            ssl_context: for TLS. By default the client trusts the certificate authorities of the system.

        Raises:
            ValueError: `address` is not an http or https URL.
        """
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or url.hostname is None:
            raise ValueError(f"{address} is not the address of a gateway: write it like https://gateway.example:8443")
        self._secure, self._host, self._port = url.scheme == "https", url.hostname, url.port
        self._base_path = url.path.rstrip("/")
        self._name, self._token = name, token
        self._key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private_key)) if private_key else None
        self._delivery_timeout, self._timeout, self._ssl_context = (
            delivery_timeout_seconds,
            timeout_seconds,
            ssl_context,
        )
        self._connection: http.client.HTTPConnection | None = None

    def send_scans(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Send records; return the result of each.

        Raises:
            RequestRejectedError: the request as a whole is wrong.
            GatewayUnreachableError: the gateway did not answer within the delivery timeout.
        """
        body = b"\n".join(json.dumps(record, separators=(",", ":")).encode() for record in records)
        results: dict[str, Any] = self.post("/scans", body, "application/x-ndjson").content
        return results

    def send_document(self, document: Mapping[str, Any], error_behaviour: str = "rollback") -> dict[str, Any]:
        """Send an EPCIS document; return its capture job once the job has ended.

        Raises:
            RequestRejectedError: the document as a whole is wrong.
            GatewayUnreachableError: the gateway did not answer within the delivery timeout.
        """
        headers = {"gs1-capture-error-behaviour": error_behaviour}
        response = self.post("/capture", json.dumps(document).encode(), "application/ld+json", headers)
        while True:
            job: dict[str, Any] = self._send_with_retries("GET", response.headers["location"], b"", {}).content
            if not job["running"]:
                return job
            time.sleep(_JOB_POLL_SECONDS)

    def send_event(self, event: Mapping[str, Any]) -> str:
        """Send one EPCIS event with its @context; return the path of the stored event.

        Raises:
            RequestRejectedError: the event is wrong, or an event with its eventID exists.
            GatewayUnreachableError: the gateway did not answer within the delivery timeout.
        """
        return self.post("/events", json.dumps(event).encode(), "application/ld+json").headers["location"]

    def post(
        self, path: str, body: bytes, content_type: str, extra_headers: Mapping[str, str] | None = None
    ) -> GatewayResponse:
        """Send a body.

        Raises:
            RequestRejectedError: the request is wrong.
            GatewayUnreachableError: the gateway did not answer within the delivery timeout.
        """
        return self._send_with_retries("POST", path, body, {"content-type": content_type, **(extra_headers or {})})

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send_with_retries(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> GatewayResponse:
        deadline, backoff = time.monotonic() + self._delivery_timeout, _FIRST_RETRY_SECONDS
        while True:
            try:
                response = self._send_once(method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                wait, reason = backoff, repr(error)
            else:
                if response.status < 400:
                    return response
                if response.status not in _RETRIABLE_STATUSES:
                    raise RequestRejectedError(
                        response.status, response.content if isinstance(response.content, dict) else {}
                    )
                retry_after = response.headers.get("retry-after", "")
                wait = float(retry_after) if retry_after.isdigit() else backoff
                reason = str(response.content)
            if time.monotonic() + wait > deadline:
                raise GatewayUnreachableError(
                    f"{self._host} did not acknowledge {path} within {self._delivery_timeout:g} s: {reason}"
                )
            time.sleep(wait)
            backoff = min(backoff * 2, _MAX_RETRY_SECONDS)

    def _send_once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> GatewayResponse:
        if self._connection is None:
            self._connection = self._connect()
        target = self._base_path + path
        route, _, query = target.partition("?")
        request_headers = dict(headers)
        if self._key is not None:
            # Each attempt needs a new signature, because a nonce is valid once.
            components = MessageComponents(method, route, query, request_headers)
            request_headers |= sign_request(self._key, self._name, components, body)
        elif self._token:
            request_headers["authorization"] = f"Bearer {self._token}"
        try:
            self._connection.request(method, target, body or None, request_headers)
        except (BrokenPipeError, ConnectionResetError):
            # The gateway may have rejected the body, answered and closed the connection before the whole body was sent.
            if self._connection.sock is None:
                raise
        response = self._connection.getresponse()
        content = response.read()
        response_headers = {name.lower(): value for name, value in response.getheaders()}
        if "json" in response_headers.get("content-type", ""):
            return GatewayResponse(response.status, response_headers, json.loads(content))
        return GatewayResponse(response.status, response_headers, content.decode(errors="replace"))

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._ssl_context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
