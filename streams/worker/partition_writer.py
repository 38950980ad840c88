"""One partition's way into the log: a transactional producer, and what to do when a transaction's outcome is unknown.

The transactional id names the stage and the partition, not the worker: whoever is assigned the partition fences
whoever wrote before. For every failure there is one rule: drop the producer, let the consumer say whether the partition
is still ours, fence again, read the position. It says whether the batch is in.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from confluent_kafka import KafkaException

from streams.errors import PartitionLost, Refence, Retry, StreamsError
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
from streams.worker.position_reader import read_position

_COMMIT_SECONDS: Final = 10.0
_INIT_SECONDS: Final = 5.0
# A dead producer's open transaction holds readers up for this long, unless somebody fences its id before.
_TRANSACTION_TIMEOUT_MS: Final = 10_000
# A Tick after days without any may bring as many records as there are parcels, and more. A batch beyond so many bytes
# gets a millisecond more for each 10 kB: ten times what a slow broker needs.
_ORDINARY_BYTES: Final = 128 << 20
_BYTES_PER_MS: Final = 10_000
# As brokers have it in transaction.max.timeout.ms.
_LONGEST_TIMEOUT_MS: Final = 900_000
_PAUSE_SECONDS: Final = 0.2
# What may wait in the producer's queue, below its queue.buffering.max.kbytes and .messages, and what is handed over at
# a time.
_QUEUE_BYTES: Final = 512 << 20
_QUEUE_RECORDS: Final = 500_000
_PART_BYTES: Final = 8 << 20
_PART_RECORDS: Final = 100_000

DeadLetterRecord = tuple[bytes | None, bytes | None, list[Header]]


@dataclass(slots=True)
class TransactionBatch:
    """What one transaction writes: bytes, kept until they are in, because an unknown outcome sends the same again."""

    # Position before the batch; None when nothing was ever folded.
    start: PartitionPosition | None
    end: PartitionPosition
    # In the order in which they are sent.
    blocks: list[OutputBlock]
    dead_letters: list[DeadLetterRecord]

    @property
    def bytes(self) -> int:
        """What the blocks hold."""
        return sum(_bytes_of(block, 0, len(block)) for _, _, block in self.blocks)


class PositionConflict(StreamsError):
    """Somebody else folded on from the batch's start: the table is out of date and must be restored."""


class PartitionLease:
    """A worker's claim on a partition, from assignment to loss. Shared by the loop and the partition's threads."""

    def __init__(self, turns: Callable[[], int]) -> None:
        """`turns`: how often the worker has polled its consumer."""
        self._turns = turns
        self._gone = threading.Event()

    def give_up(self) -> None:
        """The partition is not ours any more."""
        self._gone.set()

    def wait(self, seconds: float) -> None:
        """Pause.

        Raises:
            PartitionLost: the partition went away meanwhile, or before.
        """
        if self._gone.wait(seconds):
            message = "the partition was given to another worker"
            raise PartitionLost(message)

    def confirm(self) -> None:
        """Wait until the consumer was polled since: a zombie must hear that it lost the partition before it fences.

        Raises:
            PartitionLost: it did hear so.
        """
        seen = self._turns()
        while self._turns() < seen + 2:
            self.wait(0.01)
        self.wait(0)


