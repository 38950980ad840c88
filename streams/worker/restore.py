"""Restoring a partition: fence its earlier writer, then read its state topic to the end, states and position."""

import time
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from streams.formats.position import PartitionPosition
from streams.formats.topics import POSITION_KEY
from streams.kafka.clients import new_consumer
from streams.kafka.reader import OffsetRange, read_ranges, watermark_offsets
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import Processor, ProcessorSpec
from streams.worker.failpoints import hit_failpoint
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_writer import PartitionWriter
from streams.worker.position_reader import read_hanging_records

_BATCH_SIZE: Final = 20_000
_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A partition that is ready to fold on."""

    processor: Processor
    position: PartitionPosition | None
    records: int
    seconds: float


def restore(
    settings: KafkaSettings,
    spec: ProcessorSpec,
    partition: int,
    partitions: int,
    lease: PartitionLease,
    writer: PartitionWriter,
) -> RestoreResult:
    """Fence the partition and read its states and position.

    Raises:
        PartitionLost: the partition was revoked meanwhile.
        Retry: the end was not reached.
        StreamsError: a state cannot be read.
    """
    started = time.monotonic()
    writer.fence()
    processor = spec.create_processor(partition, partitions)
    position: PartitionPosition | None = None
    record_count = 0
    topic = settings.prefix + spec.state_topic
    reader = new_consumer(
        settings,
        "restore",
        enable_partition_eof=True,
        fetch_wait_max_ms=20,
        queued_min_messages=200_000,
        queued_max_messages_kbytes=64 << 10,
        check_crcs=False,
    )
    try:
        end = watermark_offsets(reader, TopicPartition(topic, partition), started + _TIMEOUT_SECONDS)[1]
        ranges = {partition: OffsetRange(OFFSET_BEGINNING, end)}
        for records in read_ranges(
            reader, topic, ranges, idle_timeout_seconds=_TIMEOUT_SECONDS, batch_size=_BATCH_SIZE
        ):
            lease.wait(0)
            writer.heartbeat.beat()
            position = _restore_batch(processor, records) or position
            record_count += len(records)
            hit_failpoint("while_restoring")
        writer.heartbeat.beat()
        hanging = read_hanging_records(settings, topic, partition, end, time.monotonic() + _TIMEOUT_SECONDS)
        position = _restore_batch(processor, hanging) or position
        record_count += len(hanging)
    finally:
        reader.close()
    processor.finish_restore(position)
    hit_failpoint("after_restore")
    return RestoreResult(processor, position, record_count, time.monotonic() - started)


def _restore_batch(processor: Processor, records: list[Message]) -> PartitionPosition | None:
    """Give the newest state of each key to the processor; return the last position among the records."""
    position: PartitionPosition | None = None
    newest: dict[bytes, bytes | None] = {}
    for record in records:
        key = cast(bytes, record.key())
        if key == POSITION_KEY:
            position = PartitionPosition.decode(cast(bytes, record.value()))
        else:
            newest[key] = record.value()
    processor.restore(newest)
    return position
