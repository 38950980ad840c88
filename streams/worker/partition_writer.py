"""The writer of one partition: a transactional producer that writes each batch in one transaction.

The transactional id names the processor and the partition, not the worker. So a worker that is assigned a partition
fences its previous writer. `transaction_recovery.py` says what happens when the outcome of a transaction is unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from confluent_kafka import KafkaException

from streams.errors import Refence
from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.formats.tick import encode_tick
from streams.formats.topics import DEAD_LETTERS_TOPIC, POSITION_KEY
from streams.kafka.background import run_in_background
from streams.kafka.clients import Header
from streams.kafka.hanging_transactions import HangingTransactions
from streams.kafka.settings import KafkaSettings
from streams.kafka.transactional_producer import TransactionalProducer
from streams.processors.processor import OutputBlock, ProcessorSpec
from streams.telemetry.worker_events import EventListener, TransactionRecovered
from streams.worker.failpoints import hit_failpoint
from streams.worker.liveness import Heartbeat
from streams.worker.partition_lease import PartitionLease
from streams.worker.position_reader import read_position
from streams.worker.transaction_recovery import PositionConflict, recover_unknown_outcome

_COMMIT_SECONDS: Final = 10.0
_INIT_SECONDS: Final = 5.0
# The open transaction of a dead producer blocks readers for this long, unless another producer fences its id before.
_TRANSACTION_TIMEOUT_MS: Final = 10_000
# A tick after days without any may cause more records than there are parcels. A batch beyond so many bytes gets a
# millisecond more for each 10 kB: ten times what a slow broker needs.
_ORDINARY_BYTES: Final = 128 << 20
_BYTES_PER_MS: Final = 10_000
# As brokers have it in transaction.max.timeout.ms.
_LONGEST_TIMEOUT_MS: Final = 900_000
_PAUSE_SECONDS: Final = 0.2
# Most bytes and records in the producer's queue, below its queue.buffering.max.kbytes and .messages.
_QUEUE_BYTES: Final = 512 << 20
_QUEUE_RECORDS: Final = 500_000
# Most bytes and records of one call to the producer.
_PART_BYTES: Final = 8 << 20
_PART_RECORDS: Final = 100_000

DeadLetterRecord = tuple[bytes | None, bytes | None, list[Header]]


@dataclass(slots=True)
class TransactionBatch:
    """What one transaction writes: bytes, kept until they are committed, because recovery may send them again."""

    # Position before the batch; None when nothing was ever committed.
    start: PartitionPosition | None
    end: PartitionPosition
    # In the order in which they are sent.
    blocks: list[OutputBlock]
    dead_letters: list[DeadLetterRecord]

    @property
    def size_bytes(self) -> int:
        """Bytes of the keys and values of all blocks."""
        return sum(_size_of(block, 0, len(block)) for _, _, block in self.blocks)


class PartitionWriter:
    """Writes the batches of one partition of a processor, each in one transaction. Used by one thread at a time."""

    def __init__(
        self,
        settings: KafkaSettings,
        spec: ProcessorSpec,
        partition: int,
        partition_count: int,
        lease: PartitionLease,
        listener: EventListener,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._partition = partition
        self._lease = lease
        self._listener = listener
        self._producer: TransactionalProducer | None = None
        topic_partitions = [(topic, partition) for topic in spec.copartitioned_topics]
        topic_partitions += [(topic, other) for topic in spec.repartition_topics for other in range(partition_count)]
        self._hanging_transactions = HangingTransactions(settings, topic_partitions)
        # Transaction timeout of the present producer, or of the next one.
        self._timeout_ms = _TRANSACTION_TIMEOUT_MS
        # Of the thread that restores or writes.
        self.heartbeat = Heartbeat()

    def fence(self) -> None:
        """End the open transaction of any earlier writer and keep it from writing any more. Tries until it works.

        Raises:
            PartitionLost: the lease was revoked meanwhile.
        """
        while True:
            self.heartbeat.beat()
            if self._producer is None:
                self._producer = TransactionalProducer(
                    self._settings,
                    transactional_id=f"{self._settings.prefix}{self._spec.transactional_id_prefix}.{self._partition}",
                    transaction_timeout_ms=self._timeout_ms,
                    linger_ms=2,
                )
            try:
                self._producer.init_transactions(_INIT_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable():
                    self.drop_producer()
                self._lease.wait(_PAUSE_SECONDS)
            else:
                hit_failpoint("after_fence")
                self._hanging_transactions.check_now()
                return

    def write(self, batch: TransactionBatch) -> dict[str, float]:
        """Write a batch, exactly once, whatever fails on the way.

        Returns:
            Seconds by phase: "send" and "commit", of the attempt that succeeded.

        Raises:
            PartitionLost: the lease was revoked; the next owner of the partition finds out whether the batch is in.
            PositionConflict: another worker wrote meanwhile.
        """
        while True:
            try:
                return self._run_transaction(batch)
            except Refence as error:
                if self._recover(batch, str(error)):
                    return {}

    def drop_producer(self) -> None:
        """Close the producer without a commit. The next one to fence ends its transaction, if one is open."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # It waits for a call that another thread may be in, and for librdkafka's own threads.
            run_in_background(producer.close)

    def _recover(self, batch: TransactionBatch, error: str) -> bool:
        """Whether a batch of unknown outcome was committed.

        Raises:
            PartitionLost: the lease was revoked meanwhile.
            PositionConflict: another worker wrote.
        """
        self.drop_producer()
        outcome, position = recover_unknown_outcome(
            batch.start, batch.end, self._lease, self.fence, self._read_position
        )
        self._listener(TransactionRecovered(self._partition, outcome, error, self._spec.name))
        if outcome == "superseded":
            found, start, end = (each and each.sequence_key for each in (position, batch.start, batch.end))
            raise PositionConflict(
                f"{self._spec.state_topic} [{self._partition}] is at {found}, not at {start} or {end}"
            )
        return outcome == "committed"

    def _read_position(self) -> PartitionPosition | None:
        try:
            return read_position(self._settings, self._partition, state_topic=self._spec.state_topic)
        finally:
            self.heartbeat.beat()

    def _run_transaction(self, batch: TransactionBatch) -> dict[str, float]:
        heartbeat = self.heartbeat
        started = heartbeat.beat()
        if self._producer is None:
            message = "the producer was dropped"
            raise Refence(message)
        timeout_ms = _transaction_timeout_ms(batch)
        if timeout_ms > self._timeout_ms:
            self._timeout_ms = timeout_ms
            size = batch.size_bytes >> 20
            raise Refence(f"a transaction of {size} MB needs a producer with more time, {timeout_ms} ms")
        try:
            unblocking_records = self._unblocking_records(batch.end.hub_time)
            self._producer.begin_transaction()
            hit_failpoint("after_begin")
            self._produce(self._producer, batch)
            for topic, partition, value in unblocking_records:
                self._producer.produce(self._settings.prefix + topic, partition, None, value, [])
            if batch.size_bytes > _ORDINARY_BYTES:
                # The time limit of a commit is not meant for so many bytes.
                self._drain(self._producer)
            sent = heartbeat.beat()
            hit_failpoint("before_commit")
            self._producer.commit_transaction(_COMMIT_SECONDS)
        except KafkaException as error:
            raise Refence(error.args[0].str()) from error
        hit_failpoint("after_commit")
        return {"send": sent - started, "commit": heartbeat.beat() - sent}

    def _produce(self, producer: TransactionalProducer, batch: TransactionBatch) -> None:
        """Queue the records of a batch: the blocks, the dead letters and, last, the position."""
        prefix = self._settings.prefix
        queued = (0, 0)
        for topic, partition, block in batch.blocks:
            for first, end in split_block(block):
                queued = self._make_room(producer, queued, _size_of(block, first, end), end - first)
                producer.produce_block(prefix + topic, partition, block, first, end)
            hit_failpoint("while_producing")
        for key, value, headers in batch.dead_letters:
            queued = self._make_room(producer, queued, len(key or b"") + len(value or b""), 1)
            producer.produce(prefix + DEAD_LETTERS_TOPIC, self._partition, key, value, headers)
        producer.produce(prefix + self._spec.state_topic, self._partition, POSITION_KEY, batch.end.encode(), [])

    def _unblocking_records(self, hub_time: int | None) -> list[tuple[str, int, bytes | None]]:
        """Topic, partition and value of records that end hanging transactions of this writer and say nothing new.

        In a log that is a tick of a time that was processed already, elsewhere a record without key and value.
        """
        logs = self._spec.repartition_topics
        if logs and hub_time is None:
            return []
        return [
            (
                topic,
                partition,
                encode_tick(cast(int, hub_time), self._spec.transactional_id_prefix) if topic in logs else None,
            )
            for topic, partition in self._hanging_transactions.find_partitions()
        ]

    def _make_room(
        self, producer: TransactionalProducer, queued: tuple[int, int], more_bytes: int, records: int
    ) -> tuple[int, int]:
        """Bytes and records that are queued with these; waits for the earlier ones to be sent if they are too many."""
        if queued[0] + more_bytes <= _QUEUE_BYTES and queued[1] + records <= _QUEUE_RECORDS:
            return queued[0] + more_bytes, queued[1] + records
        self._drain(producer)
        return more_bytes, records

    def _drain(self, producer: TransactionalProducer) -> None:
        while producer.wait_for_deliveries(0.05):
            self.heartbeat.beat()
            self._lease.wait(0)


def split_block(block: RecordBlock) -> Iterator[tuple[int, int]]:
    """Slices of a block, first and end, of at most _PART_BYTES and _PART_RECORDS each, or of one record."""
    first = 0
    size = block.value_ends + block.key_ends
    while first < len(block):
        end = max(first + 1, int(np.searchsorted(size, size[first] + _PART_BYTES, "right")) - 1)
        end = min(end, first + _PART_RECORDS)
        yield first, end
        first = end


def _transaction_timeout_ms(batch: TransactionBatch) -> int:
    more = max(0, batch.size_bytes - _ORDINARY_BYTES) // _BYTES_PER_MS
    return min(_TRANSACTION_TIMEOUT_MS + more, _LONGEST_TIMEOUT_MS)


def _size_of(block: RecordBlock, first: int, end: int) -> int:
    return int(block.value_ends[end] - block.value_ends[first] + block.key_ends[end] - block.key_ends[first])
