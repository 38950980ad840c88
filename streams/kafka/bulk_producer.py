"""Sending many records to `hub.scans` and `hub.containers`: for the simulator and for files.

confluent-kafka's producer reports a record that it could not deliver through a callback only. `BulkProducer` raises at
the end of its `with` block when any record did not arrive.
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

# Largest number of records that wait for the broker; far below the producer's own queue, which so never overflows.
_MAX_QUEUED_RECORDS: Final = 200_000
# How often a producer with a rate sends the records that are due.
_SEND_INTERVAL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class ProducerBatch:
    """Keys and values of records, in log order."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    # Ascending indexes of the records that go to every partition of both logs: Ticks.
    broadcast_indexes: Sequence[int] = ()
    # Ascending indexes of the records for hub.containers; all others are for hub.scans.
    container_indexes: Sequence[int] = ()


class RecordColumnsEncoder:
    """Encodes the columns of a simulation as records of the logs."""

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
        values: list[bytes | None] = [None] * columns.rows
        for type_, encoder in self._encoders:
            rows = np.flatnonzero(columns.types == type_)
            frames = [_frame_columns(columns, frame, rows) for frame in encoder.layout.frames]
            encoded, ends = encoder.encode(len(rows), frames, (columns.text,))
            encoded_bytes = encoded.tobytes()
            for row, (start, end) in zip(rows.tolist(), pairwise(ends.tolist()), strict=True):
                values[row] = encoded_bytes[start:end]
        is_raw = np.isin(columns.types, (RecordType.RAW, RecordType.RAW_CONTAINER))
        for row, raw in zip(np.flatnonzero(is_raw).tolist(), columns.raw, strict=True):
            values[row] = raw
        text = columns.text.tobytes()
        starts, lengths = columns.keys
        keys = [
            None if length < 0 else text[start : start + length]
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
        ticks = np.flatnonzero(columns.types == RecordType.TICK).tolist()
        is_container = np.isin(columns.types, (RecordType.CONTAINER, RecordType.RAW_CONTAINER))
        return ProducerBatch(keys, values, ticks, np.flatnonzero(is_container).tolist())


def _frame_columns(columns: RecordColumns, frame: FrameLayout, rows: NDArray[np.int64]) -> tuple[Any, Any]:
    """Values and lengths of a frame for the encoder: of these rows, or of all items of a list."""
    if frame.path:
        _, (items, lengths) = columns.lists[frame.path.removesuffix("[]")]
        return items.reshape(1, -1), lengths.reshape(1, -1)
    values = np.empty((len(frame.columns), len(rows)), np.int64)
    lengths = np.empty(values.shape, np.int32)
    for index, column in enumerate(frame.columns):
        if column.type == "array":
            counts, _ = columns.lists[column.path]
            (np.cumsum(counts) - counts).take(rows, out=values[index])
            lengths[index] = counts[rows]
        else:
            column_values, column_lengths = columns.columns[column.path]
            column_values.take(rows, out=values[index])
            column_lengths.take(rows, out=lengths[index])
    return values, lengths


class BulkProducer:
    """Sends records to `hub.scans` and `hub.containers`; a context manager.

    Example:
        with BulkProducer(settings, rate=10_000) as producer:
            producer.send(batch)
    """

    def __init__(self, settings: KafkaSettings, rate: float | None = None) -> None:
        """rate: records a second, spread evenly; None: as fast as possible."""
        self._settings, self._rate = settings, rate
        self._scans_topic = settings.prefix + SCANS_TOPIC
        self._containers_topic = settings.prefix + CONTAINERS_TOPIC
        # Records handed to the producer; a Tick counts once for every partition of both logs.
        self.records_sent = 0
        # Records that were given a time to send them by the rate.
        self._paced_records = 0
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
            topic: range(clients.partition_count(self._producer, topic))
            for topic in (self._scans_topic, self._containers_topic)
        }
        self._opened = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until every record is in the log.

        Raises:
            StreamsError: a record did not arrive.
        """
        if kind is not None:
            self._producer.purge(in_flight=False)
        waiting = self._producer.flush(-1 if kind is None else 5)
        if kind is None and (self._undelivered or waiting):
            raise self._failure()

    @property
    def elapsed_seconds(self) -> float:
        """Time since it was opened."""
        return time.monotonic() - self._opened

    def send(self, records: ProducerBatch, send_at_seconds: NDArray[np.float64] | None = None) -> None:
        """Send records in their order, and wait while the broker is behind.

        send_at_seconds: when to send each record, in seconds since this producer was opened, never decreasing; None:
            the rate decides.

        Raises:
            StreamsError: a record sent earlier was refused by the broker or did not arrive in time.
        """
        size = len(records.values)
        if send_at_seconds is None and self._rate is not None:
            send_at_seconds = (self._paced_records + np.arange(size)) / self._rate
        self._paced_records += size
        messages = [{"key": key, "value": value} for key, value in zip(records.keys, records.values, strict=True)]
        broadcast = records.broadcast_indexes
        start = 0
        while start < size:
            end = size
            if send_at_seconds is not None:
                if (early := float(send_at_seconds[start]) - self.elapsed_seconds) > 0:
                    self._producer.poll(max(early, _SEND_INTERVAL_SECONDS))
                end = max(start + 1, int(np.searchsorted(send_at_seconds, self.elapsed_seconds, side="right")))
            previous = start
            for index in broadcast[bisect_left(broadcast, start) : bisect_left(broadcast, end)]:
                self._send_slice(messages, records.container_indexes, previous, index)
                self._broadcast(records.values[index])
                previous = index + 1
            self._send_slice(messages, records.container_indexes, previous, end)
            start = end

    def _broadcast(self, value: bytes | None) -> None:
        # One by one: `produce_batch` of confluent-kafka 2.16 accepts a partition for each message and ignores it.
        for topic, partitions in self._partitions.items():
            for partition in partitions:
                self._producer.produce(topic, value, partition=partition, on_delivery=self._on_delivery)
            self.records_sent += len(partitions)

    def _send_slice(
        self, messages: list[dict[str, bytes | None]], container_indexes: Sequence[int], start: int, end: int
    ) -> None:
        """Send the records from `start` until `end`, each to its log."""
        indexes = container_indexes[bisect_left(container_indexes, start) : bisect_left(container_indexes, end)]
        if not indexes:
            self._produce(self._scans_topic, messages[start:end])
            return
        for_containers = frozenset(indexes)
        self._produce(
            self._scans_topic, [messages[index] for index in range(start, end) if index not in for_containers]
        )
        self._produce(self._containers_topic, [messages[index] for index in indexes])

    def _produce(self, topic: str, messages: list[dict[str, bytes | None]]) -> None:
        for start in range(0, len(messages), _MAX_QUEUED_RECORDS // 4):
            part: list[dict[str, Any]] = list(messages[start : start + _MAX_QUEUED_RECORDS // 4])
            while len(self._producer) + len(part) > _MAX_QUEUED_RECORDS:
                self._producer.poll(0.05)
            # The queue has room, so a refusal has another reason than a full queue.
            if self._producer.produce_batch(topic, part, on_delivery=self._on_delivery) != len(part):
                error = next(message["_error"] for message in part if "_error" in message)
                raise StreamsError(f"Kafka does not take a record of {topic}: {error.str()}")
            self.records_sent += len(part)
            self._producer.poll(0)
            if self._undelivered:
                raise self._failure()

    def _on_delivery(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._undelivered += 1
            self._first_error = self._first_error or error.str()

    def _failure(self) -> StreamsError:
        return StreamsError(
            f"{self._undelivered} records did not arrive in {self._scans_topic} or {self._containers_topic}: "
            f"{self._first_error}"
        )
