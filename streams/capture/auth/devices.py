"""The registry of devices and partners that may send. It is a file that commands change and the gateway watches.

The file holds the hash of a token and the public half of a key pair, so that a reader of it can impersonate no device.
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
    """One registered device or partner."""

    name: str
    # The sites of which it may send records, and the stations of these sites; "*" is any.
    sites: tuple[str, ...]
    stations: tuple[str, ...]
    # Records a second; a burst may have twice as many.
    rate: float
    public_key: str = ""
    token_sha256: str = ""
    revoked: bool = False
    added: str = ""
    _key: list[Ed25519PublicKey] = field(default_factory=list, repr=False, compare=False)

    def is_authorized_for(self, site: str, station: str) -> bool:
        """May it send records of this site and station?"""
        return (WILDCARD in self.sites or site in self.sites) and (
            WILDCARD in self.stations or station in self.stations
        )

    def may_act_as(self, name: str) -> bool:
        """May it send under this name: its own, or one below it?

        A concentrator `LGG/SRT-07` sends for `LGG/SRT-07/1`. A device that is registered for all sites and stations
        may send under every name.
        """
        return name == self.name or name.startswith(self.name + "/") or self.is_authorized_for(WILDCARD, WILDCARD)

    def verify_signature(self, signature: bytes, content: bytes) -> bool:
        """Is this the signature of `content` by the device's key?"""
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
    """The devices of a registry file. The file is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file, if it exists.

        Raises:
            Misconfigured: the file cannot be read.
        """
        self.path = path
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._devices: dict[str, Device] = {}
        self._by_token: dict[str, Device] = {}
        self._refresh()

    def find(self, name: str) -> Device | None:
        """The device of this name."""
        self._refresh()
        return self._devices.get(name)

    def find_by_token(self, token: str) -> Device | None:
        """The device that has this token."""
        self._refresh()
        return self._by_token.get(_sha256(token)) if _TOKEN.fullmatch(token) else None

    def all_devices(self) -> list[Device]:
        """All devices, by name."""
        self._refresh()
        return [self._devices[name] for name in sorted(self._devices)]

    def add(self, device: Device, *, replace: bool = False) -> None:
        """Add a device to the file.

        Raises:
            Misconfigured: the name is taken or not valid.
        """
        if _NAME.fullmatch(device.name) is None:
            raise Misconfigured(
                f"{device.name!r} is not a valid device name: use letters, digits and . _ / - , at most 127 characters"
            )
        with self._exclusive_lock():
            if self.find(device.name) is not None and not replace:
                raise Misconfigured(f"{device.name} is registered already: choose another name, or give --replace")
            self._write([*(other for other in self.all_devices() if other.name != device.name), device])

    def revoke(self, name: str) -> None:
        """Revoke a device. Its name stays in the file, so that it is not given to another device by mistake.

        Raises:
            Misconfigured: no device has this name.
        """
        with self._exclusive_lock():
            device = self.find(name)
            if device is None:
                raise Misconfigured(f"there is no device {name}: parcels devices list shows all names")
            revoked = Device(device.name, device.sites, device.stations, device.rate, revoked=True, added=device.added)
            self._write([*(other for other in self.all_devices() if other.name != name), revoked])

    @contextlib.contextmanager
    def _exclusive_lock(self) -> Iterator[None]:
        """Keep other commands out between reading and writing: they could restore a device that is being revoked."""
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
        fields_by_name = {}
        for device in devices:
            fields = {key: value for key, value in asdict(device).items() if key not in ("name", "_key")}
            fields_by_name[device.name] = fields
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                json.dump({"devices": fields_by_name}, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise Misconfigured(f"{self.path} cannot be written: {error.strerror}") from error
        self._version = None
        self._refresh()

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            version = (0, 0, 0)
        if version == self._version:
            return
        with self._lock:
            try:
                content = json.loads(self.path.read_text()) if version != (0, 0, 0) else {"devices": {}}
                devices = {name: _parse_device(name, fields) for name, fields in content["devices"].items()}
            except (OSError, ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
                raise Misconfigured(f"{self.path} is not a registry of devices: {error!r}") from error
            self._devices = devices
            self._by_token = {device.token_sha256: device for device in devices.values() if device.token_sha256}
            self._version = version


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
    """Check a public key in base64.

    Raises:
        Misconfigured: the text is not an Ed25519 public key.
    """
    try:
        content = base64.b64decode(text.strip(), validate=True)
        Ed25519PublicKey.from_public_bytes(content)
    except (ValueError, binascii.Error):
        raise Misconfigured("the public key must be the base64 of the 32 bytes of an Ed25519 key") from None
    return _base64(content)


def utc_timestamp() -> str:
    """The current time in the form of the registry."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _parse_device(name: str, fields: dict[str, Any]) -> Device:
    return Device(
        name,
        tuple(str(site) for site in fields["sites"]),
        tuple(str(station) for station in fields["stations"]),
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
