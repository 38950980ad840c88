"""A parcel with an advice, 12 scans and 6 promises takes at most 800 bytes, including unused capacity."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.memory import LIMIT, SCANS


def test_a_parcel_takes_at_most_800_bytes():
    """Runs in a process of its own, so that the growth of the process is the memory of the table."""
    repository = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-m", "bench.memory", "--parcels", "250000", "--json"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode in {0, 1}, process.stderr[-3000:]
    figures = json.loads(process.stdout)
    assert figures["records"] == figures["parcels"] * (1 + len(SCANS))
    assert figures["table_bytes_per_parcel"] <= LIMIT, figures
    assert figures["process_bytes_per_parcel"] <= LIMIT, figures
