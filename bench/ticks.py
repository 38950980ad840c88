"""`python -m bench ticks`: the cost of Ticks over a million parcels: one Tick with everything due, and a day of Ticks.

Every parcel has an advice and was unloaded and sorted shortly before the day. The day then brings alerts: every parcel
is silent for too long once, and its dispatch comes to be at risk and broken. Days later the same table knows another
day at which nothing becomes due. Ticks come in batches, as from the log; nothing is encoded.

Before that, one Tick before which the clock stood still for days: everything is due at it, and is encoded as a worker
does before it sends it. Memory is that of the process at its peak.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from bench.common import RESULTS, console, machine
from bench.memory import History, resident_bytes
from bench.workload import commit
from streams.domain.kinds import ARRIVED, SORTED, UNLOADED
from streams.kernel.parcel_table import ROWS_PER_BLOCK
from streams.processors.parcel_processor import ParcelProcessor

TICKS = 86_400
_BATCH = 1_000
_DAY = 86_400_000
# All alerts are written by then, and no parcel retires yet.
_QUIET_AFTER = 8 * _DAY


def measure(parcels: int, ticks: int) -> dict[str, Any]:
    """Fold Ticks over tables of `parcels` parcels: one at which everything is due, and days of `ticks` Ticks."""
    history = History((ARRIVED, UNLOADED, SORTED))
    # Load compiled code before the measurement.
    _fold_large(_filled(history, 100), history.end(100) + _QUIET_AFTER, history)
    with console.status(f"a Tick that is due for {parcels:,} parcels"):
        large = _fold_large(_filled(history, parcels), history.end(parcels) + _QUIET_AFTER, history)
    with console.status(f"folding the scans of {parcels:,} parcels"):
        stage = _filled(history, parcels)
    begin = history.end(parcels)
    with console.status(f"{ticks:,} Ticks"):
        busy = _fold(stage, history, begin, ticks)
        stage.run(history.ticks([begin + _QUIET_AFTER]), outputs=False)
        quiet = _fold(stage, history, begin + _QUIET_AFTER + 1_000, ticks)
    assert not quiet["alerts"], quiet
    return {
        "parcels": len(stage.table),
        "ticks": ticks,
        "all_due_at_once": large,
        "day_with_alerts": busy,
        "day_with_nothing_due": quiet,
        "comparisons_per_tick_with_nothing_due": -(-len(stage.table) // ROWS_PER_BLOCK),
    }


def _filled(history: History, parcels: int) -> ParcelProcessor:
    stage = ParcelProcessor(partition=0, partitions=1)
    for batch in history.batches(parcels):
        stage.run(batch, outputs=False)
    return stage


def _fold_large(stage: ParcelProcessor, hub_time: int, history: History) -> dict[str, Any]:
    before = resident_bytes()
    said = stage.run(history.ticks([hub_time]))
    blocks = (said.states, said.alerts, said.milestones, said.tombstones, said.throughput)
    return {
        "alerts": sum(said.alert_counts.values()),
        "states": len(said.states),
        "megabytes_encoded": round(sum(len(each.key_bytes) + len(each.value_bytes) for each in blocks) / 1e6, 1),
        "seconds_to_decide": round(said.phase_seconds["fold"], 2),
        "seconds_to_encode": round(said.phase_seconds["encode"], 2),
        "megabytes_before": round(before / 1e6),
        "megabytes_at_its_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }


def _fold(stage: ParcelProcessor, history: History, begin: int, ticks: int) -> dict[str, Any]:
    seconds, ticking, alerts = 0.0, 0.0, 0
    for first in range(0, ticks, _BATCH):
        batch = history.ticks([begin + number * 1_000 for number in range(first, min(first + _BATCH, ticks))])
        started = time.perf_counter()
        said = stage.run(batch, outputs=False)
        seconds += time.perf_counter() - started
        ticking += said.phase_seconds["fold"]
        alerts += sum(said.alert_counts.values())
    return {
        "seconds": round(seconds, 2),
        "microseconds_per_tick": round(ticking / ticks * 1e6, 2),
        "alerts": alerts,
    }


def main(arguments: list[str]) -> int:
    """Print the figures and write them to a file."""
    parser = argparse.ArgumentParser(prog="python -m bench ticks", description=__doc__)
    parser.add_argument("--parcels", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--ticks", type=int, default=TICKS, help="one a second; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default: bench/results)")
    options = parser.parse_args(arguments)
    result = measure(options.parcels, options.ticks)
    if options.json:
        print(json.dumps(result))
    else:
        busy, quiet = result["day_with_alerts"], result["day_with_nothing_due"]
        large = result["all_due_at_once"]
        print(
            f"one Tick at which all of {result['parcels']:,} parcels are due: {large['alerts']:,} alerts, "
            f"{large['megabytes_encoded']:,.0f} MB with the states; {large['seconds_to_decide']:.1f} s to decide, "
            f"{large['seconds_to_encode']:.1f} s to encode; {large['megabytes_before']:,} MB of memory before, "
            f"{large['megabytes_at_its_peak']:,} MB at its peak"
        )
        print(f"{result['parcels']:,} parcels, {result['ticks']:,} Ticks of a second")
        print(f"a day with {busy['alerts']:,} alerts: {busy['seconds']:.1f} s in all")
        print(
            f"a day with nothing due: {quiet['seconds']:.1f} s in all; a Tick costs "
            f"{result['comparisons_per_tick_with_nothing_due']:,} comparisons, {quiet['microseconds_per_tick']:.1f} µs"
        )
    about = {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit()}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "ticks.json").write_text(json.dumps(about | {"machine": machine()} | result, indent=2) + "\n")
    return 0
