"""HTTP message signatures (RFC 9421) with Ed25519, and content digests (RFC 9530): made by clients, checked here.

A signature covers at least the method, the path, the query where there is one, and the digest of the content where
there is any, and says when it was made and a nonce. The strictest reading of the RFC that clients need: one
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
# A header that goes on in the next line, as HTTP once allowed it.
_FOLD: Final = re.compile(r"[ \t]*\r?\n[ \t]+")
_HASHES: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class AuthenticationError(Exception):
    """The request is not let in; `reason` is a word of `DENIALS`."""

    def __init__(self, reason: str, message: str, device: str = "") -> None:
        super().__init__(message)
        self.reason, self.device = reason, device


@dataclass(frozen=True, slots=True)
class MessageComponents:
    """What of a request a signature can cover. Header names are in lower case; of a repeated header, all values."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignatureClaim:
    """What a signature says of itself, before anybody believed it."""

    key_id: str
    created: int
    expires: int | None
    nonce: str
    signature: bytes
    # The bytes that were signed.
    base: bytes
    covered_components: frozenset[str]


def content_digest(body: bytes) -> str:
    """The header Content-Digest of a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def sign_request(
    key: Ed25519PrivateKey, key_id: str, request: MessageComponents, body: bytes, created: int | None = None
) -> dict[str, str]:
    """The headers that make `request` a signed one."""
    headers = {"content-digest": content_digest(body)} if body else {}
    covered = ["@method", "@path"]
    covered += ["@query"] if request.query else []
    covered += ["content-digest"] if body else []
    covered += [name for name in ("content-type", "gs1-capture-error-behaviour") if name in request.headers]
    listed = " ".join(f'"{name}"' for name in covered)
    moment = int(time.time()) if created is None else created
    params = f'({listed});created={moment};nonce="{secrets.token_urlsafe(16)}";keyid="{key_id}";alg="ed25519"'
    whole = MessageComponents(request.method, request.path, request.query, {**request.headers, **headers})
    signature = key.sign(signature_base(whole, covered, params))
    return {
        **headers,
        "signature-input": f"sig1={params}",
        "signature": f"sig1=:{base64.b64encode(signature).decode()}:",
    }


def field_value(values: Iterable[str]) -> str:
    """All values of a header as a signature covers them (RFC 9421, 2.1): white space within them counts."""
    return ", ".join(_FOLD.sub(" ", value.strip(" \t\r\n")) for value in values)


def parse_signature_claim(request: MessageComponents, has_body: bool) -> SignatureClaim:
    """The signature of a request, in its strict form.

    Raises:
        Denied: there is none, or it does not cover what it must.
    """
    said = _INPUT.fullmatch(request.headers.get("signature-input", ""))
    given = _SIGNATURE.fullmatch(request.headers.get("signature", ""))
    if said is None or given is None or said[1] != given[1]:
        raise AuthenticationError(
            "bad_signature", "the headers Signature-Input and Signature are not one signature of RFC 9421"
        )
    params, covered = said[2], re.findall(r'"([^"]+)"', said[3])
    pairs = [(name, quoted or number) for name, quoted, number in _PARAMETER.findall(said[4])]
    known = dict(pairs)
    if len(known) != len(pairs) or len(set(covered)) != len(covered):
        raise AuthenticationError("bad_signature", "the signature names something twice")
    device = known.get("keyid", "")
    missing = {"created", "nonce", "keyid"} - known.keys()
    if missing or not known["created"].isdigit() or not 8 <= len(known["nonce"]) <= 128:
        raise AuthenticationError(
            "bad_signature", "the signature needs created, a nonce of 8 to 128 characters, and keyid", device
        )
    if known.get("alg", "ed25519") != "ed25519":
        raise AuthenticationError("bad_signature", "the algorithm must be ed25519", device)
    needed = {"@method", "@path"} | ({"@query"} if request.query else set())
    needed |= {"content-digest"} if has_body else set()
    # It changes what is done with the content, so nobody on the way may add it.
    needed |= {"gs1-capture-error-behaviour"} & request.headers.keys()
    if not needed <= set(covered):
        raise AuthenticationError(
            "component_not_signed", f"the signature must cover {', '.join(sorted(needed))}", device
        )
    try:
        signature = base64.b64decode(given[2], validate=True)
    except binascii.Error:
        raise AuthenticationError("bad_signature", "the signature is no base64", device) from None
    if base64.b64encode(signature).decode() != given[2]:
        # The last character holds bits that do not count; only one way to write them is taken.
        raise AuthenticationError("bad_signature", "the signature is no base64", device)
    expires = known.get("expires", "")
    return SignatureClaim(
        device,
        int(known["created"]),
        int(expires) if expires.isdigit() else None,
        known["nonce"],
        signature,
        signature_base(request, covered, params),
        frozenset(covered),
    )


def check_content_digest(header: str, body: bytes) -> None:
    """Is this the digest of the body?

    Raises:
        Denied: it is not.
    """
    found = _DIGEST.fullmatch(header)
    if found is None:
        raise AuthenticationError("bad_digest", "Content-Digest must be one sha-256 or sha-512 of RFC 9530")
    try:
        said = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise AuthenticationError("bad_digest", "Content-Digest is no base64") from None
    if said != _HASHES[found[1]](body).digest():
        raise AuthenticationError("bad_digest", "the content is not the one that was signed")


def signature_base(request: MessageComponents, covered_components: list[str], params: str) -> bytes:
    """The signature base (RFC 9421, 2.5).

    Raises:
        Denied: the request does not have what is covered.
    """
    derived = {
        "@method": request.method,
        "@path": request.path or "/",
        "@query": "?" + request.query,
        "@authority": request.headers.get("host", "").lower(),
    }
    lines = []
    for name in covered_components:
        said = request.headers.get(name)
        value = derived.get(name) if name.startswith("@") else None if said is None else field_value([said])
        if value is None:
            raise AuthenticationError(
                "component_not_signed", f"the signature covers {name}, which this request does not have"
            )
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {params}')
    return "\n".join(lines).encode("utf-8", "surrogateescape")


class NonceStore:
    """Nonces that were used, for as long as their signatures could be used again; they outlive the process."""

    def __init__(self, path: Path | None, window_seconds: int = SIGNATURE_WINDOW_SECONDS) -> None:
        """path: where they are written down, so that a restarted gateway knows them; None: nowhere."""
        self._window, self._path = window_seconds, path
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._swept_at = 0.0
        now = time.time()
        if path is not None and path.exists():
            for line in path.read_text(errors="replace").splitlines():
                until, _, name = line.partition(" ")
                if re.fullmatch(r"\d{1,12}", until) and int(until) > now:
                    self._until[name] = int(until)
        self._rewrite()

    def use(self, key_id: str, nonce: str, created: int, now: float | None = None) -> bool:
        """Take a nonce; False when it was used before. Call it only for a signature that is right."""
        now = time.time() if now is None else now
        name = hashlib.blake2b(f"{key_id}\0{nonce}".encode(), digest_size=16).hexdigest()
        until = int(max(created, now) + self._window + 1)
        with self._lock:
            # After it, or before it where somebody has set the clock back.
            if abs(now - self._swept_at) > self._window / 4:
                self._until = {name: until for name, until in self._until.items() if until > now}
                self._rewrite()
                self._swept_at = now
            if name in self._until:
                return False
            if self._stream is not None:
                line = f"{until} {name}\n".encode()
                if self._stream.write(line) != len(line):
                    # Its begin is in the file; the next line must not continue it.
                    self._swept_at = 0.0
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._until[name] = until
        return True

    def _rewrite(self) -> None:
        if self._path is None:
            self._stream = None
            return
        temporary = self._path.with_suffix(".new")
        # Unbuffered: what was written is known to the next process, whatever ends this one.
        stream = temporary.open("wb", buffering=0)
        content = "".join(f"{int(until)} {name}\n" for name, until in self._until.items()).encode()
        if stream.write(content) != len(content):
            # The file that is there knows more of them.
            stream.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        temporary.replace(self._path)
        self._stream = stream
