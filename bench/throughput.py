"""Scans per second: every program folds the same log, in turn, several times."""

import statistics
import time
from typing import Any

from bench import same
from bench.common import Cluster, UnsupportedError, console, cpu_seconds_of
from bench.programs import PROGRAMS, Mode, Program, require_supported
from streams.errors import StreamsError

# A slower rate means a hang: it is a tenth of the rate of Kafka Streams on two cores.
_SLOWEST = 4_000
# The broker took 11 CPU seconds for the first of some equal runs, and 4 from the third on.
_WARM_UPS = 2
# Time for a program to get its partitions, on a machine that is also busy otherwise.
_START_SECONDS = 180


def measure(cluster: Cluster, records: int, mode: Mode, repeat: int) -> dict[str, Any] | None:
    """Run every program `repeat` times over the log, one after the other in turn.

    Returns:
        Rates by program, their ratio, and every run; None when a program has no such mode.

    Raises:
        StreamsError: a program failed, lost records, or the programs do not agree about the outcome.
    """
    runs: dict[str, list[dict[str, Any]]] = {program.key: [] for program in PROGRAMS}
    outcomes: dict[str, same.Outcome] = {}
    for turn in range(repeat):
        for program in PROGRAMS:
            doing = f"{program.title}, {mode}, run {turn + 1} of {repeat}"
            try:
                run = _run(cluster, program, records, mode, doing)
            except UnsupportedError as error:
                console.print(f"left out: {error}")
                return None
            runs[program.key].append(run)
            console.print(
                f"{doing}: {run['rate']:,.0f} scans/s, {run['cpu_seconds_per_million']:.1f} CPU seconds per million"
            )
            if mode != "replay" and turn == 0:
                outcomes[program.key] = same.outcome(cluster)
    result: dict[str, Any] = {key: _summary(taken) for key, taken in runs.items()}
    result["ratio"] = round(result["ours"]["rate"] / result["kafka_streams"]["rate"], 2)
    result["records"] = records
    result["runs"] = runs
    if outcomes:
        with console.status("comparing the outcomes"):
            result["same_outcome"] = same.compare(outcomes["ours"], outcomes["kafka_streams"])
        console.print(
            f"both programs hold the same {result['same_outcome']['parcels']:,} states and wrote the same "
            f"{result['same_outcome']['milestones']:,} milestones and "
            f"{sum(result['same_outcome']['alerts'].values()):,} alerts of promises"
        )
    return result


def warm_up(cluster: Cluster, records: int) -> None:
    """Warm up a broker that was just started: the JIT compilation of the broker is no property of a program.

    Raises:
        StreamsError: the worker failed.
    """
    for turn in range(_WARM_UPS):
        _run(cluster, PROGRAMS[0], records, "live", f"warming up the broker, {turn + 1} of {_WARM_UPS}")


def _run(cluster: Cluster, program: Program, records: int, mode: Mode, doing: str) -> dict[str, Any]:
    cluster.fresh_outputs()
    folder = cluster.scratch / f"{program.key}-{mode}-{time.monotonic_ns()}"
    broker_before = cpu_seconds_of(cluster.broker_pid)
    watched = program.start(cluster, folder, mode, records)
    watched.wait(_START_SECONDS + records / _SLOWEST, doing)
    require_supported(watched, mode)
    report = watched.report()
    broker_after = cpu_seconds_of(cluster.broker_pid)
    if report["records"] != records:
        raise StreamsError(f"{program.title} took {report['records']:,} of {records:,} records")
    run = {
        "rate": round(records / report["seconds"]),
        "seconds": report["seconds"],
        "cpu_seconds": round(watched.cpu_seconds, 2),
        "cpu_seconds_per_million": round(watched.cpu_seconds / records * 1e6, 2),
        "peak_megabytes": round(watched.peak_megabytes),
    }
    if broker_before is not None and broker_after is not None:
        run["broker_cpu_seconds"] = round(broker_after - broker_before, 2)
    if "phases" in report:
        run["phases"] = report["phases"]
    return run


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [run["rate"] for run in runs]
    summary: dict[str, Any] = {"rate": round(statistics.median(rates)), "min": min(rates), "max": max(rates)}
    for figure in ("cpu_seconds_per_million", "peak_megabytes", "broker_cpu_seconds"):
        taken = [run[figure] for run in runs if figure in run]
        if taken:
            summary[figure] = round(statistics.median(taken), 2)
    # All phases are those of the median run, so that they add up.
    middle = sorted(runs, key=lambda run: run["rate"])[len(runs) // 2]
    if "phases" in middle:
        summary["phases"] = middle["phases"]
    return summary
