"""`python -m bench`: measures this worker beside Kafka Streams and writes the results."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from bench import containers, fanout, gateway, latency, memory, promises, recovery, report, throughput, ticks, workload
from bench.common import RESULTS, cluster, console, machine
from bench.programs import KafkaStreams, Mode
from streams.errors import Misconfigured, StreamsError

_MEASUREMENTS = ("live", "live_plain", "replay", "latency", "containers", "gateway")
# Measurements of this worker alone.
_WITHOUT_PEER = {"containers", "gateway"}
_MODES: tuple[Mode, ...] = ("live", "live_plain", "replay")
# The secondary measurements are repeated less often, so that a whole run takes less than a quarter of an hour.
_SECONDARY_REPEAT = 2


def main() -> int:
    """Run the measurements that the command line names. Returns 0 if all of them succeeded."""
    if sys.argv[1:2] == ["recovery"]:
        return recovery.main(sys.argv[2:])
    if sys.argv[1:2] == ["memory"]:
        return memory.main(sys.argv[2:])
    if sys.argv[1:2] == ["ticks"]:
        return ticks.main(sys.argv[2:])
    if sys.argv[1:2] == ["promises"]:
        return promises.main(sys.argv[2:])
    if sys.argv[1:2] == ["fanout"]:
        return fanout.main(sys.argv[2:])
    options = _options()
    started = time.monotonic()
    with_peer = set(options.only) - _WITHOUT_PEER
    if with_peer:
        KafkaStreams.build()
    result: dict[str, Any] = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": workload.commit(),
        "machine": machine(),
        "kafka_streams": KafkaStreams.settings() if with_peer else None,
    }
    secondary_repeat = min(options.repeat, _SECONDARY_REPEAT)
    with cluster() as given:
        records = workload.produce(given, options.records) if with_peer else None
        if records is not None and not options.quick and with_peer - {"latency"}:
            throughput.warm_up(given, records)
        for mode in _MODES:
            if mode in options.only and records is not None:
                repeat = options.repeat if mode == "live" else secondary_repeat
                result[mode] = throughput.measure(given, records, mode, repeat)
        if "latency" in options.only:
            seconds, warm_up = (5, 5) if options.quick else (20, 15)
            result["latency"] = latency.measure(given, options.rate, seconds, warm_up, secondary_repeat)
        if "containers" in options.only:
            result["containers"] = containers.measure(given, options.records // 2, options.repeat)
        if "gateway" in options.only:
            result["gateway"] = gateway.measure(given.with_prefix("gateway"), 3 if options.quick else 10)
    if "gateway" in result:
        gateway.show(result["gateway"])
    if not with_peer:
        report.show(result)
        report.write(result, options.results / "-".join(sorted(options.only)), time.strftime("%Y-%m-%d-%H%M%S"))
        return 0
    if result.get("live") and result.get("live_plain"):
        result["promises_cost"] = report.promises_cost(result)
    result["phases"] = {mode: result[mode]["ours"].get("phases") for mode in _MODES if result.get(mode)}
    report.show(result)
    report.write(result, options.results, time.strftime("%Y-%m-%d-%H%M%S") + ("-quick" if options.quick else ""))
    if options.results == RESULTS and not options.quick:
        report.rewrite_readme(result)
    console.print(f"{time.monotonic() - started:.0f} s in all")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="This worker beside Kafka Streams: the same scans, the same broker, in turn. Uses the cluster of "
        "KAFKA_BOOTSTRAP_SERVERS, else starts a broker of its own. Both watch the six promises that are shipped, but "
        "in live_plain. Kafka Streams does less: no anomalies, no retirement, no hub.throughput, no dead letters. "
        "`python -m bench recovery` measures how soon a killed worker's work goes on, `python -m bench memory` what a "
        "parcel costs in memory, `python -m bench ticks` what a Tick costs, `python -m bench promises` what promises "
        "cost the fold, `python -m bench fanout` how soon all parcels of a ULD have its scan.",
    )
    parser.add_argument("--records", type=int, default=2_000_000, help="scans to fold (default: %(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each program, 2 at most beside live (default: %(default)s)"
    )
    parser.add_argument("--rate", type=int, default=10_000, help="latency: scans a second (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=_MEASUREMENTS, default=_MEASUREMENTS, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="200,000 scans, one run of each: a trial, no figures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default: bench/results)")
    options = parser.parse_args()
    if options.quick:
        options.records, options.repeat = 200_000, 1
        if options.results == RESULTS:
            options.results = RESULTS / "quick"
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Misconfigured as error:
        console.print(f"bench: {error}", style="red", markup=False)
        sys.exit(2)
    except StreamsError as error:
        console.print(f"bench: {error}", style="red", markup=False)
        sys.exit(1)