class PartitionWriter:
    """Writes the batches of one partition of a stage, each in one transaction. Used by one thread at a time."""

    def __init__(
        self,
        settings: KafkaSettings,
        kind: ProcessorSpec,
        partition: int,
        partitions: int,
        claim: PartitionLease,
        listener: EventListener,
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._partition = partition
        self._claim = claim
        self._watcher = listener
        self._producer: TransactionalProducer | None = None
        places = [(topic, partition) for topic in kind.outputs]
        self._unended = HangingTransactions(
            settings, places + [(log, p) for log in kind.logs for p in range(partitions)]
        )
        # Of the producer that there is, or is next.
        self._timeout_ms = _TRANSACTION_TIMEOUT_MS
        # Last sign of life of the thread that writes (time.monotonic); a call that hangs leaves it behind.
        self.beat = time.monotonic()

    def fence(self) -> None:
        """End whatever a predecessor left open and keep it from writing any more. Tries until it works.

        Raises:
            PartitionLost: the partition went away meanwhile.
        """
        while True:
            self.beat = time.monotonic()
            if self._producer is None:
                self._producer = TransactionalProducer(
                    self._settings,
                    transactional_id=f"{self._settings.prefix}{self._kind.writer}.{self._partition}",
                    transaction_timeout_ms=self._timeout_ms,
                    linger_ms=2,
                )
            try:
                self._producer.init_transactions(_INIT_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable():
                    self.retire()
                self._claim.wait(_PAUSE_SECONDS)
            else:
                hit_failpoint("after_fence")
                self._unended.check_now()
                return

    def write(self, batch: TransactionBatch) -> dict[str, float]:
        """Write a batch, exactly once, whatever happens on the way.

        Returns:
            Seconds by phase: "send" and "commit" (of the try that succeeded).

        Raises:
            PartitionLost: the partition went away; the batch may be in or not, its new owner knows.
            Moved: another worker wrote meanwhile.
        """
        while True:
            try:
                return self._transact(batch)
            except Refence as error:
                if self._settle(batch, str(error)):
                    return {}

    def retire(self) -> None:
        """Let the producer go. Its transaction, if one is open, is ended by whoever fences next."""
        gone, self._producer = self._producer, None
        if gone is not None:
            # It waits for a call that another thread may be in, and for librdkafka's own threads.
            run_in_background(gone.close)

    def _transact(self, batch: TransactionBatch) -> dict[str, float]:
        started = self.beat = time.monotonic()
        if self._producer is None:
            message = "the producer was given up"
            raise Refence(message)
        needed_ms = _timeout_of(batch)
        if needed_ms > self._timeout_ms:
            self._timeout_ms = needed_ms
            raise Refence(f"a transaction of {batch.bytes >> 20} MB needs a producer with more time, {needed_ms} ms")
        try:
            ends = self._ends(batch.end.hub_time)
            self._producer.begin_transaction()
            hit_failpoint("after_begin")
            self._produce(self._producer, batch)
            for topic, partition, value in ends:
                self._producer.produce(self._settings.prefix + topic, partition, None, value, [])
            if batch.bytes > _ORDINARY_BYTES:
                # What a commit may take is not meant for all this.
                self._drain(self._producer)
            sent = self.beat = time.monotonic()
            hit_failpoint("before_commit")
            self._producer.commit_transaction(_COMMIT_SECONDS)
        except KafkaException as error:
            raise Refence(error.args[0].str()) from error
        hit_failpoint("after_commit")
        self.beat = time.monotonic()
        return {"send": sent - started, "commit": self.beat - sent}

    def _produce(self, to: TransactionalProducer, batch: TransactionBatch) -> None:
        prefix = self._settings.prefix
        queued = (0, 0)
        for topic, partition, block in batch.blocks:
            for first, end in split_block(block):
                queued = self._make_room(to, queued, _bytes_of(block, first, end), end - first)
                to.produce_block(prefix + topic, partition, block, first, end)
            hit_failpoint("while_producing")
        for key, value, headers in batch.dead_letters:
            queued = self._make_room(to, queued, len(key or b"") + len(value or b""), 1)
            to.produce(prefix + DEAD_LETTERS_TOPIC, self._partition, key, value, headers)
        to.produce(prefix + self._kind.states, self._partition, POSITION_KEY, batch.end.encode(), [])

    def _ends(self, hub_time: int | None) -> list[tuple[str, int, bytes | None]]:
        """Records that say nothing new, for partitions where earlier transactions of ours were left without an end.

        Into a log a Tick of a time that was folded already, elsewhere one without key and value.
        """
        if self._kind.logs and hub_time is None:
            return []
        return [
            (
                topic,
                partition,
                encode_tick(cast(int, hub_time), self._kind.writer) if topic in self._kind.logs else None,
            )
            for topic, partition in self._unended.find_partitions()
        ]

    def _make_room(
        self, to: TransactionalProducer, queued: tuple[int, int], more: int, records: int
    ) -> tuple[int, int]:
        """Bytes and records queued once these are; waits until everything before is on the broker if they are many."""
        if queued[0] + more <= _QUEUE_BYTES and queued[1] + records <= _QUEUE_RECORDS:
            return queued[0] + more, queued[1] + records
        self._drain(to)
        return more, records

    def _drain(self, to: TransactionalProducer) -> None:
        while to.wait_for_deliveries(0.05):
            self.beat = time.monotonic()
            self._claim.wait(0)

    def _settle(self, batch: TransactionBatch, error: str) -> bool:
        """Find out whether a batch of unknown outcome is in.

        Raises:
            PartitionLost: the partition went away meanwhile.
            Moved: neither: somebody else wrote.
        """
        self.retire()
        while True:
            self._claim.wait(_PAUSE_SECONDS)
            self._claim.confirm()
            self.fence()
            try:
                position = read_position(self._settings, self._partition, state_topic=self._kind.states)
            except Retry:
                self.beat = time.monotonic()
                continue
            start, found, end = (each and each.sequence_key for each in (batch.start, position, batch.end))
            outcome = "committed" if found == end else "resent" if found == start else "restored"
            self._watcher(TransactionRecovered(self._partition, outcome, error, self._kind.name))
            if outcome != "superseded":
                return outcome == "committed"
            message = f"{self._kind.states} [{self._partition}] is at {found}, not at {start} or {end}"
            raise PositionConflict(message)


def split_block(block: RecordBlock) -> Iterator[tuple[int, int]]:
    """Runs of a block's records, first and end, of at most _PART_BYTES and _PART_RECORDS each, or of one record."""
    first = 0
    size = block.value_ends + block.key_ends
    while first < len(block):
        end = max(first + 1, int(np.searchsorted(size, size[first] + _PART_BYTES, "right")) - 1)
        end = min(end, first + _PART_RECORDS)
        yield first, end
        first = end


def _timeout_of(batch: TransactionBatch) -> int:
    more = max(0, batch.bytes - _ORDINARY_BYTES) // _BYTES_PER_MS
    return min(_TRANSACTION_TIMEOUT_MS + more, _LONGEST_TIMEOUT_MS)


def _bytes_of(block: RecordBlock, first: int, end: int) -> int:
    return int(block.value_ends[end] - block.value_ends[first] + block.key_ends[end] - block.key_ends[first])
