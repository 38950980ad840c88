"""The gateway is killed under load, or Kafka behind it: every acknowledged record is in hub.scans."""

import itertools
import random
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from streams.capture.client import CaptureClient, GatewayUnreachableError, RequestRejectedError
from streams.formats import topics
from streams.formats.record_decoder import RecordDecoder
from streams.kafka.local_broker import free_port
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from tests.faults.harness import Broker, Chronicle, Installation, Member, wait_until

SEED = 20_260_306


class Load:
    """Clients that send batches as fast as they are answered, and keep the acknowledged records."""

    def __init__(self, address: str, clients: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.errors: list[str] = []
        self.slowest = 0.0
        self._address, self._stopping = address, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join(60)

    def _run(self, number: int) -> None:
        client = CaptureClient(self._address, delivery_timeout_seconds=60, timeout_seconds=10)
        for batch in itertools.count():
            if self._stopping.is_set():
                break
            records = [scan(f"{number}-{batch}-{each}") for each in range(20)]
            begun = time.monotonic()
            try:
                said = client.send_scans(records)
            except (RequestRejectedError, GatewayUnreachableError) as error:
                self.errors.append(str(error))
                return
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.acknowledged += [each["event_id"] for each in said["results"] if each["status"] != "rejected"]
            time.sleep(0.005)
        client.close()


def scan(event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "parcel_id": f"LP{event_id}",
        "kind": "SORTED",
        "event_time": "2026-03-01T04:00:00Z",
        "site": "LGG",
        "station": "SRT-07",
    }


class Gateway:
    """A gateway of this test, to be killed and restarted on the same folder and port."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation, self._folder, self._port = installation, folder, free_port()
        self._number = itertools.count()
        self.address = f"http://127.0.0.1:{self._port}"
        self.member = self.start()

    def start(self) -> Member:
        options = ("--insecure-local", "--port", str(self._port), "--data", str(self._folder / "gateway"))
        self.member = self._installation.start("gateway", *options, name=f"gateway{next(self._number)}")
        wait_until(
            lambda: self.address in self.member.out or self.member.code is not None, "the gateway does not start"
        )
        assert self.member.code is None, self.member.err
        return self.member


def arrived(settings: KafkaSettings) -> list[str]:
    decoder = RecordDecoder("Scan")
    return [decoder(each.value())["event_id"] for each in read_to_end(settings, settings.prefix + topics.SCANS_TOPIC)]


def assert_all_arrived(settings: KafkaSettings, acknowledged: list[str]) -> None:
    deadline = time.monotonic() + 60
    while missing := set(acknowledged) - set(arrived(settings)):
        assert time.monotonic() < deadline, f"{len(missing)} of {len(acknowledged)} acknowledged records are missing"
        time.sleep(0.5)


@pytest.mark.parametrize("kills", [pytest.param(4, id="4"), pytest.param(20, id="20", marks=pytest.mark.faults)])
def test_a_gateway_killed_under_load_loses_nothing(settings: KafkaSettings, tmp_path: Path, kills: int) -> None:
    chance, made = random.Random(SEED), Installation(settings, tmp_path, Chronicle(SEED))
    made.create_topics()
    gateway = Gateway(made, tmp_path)
    with Load(gateway.address) as load:
        for _ in range(kills):
            before = len(load.acknowledged)
            wait_until(lambda before=before: len(load.acknowledged) > before + 200, "nothing is acknowledged")
            time.sleep(chance.uniform(0, 0.3))
            gateway.member.signal(9)
            gateway.member.wait()
            gateway.start()
        before = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > before + 200, "nothing is acknowledged")
    assert load.errors == []
    assert_all_arrived(settings, load.acknowledged)
    gateway.member.signal(15)
    assert gateway.member.wait() == 0
    status = made.parcels("spool", "status", "--data", str(tmp_path / "gateway"))
    assert status.returncode == 0, status.stdout + status.stderr


@pytest.mark.parametrize("times", [pytest.param(1, id="1"), pytest.param(5, id="5", marks=pytest.mark.faults)])
def test_kafka_killed_under_load_is_waited_for(
    own_broker: tuple[Installation, Broker], tmp_path: Path, times: int
) -> None:
    made, broker = own_broker
    gateway = Gateway(made, tmp_path)
    with Load(gateway.address) as load:
        for _ in range(times):
            wait_until(lambda: len(load.acknowledged) > 500, "nothing is acknowledged")
            broker.kill()
            before = len(load.acknowledged)
            wait_until(lambda before=before: len(load.acknowledged) > before + 1_000, "nothing is taken without Kafka")
            broker.up()
            time.sleep(1)
    assert load.errors == []
    assert load.slowest < 10
    assert_all_arrived(made.settings, load.acknowledged)
    gateway.member.signal(15)
    assert gateway.member.wait() == 0
    assert gateway.member.said("parcels.gateway.kafka_unavailable") and gateway.member.said(
        "parcels.gateway.kafka_available"
    )


def test_an_idle_gateway_notices_that_kafka_is_back(own_broker: tuple[Installation, Broker], tmp_path: Path) -> None:
    made, broker = own_broker
    member = Gateway(made, tmp_path).member
    try:
        # Its client connects even with nothing to send.
        broker.kill()
        wait_until(lambda: member.said("parcels.gateway.kafka_unavailable"), "it does not see that Kafka is away")
        broker.up()
        wait_until(lambda: member.said("parcels.gateway.kafka_available"), "it does not see that Kafka is back", 20)
    finally:
        member.signal(15)
    assert member.wait() == 0
