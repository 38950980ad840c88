"""HTTP message signatures (RFC 9421) with Ed25519 and content digests (RFC 9530): creation and checking.

A signature covers at least the method, the path, the query if there is one, and the digest of the content if there is
any. It holds its time of creation and a nonce. Only the strict subset of the RFC that clients need is accepted: one
signature, plain components, nothing optional.
"""

import base64
import binascii
import errno
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_WINDOW_SECONDS: Final = 300
_LABEL: Final = r"[a-z*][a-z0-9_.*-]{0,30}"
_INPUT: Final = re.compile(
    rf'({_LABEL})=(\(((?:"[@a-z0-9-]{{1,60}}"(?: (?=")|(?=\))))*)\)'
    r'((?:;[a-z]{2,10}=(?:"[ !#-\[\]-~]{0,200}"|\d{1,15}))*))'
)
_PARAMETER: Final = re.compile(r';([a-z]{2,10})=(?:"([ !#-\[\]-~]*)"|(\d+))')
_SIGNATURE: Final = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]{{1,200}}={{0,2}}):")
_DIGEST: Final = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]{1,100}={0,2}):")
# A header that continues on the next line (obsolete line folding).
_FOLD: Final = re.compile(r"[ \t]*\r?\n[ \t]+")
_NOT_BASE64: Final = "the signature in the header Signature is not valid base64"
_HASHES: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class AuthenticationError(Exception):
    """The request is not authenticated; `reason` is one of `telemetry.gateway_events.DENIAL_REASONS`."""

    def __init__(self, reason: str, message: str, device: str = "") -> None:
        super().__init__(message)
        self.reason, self.device = reason, device


@dataclass(frozen=True, slots=True)
class MessageComponents:
    """The parts of a request that a signature can cover. Names of headers are in lower case, repeated ones joined."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignatureClaim:
    """The parameters of a signature, before it is verified."""

    key_id: str
    created: int
    expires: int | None
    nonce: str
    signature: bytes
    # The signed bytes.
    signature_base: bytes
    covered_components: frozenset[str]


def content_digest(body: bytes) -> str:
    """The value of the header Content-Digest for a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def sign_request(
    key: Ed25519PrivateKey, key_id: str, request: MessageComponents, body: bytes, created: int | None = None
) -> dict[str, str]:
    """The headers that have to be added to `request` to sign it."""
    headers = {"content-digest": content_digest(body)} if body else {}
    covered = ["@method", "@path"]
    covered += ["@query"] if request.query else []
    covered += ["content-digest"] if body else []
    covered += [name for name in ("content-type", "gs1-capture-error-behaviour") if name in request.headers]
    component_list = " ".join(f'"{name}"' for name in covered)
    created = int(time.time()) if created is None else created
    params = f'({component_list});created={created};nonce="{secrets.token_urlsafe(16)}";keyid="{key_id}";alg="ed25519"'
    with_digest = MessageComponents(request.method, request.path, request.query, {**request.headers, **headers})
    signature = key.sign(signature_base(with_digest, covered, params))
    return {
        **headers,
        "signature-input": f"sig1={params}",
        "signature": f"sig1=:{base64.b64encode(signature).decode()}:",
    }


def field_value(values: Iterable[str]) -> str:
    """Join the values of a header as a signature covers them (RFC 9421, 2.1); white space within values is kept."""
    return ", ".join(_FOLD.sub(" ", value.strip(" \t\r\n")) for value in values)


def parse_signature_claim(request: MessageComponents, has_body: bool) -> SignatureClaim:
    """Parse the signature of a request, without verifying it.

    Raises:
        AuthenticationError: there is no signature, or it does not cover all required components.
    """
    signature_input = _INPUT.fullmatch(request.headers.get("signature-input", ""))
    signature_header = _SIGNATURE.fullmatch(request.headers.get("signature", ""))
    if signature_input is None or signature_header is None or signature_input[1] != signature_header[1]:
        raise AuthenticationError(
            "bad_signature",
            "the headers Signature-Input and Signature must hold one signature of RFC 9421 under the same label",
        )
    params, covered = signature_input[2], re.findall(r'"([^"]+)"', signature_input[3])
    pairs = [(name, quoted or number) for name, quoted, number in _PARAMETER.findall(signature_input[4])]
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or len(set(covered)) != len(covered):
        raise AuthenticationError("bad_signature", "Signature-Input has a component or a parameter twice")
    device = parameters.get("keyid", "")
    missing = {"created", "nonce", "keyid"} - parameters.keys()
    if missing or not parameters["created"].isdigit() or not 8 <= len(parameters["nonce"]) <= 128:
        raise AuthenticationError(
            "bad_signature",
            "Signature-Input must have the parameters created, nonce (8 to 128 characters) and keyid",
            device,
        )
    if parameters.get("alg", "ed25519") != "ed25519":
        raise AuthenticationError("bad_signature", "the parameter alg of Signature-Input must be ed25519", device)
    needed = {"@method", "@path"} | ({"@query"} if request.query else set())
    needed |= {"content-digest"} if has_body else set()
    # This header changes the processing of the content, so a proxy must not be able to add it.
    needed |= {"gs1-capture-error-behaviour"} & request.headers.keys()
    if not needed <= set(covered):
        raise AuthenticationError(
            "component_not_signed", f"the signature must cover {', '.join(sorted(needed))}", device
        )
    try:
        signature = base64.b64decode(signature_header[2], validate=True)
    except binascii.Error:
        raise AuthenticationError("bad_signature", _NOT_BASE64, device) from None
    if base64.b64encode(signature).decode() != signature_header[2]:
        # The last character has unused bits. Only the canonical form is accepted.
        raise AuthenticationError("bad_signature", _NOT_BASE64, device)
    expires = parameters.get("expires", "")
    return SignatureClaim(
        device,
        int(parameters["created"]),
        int(expires) if expires.isdigit() else None,
        parameters["nonce"],
        signature,
        signature_base(request, covered, params),
        frozenset(covered),
    )


