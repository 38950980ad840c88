"""YAML texts as plain lists and mappings: the one way in which descriptions of hubs and promises are parsed.

A separate module, so that only programs that read YAML import its parser.
"""

from importlib import resources

import yaml

from streams.errors import Misconfigured


def parse_yaml(text: str) -> object:
    """The lists and mappings of a YAML text; None for an empty one.

    Raises:
        Misconfigured: the text is not YAML, or a mapping has a key twice, of which YAML itself would keep the last.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_duplicate_keys(node, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise Misconfigured(f"this is not YAML: {error}") from error
    finally:
        loader.dispose()


def load_default(name: str) -> object:
    """The content of the default document of this name, which stands beside this module."""
    return parse_yaml(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _refuse_duplicate_keys(node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for element in node.value:
            _refuse_duplicate_keys(element, seen)
    elif isinstance(node, yaml.MappingNode):
        first_keys: dict[tuple[str, str], yaml.Node] = {}
        for key, value in node.value:
            first_key = first_keys.setdefault((key.tag, str(key.value)), key)
            if first_key is not key:
                first_line, line = first_key.start_mark.line + 1, key.start_mark.line + 1
                lines = f"line {line}" if line == first_line else f"lines {first_line} and {line}"
                raise Misconfigured(f"the key {key.value!r} is there twice, in {lines}; keep one of them")
            _refuse_duplicate_keys(value, seen)
