"""Hanging transactions, complete for Kafka but without an end in a partition: their writer's next one ends them.

A broker leaves the end out where no partition has a leader at that moment, which cannot be had at will. So the folder
of the partition is put back to what it was before the end came: for Kafka the same log.
"""

import concurrent.futures
import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.domain.promises import Promises
from streams.errors import Misconfigured
from streams.formats import topics
from streams.formats.position import PartitionPosition
from streams.formats.record_decoder import RecordDecoder
from streams.kafka import hanging_transactions, topic_admin
from streams.kafka.clients import new_producer
from streams.kafka.local_broker import LocalBroker, free_port
from streams.kafka.reader import read_past_last_stable_offset, read_to_end
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import ProcessorSpec
from streams.processors.registry import processor_spec
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_writer import PartitionWriter, TransactionBatch
from streams.worker.position_reader import read_position
from tests.conftest import unable

PARTITIONS = 2
HUB_TIME = 1_772_400_000_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalBroker]:
    made = LocalBroker(tmp_path / "broker", free_port())
    try:
        made.start()
    except Misconfigured as error:
        unable(f"no broker that can be stopped: {error}")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def settings(node: LocalBroker) -> KafkaSettings:
    running = node.find_process()
    assert running is not None
    made = KafkaSettings(bootstrap=running.bootstrap)
    topic_admin.apply_topics(made, topic_admin.plan_topics(made, PARTITIONS))
    return made


def leave_without_end(node: LocalBroker, settings: KafkaSettings, processor: str, topic: str, partition: int) -> None:
    """Leave a transaction of the writer of partition 0 complete for Kafka, but without an end in this partition."""
    log, kept = node.folder / "log", node.folder / "kept"
    folder = log / f"{topic}-{partition}"
    spec = processor_spec(processor, Promises.default())
    sender = fenced(settings, spec)
    sender.begin_transaction()
    sender.produce(topic, b"never read", b"LP1", partition)
    sender.produce(spec.state_topic, PartitionPosition(1, HUB_TIME).encode(), topics.POSITION_KEY, 0)
    assert sender.flush(30) == 0
    shutil.copytree(folder, kept)
    sender.commit_transaction(30)
    # The broker answers when all the ends are written.
    fenced(settings, spec)
    node.stop()
    shutil.rmtree(folder)
    kept.rename(folder)
    # Without this file the broker reads every log, as after a crash.
    (log / ".kafka_cleanshutdown").unlink()
    node.start()


def fenced(settings: KafkaSettings, spec: ProcessorSpec) -> Producer:
    sender = new_producer(settings, transactional_id=f"{spec.transactional_id_prefix}.0")
    sender.init_transactions(30)
    return sender


def held_up(settings: KafkaSettings, topic: str, partition: int) -> int:
    """Number of records that a hanging transaction hides from readers of committed records."""
    return sum(1 for _ in read_past_last_stable_offset(settings, topic, partitions=[partition]))


def write_until_seen(settings: KafkaSettings, processor: str, topic: str, partition: int) -> None:
    """Commit transactions of another worker, with the position only, until nothing is hidden."""
    spec = processor_spec(processor, Promises.default())
    writer = PartitionWriter(settings, spec, 0, PARTITIONS, PartitionLease(itertools.count().__next__), lambda _: None)
    try:
        writer.fence()
        position = read_position(settings, 0, state_topic=spec.state_topic)
        for step in range(20):
            following = PartitionPosition(1, HUB_TIME, transaction_number=step + 1)
            writer.write(TransactionBatch(position, following, [], []))
            position = following
            if not held_up(settings, topic, partition):
                break
            threading.Event().wait(1)
    finally:
        writer.drop_producer()


def test_an_input_topic_becomes_visible(node: LocalBroker, settings: KafkaSettings) -> None:
    leave_without_end(node, settings, "containers", topics.SCANS_TOPIC, 1)
    plain = new_producer(settings)
    plain.produce(topics.SCANS_TOPIC, b"of somebody else", b"LP2", 1)
    assert plain.flush(30) == 0
    assert held_up(settings, topics.SCANS_TOPIC, 1) == 2

    write_until_seen(settings, "containers", topics.SCANS_TOPIC, 1)
    *waited, tick = read_to_end(settings, topics.SCANS_TOPIC, partitions=[1])
    assert [message.value() for message in waited] == [b"never read", b"of somebody else"]
    # Its hub time is not new.
    assert RecordDecoder("Tick")(tick.value()) == {"hub_time": HUB_TIME, "producer": "parcels.container-processor"}
    assert held_up(settings, topics.SCANS_TOPIC, 1) == 0
    # Nothing was written to the other partition.
    assert not list(read_to_end(settings, topics.SCANS_TOPIC, partitions=[0]))


@pytest.mark.parametrize("topic", [topics.ALERTS_TOPIC, topics.MILESTONES_TOPIC])
def test_records_of_an_output_topic_become_visible(node: LocalBroker, settings: KafkaSettings, topic: str) -> None:
    leave_without_end(node, settings, "parcels", topic, 0)
    assert held_up(settings, topic, 0) == 1

    write_until_seen(settings, "parcels", topic, 0)
    told, end = read_to_end(settings, topic, partitions=[0])
    assert told.value() == b"never read"
    assert (end.key(), end.value()) == (None, None)


def test_the_transaction_of_another_id_is_left_alone_after_one_attempt(settings: KafkaSettings) -> None:
    stranger = new_producer(settings, transactional_id="stranger")
    stranger.init_transactions(30)
    stranger.begin_transaction()
    stranger.produce(topics.SCANS_TOPIC, b"open", b"LP1", 1)
    assert stranger.flush(30) == 0
    looks = hanging_transactions.HangingTransactions(settings, [(topics.SCANS_TOPIC, 0), (topics.SCANS_TOPIC, 1)])
    found = []
    for _ in range(4):
        looks._next_check = 0.0
        assert looks.find_partitions() == []
        concurrent.futures.wait([looks._running_check], 30)
        found += looks.find_partitions()
    assert found == [(topics.SCANS_TOPIC, 1)]
    stranger.abort_transaction(30)
