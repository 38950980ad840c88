"""The position record: how far a partition of hub.scans has been folded into the same partition of parcel.state.

It is written in the transaction of the batch that it ends, so state and position cannot part, and no offset that a
consumer group committed has to be trusted.
"""

import io
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from streams.errors import Retry, StreamsError
from streams.pipeline.clients import PARTITION_END, consumer
from streams.pipeline.schemas import load_schemas
from streams.pipeline.settings import Settings
from streams.pipeline.topics import POSITION_KEY, STATE

_HEADER_BYTES: Final = 5
# How many records before the end are looked at first; the position is the last record of a batch.
_FIRST_LOOK: Final = 64


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on: offset of hub.scans, and the largest Tick folded (ms since 1970; None before the first)."""

    next_offset: int
    hub_time: int | None
    # Digest of the promises that were in force; None in records of a time without any.
    promises: str | None = None

    def encoded(self) -> bytes:
        """The value of the position record."""
        schemas = load_schemas()
        body = io.BytesIO()
        fastavro.schemaless_writer(
            body,
            schemas.current("Position"),
            {"next_offset": self.next_offset, "hub_time": self.hub_time, "promises": self.promises},
        )
        return schemas.frame("Position", body.getvalue())

    @classmethod
    def decoded(cls, value: bytes) -> "Position":
        """Position of a record's value.

        Raises:
            StreamsError: the value is not one that any version of this program wrote.
        """
        writer = _writers().get(int.from_bytes(value[1:_HEADER_BYTES], "big"))
        if writer is None:
            message = f"the position record has schema id {value[1:_HEADER_BYTES].hex()}, which schemas/ids.json lacks"
            raise StreamsError(message)
        read = cast(
            dict[str, Any],
            fastavro.schemaless_reader(io.BytesIO(value[_HEADER_BYTES:]), writer, load_schemas().current("Position")),
        )
        return cls(read["next_offset"], _milliseconds(read["hub_time"]), read["promises"])


@cache
def _writers() -> dict[int, dict[str, Any]]:
    return {number: schema for number, (_, schema) in load_schemas().writers("Position").items()}


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def end_of(reader: Consumer, partition: TopicPartition, deadline: float) -> tuple[int, int]:
    """First offset still there and the one after the last, asked until `deadline` (time.monotonic).

    Raises:
        Retry: nobody answered in time.
    """
    while True:
        try:
            low, high = reader.get_watermark_offsets(partition, timeout=5, cached=False)
        except KafkaException as error:
            if time.monotonic() > deadline:
                message = f"asking for the end of {partition.topic} [{partition.partition}]: {error.args[0].str()}"
                raise Retry(message) from error
            time.sleep(0.1)
        else:
            return low, high


def read_position(settings: Settings, partition: int, seconds: float = 20, *, fenced: bool = True) -> Position | None:
    """The last position of a partition; None when nothing was ever folded.

    Args:
        settings: which cluster.
        partition: of parcel.state.
        seconds: how long to try.
        fenced: whether the caller has fenced the partition's transactional id: only then is there no open transaction
            before the end, and what a broker's crash left without an end counts (see `without_end`). An onlooker, who
            has not, sees what is committed.

    Raises:
        Retry: the end was not reached within `seconds`.
    """
    deadline = time.monotonic() + seconds
    topic = settings.prefix + STATE
    reader = consumer(settings, "position", enable_partition_eof=True, fetch_wait_max_ms=20)
    try:
        low, high = end_of(reader, TopicPartition(topic, partition), deadline)
        for message in reversed(without_end(settings, partition, high, deadline) if fenced else []):
            if message.key() == POSITION_KEY:
                return Position.decoded(cast(bytes, message.value()))
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


def without_end(settings: Settings, partition: int, end: int, deadline: float) -> list[Message]:
    """Records of parcel.state beyond `end`, the end of what is committed, when the partition has just been fenced.

    No transaction can be open then. But a single broker that is killed between deciding that a transaction is committed
    and writing so into the partitions may leave the second part out when it is back (Kafka 4.3.1: its transaction log
    says complete, and the partitions have no marker). Such records have no end. Nobody can see them until the next
    transaction of the same id commits, and they with it: so they count, and must not be sent again. Should that next
    transaction be aborted, they are too, state and position together, and the next fence finds so.

    Raises:
        Retry: they could not be read in time.
    """
    topic = settings.prefix + STATE
    reader = consumer(
        settings, "position", isolation_level="read_uncommitted", enable_partition_eof=True, fetch_wait_max_ms=20
    )
    found: list[Message] = []
    try:
        high = end_of(reader, TopicPartition(topic, partition), deadline)[1]
        if high <= end:
            return found
        reader.assign([TopicPartition(topic, partition, end)])
        while time.monotonic() < deadline:
            for message in reader.consume(10_000, 0.05):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == PARTITION_END and cast(int, message.offset()) >= high:
                    return found
    finally:
        reader.close()
    text = f"the records of {topic} [{partition}] from {end} to {high} could not be read in time"
    raise Retry(text)


def _last_position(reader: Consumer, start: TopicPartition, high: int, deadline: float) -> Position | None:
    found: Position | None = None
    reader.assign([start if start.offset > 0 else TopicPartition(start.topic, start.partition, OFFSET_BEGINNING)])
    while time.monotonic() < deadline:
        first = reader.poll(0.1)
        if first is None:
            continue
        for message in (first, *reader.consume(10_000, 0)):
            error = message.error()
            if error is None:
                if message.key() == POSITION_KEY:
                    found = Position.decoded(cast(bytes, message.value()))
            elif error.code() == PARTITION_END and cast(int, message.offset()) >= high:
                return found
    text = f"the end of {start.topic} [{start.partition}] was not reached in time"
    raise Retry(text)
