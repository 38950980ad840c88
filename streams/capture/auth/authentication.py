"""Authentication of requests: signatures and tokens, the replay window, and the rate limit of each device."""

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

# The same message for an unknown device, a revoked device and a wrong signature, so that it reveals no device names.
_INVALID_SIGNATURE: Final = (
    "the request is not signed with the current key of a registered device: check keyid, the private key, and that the "
    "device is not revoked"
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# A gateway that admits everybody may listen on these only.
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class _TokenBucket:
    tokens: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class HeaderAuthentication:
    """The device that the head of a request proves. `signature_claim` is None for a bearer token."""

    device: Device
    signature_claim: SignatureClaim | None


class RateLimitExceededError(Exception):
    """A device exceeded its rate; it may send again after `retry_after_seconds`."""

    def __init__(self, device: str, retry_after_seconds: float) -> None:
        super().__init__(f"{device} exceeded its rate of records; send again in {retry_after_seconds:.0f} s")
        self.device, self.retry_after_seconds = device, retry_after_seconds


class DeviceRateLimiter:
    """A token bucket for each device. It refills at the device's rate per second and holds two seconds' worth."""

    def __init__(self) -> None:
        self._buckets: dict[str, _TokenBucket] = {}

    def acquire(self, name: str, rate: float, records: float, now: float | None = None) -> None:
        """Take `records` tokens. The bucket may go below zero; the next request then has to wait.

        Raises:
            RateLimitExceededError: the bucket is empty.
        """
        bucket = self._refilled(name, rate, now)
        if bucket.tokens <= 0:
            raise RateLimitExceededError(name, max(1.0, (1.0 - bucket.tokens) / rate))
        bucket.tokens -= records

    def charge(self, name: str, rate: float, records: float, now: float | None = None) -> None:
        """Take tokens for records that have arrived, whatever the bucket holds, so that parallel requests count."""
        self._refilled(name, rate, now).tokens -= records

    def _refilled(self, name: str, rate: float, now: float | None) -> _TokenBucket:
        now = time.monotonic() if now is None else now
        bucket = self._buckets.setdefault(name, _TokenBucket(2 * rate, now))
        bucket.tokens = min(2 * rate, bucket.tokens + (now - bucket.updated_at) * rate)
        bucket.updated_at = now
        return bucket


class Authenticator:
    """Finds the device that sent a request. Without a registry it admits everybody, for trials on one machine."""

    def __init__(
        self,
        registry: DeviceRegistry | None,
        nonces_file: Path | None = None,
        *,
        window_seconds: int = SIGNATURE_WINDOW_SECONDS,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        """Create an authenticator.

        Args:
            registry: the registered devices; None admits everybody.
            nonces_file: file of used nonces; None keeps them in memory only.
            window_seconds: how far the `created` of a signature may be from now.
            trusted_proxies: addresses of proxies that terminate TLS for this gateway.
        """
        self.registry = registry
        self._window = window_seconds
        self._nonces = NonceStore(nonces_file, window_seconds) if registry is not None else None
        self._proxies = tuple(trusted_proxies)
        self.rate_limiter = DeviceRateLimiter()

    @property
    def allows_anonymous(self) -> bool:
        """Does the gateway admit everybody?"""
        return self.registry is None

    def is_secure(self, scheme: str, peer: str, headers: Mapping[str, str]) -> bool:
        """Was the request encrypted on its way?

        It was, if it came over TLS to this gateway, or from a trusted proxy that reports TLS.
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
        return any(address in network for network in self._proxies)

    def authenticate_headers(
        self, request: MessageComponents, *, secure: bool, now: float | None = None
    ) -> HeaderAuthentication | None:
        """Authenticate a request by its head, so that the body of an unknown sender is never held in memory.

        Returns:
            None where the gateway admits everybody.

        Raises:
            AuthenticationError: no registered device sent this request.
            RateLimitExceededError: the device exceeded its rate.
        """
        if self.registry is None:
            return None
        if "signature-input" in request.headers or "signature" in request.headers:
            length = request.headers.get("content-length", "0")
            has_body = "transfer-encoding" in request.headers or length.strip("0") != ""
            header_auth = self._verify_claim(request, has_body, time.time() if now is None else now)
        elif "authorization" in request.headers:
            header_auth = HeaderAuthentication(self._find_by_token(request, secure=secure), None)
        else:
            raise AuthenticationError(
                "no_credentials", "the request has no credentials: sign it (RFC 9421) or send a bearer token"
            )
        self.rate_limiter.acquire(header_auth.device.name, header_auth.device.rate, 0)
        return header_auth

    def authenticate_body(
        self,
        header_auth: HeaderAuthentication | None,
        request: MessageComponents,
        body: bytes,
        *,
        secure: bool,
        now: float | None = None,
    ) -> Device | None:
        """Authenticate a request once its body has arrived; `header_auth` is the result for its head.

        Returns:
            The device that sent the request; None where the gateway admits everybody.

        Raises:
            AuthenticationError: the body is not the signed one, the device was revoked meanwhile, or the request is
                a replay.
            RateLimitExceededError: the device exceeded its rate.
        """
        if self.registry is None:
            return None
        assert header_auth is not None
        if header_auth.signature_claim is not None:
            device = self._verify_body(
                header_auth.device,
                header_auth.signature_claim,
                request,
                body,
                time.time() if now is None else now,
            )
        else:
            device = self._find_by_token(request, secure=secure)
        self.rate_limiter.acquire(device.name, device.rate, 0)
        return device

    def _verify_body(
        self, signer: Device, claim: SignatureClaim, request: MessageComponents, body: bytes, now: float
    ) -> Device:
        assert self._nonces is not None
        # The signature is verified already. The registry is read again because the body may have taken a long time.
        device = self._find_active(claim.key_id)
        if device.public_key != signer.public_key:
            raise AuthenticationError("bad_signature", _INVALID_SIGNATURE, device.name)
        self._check_window(claim, now)
        if body and "content-digest" not in claim.covered_components:
            raise AuthenticationError("component_not_signed", "the signature must cover content-digest", device.name)
        if "content-digest" in claim.covered_components:
            check_content_digest(request.headers.get("content-digest", ""), body)
        # The nonce comes last, so that a request that fails a check does not use one up.
        if not self._nonces.use(claim.key_id, claim.nonce, claim.created, now):
            raise AuthenticationError(
                "replayed", "the nonce was used before: sign each request, and each retry, with a new one", device.name
            )
        return device

    def _verify_claim(self, request: MessageComponents, has_body: bool, now: float) -> HeaderAuthentication:
        """Verify the signature. This does not need the body, because the signature covers its digest."""
        claim = parse_signature_claim(request, has_body)
        device = self._find_active(claim.key_id)
        if not device.verify_signature(claim.signature, claim.signature_base):
            raise AuthenticationError("bad_signature", _INVALID_SIGNATURE, device.name)
        self._check_window(claim, now)
        return HeaderAuthentication(device, claim)

    def _find_active(self, name: str) -> Device:
        assert self.registry is not None
        device = self.registry.find(name)
        if device is None:
            raise AuthenticationError("unknown_device", _INVALID_SIGNATURE)
        if device.revoked:
            raise AuthenticationError("revoked", _INVALID_SIGNATURE, device.name)
        return device

    def _check_window(self, claim: SignatureClaim, now: float) -> None:
        if abs(now - claim.created) > self._window or (claim.expires is not None and now > claim.expires):
            raise AuthenticationError(
                "created_out_of_window",
                f"the signature must be created within {self._window} s of the gateway's time, and not have expired",
                claim.key_id,
            )

    def _find_by_token(self, request: MessageComponents, *, secure: bool) -> Device:
        assert self.registry is not None
        scheme, _, token = request.headers["authorization"].partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError("no_credentials", "the scheme of Authorization must be Bearer")
        if not secure:
            raise AuthenticationError(
                "insecure_transport", "bearer tokens are accepted over TLS only: use https, or sign the request instead"
            )
        device = self.registry.find_by_token(token.strip())
        if device is None:
            raise AuthenticationError("bad_token", "the bearer token is not valid")
        return device


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse the values of --trusted-proxy: addresses and networks.

    Raises:
        Misconfigured: a value is not a network, or is the network of all addresses.
    """
    networks = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise Misconfigured(f"--trusted-proxy {text}: {error}; write it like 10.0.0.5 or 10.0.0.0/28") from None
        if network.prefixlen == 0:
            raise Misconfigured(f"--trusted-proxy {text} trusts every address: give the addresses of your proxies")
        networks.append(network)
    return tuple(networks)


def principal_of(device: Device | None) -> Principal:
    """The principal of a device; without a device, one that may send everything."""
    if device is None:
        return Principal("", _any_location, may_send_ticks=True)
    return Principal(device.name, device.is_authorized_for, device.may_act_as)


def _any_location(_: str, __: str) -> bool:
    return True
