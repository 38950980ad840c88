"""The time until work continues after a worker is killed, by group protocol, and the time to restore a table.

`python -m bench recovery`. Recovery: from SIGKILL to the new process joining its group, to the first batch that is
committed after it, and to the first in every partition; the worker is started again at once, as a supervisor would.
Restore: from the assignment to the last partition of parcels being ready, with many of them in parcel.state.
"""

import argparse
import json
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from bench.common import RESULTS, Cluster, Watched, cluster, console, machine, reader_of, start, wait_until
from bench.workload import SEED, commit
from streams.errors import StreamsError
from streams.formats import topics
from streams.kafka import topic_admin

_PATIENCE = 180.0
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Way:
    """A way to join the group."""

    title: str
    protocol: str
    # The same static id after a restart; with a new id each time the group sees a new member.
    same_name: bool

    def options(self, number: int) -> list[str]:
        """Options of `parcels run` for start number `number`."""
        if self.protocol == "consumer":
            return ["--group-protocol", "consumer"]
        return ["--group-protocol", "classic", "--group-instance-id", "bench" if self.same_name else f"bench-{number}"]


WAYS = {
    "classic-static": Way("classic, static members", "classic", same_name=True),
    "classic-dynamic": Way("classic, dynamic members", "classic", same_name=False),
    "consumer": Way("consumer (KIP-848), dynamic members", "consumer", same_name=False),
}


def main(arguments: list[str]) -> int:
    """Run the measurements that the command line names."""
    options = _options(arguments)
    result: dict[str, Any] = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "machine": machine(),
    }
    with cluster() as given:
        if options.repeat:
            result["recovery"] = {
                name: _recover(given.with_prefix(name), WAYS[name], options.repeat, options.rate)
                for name in options.protocols
            }
        if options.parcels:
            result["restore"] = _restore(given.with_prefix("restore"), options.parcels)
    _show(result)
    options.results.mkdir(parents=True, exist_ok=True)
    target = options.results / f"recovery-{time.strftime('%Y-%m-%d-%H%M%S')}.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"written to {target}", markup=False)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench recovery", description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="kills for each protocol; 0: none (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=2_000, help="scans a second meanwhile (default: %(default)s)")
    parser.add_argument(
        "--parcels", type=int, default=1_000_000, help="parcels to restore; 0: none (default: %(default)s)"
    )
    parser.add_argument("--protocols", nargs="+", choices=WAYS, default=list(WAYS), help="which (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default: bench/results)")
    return parser.parse_args(arguments)


def _command(name: str, given: Cluster, *options: str) -> list[str]:
    where = ["--bootstrap", given.settings.bootstrap, "--prefix", given.settings.prefix]
    return [sys.executable, "-m", "streams.cli", name, *where, *options]


# Recovery


def _recover(given: Cluster, way: Way, repeat: int, rate: int) -> dict[str, Any]:
    topic_admin.apply_topics(given.settings, topic_admin.plan_topics(given.settings))
    started, first, every = [], [], []
    with _scans_flow(given, rate), _Positions(given) as positions:
        worker = _worker(given, way, 0)
        try:
            for turn in range(1, repeat + 1):
                _wait_until_all_fold(positions, worker, time.time())
                time.sleep(_SETTLE_SECONDS)
                killed = time.time()
                worker.process.send_signal(signal.SIGKILL)
                wait_until(worker.ended, 30, "the worker did not die")
                worker = _worker(given, way, turn)
                times = _wait_until_all_fold(positions, worker, killed)
                started.append(_when(_lines(worker), "parcels.worker.started") - killed)
                first.append(min(times) - killed)
                every.append(max(times) - killed)
                console.print(f"{way.title}: back after {first[-1]:.1f} s, every partition after {every[-1]:.1f} s")
        finally:
            worker.stop()
    return {
        figure: {"median": round(statistics.median(times), 2), "max": round(max(times), 2), "all": _rounded(times)}
        for figure, times in (("started_seconds", started), ("first_seconds", first), ("every_seconds", every))
    }


def _rounded(times: list[float]) -> list[float]:
    return [round(each, 2) for each in times]


def _worker(given: Cluster, way: Way, number: int) -> Watched:
    return start(
        "parcels run", _command("run", given, *way.options(number)), given.scratch / f"{given.settings.prefix}{number}"
    )


@contextmanager
def _scans_flow(given: Cluster, rate: int) -> Iterator[None]:
    # More parcels than are needed: the simulator is stopped at the end.
    command = _command(
        "simulate", given, "--seed", str(SEED), "--parcels", "300000", "--rate", str(rate), "--scans-only"
    )
    simulator = start("parcels simulate", command, given.scratch / f"{given.settings.prefix}simulate")
    try:
        yield
    finally:
        simulator.stop()


