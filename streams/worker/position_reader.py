"""Finding the position of a partition: its record is near the end of the partition's state topic."""

import math
import time
from contextlib import closing
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from streams.formats.position import PartitionPosition
from streams.formats.topics import PARCEL_STATE_TOPIC, POSITION_KEY
from streams.kafka.clients import new_consumer
from streams.kafka.reader import OffsetRange, read_ranges, watermark_offsets
from streams.kafka.settings import KafkaSettings

# How many records before the end are read first; the position is the last record of a batch.
_FIRST_READ_RECORDS: Final = 64
# By how much more is read where they hold no position.
_READ_GROWTH: Final = 16


def read_position(
    settings: KafkaSettings,
    partition: int,
    timeout_seconds: float = 20,
    *,
    fenced: bool = True,
    state_topic: str = PARCEL_STATE_TOPIC,
) -> PartitionPosition | None:
    """The last position of a partition; None when nothing was ever folded.

    Args:
        settings: which cluster.
        partition: of the state topic.
        timeout_seconds: how long to try.
        fenced: whether the caller has fenced the partition's transactional id. Only then is no transaction open beyond
            the last stable offset, and records of a hanging transaction count (see `read_hanging_records`). Other
            callers see committed records only.
        state_topic: without the prefix.

    Raises:
        Retry: the end was not reached within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    topic = settings.prefix + state_topic
    with closing(new_consumer(settings, "position", enable_partition_eof=True, fetch_wait_max_ms=20)) as reader:
        low, end = watermark_offsets(reader, TopicPartition(topic, partition), deadline)
        if fenced:
            position = _last_position(read_hanging_records(settings, topic, partition, end, deadline))
            if position is not None:
                return position
        read_size = _FIRST_READ_RECORDS
        while low < end:
            start = max(low, end - read_size)
            position = _last_position(_read(reader, topic, partition, OffsetRange(start, end), deadline))
            if position is not None or start == low:
                return position
            read_size *= _READ_GROWTH
    return None


def read_hanging_records(
    settings: KafkaSettings, topic: str, partition: int, last_stable_offset: int, deadline: float
) -> list[Message]:
    """Records of a state topic beyond the last stable offset, when the partition has just been fenced.

    No transaction can be open then, but one may hang. A single broker that is killed after it decided to commit a
    transaction, and before it wrote so into the partitions, may leave out the second part when it is back (Kafka 4.3.1:
    its transaction log says complete, and the partitions have no marker). No reader of committed records sees such
    records before the next transaction of the same id commits, and they with it. So they count and must not be sent
    again. If that next transaction is aborted, they are aborted with it, state and position together, and the next
    fence finds so.

    Args:
        settings: which cluster.
        topic: name on the cluster, prefix included.
        partition: its partition.
        last_stable_offset: where the committed records end.
        deadline: how long to try (time.monotonic).

    Raises:
        Retry: they could not be read in time.
    """
    reader = new_consumer(
        settings, "position", isolation_level="read_uncommitted", enable_partition_eof=True, fetch_wait_max_ms=20
    )
    with closing(reader):
        high_watermark = watermark_offsets(reader, TopicPartition(topic, partition), deadline)[1]
        return _read(reader, topic, partition, OffsetRange(last_stable_offset, high_watermark), deadline)


def _read(reader: Consumer, topic: str, partition: int, offsets: OffsetRange, deadline: float) -> list[Message]:
    start = offsets.start if offsets.start > 0 else OFFSET_BEGINNING
    ranges = {partition: OffsetRange(start, offsets.end)}
    batches = read_ranges(
        reader, topic, ranges, idle_timeout_seconds=math.inf, deadline=deadline, is_ignored=_is_waited_out
    )
    return [record for records in batches for record in records]


def _is_waited_out(_: KafkaError) -> bool:
    """Every error: the deadline ends the reading."""
    return True


def _last_position(records: list[Message]) -> PartitionPosition | None:
    for record in reversed(records):
        if record.key() == POSITION_KEY:
            return PartitionPosition.decode(cast(bytes, record.value()))
    return None
