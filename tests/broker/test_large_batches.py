"""A batch that exceeds the queue of a client and the timeout of an ordinary transaction is committed once."""

import itertools

import numpy as np
import pytest

from streams.domain.promises import Promises
from streams.formats import topics
from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.kafka import topic_admin
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from streams.processors.registry import processor_spec
from streams.telemetry.worker_events import TransactionRecovered, WorkerEvent
from streams.worker import partition_writer
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_writer import PartitionWriter, TransactionBatch

# librdkafka's queue holds a million records.
RECORDS = 1_100_000
VALUE_BYTES = 130


@pytest.fixture
def writer(settings: KafkaSettings):
    topic_admin.apply_topics(settings, topic_admin.plan_topics(settings, 1))
    happened: list[WorkerEvent] = []
    kind = processor_spec("parcels", Promises.default())
    writer = PartitionWriter(settings, kind, 0, 1, PartitionLease(itertools.count().__next__), happened.append)
    writer.fence()
    yield writer, happened
    writer.drop_producer()


def block(records: int) -> RecordBlock:
    keys = np.char.zfill(np.arange(records).astype("S7"), 7).view(np.uint8)
    return RecordBlock(
        keys,
        np.arange(records + 1, dtype=np.int64) * 7,
        np.full(records * VALUE_BYTES, 1, np.uint8),
        np.arange(records + 1, dtype=np.int64) * VALUE_BYTES,
    )


def test_more_records_and_bytes_than_fit(writer, settings: KafkaSettings) -> None:
    write, happened = writer
    write.write(TransactionBatch(None, PartitionPosition(1, None), [(topics.MILESTONES_TOPIC, 0, block(RECORDS))], []))
    # Before it sent anything, the writer made a producer with a longer transaction timeout.
    assert [each.outcome for each in happened if isinstance(each, TransactionRecovered)] == ["resent"]
    assert "needs a producer with more time" in happened[0].error
    keys = {message.key() for message in read_to_end(settings, settings.prefix + topics.MILESTONES_TOPIC)}
    assert len(keys) == RECORDS
    assert sum(1 for _ in read_to_end(settings, settings.prefix + topics.PARCEL_STATE_TOPIC)) == 1


def test_the_next_batch_keeps_the_producer(writer, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_writer, "_ORDINARY_BYTES", 100_000)
    write, happened = writer
    for number in range(1, 4):
        start = None if number == 1 else PartitionPosition(number - 1, None)
        write.write(
            TransactionBatch(start, PartitionPosition(number, None), [(topics.MILESTONES_TOPIC, 0, block(10_000))], [])
        )
    assert len(happened) == 1
    assert sum(1 for _ in read_to_end(settings, settings.prefix + topics.MILESTONES_TOPIC)) == 30_000
