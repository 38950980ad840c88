"""Who may send: the registry of devices and partners, a file that commands change and a gateway watches.

Of a token only its hash is kept, of a key pair only the public half; whoever reads the file can impersonate nobody.
"""

import base64
import binascii
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from streams.errors import Misconfigured

WILDCARD: Final = "*"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,126}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{20,200}")


@dataclass(frozen=True, slots=True)
class Device:
    """One device or partner."""

    name: str
    # The sites it may speak for, and the stations of these; "*" is any.
    sites: tuple[str, ...]
    stations: tuple[str, ...]
    # Records a second; twice as many at once.
    rate: float
    public_key: str = ""
    token_sha256: str = ""
    revoked: bool = False
    added: str = ""
    _key: list[Ed25519PublicKey] = field(default_factory=list, repr=False, compare=False)

    def is_authorized_for(self, site: str, station: str) -> bool:
        """Is this place within its scope?"""
        return (WILDCARD in self.sites or site in self.sites) and (
            WILDCARD in self.stations or station in self.stations
        )

    def may_act_as(self, name: str) -> bool:
        """Is this its own name, or one below it?

        A concentrator `LGG/SRT-07` sends for `LGG/SRT-07/1`; whoever speaks for every place sends for everybody.
        """
        return name == self.name or name.startswith(self.name + "/") or self.is_authorized_for(WILDCARD, WILDCARD)

    def signed(self, signature: bytes, content: bytes) -> bool:
        """Did the owner of the private key sign this?"""
        if not self.public_key:
            return False
        if not self._key:
            self._key.append(Ed25519PublicKey.from_public_bytes(base64.b64decode(self.public_key)))
        try:
            self._key[0].verify(signature, content)
        except InvalidSignature:
            return False
        return True


class DeviceRegistry:
    """The devices of a file; reads it again when it has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file, if it is there.

        Raises:
            Misconfigured: it cannot be read.
        """
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._devices: dict[str, Device] = {}
        self._by_token: dict[str, Device] = {}
        self._refresh()

    def find(self, name: str) -> Device | None:
        """The device of this name."""
        self._refresh()
        return self._devices.get(name)

    def find_by_token(self, token: str) -> Device | None:
        """The device that this token was given to."""
        self._refresh()
        return self._by_token.get(_sha256(token)) if _TOKEN.fullmatch(token) else None

    def all_devices(self) -> list[Device]:
        """All devices, by name."""
        self._refresh()
        return [self._devices[name] for name in sorted(self._devices)]

    def add(self, device: Device, *, replace: bool = False) -> None:
        """Write a device into the file.

        Raises:
            Misconfigured: the name is taken or is none.
        """
        if _NAME.fullmatch(device.name) is None:
            raise Misconfigured(f"{device.name!r} is no name: letters, digits and . _ / - , at most 127 characters")
        with self._alone():
            if self.find(device.name) is not None and not replace:
                raise Misconfigured(f"{device.name} is enrolled already; revoke it, or give --replace")
            self._write([*(each for each in self.all_devices() if each.name != device.name), device])

    def revoke(self, name: str) -> None:
        """Take its rights away, and keep its name so that nobody gets it by mistake.

        Raises:
            Misconfigured: there is no such device.
        """
        with self._alone():
            device = self.find(name)
            if device is None:
                raise Misconfigured(f"there is no device {name}; parcels devices list names them")
            gone = Device(device.name, device.sites, device.stations, device.rate, revoked=True, added=device.added)
            self._write([*(each for each in self.all_devices() if each.name != name), gone])

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other command between reading and writing: it would bring back whom this one revokes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, devices: Iterable[Device]) -> None:
        said = {}
        for device in devices:
            fields = {key: value for key, value in asdict(device).items() if key not in ("name", "_key")}
            said[device.name] = fields
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                json.dump({"devices": said}, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise Misconfigured(f"{self.path} cannot be written: {error.strerror}") from error
        self._stamp = None
        self._refresh()

    def _refresh(self) -> None:
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        except FileNotFoundError:
            stamp = (0, 0, 0)
        if stamp == self._stamp:
            return
        with self._lock:
            try:
                said = json.loads(self.path.read_text()) if stamp != (0, 0, 0) else {"devices": {}}
                devices = {name: _device(name, fields) for name, fields in said["devices"].items()}
            except (OSError, ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
                raise Misconfigured(f"{self.path} is no registry of devices: {error!r}") from error
            self._devices = devices
            self._by_token = {each.token_sha256: each for each in devices.values() if each.token_sha256}
            self._stamp = stamp


def generate_key_pair() -> tuple[str, str]:
    """A private key and its public half, both as base64 of their 32 bytes."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    return _base64(private.private_bytes_raw()), _base64(public.public_bytes_raw())


def generate_token() -> tuple[str, str]:
    """A bearer token and its hash."""
    token = secrets.token_urlsafe(32)
    return token, _sha256(token)


def parse_public_key(text: str) -> str:
    """A public key as base64, checked.

    Raises:
        Misconfigured: it is none.
    """
    try:
        content = base64.b64decode(text.strip(), validate=True)
        Ed25519PublicKey.from_public_bytes(content)
    except (ValueError, binascii.Error):
        raise Misconfigured("the public key must be the base64 of the 32 bytes of an Ed25519 key") from None
    return _base64(content)


def utc_timestamp() -> str:
    """The time as it stands in the registry."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _device(name: str, fields: dict[str, Any]) -> Device:
    return Device(
        name,
        tuple(str(each) for each in fields["sites"]),
        tuple(str(each) for each in fields["stations"]),
        float(fields["rate"]),
        parse_public_key(fields["public_key"]) if fields.get("public_key") else "",
        str(fields.get("token_sha256", "")),
        bool(fields.get("revoked", False)),
        str(fields.get("added", "")),
    )


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
