"""`parcels demo` shows the whole system, ends by itself, prints next steps that work, and leaves nothing running."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.local_broker import LocalBroker, jars_folder
from tests.conftest import run_cli, unable

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _java_and_jars() -> None:
    if shutil.which("java") is None or not jars_folder().is_dir():
        unable("the demo needs Java and Kafka's jars")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "demo"
    LocalBroker(tmp_path / "demo" / "broker").stop()


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that name this folder in them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and int(process.name) != os.getpid():
            found.append(words)
    return found


def start(folder: Path, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "demo", "--data", str(folder), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


def test_a_short_day_matches_the_truth_and_the_next_steps_work(folder: Path) -> None:
    done = run_cli("demo", "--data", str(folder), "--parcels", "300", "--seconds", "6", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything matches the truth" in done.stdout
    assert re.search(r"[1-9][\d,]* scans, ", done.stdout), done.stdout
    assert processes_of(folder) == []

    hints = done.stdout.split("Try next")[1]
    up = re.search(r"broker up --data (\S+) --port (\d+)", hints)
    show = re.search(r"show (\S+)", hints)
    assert up is not None
    assert show is not None
    assert run_cli("broker", "up", "--data", up[1], "--port", up[2]).returncode == 0
    where = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{up[2]}"}
    shown = run_cli("show", show[1], environment=where)
    assert shown.returncode == 0, shown.stderr
    assert show[1] in shown.stdout
    assert run_cli("dlq", "list", environment=where).returncode == 0
    assert run_cli("broker", "down", "--data", up[1]).returncode == 0
    assert processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_all_its_processes(folder: Path, number: signal.Signals) -> None:
    demo = start(folder, "--parcels", "300", "--seconds", "120")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "simulate" in line:
            break
    demo.send_signal(number)
    rest = demo.communicate(timeout=90)[0]
    assert demo.returncode == 128 + number, rest
    assert processes_of(folder) == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = run_cli("demo", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "choose another folder" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"
