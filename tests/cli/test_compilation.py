"""The first start shows that code is compiled, and how far; with everything cached nothing is shown."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled here")

# A small part of what a worker compiles: one function, in two seconds.
SCRIPT = """
import sys
from streams.kernel.murmur2 import partition_of
import numpy as np
from streams.processors.compilation import show_compilation
with show_compilation():
    partition_of(np.zeros(8, np.uint8), 0, 8, 4)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"PARCELS_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}


def errors(environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr


def on_a_terminal(environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_without_a_terminal_log_lines_tell_of_the_first_start_only(environment: dict[str, str]) -> None:
    started, finished = map(json.loads, errors(environment).splitlines())
    assert (started["event"], started["reason"]) == ("parcels.compilation.started", "first start of this version")
    assert finished["event"] == "parcels.compilation.finished"
    assert finished["compiled"] == finished["functions"] >= 1
    assert finished["seconds"] > 0
    assert errors(environment) == ""


def test_on_a_terminal_a_bar_shows_it_and_goes_away(environment: dict[str, str]) -> None:
    shown = on_a_terminal(environment)
    assert "compiling, once for this version" in shown
    assert "/1" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "the last line is erased"
    assert on_a_terminal(environment) == ""
