"""Files of configuration: read, checked, and refused with a message that says where and what."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from streams.domain.hub import Hub
from streams.domain.promises import Promises
from streams.errors import Misconfigured

Parsed = TypeVar("Parsed")


class _Twice(yaml.YAMLError):
    """A key is there twice in the same mapping."""


def load_hub(path: Path | None = None) -> Hub:
    """The hub described by a YAML file; without a path the default one.

    Raises:
        Misconfigured: the file cannot be read, is not YAML, or describes no valid hub.
    """
    return Hub.default() if path is None else _load(path, "the description of the hub", Hub.parse)


def load_promises(path: Path | None = None) -> Promises:
    """The promises of a YAML file; without a path the default ones.

    Raises:
        Misconfigured: the file cannot be read, is not YAML, or says something that cannot be.
    """
    return Promises.default() if path is None else _load(path, "the file of promises", Promises.parse)


def _load(path: Path, what: str, parse: Callable[[object], Parsed]) -> Parsed:
    try:
        mapping = _read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{what} cannot be read: {error}"
        raise Misconfigured(message) from error
    except yaml.YAMLError as error:
        message = f"{path} cannot be used: {error}" if isinstance(error, _Twice) else f"{path} is not YAML: {error}"
        raise Misconfigured(message) from error
    try:
        return parse(mapping)
    except Misconfigured as error:
        message = f"{path}: {error}"
        raise Misconfigured(message) from None


def _read(text: str) -> object:
    """What a YAML file says; _Twice for a key that is there twice, of which YAML itself would keep the last."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_twice(node, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_twice(node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for element in node.value:
            _refuse_twice(element, seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, value in node.value:
            named = first.setdefault((key.tag, str(key.value)), key)
            if named is not key:
                first_line, line = named.start_mark.line + 1, key.start_mark.line + 1
                lines = f"line {line}" if line == first_line else f"lines {first_line} and {line}"
                raise _Twice(f"the key {key.value!r} is there twice, in {lines}; say it once")
            _refuse_twice(value, seen)
