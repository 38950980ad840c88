"""Compatibility rules for edits of schemas, and the lock step that makes an edit a new version.

The log is read for years, by programs that are older than a record and by newer ones. So a program with any version of
a schema must be able to read records of every other version, in both directions (full transitive compatibility). The
rules are Avro's schema resolution ("Schema Resolution" of the Avro 1.12 specification). They are stricter where a value
would be read without an error but with another meaning: docs/decisions/schema-compatibility.md.
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

# Enum -> its symbols in the domain. Compiled code uses their numbers.
_DOMAIN_SYMBOLS = {"Kind": KINDS, "Direction": DIRECTIONS, "MilestoneType": MILESTONE_TYPES}
_NAMED_TYPES = ("record", "enum", "fixed")


def check_schemas(folder: Path) -> list[str]:
    """The problems of the schemas of `folder`, one sentence each.

    Raises:
        Misconfigured: the lock file cannot be used.
    """
    problems: list[str] = []
    locked: dict[SchemaVersion, Schema] = {}
    for version in read_lock_file(folder):
        schema = _parse_file(folder / version.history_file, problems)
        if schema is None:
            continue
        locked[version] = schema
        if _sha256(folder / version.history_file) != version.sha256:
            problems.append(f"{version.history_file} is not the text that ids.json locked; restore it from git")
    current: dict[str, Schema] = {}
    for path in sorted(folder.glob("*.avsc")):
        schema = _parse_file(path, problems)
        if schema is not None:
            current[path.stem] = schema
            problems += [f"{path.name}: {problem}" for problem in _check_house_rules(path.stem, schema)]
    for name in sorted({version.name for version in locked} - current.keys()):
        problems.append(f"{name}.avsc is missing: records of it are in the log; restore it from git")
    for name, schema in current.items():
        problems += _check_versions(folder, name, schema, locked)
    return [*problems, *_check_shared_types(current)]


def lock_schemas(folder: Path) -> list[SchemaVersion]:
    """Give every new or edited schema of `folder` its next version number and a new id.

    Returns:
        the versions that were added; empty when every schema is locked already.

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
        shutil.copyfile(folder / f"{version.name}.avsc", folder / version.history_file)
    if added:
        write_lock_file(folder, [*before, *added])
    return added


def find_incompatibilities(reader: Schema, writer: Schema) -> list[str]:
    """The reasons why a program with the schema `reader` cannot read, or would misread, records of `writer`."""
    return list(_SchemaResolution(reader, writer).differences(reader, writer, reader.get("name", "")))


_NOT_LOCKED = 'run "parcels schemas lock"'


def _check_versions(folder: Path, name: str, schema: Schema, locked: dict[SchemaVersion, Schema]) -> Iterator[str]:
    """Compare every version of a schema, and its edited file, with every other one."""
    versions = [version for version in locked if version.name == name]
    if not versions:
        yield f"{name}.avsc has no id yet: {_NOT_LOCKED}"
        return
    schemas = {f"version {version.number}": locked[version] for version in versions}
    newest = versions[-1]
    if _sha256(folder / f"{name}.avsc") != newest.sha256:
        schemas["the edited file"] = schema
        yield f"{name}.avsc was edited after version {newest.number} was locked: {_NOT_LOCKED}"
    for (reader_label, reader), (writer_label, writer) in permutations(schemas.items(), 2):
        for reason in find_incompatibilities(reader, writer):
            yield f"{name}: {reader_label} cannot read what {writer_label} wrote: {reason}"
    for (_, old), (label, new) in pairwise(schemas.items()):
        for enum, symbols in _enums(old).items():
            if _enums(new).get(enum, symbols)[: len(symbols)] != symbols:
                yield f"{name}: {label} changes the words of {enum}; their positions are numbers in the log and in code"


