"""A hub day in which most scans are inferred from containers: parcel-scans/s through both processors of one worker.

What the container stage infers goes into hub.scans, so every run has topics of its own, filled with the same day.
"""

import statistics
import sys
import time
from typing import Any

from bench.common import Cluster, console, start
from bench.workload import SEED
from streams.errors import StreamsError
from streams.formats import topics
from streams.kafka import topic_admin

# Own and inferred scans of a parcel, its advice among them.
SCANS_PER_PARCEL = 11.9
_SECONDS = 300
_IDLE_SECONDS = 5
# The container processor writes nothing else that the parcel processor has to wait for.
_SLOWEST = 5_000


def measure(cluster: Cluster, scans: int, repeat: int) -> dict[str, Any]:
    """The rate of `repeat` runs over a day of about `scans` parcel-scans.

    Raises:
        StreamsError: the simulator or the worker failed, or less was inferred than must be.
    """
    runs = []
    for turn in range(repeat):
        fresh = cluster.with_prefix(f"containers-{turn}")
        try:
            run = _run(fresh, scans, f"containers, run {turn + 1} of {repeat}")
        finally:
            fresh.remove()
        runs.append(run)
        console.print(
            f"containers, run {turn + 1} of {repeat}: {run['rate']:,.0f} parcel-scans/s, "
            f"{run['inferred_share']:.0%} of them inferred from {run['events']:,} events of containers"
        )
    rates = [run["rate"] for run in runs]
    middle = sorted(runs, key=lambda run: run["rate"])[len(runs) // 2]
    return {
        "rate": round(statistics.median(rates)),
        "min": min(rates),
        "max": max(rates),
        "inferred_share": middle["inferred_share"],
        "peak_megabytes": middle["peak_megabytes"],
        "runs": runs,
    }


def _run(cluster: Cluster, scans: int, doing: str) -> dict[str, Any]:
    topic_admin.apply_topics(cluster.settings, topic_admin.plan_topics(cluster.settings))
    where = ["--bootstrap", cluster.settings.bootstrap, "--prefix", cluster.settings.prefix, "--json"]
    command = [sys.executable, "-m", "streams.cli"]
    folder = cluster.scratch / f"containers-{time.monotonic_ns()}"
    day = ["simulate", "--seed", str(SEED), "--parcels", str(round(scans / SCANS_PER_PARCEL))]
    simulator = start("parcels simulate", [*command, *day, *where], folder / "simulate")
    simulator.wait(_SECONDS, f"{doing}: simulating a day")
    sent = simulator.report()
    worker = start("parcels run", [*command, "run", "--until-idle", str(_IDLE_SECONDS), *where], folder / "run")
    worker.wait(_SECONDS + scans / _SLOWEST, doing)
    report = worker.report()
    own = sent["records"] + sent["duplicates"]
    ticks = sent["ticks"] * topics.DEFAULT_PARTITIONS
    folded = report["records"] - ticks
    inferred = folded - own - sum(sent["dead_letters"].values())
    if inferred < sent["parcels"]:
        raise StreamsError(f"{inferred:,} scans were inferred for {sent['parcels']:,} parcels")
    return {
        "rate": round(folded / report["seconds"]),
        "seconds": report["seconds"],
        "scans": folded,
        "inferred_share": round(inferred / (inferred + sent["records"] - sent["advices"]), 3),
        "events": report["containers"]["records"] - ticks,
        "cpu_seconds": round(worker.cpu_seconds, 2),
        "peak_megabytes": round(worker.peak_megabytes),
        "phases": {
            stage: figures["phases"] for stage, figures in (("parcels", report), ("containers", report["containers"]))
        },
    }