class _Positions:
    """When each partition's newest position was written, as a committed reader of parcel.state sees it."""

    def __init__(self, given: Cluster) -> None:
        self._reader = reader_of(given.settings, topics.PARCEL_STATE_TOPIC)
        # Partition -> wall-clock seconds at which the first position after `since` was written.
        self.first: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def look(self, since: float) -> None:
        """Read the records that have arrived."""
        first = self._reader.poll(0.02)
        for record in () if first is None else (first, *self._reader.consume(20_000, 0)):
            if record.error() is None and record.key() == topics.POSITION_KEY:
                written = record.timestamp()[1] / 1000
                if written > since:
                    self.first.setdefault(record.partition(), written)


def _wait_until_all_fold(positions: _Positions, worker: Watched, since: float) -> list[float]:
    positions.first.clear()
    deadline = time.monotonic() + _PATIENCE
    while len(positions.first) < topics.DEFAULT_PARTITIONS:
        positions.look(since)
        if worker.ended():
            raise StreamsError(f"the worker ended: {worker.last_words()}")
        if time.monotonic() > deadline:
            raise StreamsError(f"only partitions {sorted(positions.first)} are folded after {_PATIENCE:g} s")
    return list(positions.first.values())


# Restore


def _restore(given: Cluster, parcels: int) -> dict[str, Any]:
    topic_admin.apply_topics(given.settings, topic_admin.plan_topics(given.settings))
    patience = 600 + parcels / 500
    simulator = start(
        "parcels simulate",
        _command("simulate", given, "--seed", str(SEED), "--parcels", str(parcels), "--no-faults", "--scans-only"),
        given.scratch / "restore-simulate",
    )
    simulator.wait(patience, f"simulating {parcels:,} parcels")
    filling = start(
        "parcels run", _command("run", given, "--until-idle", "5", "--json"), given.scratch / "restore-fill"
    )
    filling.wait(patience, f"folding {parcels:,} parcels")
    records = filling.report()["records"]
    runs = []
    for turn in range(3):
        watched = start(
            "parcels run",
            _command("run", given, "--until-idle", "1", "--group-instance-id", f"restore-{turn}"),
            given.scratch / f"restore-{turn}",
        )
        watched.wait(patience, f"restoring {parcels:,} parcels")
        runs.append(_restored(watched))
        console.print(f"restored {runs[-1]['parcels']:,} parcels in {runs[-1]['seconds']:.1f} s")
    return {"scans": records, "seconds": min(run["seconds"] for run in runs), "runs": runs}


def _restored(watched: Watched) -> dict[str, Any]:
    lines = _lines(watched)
    ready = [line for line in lines if line["event"] == "parcels.worker.restored" and line["processor"] == "parcels"]
    if len(ready) != topics.DEFAULT_PARTITIONS:
        raise StreamsError(f"{len(ready)} partitions were restored: {watched.last_words()}")
    seconds = max(_moment(line) for line in ready) - _when(lines, "parcels.worker.partitions_assigned")
    return {
        "parcels": sum(line["rows"] for line in ready),
        "records": sum(line["records"] for line in ready),
        "seconds": round(seconds, 2),
        "peak_megabytes": round(watched.peak_megabytes),
    }


def _lines(watched: Watched) -> list[dict[str, Any]]:
    return [json.loads(line) for line in watched.errors.read_text().splitlines() if line.startswith("{")]


def _when(lines: list[dict[str, Any]], event: str) -> float:
    """Wall-clock seconds of the first line of an event."""
    return next(_moment(line) for line in lines if line["event"] == event)


def _moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _show(result: dict[str, Any]) -> None:
    if "recovery" in result:
        table = Table(
            "seconds from SIGKILL to", "joining, median", "max", "a batch, median", "max", "one in each, median", "max"
        )
        for name, figures in result["recovery"].items():
            cells = [each[figure] for each in figures.values() for figure in ("median", "max")]
            table.add_row(WAYS[name].title, *(f"{each:.1f}" for each in cells))
        console.print(table)
    if "restore" in result:
        table = Table("parcels", "records read", "seconds", "largest memory, MB")
        for run in result["restore"]["runs"]:
            table.add_row(
                f"{run['parcels']:,}", f"{run['records']:,}", f"{run['seconds']:.1f}", f"{run['peak_megabytes']:,}"
            )
        console.print(table)
