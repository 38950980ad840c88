"""The Avro schemas of the log and the lock file of their ids.

Every value has the wire format of Confluent's clients: byte 0, the schema id as four bytes big-endian, the Avro body.
There is no schema registry: `schemas/ids.json`, the lock file, gives each version of each schema its id for ever.
`schemas/history/` keeps the text of every version, so that a replay of the oldest log still finds its writer schema.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from streams.errors import Misconfigured

Schema = dict[str, Any]

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of one schema, an entry of ids.json."""

    name: str
    number: int
    id: int
    # SHA-256 of the whole file in hex. Avro's own fingerprints leave out defaults and docs, which matter here.
    sha256: str

    @property
    def seal(self) -> str:
        """A hash of the entry, so that an id that was changed or swapped in ids.json is noticed."""
        return hashlib.sha256(f"{self.name} {self.number} {self.id} {self.sha256}".encode()).hexdigest()[:16]

    @property
    def history_file(self) -> str:
        """The file with the text of this version, below the schemas folder."""
        return f"history/{self.name}.v{self.number}.avsc"


class SchemaCatalogue:
    """Every schema, in every version that was ever locked."""

    def __init__(self, versions: Mapping[SchemaVersion, Schema]) -> None:
        self._versions = dict(versions)
        self._newest = {version.name: version for version in sorted(versions, key=lambda version: version.number)}

    def current(self, name: str) -> Schema:
        """The schema with which this program writes records called `name`.

        Raises:
            Misconfigured: there is no such schema.
        """
        return self._versions[self._find(name)]

    def id(self, name: str) -> int:
        """The id of the current version of `name`.

        Raises:
            Misconfigured: there is no such schema.
        """
        return self._find(name).id

    def writer_schemas(self, *names: str) -> dict[int, tuple[str, Schema]]:
        """Every version of these schemas that was ever locked: id -> (name, schema).

        Raises:
            Misconfigured: there is no schema with one of the names.
        """
        wanted = {self._find(name).name for name in names}
        return {v.id: (v.name, schema) for v, schema in self._versions.items() if v.name in wanted}

    def to_wire_format(self, name: str, body: bytes) -> bytes:
        """The value for the log of `body`, a record in the Avro encoding of the current schema `name`.

        Raises:
            Misconfigured: there is no such schema.
        """
        return b"\0" + self.id(name).to_bytes(4, "big") + body

    def versions(self) -> list[SchemaVersion]:
        """Every locked version, by id."""
        return sorted(self._versions, key=lambda version: version.id)

    def _find(self, name: str) -> SchemaVersion:
        if name not in self._newest:
            message = f"schemas/ids.json has no schema {name}; it has {', '.join(sorted(self._newest))}"
            raise Misconfigured(message)
        return self._newest[name]


def schemas_folder() -> Path:
    """The folder of the schemas: `schemas/` of a checkout, or the copy inside an installed package.

    Raises:
        Misconfigured: there is neither.
    """
    for folder in (_PACKAGE / "_schemas", _PACKAGE.parent / "schemas"):
        if (folder / "ids.json").is_file():
            return folder
    message = f"schemas/ids.json is missing: it belongs beside {_PACKAGE.name}/ in a checkout; restore it from git"
    raise Misconfigured(message)


@cache
def load_schemas() -> SchemaCatalogue:
    """The schemas of this program, checked against their lock file.

    Raises:
        Misconfigured: ids.json, a history file or a current file is missing, or differs from what was locked.
    """
    return read_schemas(schemas_folder())


def read_schemas(folder: Path) -> SchemaCatalogue:
    """The schemas of `folder`, checked against its lock file.

    Raises:
        Misconfigured: ids.json, a history file or a current file is missing, or differs from what was locked.
    """
    versions: dict[SchemaVersion, Schema] = {}
    for version in read_lock_file(folder):
        content = _content(folder / version.history_file)
        if hashlib.sha256(content).hexdigest() != version.sha256:
            message = f"schemas/{version.history_file} is not the text that ids.json locked; restore it from git"
            raise Misconfigured(message)
        versions[version] = json.loads(content)
    newest = {version.name: version for version in versions}
    for name, version in newest.items():
        if hashlib.sha256(_content(folder / f"{name}.avsc")).hexdigest() != version.sha256:
            message = (
                f"schemas/{name}.avsc differs from its locked version {version.number}: "
                f'take the edit back, or run "parcels schemas lock" to make it version {version.number + 1}'
            )
            raise Misconfigured(message)
    for path in sorted(folder.glob("*.avsc")):
        if path.stem not in newest:
            message = f'schemas/{path.name} has no id yet: run "parcels schemas lock"'
            raise Misconfigured(message)
    return SchemaCatalogue(versions)


def read_lock_file(folder: Path) -> list[SchemaVersion]:
    """The versions in the lock file of `folder`, ordered by name and number.

    Raises:
        Misconfigured: the file is missing or not well-formed, has an id twice, or an id that was changed by hand.
    """
    path = folder / "ids.json"
    try:
        locked = json.loads(_content(path))
        versions = [
            SchemaVersion(name, int(number), entry["id"], entry["sha256"])
            for name, numbers in locked.items()
            for number, entry in numbers.items()
        ]
        seals = [entry["seal"] for numbers in locked.values() for entry in numbers.values()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"schemas/ids.json is not a lock of schema ids ({error!r}); restore it from git"
        raise Misconfigured(message) from error
    versions_by_id: dict[int, SchemaVersion] = {}
    for version, seal in zip(versions, seals, strict=True):
        if type(version.id) is not int or not 0 < version.id < 1 << 31:
            message = f"schemas/ids.json: the id of {version.name} version {version.number} is not a positive number"
            raise Misconfigured(message)
        if version.id in versions_by_id:
            other = versions_by_id[version.id]
            message = (
                f"schemas/ids.json gives id {version.id} to both {other.name} version {other.number} "
                f"and {version.name} version {version.number}: take the newer one out of ids.json and history/, and "
                f'run "parcels schemas lock"'
            )
            raise Misconfigured(message)
        if seal != version.seal:
            message = (
                f"schemas/ids.json: id {version.id} is not the id that {version.name} version {version.number} was "
                f"locked with; ids never change, because the log holds them: restore the file from git"
            )
            raise Misconfigured(message)
        versions_by_id[version.id] = version
    for name in {version.name for version in versions}:
        numbers = sorted(version.number for version in versions if version.name == name)
        if numbers != list(range(1, len(numbers) + 1)):
            message = f"schemas/ids.json: versions of {name} are {numbers}, some are missing; restore it from git"
            raise Misconfigured(message)
    return sorted(versions, key=lambda version: (version.name, version.number))


def write_lock_file(folder: Path, versions: list[SchemaVersion]) -> None:
    """Write `folder`/ids.json."""
    locked: dict[str, dict[str, dict[str, object]]] = {}
    for version in sorted(versions, key=lambda version: version.id):
        entry = {"id": version.id, "sha256": version.sha256, "seal": version.seal}
        locked.setdefault(version.name, {})[str(version.number)] = entry
    (folder / "ids.json").write_text(json.dumps(locked, indent=2) + "\n", encoding="utf-8")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"schemas/{path.name} cannot be read ({error.strerror}); restore it from git"
        raise Misconfigured(message) from error
