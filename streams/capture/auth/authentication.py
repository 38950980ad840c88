"""Who is let in: signatures and tokens, the window for replays, the rate of each device."""

import ipaddress
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.capture.auth.devices import Device, DeviceRegistry
from streams.capture.auth.principal import Principal
from streams.capture.auth.signatures import (
    SIGNATURE_WINDOW_SECONDS,
    AuthenticationError,
    MessageComponents,
    NonceStore,
    SignatureClaim,
    check_content_digest,
    parse_signature_claim,
)
from streams.errors import Misconfigured

# One sentence for all three, so that nobody learns which names are enrolled.
_NOT_SIGNED: Final = "nobody who is enrolled signed this request"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Where a gateway that lets everybody in may listen.
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class _TokenBucket:
    level: float
    at: float


@dataclass(frozen=True, slots=True)
class HeaderAuthentication:
    """Who sends, as the head of the request proves it; `claim` is None where a token does."""

    device: Device
    signature_claim: SignatureClaim | None


class RateLimitExceededError(Exception):
    """This device is too fast; `seconds` until it may go on."""

    def __init__(self, device: str, seconds: float) -> None:
        super().__init__(f"too many records; go on in {seconds:.0f} s")
        self.device, self.seconds = device, seconds


class DeviceRateLimiter:
    """A token bucket for each device: its rate a second, twice as much at once."""

    def __init__(self) -> None:
        self._buckets: dict[str, _TokenBucket] = {}

    def take(self, name: str, rate: float, records: float, now: float | None = None) -> None:
        """Take `records` out of the bucket; it may go below zero, and then the next request waits.

        Raises:
            RateLimitedError: it is empty.
        """
        bucket = self._filled(name, rate, now)
        if bucket.level <= 0:
            raise RateLimitExceededError(name, max(1.0, (1.0 - bucket.level) / rate))
        bucket.level -= records

    def charge(self, name: str, rate: float, records: float, now: float | None = None) -> None:
        """Take `records` that came in already, whatever the bucket holds: many requests at once are not free."""
        self._filled(name, rate, now).level -= records

    def _filled(self, name: str, rate: float, now: float | None) -> _TokenBucket:
        now = time.monotonic() if now is None else now
        bucket = self._buckets.setdefault(name, _TokenBucket(2 * rate, now))
        bucket.level = min(2 * rate, bucket.level + (now - bucket.at) * rate)
        bucket.at = now
        return bucket


