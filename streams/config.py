"""Configuration files: read and checked; a file with a mistake is refused with a message that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from streams.domain.hub import Hub
from streams.domain.promises import Promises
from streams.domain.yaml_documents import parse_yaml
from streams.errors import Misconfigured

Parsed = TypeVar("Parsed")


def load_hub(path: Path | None = None) -> Hub:
    """The hub that a YAML file describes; without a path the default one.

    Raises:
        Misconfigured: the file cannot be read, is not YAML, or describes no valid hub.
    """
    return Hub.default() if path is None else _load(path, "the description of the hub", Hub.parse)


def load_promises(path: Path | None = None) -> Promises:
    """The promises of a YAML file; without a path the default ones.

    Raises:
        Misconfigured: the file cannot be read, is not YAML, or holds an invalid promise.
    """
    return Promises.default() if path is None else _load(path, "the file of promises", Promises.parse)


def _load(path: Path, document_name: str, parse: Callable[[object], Parsed]) -> Parsed:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{document_name} cannot be read: {error}") from error
    try:
        return parse(parse_yaml(text))
    except Misconfigured as error:
        raise Misconfigured(f"{path}: {error}") from None
