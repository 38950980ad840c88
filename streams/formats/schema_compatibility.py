"""Rules that every edit of a schema must keep, and the step that makes an edit a new version.

The log is read for years: by programs older than the record and by programs newer than it. So every version of a schema
must be readable by every other one, in both directions (full transitive compatibility). The rules are Avro's schema
resolution ("Schema Resolution" of the Avro 1.12 specification), and stricter where a value would be read without an
error but with another meaning: docs/decisions/schema-compatibility.md.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

from streams.domain.kinds import DIRECTIONS, KINDS, MILESTONE_TYPES
from streams.errors import Misconfigured
from streams.formats.schemas import Schema, SchemaVersion, read_lock_file, write_lock_file

# The words of the domain, whose numbers the compiled code uses, and the enums that carry them.
_WORDS = {"Kind": KINDS, "Direction": DIRECTIONS, "MilestoneType": MILESTONE_TYPES}
_NAMED = ("record", "enum", "fixed")


def check_schemas(folder: Path) -> list[str]:
    """Everything that is wrong with the schemas of `folder`: one sentence each, none when all is well.

    Raises:
        Misconfigured: the lock itself cannot be used.
    """
    problems: list[str] = []
    kept: dict[SchemaVersion, Schema] = {}
    for version in read_lock_file(folder):
        schema = _parsed(folder / version.file, problems)
        if schema is None:
            continue
        kept[version] = schema
        if _sha256(folder / version.file) != version.sha256:
            problems.append(f"{version.file} is not the text that ids.json locked; restore it from git")
    current: dict[str, Schema] = {}
    for path in sorted(folder.glob("*.avsc")):
        schema = _parsed(path, problems)
        if schema is not None:
            current[path.stem] = schema
            problems += [f"{path.name}: {problem}" for problem in _house_rules(path.stem, schema)]
    for name in sorted({version.name for version in kept} - current.keys()):
        problems.append(f"{name}.avsc is missing: records of it are in the log; restore it from git")
    for name, schema in current.items():
        problems += _against_its_versions(folder, name, schema, kept)
    return [*problems, *_shared_types(current)]


def lock_schemas(folder: Path) -> list[SchemaVersion]:
    """Give every new or edited schema of `folder` its next version and a new id.

    Returns:
        the versions that were added; none when every schema is locked already.

    Raises:
        Misconfigured: an edit breaks a rule; nothing was written.
    """
    before = read_lock_file(folder)
    problems = [problem for problem in check_schemas(folder) if not problem.endswith(_NOT_LOCKED)]
    if problems:
        message = "nothing was locked:\n  " + "\n  ".join(problems)
        raise Misconfigured(message)
    newest = {version.name: version for version in before}
    added: list[SchemaVersion] = []
    for path in sorted(folder.glob("*.avsc")):
        sha256 = _sha256(path)
        old = newest.get(path.stem)
        if old is None or old.sha256 != sha256:
            number = old.number + 1 if old else 1
            next_id = max((version.id for version in (*before, *added)), default=0) + 1
            added.append(SchemaVersion(path.stem, number, next_id, sha256))
    (folder / "history").mkdir(exist_ok=True)
    for version in added:
        shutil.copyfile(folder / f"{version.name}.avsc", folder / version.file)
    if added:
        write_lock_file(folder, [*before, *added])
    return added


def find_incompatibilities(reader: Schema, writer: Schema) -> list[str]:
    """Why a program with the schema `reader` could not read, or would misread, what `writer` wrote; none if it can."""
    return list(_SchemaResolution(reader, writer).differences(reader, writer, reader.get("name", "")))


_NOT_LOCKED = 'run "parcels schemas lock"'


def _against_its_versions(folder: Path, name: str, schema: Schema, kept: dict[SchemaVersion, Schema]) -> Iterator[str]:
    versions = [version for version in kept if version.name == name]
    if not versions:
        yield f"{name}.avsc has no id yet: {_NOT_LOCKED}"
        return
    texts = {f"version {version.number}": kept[version] for version in versions}
    newest = versions[-1]
    if _sha256(folder / f"{name}.avsc") != newest.sha256:
        texts["the edited file"] = schema
        yield f"{name}.avsc was edited after version {newest.number} was locked: {_NOT_LOCKED}"
    for (reader, reading), (writer, written) in permutations(texts.items(), 2):
        for why in find_incompatibilities(reading, written):
            yield f"{name}: {reader} cannot read what {writer} wrote: {why}"
    for (_, old), (label, new) in pairwise(texts.items()):
        for kind, words in _enums(old).items():
            if _enums(new).get(kind, words)[: len(words)] != words:
                yield f"{name}: {label} changes the words of {kind}; their positions are numbers in the log and in code"


class _SchemaResolution:
    """Resolution of one pair of schemas; each has its own names."""

    def __init__(self, reader: Schema, writer: Schema) -> None:
        self._reader_types = dict(_named_types(reader))
        self._writer_types = dict(_named_types(writer))

    def differences(self, reader: Any, writer: Any, path: str) -> Iterator[str]:
        reader, writer = self._reader_types.get(_key(reader), reader), self._writer_types.get(_key(writer), writer)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.differences(reader, branch, path)
        elif isinstance(reader, list):
            tried = [list(self.differences(branch, writer, path)) for branch in reader]
            if all(tried):
                yield f"{path} may be {_word(writer)}, which the reader does not expect"
        else:
            yield from self._plain(reader, writer, path)

    def _plain(self, reader: Any, writer: Any, path: str) -> Iterator[str]:
        kind = _type(reader)
        if kind != _type(writer):
            yield f"{path} is {_word(writer)}, the reader expects {_word(reader)}"
        elif kind in _NAMED and reader["name"] != writer["name"]:
            yield f"{path} is {writer['name']}, the reader expects {reader['name']}"
        elif _logical(reader) != _logical(writer):
            # Avro resolves them, and milliseconds would be read as microseconds.
            yield f"{path} is {_word(writer)}, the reader takes it for {_word(reader)}"
        elif kind == "record":
            yield from self._fields(reader, writer, path)
        elif kind == "enum":
            missing = [word for word in writer["symbols"] if word not in reader["symbols"]]
            if missing and "default" not in reader:
                yield f"{path} may be {', '.join(missing)}, for which the reader has no word and no default"
        elif kind == "fixed" and reader["size"] != writer["size"]:
            yield f"{path} has {writer['size']} bytes, the reader expects {reader['size']}"
        elif kind == "array":
            yield from self.differences(reader["items"], writer["items"], f"{path}[]")
        elif kind == "map":
            yield from self.differences(reader["values"], writer["values"], f"{path}{{}}")

    def _fields(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            below = f"{path}.{field['name']}"
            if field["name"] in written:
                yield from self.differences(field["type"], written[field["name"]]["type"], below)
            elif "default" not in field:
                yield f"{below} is not written, and the reader has no default for it"


def _house_rules(name: str, schema: Schema) -> Iterator[str]:
    if schema.get("type") != "record" or schema.get("name") != name:
        yield f"must hold the record {name}"
        return
    named = dict(_named_types(schema))
    for each in named.values():
        where = each["name"] if each is schema else f"{name}, {each['name']}"
        if not each.get("doc"):
            yield f"{where} has no doc"
        if each["type"] == "enum" and each["name"] in _WORDS and tuple(each["symbols"]) != _WORDS[each["name"]]:
            yield f"{where} does not list the words of streams/domain/kinds.py in their order"
        if each["type"] == "enum" and "default" not in each:
            yield f"{where} has no default: a word added later would make it unreadable for today's programs"
        for field in each.get("fields", ()):
            if not field.get("doc"):
                yield f"{where}.{field['name']} has no doc"
            if "aliases" in field:
                yield f"{where}.{field['name']} has aliases, which the compiled decoder does not read; add a new field"
    if _recursive(schema, named, ()):
        yield f"{name} holds itself: a record of it could be nested without end"


def _recursive(schema: Any, named: dict[str, Schema], within: tuple[str, ...]) -> bool:
    if isinstance(schema, list):
        return any(_recursive(branch, named, within) for branch in schema)
    schema = named.get(_key(schema), schema)
    if _key(schema) in within:
        return True
    if not isinstance(schema, dict):
        return False
    within = (*within, _key(schema)) if schema["type"] == "record" else within
    below = [field["type"] for field in schema.get("fields", ())]
    below += [schema[key] for key in ("items", "values") if key in schema]
    return any(_recursive(each, named, within) for each in below)


def _shared_types(current: dict[str, Schema]) -> Iterator[str]:
    """A type of the same name must be the same in every file: readers of several topics know it by its name."""
    first: dict[str, tuple[str, Schema]] = {}
    for name, schema in current.items():
        for key, each in _named_types(schema):
            other, known = first.setdefault(key, (name, each))
            if known != each:
                yield f"{each['name']} is not the same in {other}.avsc and in {name}.avsc"


def _named_types(schema: Any) -> Iterator[tuple[str, Schema]]:
    """Every named type defined in `schema`, by the name that refers to it. All are in one namespace."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _named_types(branch)
    elif isinstance(schema, dict):
        if schema["type"] in _NAMED:
            yield _key(schema), schema
        for field in schema.get("fields", ()):
            yield from _named_types(field["type"])
        for key in ("items", "values"):
            yield from _named_types(schema.get(key))


def _enums(schema: Schema) -> dict[str, list[str]]:
    return {name: each["symbols"] for name, each in _named_types(schema) if each["type"] == "enum"}


def _key(schema: Any) -> str:
    """The name that `schema` is, or defines, without its namespace; empty for other types."""
    name = schema if isinstance(schema, str) else schema.get("name", "") if isinstance(schema, dict) else ""
    return str(name).rpartition(".")[2]


def _type(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _logical(schema: Any) -> str | None:
    return schema.get("logicalType") if isinstance(schema, dict) else None


def _word(schema: Any) -> str:
    return _logical(schema) or (f"{_type(schema)} {schema['name']}" if _type(schema) in _NAMED else _type(schema))


def _parsed(path: Path, problems: list[str]) -> Schema | None:
    try:
        text = path.read_text(encoding="utf-8")
        schema: Schema = json.loads(text)
        fastavro.parse_schema(schema)
    except (OSError, ValueError, KeyError, SchemaParseException) as error:
        problems.append(f"{path.name} is not an Avro schema: {error}")
        return None
    return schema


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
