"""Records of a hanging transaction after a broker's crash count: they become visible with the next commit.

What such a crash leaves looks like a transaction that nobody ends.
"""

import pytest
from confluent_kafka import Producer

from streams.domain.promises import Promises
from streams.domain.reject_reasons import RejectReason
from streams.formats import topics
from streams.formats.position import PartitionPosition
from streams.kafka import topic_admin
from streams.kafka.clients import new_producer
from streams.kafka.dead_letters import dead_letter_headers, read_dead_letter, read_dead_letters
from streams.kafka.settings import KafkaSettings
from streams.processors.parcel_processor import ParcelProcessor
from streams.processors.registry import processor_spec
from streams.processors.warm_up import _SCAN, _record
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_writer import PartitionWriter
from streams.worker.position_reader import read_position
from streams.worker.restore import restore

PLACE = {"site": "LGG", "station": "UNL-01"}


@pytest.fixture
def sender(settings: KafkaSettings) -> Producer:
    topic_admin.apply_topics(settings, topic_admin.plan_topics(settings, 1))
    made = new_producer(settings, transactional_id=f"{settings.prefix}test")
    made.init_transactions(30)
    return made


def begin_batch(settings: KafkaSettings, sender: Producer, parcel_id: str, position: int) -> None:
    """Write a transaction with a state and a position to the log, without its end."""
    scan = _record("Scan", {**_SCAN, **PLACE, "parcel_id": parcel_id})
    (key, value), *_ = ParcelProcessor(partition=0, partitions=1).run([scan]).states
    sender.begin_transaction()
    sender.produce(settings.prefix + topics.PARCEL_STATE_TOPIC, value, key, 0)
    sender.produce(
        settings.prefix + topics.PARCEL_STATE_TOPIC, PartitionPosition(position, None).encode(), topics.POSITION_KEY, 0
    )
    assert sender.flush(30) == 0


class Fenced(PartitionWriter):
    """A writer that does not fence: its id is not that of the test, and the test's transaction must stay open."""

    def fence(self) -> None:
        self.heartbeat.beat()


def parcels_restored(settings: KafkaSettings) -> tuple[int, int | None]:
    lease = PartitionLease(lambda: 0)
    spec = processor_spec("parcels", Promises.default())
    restored = restore(settings, spec, 0, 1, lease, Fenced(settings, spec, 0, 1, lease, lambda _: None))
    parcels = restored.processor.restored_event(0, 0.0, 0).rows
    return parcels, restored.position and restored.position.next_offset


def test_they_count_until_they_are_aborted(settings: KafkaSettings, sender: Producer) -> None:
    begin_batch(settings, sender, "LP1", 5)
    assert read_position(settings, 0) == PartitionPosition(5, None)
    assert parcels_restored(settings) == (1, 5)
    sender.commit_transaction(30)
    assert read_position(settings, 0) == PartitionPosition(5, None)
    assert parcels_restored(settings) == (1, 5)

    begin_batch(settings, sender, "LP2", 9)
    assert read_position(settings, 0) == PartitionPosition(9, None)
    assert parcels_restored(settings) == (2, 9)

    sender.abort_transaction(30)
    assert read_position(settings, 0) == PartitionPosition(5, None)
    assert parcels_restored(settings) == (1, 5)


def begin_dead_letter(settings: KafkaSettings, sender: Producer, offset: int) -> None:
    """Write a transaction with the dead letter of a record of hub.scans at `offset` to the log, without its end."""
    source = settings.prefix + topics.SCANS_TOPIC
    headers = dead_letter_headers(source, 0, offset, RejectReason.NO_VALUE, None)
    sender.begin_transaction()
    sender.produce(settings.prefix + topics.DEAD_LETTERS_TOPIC, None, None, 0, headers=headers)
    assert sender.flush(30) == 0


def sources(settings: KafkaSettings) -> list[int | None]:
    return [letter.source and letter.source[2] for letter in read_dead_letters(settings)]


def test_dead_letters_are_listed_once_until_they_are_aborted(settings: KafkaSettings, sender: Producer) -> None:
    begin_dead_letter(settings, sender, 5)
    assert sources(settings) == [5]
    (letter,) = read_dead_letters(settings, reasons=["NO_VALUE"])
    found = read_dead_letter(settings, letter.partition_offset)
    assert found == letter
    sender.commit_transaction(30)
    assert sources(settings) == [5]

    begin_dead_letter(settings, sender, 7)
    assert sources(settings) == [5, 7]
    sender.abort_transaction(30)
    assert sources(settings) == [5]

    # The same dead letter again, committed, but behind the open transaction.
    begin_dead_letter(settings, sender, 9)
    plain = new_producer(settings)
    headers = dead_letter_headers(settings.prefix + topics.SCANS_TOPIC, 0, 9, RejectReason.NO_VALUE, None)
    plain.produce(settings.prefix + topics.DEAD_LETTERS_TOPIC, None, None, 0, headers=headers)
    assert plain.flush(30) == 0
    assert sources(settings) == [5, 9]
