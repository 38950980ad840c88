"""The position record: how far a partition of a stage's input has been folded into its topic of states.

It is written in the transaction of the batch that it ends, so state and position cannot part, and no offset that a
consumer group committed has to be trusted.
"""

import io
import time
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final, cast

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from streams.domain.containers import Container, FanOut, What
from streams.errors import Retry
from streams.pipeline.clients import PARTITION_END, bounds, consumer
from streams.pipeline.plain_decoder import Decoder, without_logical_types
from streams.pipeline.schemas import load_schemas
from streams.pipeline.settings import Settings
from streams.pipeline.topics import POSITION_KEY, STATE

# Words of the schema's FanOutStep.
FAN_OUT_STEPS: Final = ("OTHER", *(what.name for what in What))
# How many records before the end are looked at first; the position is the last record of a batch.
_FIRST_LOOK: Final = 64


@dataclass(frozen=True, slots=True)
class LeftToDo:
    """A part of a container's fan-out that is not written yet (`streams.domain.containers.FanOut`)."""

    container_id: str
    what: int
    cause: bytes
    generation: int
    void_time: int | None
    reached: bytes | None
    containers: bool
    after: str | None

    @classmethod
    def of(cls, container_id: str, step: FanOut) -> "LeftToDo":
        """What is left of `step`."""
        return cls(
            container_id,
            int(step.what),
            step.cause.identity,
            step.generation,
            step.void_time,
            None if step.reached is None else step.reached.identity,
            step.containers,
            None if step.after is None else step.after.decode(),
        )

    def step(self, container: Container) -> FanOut:
        """The step, to go on with."""
        return FanOut(
            What(self.what),
            container.event(self.cause),
            self.generation,
            self.void_time,
            None if self.reached is None else container.event(self.reached),
            self.containers,
            None if self.after is None else self.after.encode(),
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on: offset of the input, and the largest Tick folded (ms since 1970; None before the first)."""

    next_offset: int
    hub_time: int | None
    # Digest of the promises that were in force; None in records of a time without any.
    promises: str | None = None
    # Number of the transaction, for a stage that also writes when nothing came.
    step: int = 0
    left: tuple[LeftToDo, ...] = ()

    @property
    def place(self) -> tuple[int, int]:
        """What tells it from the positions before and after it."""
        return self.next_offset, self.step

    def encoded(self) -> bytes:
        """The value of the position record."""
        said = {
            "next_offset": self.next_offset,
            "hub_time": self.hub_time,
            "promises": self.promises,
            "step": self.step,
            "fan_outs": [{**asdict(each), "what": FAN_OUT_STEPS[each.what]} for each in self.left],
        }
        body = io.BytesIO()
        fastavro.schemaless_writer(body, _writer(), said)
        return load_schemas().frame("Position", body.getvalue())

    @classmethod
    def decoded(cls, value: bytes) -> "Position":
        """Position of a record's value.

        Raises:
            StreamsError: the value is not one that any version of this program wrote.
        """
        read = _decoder()(value)
        left = (LeftToDo(**{**each, "what": FAN_OUT_STEPS.index(each["what"])}) for each in read["fan_outs"])
        return cls(read["next_offset"], read["hub_time"], read["promises"], read["step"], tuple(left))


@cache
def _decoder() -> Decoder:
    return Decoder("Position")


@cache
def _writer() -> Any:
    return fastavro.parse_schema(without_logical_types(load_schemas().current("Position")))


def read_position(
    settings: Settings, partition: int, seconds: float = 20, *, fenced: bool = True, states: str = STATE
) -> Position | None:
    """The last position of a partition; None when nothing was ever folded.

    Args:
        settings: which cluster.
        partition: of the topic of states.
        seconds: how long to try.
        fenced: whether the caller has fenced the partition's transactional id: only then is there no open transaction
            before the end, and what a broker's crash left without an end counts (see `without_end`). An onlooker, who
            has not, sees what is committed.
        states: the topic of states, without the prefix.

    Raises:
        Retry: the end was not reached within `seconds`.
    """
    deadline = time.monotonic() + seconds
    topic = settings.prefix + states
    reader = consumer(settings, "position", enable_partition_eof=True, fetch_wait_max_ms=20)
    try:
        low, high = bounds(reader, TopicPartition(topic, partition), deadline)
        for message in reversed(without_end(settings, partition, high, deadline, states) if fenced else []):
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


def without_end(settings: Settings, partition: int, end: int, deadline: float, states: str = STATE) -> list[Message]:
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
    reader = consumer(
        settings, "position", isolation_level="read_uncommitted", enable_partition_eof=True, fetch_wait_max_ms=20
    )
    found: list[Message] = []
    try:
        high = bounds(reader, TopicPartition(topic, partition), deadline)[1]
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
