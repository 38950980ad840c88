"""Rules that no linter knows: class names stand once, modules have a readable size, the page explains every room."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "streams").rglob("*.py"))
MOST_LINES = 400


def test_a_class_name_stands_once():
    places = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{module.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 200
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_long_module_gives_its_reason():
    """Its docstring says why, in a sentence that names the limit."""
    without = [
        f"{module.relative_to(ROOT)}: {lines} lines"
        for module in MODULES
        if (lines := module.read_text(encoding="utf-8").count("\n")) > MOST_LINES
        and f"{MOST_LINES} lines" not in (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "")
    ]
    assert without == []


def test_every_room_is_explained():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {module.parent.relative_to(ROOT / "streams").as_posix() for module in MODULES} - {"."}
    assert {room for room in rooms if f"`{room}/`" not in page} == set()
