"""Records into `hub.scans` and `hub.containers`, many at a time: for the simulator and for files.

A producer by itself tells of a record that it could not deliver only through a callback; here leaving the `with`
block raises when any record did not arrive.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from confluent_kafka import KafkaError
from numpy.typing import NDArray

from streams.domain.record_columns import RecordColumns, RecordType
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kafka import clients
from streams.kafka.settings import KafkaSettings
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.avro.layout import FrameLayout

# So many records wait for the broker at most; far below the producer's own queue, which therefore never overflows.
_WAITING: Final = 200_000
# A paced feed sends what is due this often.
_BEAT_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class ProducerBatch:
    """Records ready to be sent, in log order."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    # Indexes of the records that go to every partition of both logs, ascending: ticks.
    everywhere: Sequence[int] = ()
    # Indexes of the records of hub.containers, ascending; all others are of hub.scans.
    containers: Sequence[int] = ()


class RecordColumnsEncoder:
    """Turns the columns of a simulation into the bytes of the logs."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self._encoders = [
            (int(type_), ColumnEncoder(schemas.current(name), schemas.id(name)))
            for type_, name in (
                (RecordType.SCAN, "Scan"),
                (RecordType.ADVICE, "Advice"),
                (RecordType.TICK, "Tick"),
                (RecordType.CONTAINER, "ContainerEvent"),
            )
        ]

    def encode(self, columns: RecordColumns) -> ProducerBatch:
        """Keys and values of all records."""
        rows = columns.rows
        values: list[bytes | None] = [None] * rows
        for type_, encoder in self._encoders:
            which = np.flatnonzero(columns.types == type_)
            frames = [_table(columns, frame, which) for frame in encoder.layout.frames]
            blob, ends = encoder.encode(len(which), frames, (columns.text,))
            octets = blob.tobytes()
            for row, (begin, end) in zip(which.tolist(), pairwise(ends.tolist()), strict=True):
                values[row] = octets[begin:end]
        given = np.isin(columns.types, (RecordType.RAW, RecordType.RAW_CONTAINER))
        for row, raw in zip(np.flatnonzero(given).tolist(), columns.raw, strict=True):
            values[row] = raw
        text = columns.text.tobytes()
        at, size = columns.keys
        keys = [
            None if length < 0 else text[begin : begin + length]
            for begin, length in zip(at.tolist(), size.tolist(), strict=True)
        ]
        ticks = np.flatnonzero(columns.types == RecordType.TICK).tolist()
        of_containers = np.isin(columns.types, (RecordType.CONTAINER, RecordType.RAW_CONTAINER))
        containers = np.flatnonzero(of_containers).tolist()
        return ProducerBatch(keys, values, ticks, containers)


def _table(columns: RecordColumns, frame: FrameLayout, which: NDArray[np.int64]) -> tuple[Any, Any]:
    """The columns of the rows `which`, or of all items of a list, as the encoder takes them."""
    if frame.path:
        _, (items, lengths) = columns.lists[frame.path.removesuffix("[]")]
        return items.reshape(1, -1), lengths.reshape(1, -1)
    numbers = np.empty((len(frame.columns), len(which)), np.int64)
    lengths = np.empty(numbers.shape, np.int32)
    for place, column in enumerate(frame.columns):
        if column.type == "array":
            counts, _ = columns.lists[column.path]
            (np.cumsum(counts) - counts).take(which, out=numbers[place])
            lengths[place] = counts[which]
        else:
            number, length = columns.columns[column.path]
            number.take(which, out=numbers[place])
            length.take(which, out=lengths[place])
    return numbers, lengths


class BulkProducer:
    """Sends records to `hub.scans` and `hub.containers`; a context manager.

    Example:
        with Feed(settings, rate=10_000) as feed:
            feed.send(encoded)
    """

    def __init__(self, settings: KafkaSettings, rate: float | None = None) -> None:
        """rate: records a second, spread evenly; None is as fast as it can."""
        self._settings, self._rate = settings, rate
        self._topic, self._containers = settings.prefix + SCANS_TOPIC, settings.prefix + CONTAINERS_TOPIC
        # Records handed to the producer; a tick counts once for every partition of either log.
        self.sent = 0
        self._paced = 0
        self._undelivered = 0
        self._first_error = ""

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            Misconfigured: hub.scans or hub.containers does not exist.
            StreamsError: no broker answers.
        """
        self._producer = clients.new_producer(self._settings, delivery_report_only_error=True)
        self._partitions = {
            topic: range(clients.partition_count(self._producer, topic)) for topic in (self._topic, self._containers)
        }
        self._begun = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until everything is in the log.

        Raises:
            StreamsError: some record did not arrive.
        """
        if kind is not None:
            self._producer.purge(in_flight=False)
        waiting = self._producer.flush(-1 if kind is None else 5)
        if kind is None and (self._undelivered or waiting):
            raise self._failure()

    @property
    def seconds(self) -> float:
        """How long it has been open."""
        return time.monotonic() - self._begun

    def send(self, records: ProducerBatch, due: NDArray[np.float64] | None = None) -> None:
        """Send records in their order, and wait while the broker is behind.

        due: when to send each, in seconds since the feed was opened, never decreasing; without it the rate decides.

        Raises:
            StreamsError: a record sent earlier was refused by the broker or did not arrive in time.
        """
        size = len(records.values)
        if due is None and self._rate is not None:
            due = (self._paced + np.arange(size)) / self._rate
        self._paced += size
        messages = [{"key": key, "value": value} for key, value in zip(records.keys, records.values, strict=True)]
        first = 0
        while first < size:
            last = size
            if due is not None:
                if (early := float(due[first]) - self.seconds) > 0:
                    self._producer.poll(max(early, _BEAT_SECONDS))
                last = max(first + 1, int(np.searchsorted(due, self.seconds, side="right")))
            previous = first
            for index in records.everywhere[
                bisect_left(records.everywhere, first) : bisect_left(records.everywhere, last)
            ]:
                self._hand_on(messages, records.containers, previous, index)
                self._to_every_partition(records.values[index])
                previous = index + 1
            self._hand_on(messages, records.containers, previous, last)
            first = last

    def _to_every_partition(self, value: bytes | None) -> None:
        # One by one: `produce_batch` of confluent-kafka 2.16 takes a message's own partition and does not heed it.
        for topic, partitions in self._partitions.items():
            for partition in partitions:
                self._producer.produce(topic, value, partition=partition, on_delivery=self._delivered)
            self.sent += len(partitions)

    def _hand_on(
        self, messages: list[dict[str, bytes | None]], containers: Sequence[int], first: int, last: int
    ) -> None:
        """The records from `first` until `last`, each to its log."""
        theirs = containers[bisect_left(containers, first) : bisect_left(containers, last)]
        if not theirs:
            self._hand_over(self._topic, messages[first:last])
            return
        among = frozenset(theirs)
        self._hand_over(self._topic, [messages[index] for index in range(first, last) if index not in among])
        self._hand_over(self._containers, [messages[index] for index in theirs])

    def _hand_over(self, topic: str, messages: list[dict[str, bytes | None]]) -> None:
        for first in range(0, len(messages), _WAITING // 4):
            part: list[dict[str, Any]] = list(messages[first : first + _WAITING // 4])
            while len(self._producer) + len(part) > _WAITING:
                self._producer.poll(0.05)
            # The queue has room, so what is refused is refused for another reason than a full queue.
            if self._producer.produce_batch(topic, part, on_delivery=self._delivered) != len(part):
                error = next(message["_error"] for message in part if "_error" in message)
                raise StreamsError(f"Kafka does not take a record of {topic}: {error.str()}")
            self.sent += len(part)
            self._producer.poll(0)
            if self._undelivered:
                raise self._failure()

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._undelivered += 1
            self._first_error = self._first_error or error.str()

    def _failure(self) -> StreamsError:
        return StreamsError(
            f"{self._undelivered} records did not arrive in {self._topic} or {self._containers}: {self._first_error}"
        )
