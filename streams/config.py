"""Files of configuration: read, checked, and refused with a message that says where and what."""

from pathlib import Path

import yaml

from streams.domain.hub import Hub
from streams.domain.promises import Promises
from streams.errors import Misconfigured


def load_hub(path: Path | None = None) -> Hub:
    """The hub described by a YAML file; without a path the default one.

    Raises:
        Misconfigured: the file cannot be read, is not YAML, or describes no valid hub.
    """
    if path is None:
        return Hub.default()
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"the description of the hub cannot be read: {error}"
        raise Misconfigured(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not YAML: {error}"
        raise Misconfigured(message) from error
    try:
        return Hub.parse(mapping)
    except Misconfigured as error:
        message = f"{path}: {error}"
        raise Misconfigured(message) from None


def load_promises(path: Path | None = None) -> Promises:
    """The promises of a YAML file; without a path the default ones.

    Raises:
        Misconfigured: the file cannot be read, is not YAML, or says something that cannot be.
    """
    if path is None:
        return Promises.default()
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"the promises cannot be read: {error}"
        raise Misconfigured(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not YAML: {error}"
        raise Misconfigured(message) from error
    try:
        return Promises.parse(mapping)
    except Misconfigured as error:
        message = f"{path}: {error}"
        raise Misconfigured(message) from None
