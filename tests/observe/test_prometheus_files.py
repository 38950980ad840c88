"""promtool accepts the configuration and the rules, and the promtool tests of the rules pass."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import unable

HERE = Path(__file__).parents[2] / "deploy" / "prometheus"


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        unable("promtool is not installed; Debian has it in the package prometheus")
    return found


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        [
            "check",
            "rules",
            "--lint=all",
            "--lint-fatal",
            *sorted(f"rules/{file.name}" for file in HERE.glob("rules/*")),
        ],
        ["test", "rules", *sorted(f"tests/{file.name}" for file in HERE.glob("tests/*"))],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_accepts_the_files(promtool: str, command: list[str]) -> None:
    done = subprocess.run([promtool, *command], cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