class Authenticator:
    """Decides who sends; `open_to_all` lets everybody in, for trying out on one's own machine."""

    def __init__(
        self,
        registry: DeviceRegistry | None,
        nonces_file: Path | None = None,
        *,
        window_seconds: int = SIGNATURE_WINDOW_SECONDS,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        """registry: None lets everybody in. trusted_proxies: where they are who end TLS for this gateway."""
        self.registry = registry
        self._window = window_seconds
        self._nonces = NonceStore(nonces_file, window_seconds) if registry is not None else None
        self._proxies = tuple(trusted_proxies)
        self.rates = DeviceRateLimiter()

    @property
    def open_to_all(self) -> bool:
        """Is everybody let in?"""
        return self.registry is None

    def is_secure(self, scheme: str, peer: str, headers: Mapping[str, str]) -> bool:
        """Could nobody on the way read this request?

        It came over TLS: to this gateway, or to a proxy that is trusted and says so.
        """
        if scheme == "https":
            return True
        if not self._proxies or headers.get("x-forwarded-proto", "").lower() != "https":
            return False
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in each for each in self._proxies)

    def authenticate_headers(
        self, request: MessageComponents, *, secure: bool, now: float | None = None
    ) -> HeaderAuthentication | None:
        """Before the content is read: whose request is this? A stranger's content is never held in memory.

        None where everybody is let in.

        Raises:
            Denied: nobody's who is enrolled.
            RateLimitedError: it sends too fast.
        """
        if self.registry is None:
            return None
        if "signature-input" in request.headers or "signature" in request.headers:
            length = request.headers.get("content-length", "0")
            has_body = "transfer-encoding" in request.headers or length.strip("0") != ""
            seen = self._claimed(request, has_body, time.time() if now is None else now)
        elif "authorization" in request.headers:
            seen = HeaderAuthentication(self._by_token(request, secure=secure), None)
        else:
            raise AuthenticationError("no_credentials", "sign the request (RFC 9421), or send a bearer token")
        self.rates.take(seen.device.name, seen.device.rate, 0)
        return seen

    def enter(
        self,
        seen: HeaderAuthentication | None,
        request: MessageComponents,
        body: bytes,
        *,
        secure: bool,
        now: float | None = None,
    ) -> Device | None:
        """The device that sent this request, of which the head was `seen`; None where everybody is let in.

        Raises:
            Denied: the content is another one, or the sender is no longer let in, or was it with this already.
            RateLimitedError: it sends too fast.
        """
        if self.registry is None:
            return None
        assert seen is not None
        if seen.signature_claim is not None:
            device = self._signed(seen.device, seen.signature_claim, request, body, time.time() if now is None else now)
        else:
            device = self._by_token(request, secure=secure)
        self.rates.take(device.name, device.rate, 0)
        return device

    def _signed(
        self, signer: Device, claim: SignatureClaim, request: MessageComponents, body: bytes, now: float
    ) -> Device:
        assert self._nonces is not None
        # The signature is known to be right by the key that the device had; the content may have taken its time.
        device = self._enrolled(claim.key_id)
        if device.public_key != signer.public_key:
            raise AuthenticationError("bad_signature", _NOT_SIGNED, device.name)
        self._check_window(claim, now)
        if body and "content-digest" not in claim.covered_components:
            raise AuthenticationError("component_not_signed", "the signature must cover content-digest", device.name)
        if "content-digest" in claim.covered_components:
            check_content_digest(request.headers.get("content-digest", ""), body)
        # Only now: whoever cannot sign cannot use up a nonce.
        if not self._nonces.use(claim.key_id, claim.nonce, claim.created, now):
            raise AuthenticationError("replayed", "this nonce was used before", device.name)
        return device

    def _claimed(self, request: MessageComponents, has_body: bool, now: float) -> HeaderAuthentication:
        """Who signed, which needs no more of the content than its digest says."""
        claim = parse_signature_claim(request, has_body)
        device = self._enrolled(claim.key_id)
        if not device.signed(claim.signature, claim.base):
            raise AuthenticationError("bad_signature", _NOT_SIGNED, device.name)
        self._check_window(claim, now)
        return HeaderAuthentication(device, claim)

    def _enrolled(self, name: str) -> Device:
        assert self.registry is not None
        device = self.registry.find(name)
        if device is None:
            raise AuthenticationError("unknown_device", _NOT_SIGNED)
        if device.revoked:
            raise AuthenticationError("revoked", _NOT_SIGNED, device.name)
        return device

    def _check_window(self, claim: SignatureClaim, now: float) -> None:
        if abs(now - claim.created) > self._window or (claim.expires is not None and now > claim.expires):
            raise AuthenticationError(
                "created_out_of_window", f"created must be within {self._window} s of now", claim.key_id
            )

    def _by_token(self, request: MessageComponents, *, secure: bool) -> Device:
        assert self.registry is not None
        scheme, _, token = request.headers["authorization"].partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError("no_credentials", "the scheme of Authorization must be Bearer")
        if not secure:
            raise AuthenticationError("insecure_transport", "a token is taken over TLS only; sign the request instead")
        device = self.registry.find_by_token(token.strip())
        if device is None:
            raise AuthenticationError("bad_token", "nobody has this token")
        return device


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks as somebody writes them.

    Raises:
        Misconfigured: one is none, or is everybody.
    """
    found = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise Misconfigured(f"--trusted-proxy {text}: {error}; write it like 10.0.0.5 or 10.0.0.0/28") from None
        if network.prefixlen == 0:
            raise Misconfigured(f"--trusted-proxy {text} is everybody: name the addresses of your proxies")
        found.append(network)
    return tuple(found)


def principal_of(device: Device | None) -> Principal:
    """How records see whoever sends them."""
    if device is None:
        return Principal("", _anywhere, may_send_ticks=True)
    return Principal(device.name, device.is_authorized_for, device.may_act_as)


def _anywhere(_: str, __: str) -> bool:
    return True
