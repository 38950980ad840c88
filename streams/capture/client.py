"""A small client of the gateway: signs, sends in batches, and tries again until the gateway says that it has them.

    client = Client("https://gateway.example:8443", "LGG/SRT-07/1", private_key)
    client.scans([{"event_id": "a1", "parcel_id": "LP1", "kind": "SORTED", ...}])

Only the standard library and `cryptography`; a scanner's program can take this file as it is.
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

_LATER: Final = frozenset({408, 429, 502, 503, 504})


class RequestRejectedError(StreamsError):
    """The gateway does not take it, and will not take it later either."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail', 'no reason given')}")
        self.status, self.problem = status, problem


class GatewayUnreachableError(StreamsError):
    """The gateway did not take it in time; it may have it all the same, and sending it again does no harm."""


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """What the gateway said."""

    status: int
    headers: Mapping[str, str]
    content: Any


class CaptureClient:
    """One device or partner; not for several threads at once."""

    def __init__(
        self,
        address: str,
        name: str = "",
        private_key: str = "",
        *,
        token: str = "",
        delivery_timeout_seconds: float = 60.0,
        timeout_seconds: float = 30.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """private_key: base64, as `parcels devices add` printed it; without it and a token nothing is signed.

        context: for TLS; by default the authorities of the system.
        """
        split = urlsplit(address)
        if split.scheme not in ("http", "https") or split.hostname is None:
            raise ValueError(f"{address} is no address of a gateway, like https://gateway.example:8443")
        self._secure, self._host, self._port = split.scheme == "https", split.hostname, split.port
        self._base = split.path.rstrip("/")
        self._name, self._token = name, token
        self._key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private_key)) if private_key else None
        self._patience, self._timeout, self._context = delivery_timeout_seconds, timeout_seconds, context
        self._connection: http.client.HTTPConnection | None = None

    def scans(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Send records; what became of each.

        Raises:
            Refused: the request as a whole is wrong.
            Unreachable: no answer within the patience.
        """
        body = b"\n".join(json.dumps(each, separators=(",", ":")).encode() for each in records)
        found: dict[str, Any] = self.post("/scans", body, "application/x-ndjson").content
        return found

    def capture(self, document: Mapping[str, Any], error_behaviour: str = "rollback") -> dict[str, Any]:
        """Send an EPCIS document; its capture job once that has ended.

        Raises:
            Refused: the document as a whole is wrong.
            Unreachable: no answer within the patience.
        """
        more = {"gs1-capture-error-behaviour": error_behaviour}
        answer = self.post("/capture", json.dumps(document).encode(), "application/ld+json", more)
        while True:
            job: dict[str, Any] = self._patiently("GET", answer.headers["location"], b"", {}).content
            if not job["running"]:
                return job
            time.sleep(0.1)

    def event(self, event: Mapping[str, Any]) -> str:
        """Send one EPCIS event with its @context; where it is.

        Raises:
            Refused: it is wrong, or is there already.
            Unreachable: no answer within the patience.
        """
        return self.post("/events", json.dumps(event).encode(), "application/ld+json").headers["location"]

    def post(
        self, path: str, body: bytes, kind: str, extra_headers: Mapping[str, str] | None = None
    ) -> GatewayResponse:
        """Send a body.

        Raises:
            Refused: it is wrong.
            Unreachable: no answer within the patience.
        """
        return self._patiently("POST", path, body, {"content-type": kind, **(extra_headers or {})})

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _patiently(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> GatewayResponse:
        deadline, pause = time.monotonic() + self._patience, 0.1
        while True:
            try:
                answer = self._once(method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                wait, reason = pause, repr(error)
            else:
                if answer.status < 400:
                    return answer
                if answer.status not in _LATER:
                    raise RequestRejectedError(
                        answer.status, answer.content if isinstance(answer.content, dict) else {}
                    )
                said = answer.headers.get("retry-after", "")
                wait, reason = float(said) if said.isdigit() else pause, str(answer.content)
            if time.monotonic() + wait > deadline:
                raise GatewayUnreachableError(f"{self._host} did not take {path} within {self._patience:g} s: {reason}")
            time.sleep(wait)
            pause = min(pause * 2, 5.0)

    def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> GatewayResponse:
        if self._connection is None:
            self._connection = self._connect()
        target = self._base + path
        route, _, query = target.partition("?")
        sent = dict(headers)
        if self._key is not None:
            # A new signature for every try: a nonce is good for one.
            sent |= sign_request(self._key, self._name, MessageComponents(method, route, query, sent), body)
        elif self._token:
            sent["authorization"] = f"Bearer {self._token}"
        try:
            self._connection.request(method, target, body or None, sent)
        except (BrokenPipeError, ConnectionResetError):
            # It may have answered, and gone before all of a body was there that it does not take.
            if self._connection.sock is None:
                raise
        response = self._connection.getresponse()
        content = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        if "json" in found.get("content-type", ""):
            return GatewayResponse(response.status, found, json.loads(content))
        return GatewayResponse(response.status, found, content.decode(errors="replace"))

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