class _SchemaResolution:
    """Resolution of one reader schema with one writer schema; each has its own named types.

    Fields and types are matched by their names. Aliases are not followed: `_check_house_rules` refuses them.
    """

    def __init__(self, reader: Schema, writer: Schema) -> None:
        self._reader_types = dict(_named_types(reader))
        self._writer_types = dict(_named_types(writer))

    def differences(self, reader: Any, writer: Any, path: str) -> Iterator[str]:
        reader, writer = self._reader_types.get(_key(reader), reader), self._writer_types.get(_key(writer), writer)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.differences(reader, branch, path)
        elif isinstance(reader, list):
            by_branch = [list(self.differences(branch, writer, path)) for branch in reader]
            if all(by_branch):
                yield f"{path} may be {_description(writer)}, which the reader does not expect"
        else:
            yield from self._type_differences(reader, writer, path)

    def _type_differences(self, reader: Any, writer: Any, path: str) -> Iterator[str]:
        kind = _type(reader)
        if kind != _type(writer):
            yield f"{path} is {_description(writer)}, the reader expects {_description(reader)}"
        elif kind in _NAMED_TYPES and reader["name"] != writer["name"]:
            yield f"{path} is {writer['name']}, the reader expects {reader['name']}"
        elif _logical_type(reader) != _logical_type(writer):
            # Avro resolves them, and milliseconds would be read as microseconds.
            yield f"{path} is {_description(writer)}, the reader takes it for {_description(reader)}"
        elif kind == "record":
            yield from self._field_differences(reader, writer, path)
        elif kind == "enum":
            missing = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
            if missing and "default" not in reader:
                yield f"{path} may be {', '.join(missing)}, for which the reader has no word and no default"
        elif kind == "fixed" and reader["size"] != writer["size"]:
            yield f"{path} has {writer['size']} bytes, the reader expects {reader['size']}"
        elif kind == "array":
            yield from self.differences(reader["items"], writer["items"], f"{path}[]")
        elif kind == "map":
            yield from self.differences(reader["values"], writer["values"], f"{path}{{}}")

    def _field_differences(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        writer_fields = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            field_path = f"{path}.{field['name']}"
            if field["name"] in writer_fields:
                yield from self.differences(field["type"], writer_fields[field["name"]]["type"], field_path)
            elif "default" not in field:
                yield f"{field_path} is not written, and the reader has no default for it"


def _check_house_rules(name: str, schema: Schema) -> Iterator[str]:
    """The rules for a schema by itself."""
    if schema.get("type") != "record" or schema.get("name") != name:
        yield f"must hold the record {name}"
        return
    named = dict(_named_types(schema))
    for type_ in named.values():
        label = type_["name"] if type_ is schema else f"{name}, {type_['name']}"
        if not type_.get("doc"):
            yield f"{label} has no doc"
        if type_["type"] == "enum":
            symbols = _DOMAIN_SYMBOLS.get(type_["name"])
            if symbols is not None and tuple(type_["symbols"]) != symbols:
                yield f"{label} does not list the words of streams/domain/kinds.py in their order"
            if "default" not in type_:
                yield f"{label} has no default: a word added later would make it unreadable for today's programs"
        for field in type_.get("fields", ()):
            if not field.get("doc"):
                yield f"{label}.{field['name']} has no doc"
            if "aliases" in field:
                # The compiled decoder follows them. But they help in one direction only, and hide a rename.
                yield (
                    f"{label}.{field['name']} has aliases: older programs do not know the new name and would read its "
                    "default; add a new field"
                )
    if _is_recursive(schema, named, ()):
        yield f"{name} holds itself: a record of it could be nested without end"


def _is_recursive(schema: Any, named: dict[str, Schema], ancestors: tuple[str, ...]) -> bool:
    if isinstance(schema, list):
        return any(_is_recursive(branch, named, ancestors) for branch in schema)
    schema = named.get(_key(schema), schema)
    if _key(schema) in ancestors:
        return True
    if not isinstance(schema, dict):
        return False
    ancestors = (*ancestors, _key(schema)) if schema["type"] == "record" else ancestors
    children = [field["type"] for field in schema.get("fields", ())]
    children += [schema[key] for key in ("items", "values") if key in schema]
    return any(_is_recursive(child, named, ancestors) for child in children)


def _check_shared_types(current: dict[str, Schema]) -> Iterator[str]:
    """A type of the same name must be the same in every file: readers of several topics know it by its name."""
    first: dict[str, tuple[str, Schema]] = {}
    for name, schema in current.items():
        for key, type_ in _named_types(schema):
            other_name, other_type = first.setdefault(key, (name, type_))
            if other_type != type_:
                yield f"{type_['name']} is not the same in {other_name}.avsc and in {name}.avsc"


def _named_types(schema: Any) -> Iterator[tuple[str, Schema]]:
    """Every named type defined in `schema`, with the name that refers to it. All are in one namespace."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _named_types(branch)
    elif isinstance(schema, dict):
        if schema["type"] in _NAMED_TYPES:
            yield _key(schema), schema
        for field in schema.get("fields", ()):
            yield from _named_types(field["type"])
        for key in ("items", "values"):
            yield from _named_types(schema.get(key))


def _enums(schema: Schema) -> dict[str, list[str]]:
    return {name: each["symbols"] for name, each in _named_types(schema) if each["type"] == "enum"}


def _key(schema: Any) -> str:
    """The name of a named type, or of a reference to one, without its namespace; empty for other types."""
    name = schema if isinstance(schema, str) else schema.get("name", "") if isinstance(schema, dict) else ""
    return str(name).rpartition(".")[2]


def _type(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _logical_type(schema: Any) -> str | None:
    return schema.get("logicalType") if isinstance(schema, dict) else None


def _description(schema: Any) -> str:
    kind = _type(schema)
    return _logical_type(schema) or (f"{kind} {schema['name']}" if kind in _NAMED_TYPES else kind)


def _parse_file(path: Path, problems: list[str]) -> Schema | None:
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
