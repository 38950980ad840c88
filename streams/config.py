"""Files of configuration: read, checked, and refused with a message that says where and what."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from streams.domain.hub import Hub
from streams.domain.promises import Promises
from streams.errors import Misconfigured

Parsed = TypeVar("Parsed")


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
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{what} cannot be read: {error}"
        raise Misconfigured(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not YAML: {error}"
        raise Misconfigured(message) from error
    try:
        return parse(mapping)
    except Misconfigured as error:
        message = f"{path}: {error}"
        raise Misconfigured(message) from None
