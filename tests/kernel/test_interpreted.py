"""The same code has the same outputs: compiled, compiled with bounds checks, and interpreted."""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from streams.domain.limits import EARLIEST_MS, LATEST_MS
from streams.domain.reject_reasons import RejectReason
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.fold_digest import digest, load, write
from tests.kernel.records import advice, framed, scan, tick, void
from tests.kernel.test_bounds import unusable_value
from tests.kernel.test_fold import long_history
from tests.kernel.test_tick_alerts import days

MODES = {"interpreted": {"NUMBA_DISABLE_JIT": "1"}, "bounds": {"NUMBA_BOUNDSCHECK": "1"}}
LONGEST = "x" * 255
ENDS = (EARLIEST_MS, LATEST_MS - 1)


def dirty_log(seed, size):
    """Histories, extreme values and unusable values, with parcels of both partitions."""
    rng = random.Random(seed)
    history = long_history(seed, size, ("P", "Q", "R", "S", "T" * 128))
    history += [advice(f"advice {number}", f"N{number}", promised_at=number) for number in range(20)]
    for number, time in enumerate(ENDS):
        texts = dict.fromkeys(("site", "station", "lane", "reason", "container_id"), LONGEST)
        history.append(scan("e" * 1024, f"L{number}", "SORTED", time, utc_offset_minutes=-840, **texts))
        history.append(void("v" * 1024, f"L{number}", "e" * 1024, time, **texts))
        plan = dict.fromkeys(("service", "origin", "destination", "planned_lane", "owner"), LONGEST)
        history.append(advice("a" * 1024, f"L{number}", time, promised_at=time, **plan))
    values = [framed(record) for record in history]
    small = [value for value in map(unusable_value, range(size // 2)) if value is None or len(value) < 1000]
    values += small
    rng.shuffle(values)
    # Some days with their ticks, in order; at the end all parcels retire.
    return values + [framed(record) for record in (*days(seed, size), *(tick(time) for time in ENDS))]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    path = tmp_path_factory.mktemp("fold") / "history"
    write(path, dirty_log(seed=3, size=350))
    return path


def test_the_log_is_dirty_enough(history):
    """The log leads to every kind of output that the modes are compared on."""
    values = load(history)
    output = ParcelProcessor(partition=1, partitions=2).run(values)
    reasons = Counter(reason for _, reason in output.rejects)
    assert reasons.keys() >= {
        RejectReason.NO_VALUE,
        RejectReason.TRUNCATED,
        RejectReason.INVALID_UTF8,
        RejectReason.BAD_PARCEL_ID,
        RejectReason.OUT_OF_BOUNDS,
        RejectReason.WRONG_PARTITION,
    }
    assert len(values) - len(output.rejects) > 100
    assert output.duplicates > 3 and len(output.milestones) > 20 and len(output.tombstones) > 5
    assert {alert_type for alert_type, _ in output.alert_counts} == {"AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY"}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_the_same_outputs(mode, history):
    repository = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-m", "tests.kernel.fold_digest", str(history)],
        env=os.environ | {"PYTHONPATH": str(repository)} | MODES[mode],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.strip() == digest(load(history))