def check_content_digest(header: str, body: bytes) -> None:
    """Compare the header Content-Digest with the body.

    Raises:
        AuthenticationError: it is not the digest of the body.
    """
    match = _DIGEST.fullmatch(header)
    if match is None:
        raise AuthenticationError("bad_digest", "Content-Digest must be one sha-256 or sha-512 digest (RFC 9530)")
    try:
        digest = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise AuthenticationError("bad_digest", "Content-Digest is not valid base64") from None
    if digest != _HASHES[match[1]](body).digest():
        raise AuthenticationError("bad_digest", "the body does not match Content-Digest: it was changed after signing")


def signature_base(request: MessageComponents, covered_components: list[str], params: str) -> bytes:
    """The signature base (RFC 9421, 2.5).

    Raises:
        AuthenticationError: the request lacks a covered component.
    """
    derived = {
        "@method": request.method,
        "@path": request.path or "/",
        "@query": "?" + request.query,
        "@authority": request.headers.get("host", "").lower(),
    }
    lines = []
    for name in covered_components:
        header = request.headers.get(name)
        value = derived.get(name) if name.startswith("@") else None if header is None else field_value([header])
        if value is None:
            raise AuthenticationError(
                "component_not_signed", f"the signature covers {name}, which the request does not have"
            )
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {params}')
    return "\n".join(lines).encode("utf-8", "surrogateescape")


class NonceStore:
    """The used nonces, each kept while its signature could be replayed. They survive a restart of the process."""

    def __init__(self, path: Path | None, window_seconds: int = SIGNATURE_WINDOW_SECONDS) -> None:
        """path: file of the nonces, which a restarted gateway reads again; None keeps them in memory only."""
        self._window, self._path = window_seconds, path
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._compacted_at = 0.0
        now = time.time()
        if path is not None and path.exists():
            for line in path.read_text(errors="replace").splitlines():
                until, _, name = line.partition(" ")
                if re.fullmatch(r"\d{1,12}", until) and int(until) > now:
                    self._until[name] = int(until)
        self._rewrite()

    def use(self, key_id: str, nonce: str, created: int, now: float | None = None) -> bool:
        """Mark a nonce as used; False if it was used before. Call it only for a verified signature."""
        now = time.time() if now is None else now
        name = hashlib.blake2b(f"{key_id}\0{nonce}".encode(), digest_size=16).hexdigest()
        until = int(max(created, now) + self._window + 1)
        with self._lock:
            # The difference is absolute because the system clock may have been set back.
            if abs(now - self._compacted_at) > self._window / 4:
                self._until = {name: until for name, until in self._until.items() if until > now}
                self._rewrite()
                self._compacted_at = now
            if name in self._until:
                return False
            if self._stream is not None:
                line = f"{until} {name}\n".encode()
                if self._stream.write(line) != len(line):
                    # A part of the line is in the file. The file is rewritten before the next line.
                    self._compacted_at = 0.0
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._until[name] = until
        return True

    def _rewrite(self) -> None:
        if self._path is None:
            self._stream = None
            return
        temporary = self._path.with_suffix(".new")
        # Unbuffered: the next process sees every written nonce, however this one ends.
        stream = temporary.open("wb", buffering=0)
        content = "".join(f"{int(until)} {name}\n" for name, until in self._until.items()).encode()
        if stream.write(content) != len(content):
            # The existing file holds more nonces than the new one.
            stream.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        temporary.replace(self._path)
        self._stream = stream
