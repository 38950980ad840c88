"""A parcel with an advice, 12 scans and 6 promises costs 800 bytes at most, spare room included."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.memory import LIMIT, SCANS


def test_a_parcel_costs_at_most_800_bytes():
    """In a process of its own, so that what it grows by is what the table needs."""
    repository = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.memory", "--parcels", "250000", "--json"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in {0, 1}, ran.stderr[-3000:]
    figures = json.loads(ran.stdout)
    assert figures["records"] == figures["parcels"] * (1 + len(SCANS))
    assert figures["table_bytes_per_parcel"] <= LIMIT, figures
    assert figures["process_bytes_per_parcel"] <= LIMIT, figures
