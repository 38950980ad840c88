"""The position of a partition, found at the end of its topic of states."""

import time
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from streams.errors import Retry
from streams.formats.position import PartitionPosition
from streams.formats.topics import PARCEL_STATE_TOPIC, POSITION_KEY
from streams.kafka.clients import PARTITION_EOF, new_consumer, watermark_offsets
from streams.kafka.settings import KafkaSettings

# How many records before the end are looked at first; the position is the last record of a batch.
_FIRST_LOOK: Final = 64


def read_position(
    settings: KafkaSettings,
    partition: int,
    seconds: float = 20,
    *,
    fenced: bool = True,
    states: str = PARCEL_STATE_TOPIC,
) -> PartitionPosition | None:
    """The last position of a partition; None when nothing was ever folded.

    Args:
        settings: which cluster.
        partition: of the topic of states.
        seconds: how long to try.
        fenced: whether the caller has fenced the partition's transactional id: only then is there no open transaction
            before the end, and what a broker's crash left without an end counts (see `read_past_last_stable_offset`). An onlooker, who
            has not, sees what is committed.
        states: the topic of states, without the prefix.

    Raises:
        Retry: the end was not reached within `seconds`.
    """
    deadline = time.monotonic() + seconds
    topic = settings.prefix + states
    reader = new_consumer(settings, "position", enable_partition_eof=True, fetch_wait_max_ms=20)
    try:
        low, high = watermark_offsets(reader, TopicPartition(topic, partition), deadline)
        for message in reversed(
            read_past_last_stable_offset(settings, partition, high, deadline, states) if fenced else []
        ):
            if message.key() == POSITION_KEY:
                return PartitionPosition.decoded(cast(bytes, message.value()))
        look = _FIRST_LOOK
        while low < high:
            start = max(low, high - look)
            found = _last_position(reader, TopicPartition(topic, partition, start), high, deadline)
            if found is not None or start == low:
                return found
            look *= 16
    finally:
        reader.close()
    return None


def read_past_last_stable_offset(
    settings: KafkaSettings, partition: int, end: int, deadline: float, states: str = PARCEL_STATE_TOPIC
) -> list[Message]:
    """Records of a topic of states beyond `end`, the end of what is committed, when the partition has just been fenced.

    No transaction can be open then. But a single broker that is killed between deciding that a transaction is committed
    and writing so into the partitions may leave the second part out when it is back (Kafka 4.3.1: its transaction log
    says complete, and the partitions have no marker). Such records have no end. Nobody can see them until the next
    transaction of the same id commits, and they with it: so they count, and must not be sent again. Should that next
    transaction be aborted, they are too, state and position together, and the next fence finds so.

    Raises:
        Retry: they could not be read in time.
    """
    topic = settings.prefix + states
    reader = new_consumer(
        settings, "position", isolation_level="read_uncommitted", enable_partition_eof=True, fetch_wait_max_ms=20
    )
    found: list[Message] = []
    try:
        high = watermark_offsets(reader, TopicPartition(topic, partition), deadline)[1]
        if high <= end:
            return found
        reader.assign([TopicPartition(topic, partition, end)])
        while time.monotonic() < deadline:
            for message in reader.consume(10_000, 0.05):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == PARTITION_EOF and cast(int, message.offset()) >= high:
                    return found
    finally:
        reader.close()
    text = f"the records of {topic} [{partition}] from {end} to {high} could not be read in time"
    raise Retry(text)


def _last_position(reader: Consumer, start: TopicPartition, high: int, deadline: float) -> PartitionPosition | None:
    found: PartitionPosition | None = None
    reader.assign([start if start.offset > 0 else TopicPartition(start.topic, start.partition, OFFSET_BEGINNING)])
    while time.monotonic() < deadline:
        first = reader.poll(0.1)
        if first is None:
            continue
        for message in (first, *reader.consume(10_000, 0)):
            error = message.error()
            if error is None:
                if message.key() == POSITION_KEY:
                    found = PartitionPosition.decoded(cast(bytes, message.value()))
            elif error.code() == PARTITION_EOF and cast(int, message.offset()) >= high:
                return found
    text = f"the end of {start.topic} [{start.partition}] was not reached in time"
    raise Retry(text)
