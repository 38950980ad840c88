"""Runs the examples in docstrings."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import streams

_FOLDER = Path(streams.__file__).parent
_WITH_EXAMPLES = sorted(
    ".".join(("streams", *path.relative_to(_FOLDER).with_suffix("").parts))
    for path in _FOLDER.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", _WITH_EXAMPLES)
def test_the_examples_of(module):
    failed, attempted = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted > 0
    assert failed == 0


def test_examples_are_found():
    assert "streams.processors.test_driver" in _WITH_EXAMPLES
