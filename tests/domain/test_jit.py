"""The name of the folder of compiled code depends on all sources of the code, so that stale code is never run."""

import ast
import shutil
from pathlib import Path

import pytest

from streams.domain.jit import compiled_digest, compiled_sources

PACKAGE = Path(__file__).parents[2] / "streams"
DECORATORS = {"jit", "jit_inline"}


def module_path(name):
    """The file of a module of the package, by its dotted name; None for other modules."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imported(source):
    """The files of the package that a file imports."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("streams"):
            yield from (module_path(f"{node.module}.{alias.name}") or module_path(node.module) for alias in node.names)
            yield module_path(node.module)


def holds_compiled_code(source):
    tree = ast.parse(source.read_text())
    return any(
        getattr(decorator, "id", None) in DECORATORS
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    )


def reachable():
    """Every file with compiled code, and every file that one of them imports, over any number of steps."""
    found, waiting = set(), [source for source in PACKAGE.rglob("*.py") if holds_compiled_code(source)]
    while waiting:
        source = waiting.pop()
        if source not in found and source is not None:
            found.add(source)
            waiting.extend(imported(source))
    return found


def test_compiled_code_uses_no_file_that_its_digest_leaves_out():
    below = [path for path in reachable() if path.relative_to(PACKAGE).parts[0] in {"domain", "kernel"}]
    assert len(below) > 30
    assert set(below) <= set(compiled_sources(PACKAGE))


@pytest.mark.parametrize("source", sorted(path.relative_to(PACKAGE).as_posix() for path in compiled_sources(PACKAGE)))
def test_a_change_of_any_source_changes_the_digest(source, tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "streams", ignore=shutil.ignore_patterns("__pycache__"))
    before = compiled_digest(copy)
    with (copy / source).open("a") as file:
        file.write("#")
    assert compiled_digest(copy) != before


def test_a_new_source_in_a_nested_folder_changes_the_digest(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "streams", ignore=shutil.ignore_patterns("__pycache__"))
    before = compiled_digest(copy)
    folder = copy / "kernel" / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "new.py").write_text("")
    assert compiled_digest(copy) != before
