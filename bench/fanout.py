"""A ULD arrives: the time until every parcel inside has its scan, and the effect on other parcels.

`python -m bench fanout`: a worker runs both processors while other parcels are scanned at a steady rate. ULDs arrive
one after the other; two thirds of their parcels are in bags, the others directly in the ULD. The first ULD does not
count, because broker and clients are cold. Measured are the time from sending the scan of the ULD until a reader of
committed records has seen the last inferred scan, the time until it has seen the last state with such a scan, and the
scan-to-state times of the other parcels before and during the fan-out.
"""

import argparse
import gc
import json
import multiprocessing
import time
from collections.abc import Iterable
from itertools import chain
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from confluent_kafka import Producer

from bench.common import RESULTS, cluster, console, group_is_stable, machine, reader_of, wait_until
from bench.programs import Ours
from bench.workload import commit
from streams.formats import topics
from streams.formats.record_parser import ProducerRecord, RecordParser
from streams.kafka import topic_admin
from streams.kafka.clients import new_producer
from streams.kafka.settings import KafkaSettings

_BAG: Final = 50
_WARM_UP_SECONDS: Final = 8.0
_BETWEEN_SECONDS: Final = 8.0
# Counted as "before": the seconds before the arrival, when the packing is long done.
_QUIET_SECONDS: Final = 4.0
_START_MS: Final = 1_772_355_600_000
_PLACE: Final = {"site": "LGG", "station": "GATE-1"}


def measure(parcels: int, rate: int, repeat: int) -> dict[str, Any]:
    """Measure the fan-out; times in ms.

    Args:
        parcels: inside each ULD.
        rate: scans of other parcels a second.
        repeat: how many ULDs that count arrive, one after the other.
    """
    with cluster() as given:
        fresh = given.with_prefix("fanout")
        topic_admin.apply_topics(fresh.settings, topic_admin.plan_topics(fresh.settings))
        context = multiprocessing.get_context("spawn")
        done, stop = context.Event(), context.Event()
        reader_end, reader_pipe = context.Pipe(duplex=False)
        sender_end, sender_pipe = context.Pipe(duplex=False)
        processes = [
            context.Process(target=_read, args=(fresh.settings, done, reader_pipe)),
            context.Process(target=_scan_others, args=(fresh.settings, rate, stop, sender_pipe)),
        ]
        worker = Ours().start(fresh, given.scratch / "fanout", "live", None)
        try:
            for process in processes:
                process.start()
            wait_until(lambda: group_is_stable(fresh.settings), 180, "the worker took no partitions")
            # Connect before anything is measured, because connecting takes half a second.
            ours = new_producer(fresh.settings, linger_ms=1)
            topic = fresh.settings.prefix + topics.CONTAINERS_TOPIC
            with console.status(f"{repeat} ULDs of {parcels:,} parcels beside {rate:,} scans/s"):
                time.sleep(_WARM_UP_SECONDS)
                arrivals = {number: _arrive(ours, topic, number, parcels) for number in range(1 + repeat)}
            del arrivals[0]
            stop.set()
            sent: dict[bytes, float] = sender_end.recv()
            time.sleep(1)
            done.set()
            scans, states = reader_end.recv()
        finally:
            worker.stop()
            for process in processes:
                if process.is_alive():
                    process.terminate()
    return _figures(parcels, arrivals, sent, scans, states) | {"parcels": parcels, "rate": rate}


