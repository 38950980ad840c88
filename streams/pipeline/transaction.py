"""One partition's way into the log: a transactional producer, and what to do when a transaction's outcome is unknown.

The transactional id names the stage and the partition, not the worker: whoever is assigned the partition fences
whoever wrote before. For every failure there is one rule: drop the producer, let the consumer say whether the partition
is still ours, fence again, read the position. It says whether the batch is in.
"""

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from confluent_kafka import KafkaException, Producer

from streams.domain.happenings import TransactionRefenced, Watcher
from streams.errors import PartitionLost, Refence, Retry, StreamsError
from streams.pipeline.background import in_background
from streams.pipeline.clients import Header, producer
from streams.pipeline.crashpoints import crash_point
from streams.pipeline.parcel_stage import Keyed
from streams.pipeline.position import Position, read_position
from streams.pipeline.settings import Settings
from streams.pipeline.topics import DEAD_LETTERS, MILESTONES, POSITION_KEY, STATE

_COMMIT_SECONDS: Final = 10.0
_INIT_SECONDS: Final = 5.0
# A dead producer's open transaction holds readers up for this long, unless somebody fences its id before.
_TRANSACTION_TIMEOUT_MS: Final = 10_000
_PAUSE_SECONDS: Final = 0.2

# close() tries to abort first and warns where that cannot be; whoever fences next ends the transaction. The filter is
# for the whole process: one that is set for a call would be taken away by the next thread that closes.
warnings.filterwarnings("ignore", "Producer abort_transaction failed during close", RuntimeWarning)

DeadLetter = tuple[bytes | None, bytes | None, list[Header]]


@dataclass(slots=True)
class Prepared:
    """What one transaction writes: bytes, kept until they are in, because an unknown outcome sends the same again."""

    # Position before the batch; None when nothing was ever folded.
    start: int | None
    end: Position
    states: list[Keyed]
    milestones: list[Keyed]
    dead_letters: list[DeadLetter]


class Moved(StreamsError):
    """Somebody else folded on from the batch's start: the table is out of date and must be restored."""


class Claim:
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
    """Writes the batches of one partition, each in one transaction. Used by one thread at a time."""

    def __init__(self, settings: Settings, partition: int, claim: Claim, watcher: Watcher) -> None:
        self._settings = settings
        self._partition = partition
        self._claim = claim
        self._watcher = watcher
        self._producer: Producer | None = None
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
                self._producer = producer(
                    self._settings,
                    transactional_id=f"{self._settings.prefix}parcels.parcel-stage.{self._partition}",
                    transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
                    linger_ms=2,
                )
            try:
                self._producer.init_transactions(_INIT_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable():
                    self.retire()
                self._claim.wait(_PAUSE_SECONDS)
            else:
                crash_point("after_fence")
                return

    def write(self, batch: Prepared) -> dict[str, float]:
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
            # close() may take seconds and may raise; purge() before it is not safe (an assertion of librdkafka).
            in_background(_close, gone)

    def _transact(self, batch: Prepared) -> dict[str, float]:
        started = self.beat = time.monotonic()
        if self._producer is None:
            message = "the producer was given up"
            raise Refence(message)
        try:
            self._producer.begin_transaction()
            crash_point("after_begin")
            self._produce(self._producer, batch)
            sent = self.beat = time.monotonic()
            crash_point("before_commit")
            self._producer.commit_transaction(_COMMIT_SECONDS)
        except KafkaException as error:
            raise Refence(error.args[0].str()) from error
        crash_point("after_commit")
        self.beat = time.monotonic()
        return {"send": sent - started, "commit": self.beat - sent}

    def _produce(self, to: Producer, batch: Prepared) -> None:
        partition = self._partition
        prefix = self._settings.prefix
        for topic, records in ((STATE, batch.states), (MILESTONES, batch.milestones)):
            name = prefix + topic
            for key, value in records:
                try:
                    to.produce(name, value, key, partition)
                except BufferError:
                    self._produce_when_there_is_room(to, name, value, key)
            crash_point("while_producing")
        for letter_key, letter, headers in batch.dead_letters:
            self._produce_when_there_is_room(to, prefix + DEAD_LETTERS, letter, letter_key, headers)
        self._produce_when_there_is_room(to, prefix + STATE, batch.end.encoded(), POSITION_KEY)

    def _produce_when_there_is_room(
        self,
        to: Producer,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: list[Header] | None = None,
    ) -> None:
        while True:
            try:
                to.produce(topic, value, key, self._partition, headers=headers or [])
            except BufferError:
                to.poll(0.05)
                self.beat = time.monotonic()
                self._claim.wait(0)
            else:
                return

    def _settle(self, batch: Prepared, error: str) -> bool:
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
                position = read_position(self._settings, self._partition)
            except Retry:
                self.beat = time.monotonic()
                continue
            found = None if position is None else position.next_offset
            if found == batch.end.next_offset:
                self._watcher(TransactionRefenced(self._partition, "committed", error))
                return True
            if found == batch.start:
                self._watcher(TransactionRefenced(self._partition, "sent_again", error))
                return False
            self._watcher(TransactionRefenced(self._partition, "restored", error))
            message = f"partition {self._partition} is at {found}, not at {batch.start} or {batch.end.next_offset}"
            raise Moved(message)


def _close(gone: Producer) -> None:
    cast(Any, gone).close(2)
