"""`python -m bench promises`: the cost of promises in the parcel processor, without a broker.

The same scans with a tick for every hundred of them, folded with no promises and with those that are shipped, in turn.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

from bench.memory import SCANS, History
from streams.domain.promises import Promises
from streams.processors.parcel_processor import ParcelProcessor

_BATCH = 20_000
_RECORDS_PER_TICK = 100
# The least share of the rate that must remain with promises, states and alerts encoded.
LEAST_SHARE = 0.7


def _mixed(parcels: int) -> list[bytes]:
    """A log with many parcels under way at once, and Ticks."""
    history = History()
    blocks = [batch for batch in history.batches(parcels) if len(batch) > 1]
    rows = [value for batch in blocks for value in batch]
    # Each batch is one step of all parcels, with Ticks between the records as time passes.
    begin, end = history.end(0) - len(SCANS) * 17 * 60_000, history.end(parcels)
    log: list[bytes] = []
    for place in range(0, len(rows), _RECORDS_PER_TICK):
        log += rows[place : place + _RECORDS_PER_TICK]
        log += history.ticks([begin + (end - begin) * place // len(rows)])
    return log


def _rate(log: Sequence[bytes], promises: Promises, *, outputs: bool) -> float:
    stage = ParcelProcessor(0, 1, promises)
    started = time.perf_counter()
    for first in range(0, len(log), _BATCH):
        stage.run(log[first : first + _BATCH], outputs=outputs)
    return len(log) / (time.perf_counter() - started)


def measure_promises(parcels: int, repeat: int) -> dict[str, float]:
    """Records/s with and without promises, medians of interleaved runs."""
    log = _mixed(parcels)
    result: dict[str, float] = {"records": len(log), "promises": len(Promises.default().promises)}
    for outputs in (False, True):
        rates: dict[str, list[float]] = {"without": [], "with": []}
        for turn in range(repeat + 1):
            for name, promises in (("without", Promises.empty()), ("with", Promises.default())):
                rate = _rate(log, promises, outputs=outputs)
                if turn:
                    rates[name].append(rate)
        what = "with_outputs" if outputs else "folded_only"
        for name, found in rates.items():
            result[f"{what}_{name}"] = round(statistics.median(found))
        result[f"{what}_share"] = round(statistics.median(rates["with"]) / statistics.median(rates["without"]), 3)
    return result


def main(arguments: list[str]) -> int:
    """Print the figures; 1 when promises cost more than they may."""
    parser = argparse.ArgumentParser(prog="python -m bench promises", description=__doc__)
    parser.add_argument("--parcels", type=int, default=30_000, help="under way at once (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args(arguments)
    cost = measure_promises(options.parcels, options.repeat)
    if options.json:
        print(json.dumps(cost))
    else:
        for what in ("folded_only", "with_outputs"):
            print(
                f"{what.replace('_', ' ')}: {cost[what + '_without']:,.0f} records/s without promises, "
                f"{cost[what + '_with']:,.0f} with {cost['promises']}: {cost[what + '_share']:.0%}"
            )
    return 0 if cost["with_outputs_share"] >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
