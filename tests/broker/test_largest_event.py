"""One event with as many children as a container may have: the events behind it wait only a moment.

Every child gets its scan.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.domain.limits import MAX_CHILDREN_PER_CONTAINER
from streams.formats.record_parser import RecordParser
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kafka.clients import new_consumer, new_producer
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from tests.processors.single_partition import START

MANY = [f"P{n:05d}" for n in range(MAX_CHILDREN_PER_CONTAINER)]
# Between 0.6 and 0.7 s on two cores that only the broker, the worker and the reader share.
PATIENCE_SECONDS = 3


def line(container, kind, minute, **more):
    event = {"type": "container", "event_id": f"{container}/{kind}/{minute}", "container_id": container, "kind": kind}
    return RecordParser()({**event, "event_time": START + minute * 60_000, "site": "LGG", "station": "X", **more})


@pytest.fixture
def worker(parcels, settings: KafkaSettings):
    """A worker that has packed a bag already, so that all code is loaded."""
    parcels("topics", "apply", "--partitions", "1", check=True)
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "PARCELS_PREFIX": settings.prefix,
    }
    command = [sys.executable, "-m", "streams.cli", "run"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        yield process
        process.terminate()


def test_the_next_container_waits_only_a_moment(worker, settings: KafkaSettings) -> None:
    to = new_producer(settings)
    reader = new_consumer(settings, f"{settings.prefix}looking", **{"auto.offset.reset": "earliest"})
    reader.subscribe([settings.prefix + SCANS_TOPIC])
    seen: list[tuple[bytes, float]] = []

    def send(*lines):
        for each in lines:
            to.produce(settings.prefix + CONTAINERS_TOPIC, each.value, each.key, partition=0)
        assert to.flush(30) == 0

    def until(enough, seconds):
        end = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < end, f"{len(seen)} scans"
            messages = reader.consume(10_000, 0.05)
            seen.extend((message.key() or b"", time.monotonic()) for message in messages if message.error() is None)

    send(line("B", "PACKED", 0, parcels=["Q"]))
    until(lambda: seen, 90)
    seen.clear()
    send(line("A", "PACKED", 1, parcels=MANY), line("B", "ARRIVED", 2))
    sent = time.monotonic()
    until(lambda: any(key == b"Q" for key, _ in seen), 30)
    waited = next(at for key, at in seen if key == b"Q") - sent
    print(f"the next container's scan was there after {waited:.2f} s")
    assert waited < PATIENCE_SECONDS
    until(lambda: len([key for key, _ in seen if key.startswith(b"P")]) >= len(MANY), 60)
    print(f"all {len(MANY):,} after {time.monotonic() - sent:.2f} s")
    reader.close()
    keys = [message.key() for message in read_to_end(settings, settings.prefix + SCANS_TOPIC) if message.key()]
    assert sorted(keys) == sorted([b"Q", b"Q", *map(str.encode, MANY)])
