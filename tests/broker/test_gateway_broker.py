"""A day of the hub through the gateway, and what a gateway sends again: the states are what the truth says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.pipeline.settings import Settings
from tests.conftest import Cli


@contextmanager
def gateway(settings: Settings, data: Path) -> Iterator[str]:
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "PARCELS_PREFIX": settings.prefix,
    }
    command = [sys.executable, "-m", "streams.cli", "gateway", "--insecure-local", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def test_a_day_through_the_gateway_and_once_more_from_its_spool(
    settings: Settings, parcels: Cli, tmp_path: Path
) -> None:
    parcels("topics", "apply", "--partitions", "2", check=True)
    truth, data = str(tmp_path / "truth.json"), tmp_path / "gateway"
    with gateway(settings, data) as address:
        assert address.startswith("http://127.0.0.1:")
        parcels(
            "simulate",
            "--parcels",
            "400",
            "--truth",
            truth,
            "--via",
            "http",
            "--gateway",
            address,
            check=True,
        )
    parcels("run", "--until-idle", "2", check=True)
    verified = parcels("verify", truth)
    assert verified.returncode == 0, verified.stdout
    status = json.loads(parcels("spool", "status", "--data", str(data), "--json", check=True).stdout)
    assert status["ok"] and status["waiting_records"] == 0 and status["records"]["scans"] > 2_000
    ticks = 4_320
    assert status["records"]["containers"] > 1_000 + ticks
    again = json.loads(parcels("spool", "resend", "--since", "1h", "--data", str(data), "--json", check=True).stdout)
    assert again["sent"] == status["records"]["scans"] + status["records"]["containers"] - ticks
    parcels("run", "--until-idle", "2", check=True)
    verified = parcels("verify", truth)
    assert verified.returncode == 0, verified.stdout