def _arrive(sender: Producer, topic: str, number: int, parcels: int) -> float:
    """Pack a ULD, wait, and send its arrival; returns the time of sending."""
    inside = [f"U{number}P{place:06d}" for place in range(parcels)]
    bagged, loose = inside[: parcels * 2 // 3], inside[parcels * 2 // 3 :]
    bags = {f"BAG{number}-{place}": some for place, some in enumerate(_cut(bagged))}
    uld = f"ULD{number}"
    records = [_event(bag, "PACKED", 0, parcels=some) for bag, some in bags.items()]
    _send(sender, topic, [*records, _event(uld, "PACKED", 1, parcels=loose, containers=list(bags))])
    time.sleep(_BETWEEN_SECONDS)
    at = time.time()
    _send(sender, topic, [_event(uld, "ARRIVED", 2)])
    time.sleep(_BETWEEN_SECONDS)
    return at


def _cut(parcels: list[str]) -> list[list[str]]:
    return [parcels[first : first + _BAG] for first in range(0, len(parcels), _BAG)]


def _event(container: str, kind: str, minute: int, **more: Any) -> ProducerRecord:
    said = {"event_id": f"{container} {kind}", "container_id": container, "kind": kind, **_PLACE}
    return RecordParser()({"type": "container", **said, "event_time": _START_MS + minute * 60_000, **more})


def _send(sender: Producer, topic: str, lines: list[ProducerRecord]) -> None:
    for line in lines:
        sender.produce(topic, line.value, line.key)
    sender.flush(30)


def _scan_others(settings: KafkaSettings, rate: int, stop: Event, answer: Connection) -> None:
    """Send scans of parcels that are in no container, each of another parcel; runs in its own process."""
    reader, sender = RecordParser(), new_producer(settings, linger_ms=1)
    sent: dict[bytes, float] = {}
    began = time.time()
    while not stop.is_set():
        for number in range(len(sent), int((time.time() - began) * rate)):
            parcel = f"L{number:08d}"
            scan = {"event_id": parcel, "parcel_id": parcel, "kind": "ARRIVED", "event_time": _START_MS, **_PLACE}
            line = reader({"type": "scan", **scan})
            sent[cast(bytes, line.key)] = time.time()
            sender.produce(settings.prefix + topics.SCANS_TOPIC, line.value, line.key)
        sender.poll(0)
        time.sleep(0.001)
    sender.flush(30)
    answer.send(sent)


def _read(settings: KafkaSettings, done: Event, answer: Connection) -> None:
    """Record when each key is seen in hub.scans and in parcel.state; runs in its own process."""
    # The cycle collector would visit hundreds of thousands of lists now and then and delay what arrives meanwhile.
    gc.disable()
    readers = [
        reader_of(settings, topic, fetch_queue_backoff_ms=1)
        for topic in (topics.SCANS_TOPIC, topics.PARCEL_STATE_TOPIC)
    ]
    seen: list[dict[bytes, list[float]]] = [{}, {}]
    while not done.is_set():
        for reader, found in zip(readers, seen, strict=True):
            first = reader.poll(0.001)
            for record in [] if first is None else [first, *reader.consume(10_000, 0)]:
                key = cast("bytes | None", record.key())
                if record.error() is None and key is not None:
                    found.setdefault(key, []).append(time.time())
    answer.send(seen)


def _figures(
    parcels: int,
    arrivals: dict[int, float],
    sent: dict[bytes, float],
    scans: dict[bytes, list[float]],
    states: dict[bytes, list[float]],
) -> dict[str, Any]:
    committed, stated, during = [], [], list[tuple[float, float]]()
    for number, at in arrivals.items():
        inside = [f"U{number}P{place:06d}".encode() for place in range(parcels)]
        # Each parcel has two scans: the packing and the arrival.
        assert {len(scans.get(key, ())) for key in inside} == {2}, "scans are missing, or there are too many"
        committed.append(max(scans[key][1] for key in inside) - at)
        stated.append(max(states[key][-1] for key in inside) - at)
        during.append((at, at + stated[-1]))
    waits = [(at, states[key][0] - at) for key, at in sent.items() if key in states]
    before = [[wait for at, wait in waits if begin - _QUIET_SECONDS <= at < begin] for begin, _ in during]
    meanwhile = [[wait for at, wait in waits if begin <= at < end] for begin, end in during]
    quiet, busy = _p99(chain(*before)), _p99(chain(*meanwhile))
    return {
        "scans_committed_ms": [round(each * 1000) for each in committed],
        "states_committed_ms": [round(each * 1000) for each in stated],
        "others_p99_before_ms": round(quiet * 1000),
        "others_p99_meanwhile_ms": round(busy * 1000),
        "others_p99_ratio": round(busy / quiet, 2),
        "others_p99_ratio_of_each": [
            round(_p99(some) / _p99(others), 2) for others, some in zip(before, meanwhile, strict=True)
        ],
        "others_meanwhile": sum(map(len, meanwhile)),
    }


def _p99(seconds: Iterable[float]) -> float:
    return float(np.percentile(list(seconds), 99))


def main(arguments: list[str]) -> int:
    """Print the figures and write them to a file."""
    parser = argparse.ArgumentParser(prog="python -m bench fanout", description=__doc__)
    parser.add_argument("--parcels", type=int, default=15_000, help="in each ULD; default: %(default)s")
    parser.add_argument("--rate", type=int, default=1_000, help="scans of others a second; default: %(default)s")
    parser.add_argument("--repeat", type=int, default=8, help="ULDs that count; default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default: bench/results)")
    options = parser.parse_args(arguments)
    result = measure(options.parcels, options.rate, options.repeat)
    print(json.dumps(result, indent=2))
    about = {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit()}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "fanout.json").write_text(json.dumps(about | {"machine": machine()} | result, indent=2) + "\n")
    return 0
