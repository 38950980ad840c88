"""The table of a partition, back from its topic of states: fence first, then read to the end, rows and position."""

import time
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from streams.errors import Retry
from streams.formats.position import PartitionPosition
from streams.formats.topics import POSITION_KEY
from streams.kafka.clients import PARTITION_EOF, new_consumer, watermark_offsets
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import Processor, ProcessorSpec
from streams.worker.failpoints import hit_failpoint
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_writer import PartitionWriter
from streams.worker.position_reader import read_past_last_stable_offset

_RECORDS_AT_A_TIME: Final = 20_000
_SILENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A partition that is ready to fold on."""

    stage: Processor
    position: PartitionPosition | None
    records: int
    seconds: float


def restore(
    settings: KafkaSettings,
    kind: ProcessorSpec,
    partition: int,
    partitions: int,
    claim: PartitionLease,
    writer: PartitionWriter,
) -> RestoreResult:
    """Fence the partition and read its states and position.

    Raises:
        PartitionLost: the partition went away meanwhile.
        Retry: the end was not reached.
        StreamsError: a state cannot be read.
    """
    started = time.monotonic()
    writer.fence()
    stage = kind.create_processor(partition, partitions)
    position: PartitionPosition | None = None
    records = 0
    topic = settings.prefix + kind.state_topic
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
        end = watermark_offsets(reader, TopicPartition(topic, partition), started + _SILENCE_SECONDS)[1]
        reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        heard = time.monotonic()
        at_end = end == 0
        while not at_end:
            claim.wait(0)
            writer.heartbeat.beat()
            first = reader.poll(0.1)
            if first is None:
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    message = f"restoring {topic} [{partition}]: nothing came for {_SILENCE_SECONDS:g} s"
                    raise Retry(message)
                continue
            heard = time.monotonic()
            messages = [first, *reader.consume(_RECORDS_AT_A_TIME, 0)]
            at_end = _reached(messages, end)
            found = _take(stage, [message for message in messages if message.error() is None])
            position = found or position
            records += len(messages)
            hit_failpoint("while_restoring")
        writer.heartbeat.beat()
        last = read_past_last_stable_offset(
            settings, partition, end, time.monotonic() + _SILENCE_SECONDS, kind.state_topic
        )
        position = _take(stage, last) or position
        records += len(last)
    finally:
        reader.close()
    stage.restored(position)
    hit_failpoint("after_restore")
    return RestoreResult(stage, position, records, time.monotonic() - started)


def _reached(messages: list[Message], end: int) -> bool:
    for message in messages:
        error = message.error()
        if error is None:
            continue
        if error.code() != PARTITION_EOF:
            text = f"restoring {message.topic()} [{message.partition()}]: {error.str()}"
            raise Retry(text)
        # An end that librdkafka knew from before may be older than the one that was asked for.
        if cast(int, message.offset()) >= end:
            return True
    return False


def _take(stage: Processor, messages: list[Message]) -> PartitionPosition | None:
    position: PartitionPosition | None = None
    # Of each key the last word counts.
    newest: dict[bytes, bytes | None] = {}
    for message in messages:
        key = cast(bytes, message.key())
        if key == POSITION_KEY:
            position = PartitionPosition.decoded(cast(bytes, message.value()))
        else:
            newest[key] = message.value()
    stage.restore(newest)
    return position
