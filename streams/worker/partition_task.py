"""The task of one partition: restore, then batches one after the other; it never blocks the worker's loop.

States: restoring (a thread fences and reads), ready (messages gather in the backlog, one thread folds a batch of them,
and another writes it). While a batch is under way the next messages gather, so that batches are small when little comes
and large when the worker is behind, and a parcel's state is then written once for many scans; only when a whole batch
is waiting is it folded while the one before is being committed.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Message
from numpy.typing import NDArray

from streams.domain.reject_reasons import RejectReason
from streams.errors import PartitionLost, Retry
from streams.formats.position import PartitionPosition
from streams.kafka.background import DaemonThreadPool, run_in_background
from streams.kafka.clients import Header
from streams.kafka.dead_letters import dead_letter_headers
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import CommitSummary, Processor, ProcessorOutput, ProcessorSpec
from streams.telemetry.worker_events import EventListener
from streams.worker.failpoints import hit_failpoint
from streams.worker.partition_writer import (
    DeadLetterRecord,
    PartitionLease,
    PartitionWriter,
    PositionConflict,
    TransactionBatch,
)
from streams.worker.restore import RestoreResult, restore

# A Tick at which a million parcels become due keeps a fold busy for a while; longer than this, it hangs.
_FOLD_SECONDS: Final = 240.0
# All partitions' folds, as many at a time as there are cores. The threads stay, and with them the memory that each of
# them has from the C library: one a batch would clear fresh pages for every batch.
_FOLDS: Final = DaemonThreadPool(os.cpu_count() or 1, "fold")
_RETRY_SECONDS: Final = 1.0
# Of a batch's records this many tell how long they took to the commit.
_LATENCY_SAMPLES: Final = 256
_NO_OFFSETS: Final = np.empty(0, np.int64)


@dataclass(slots=True)
class MessageBatch:
    """Consecutive messages of the partition, offsets ascending."""

    messages: list[Message]
    offsets: NDArray[np.int64]


@dataclass(slots=True)
class _InFlightBatch:
    """A batch between the fold and the commit."""

    transaction: TransactionBatch
    output: ProcessorOutput
    records: int
    # Kafka timestamps (ms) of some of its records, and how many records each stands for.
    sample_timestamps_ms: list[int]
    sample_stride: int
    # Of its newest record; None when it had none.
    newest_timestamp_ms: int | None
    # What the stage had no room for, to be folded again.
    remainder: MessageBatch | None


@dataclass(slots=True)
class ProcessingTotals:
    """What a worker did so far, for its last words: all partitions of a stage together."""

    records: int = 0
    first: float | None = None  # time.monotonic() of the first record folded
    last: float = 0.0  # and of the last commit
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, records: int, seconds: dict[str, float]) -> None:
        """Count a committed batch."""
        self.records += records
        self.last = time.monotonic()
        for phase, spent in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent


class PartitionTask:
    """Everything that a worker does for one partition, from assignment to loss."""

    def __init__(
        self,
        settings: KafkaSettings,
        kind: ProcessorSpec,
        partition: int,
        partitions: int,
        *,
        turns: Callable[[], int],
        listener: EventListener,
        tally: ProcessingTotals,
        no_output: bool,
    ) -> None:
        """`kind`: of the stage. `dry`: fold from the beginning of the log and write nothing."""
        self.partition = partition
        self.ready = False
        self.paused = True
        # Offset at which the consumer must go on, from the restore until the seek worked.
        self.seek_to: int | None = None
        self._settings = settings
        self.kind = kind
        self.topic = settings.prefix + kind.input
        self._partitions = partitions
        self._watcher = listener
        self._tally = tally
        self._dry = no_output
        self._claim = PartitionLease(turns)
        self._writer = PartitionWriter(settings, kind, partition, partitions, self._claim, listener)
        self._restoring: Future[RestoreResult] | None = None
        self._retry_at = 0.0
        self._stage = kind.create_processor(partition, partitions)
        self._recorded: PartitionPosition | None = None
        # Every record below this is folded already.
        self._next = 0
        self._backlog: list[MessageBatch] = []
        self._waiting = 0
        self._folding: Future[_InFlightBatch] | None = None
        self._folding_since = 0.0
        self._folded: _InFlightBatch | None = None
        self._writing: Future[dict[str, float]] | None = None
        self._written: _InFlightBatch | None = None
        # Set by the worker: offset after the newest record in the input partition, as far as its consumer knows.
        self.log_end_offset = 0
        # And where the consumer last found nothing more to fetch.
        self.eof_offset = -1

    @property
    def busy(self) -> bool:
        """Is anything of this partition folded, waiting or on its way?"""
        return bool(not self.ready or self._waiting or self._folded or self.in_flight or self._stage.pending)

    @property
    def at_end(self) -> bool:
        """Has everything of the input partition been taken, as far as the broker has said?"""
        return self.ready and self.eof_offset >= self._next

    @property
    def backlog_records(self) -> int:
        """Records that wait to be folded."""
        return self._waiting

    @property
    def in_flight(self) -> list[Future[Any]]:
        """The fold and the transaction that run beside the loop."""
        return [future for future in (self._folding, self._writing) if future is not None]

    @property
    def hub_time(self) -> int | None:
        """Largest Tick folded, ms since 1970; None before the first, and while restoring."""
        return self._stage.hub_time if self.ready else None

    @property
    def should_pause(self) -> bool:
        """Should no more be fetched for this partition until it gets on?"""
        return not self.ready or self.seek_to is not None or self._waiting > self.kind.max_backlog_records

    @property
    def position(self) -> int | None:
        """Offset at which the committed part ends; None while nothing is committed or known."""
        return None if self._recorded is None else self._recorded.next_offset

    def seconds_since_heartbeat(self) -> float:
        """For how long the thread that works for this partition gave no sign of life; 0 when there is none."""
        now = time.monotonic()
        at_work = self._writing is not None or self._restoring is not None
        silent = now - self._writer.beat if at_work else 0.0
        return silent if self._folding is None else max(silent, now - self._folding_since - _FOLD_SECONDS)

    def give_up(self) -> None:
        """The partition is not ours any more: write nothing more."""
        self._claim.give_up()
        self.ready = False
        self._writer.retire()

    def accept(self, messages: list[Message]) -> None:
        """Take messages of this partition; those that are folded already are dropped."""
        offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
        # After a seek librdkafka may still deliver what it had fetched before: older records, never a gap.
        ascending = np.maximum.accumulate(offsets)
        fresh = offsets >= self._next
        fresh[1:] &= offsets[1:] > ascending[:-1]
        if not fresh.all():
            messages = [message for message, new in zip(messages, fresh.tolist(), strict=True) if new]
            offsets = offsets[fresh]
        if not messages:
            return
        self._next = int(offsets[-1]) + 1
        self._backlog.append(MessageBatch(messages, offsets))
        self._waiting += len(messages)

    def step(self) -> None:
        """Do what can be done now without waiting."""
        if not self.ready:
            self._step_restore()
        self._finish_write()
        if not self.ready:
            return
        self._finish_fold()
        if self._folded is not None and self._writing is None:
            self._start_write(self._folded)
            self._folded = None
        if self._folding is None and self._folded is None:
            due = self._stage.due
            whole = due or self._waiting >= self.kind.max_batch_records
            if (self._waiting or due) and (self._writing is None or whole):
                self._start_fold()

    def finish(self, deadline: float) -> None:
        """Wait for the transaction on its way, until `deadline` (time.monotonic), then let the producer go."""
        if self._writing is not None:
            while not self._writing.done() and time.monotonic() < deadline:
                time.sleep(0.005)
            if self._writing.done():
                self._finish_write()
        self.give_up()

    # Restoring

    def _step_restore(self) -> None:
        if self._dry:
            self.ready, self.seek_to = True, OFFSET_BEGINNING
            return
        if self._restoring is None:
            if time.monotonic() >= self._retry_at:
                self._writer.beat = time.monotonic()
                self._restoring = run_in_background(
                    restore,
                    self._settings,
                    self.kind,
                    self.partition,
                    self._partitions,
                    self._claim,
                    self._writer,
                )
            return
        if not self._restoring.done():
            return
        done, self._restoring = self._restoring, None
        try:
            restored = done.result()
        except PartitionLost:
            return
        except Retry:
            # The broker may be away: try again until it is back or the partition goes.
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return
        self._stage = restored.processor
        self._recorded = restored.position
        self._next = self.position or 0
        self.ready = True
        self.seek_to = OFFSET_BEGINNING if self.position is None else self.position
        self._watcher(self._stage.make_restored_event(self.partition, restored.records, restored.seconds, self._next))

    def _start_over(self) -> None:
        """Forget everything but the claim: another worker folded on."""
        self.ready = False
        self._backlog.clear()
        self._waiting = 0
        self._folding = self._folded = None

    # Folding

    def _start_fold(self) -> None:
        messages, offsets = self._take()
        self._folding_since = time.monotonic()
        if self._tally.first is None:
            self._tally.first = self._folding_since
        start = self._recorded if self._written is None else self._written.transaction.end
        self._folding = _FOLDS.submit(self._fold, self._stage, messages, offsets, start)

    def _finish_fold(self) -> None:
        if self._folding is None or not self._folding.done():
            return
        done, self._folding = self._folding, None
        folded = done.result()
        if folded.remainder:
            # What the stage had no room for.
            self._backlog.insert(0, folded.remainder)
            self._waiting += len(folded.remainder.messages)
        # A stage that was due has nothing to write when another partition was quicker.
        start, end = folded.transaction.start, folded.transaction.end
        if folded.records or folded.output.blocks or start is None or start.pending_fan_outs != end.pending_fan_outs:
            self._folded = folded

    def _fold(
        self, stage: Processor, messages: list[Message], offsets: NDArray[np.int64], start: PartitionPosition | None
    ) -> _InFlightBatch:
        """Fold messages of these offsets, which come after `start`. In a thread that has the stage to itself."""
        started = time.perf_counter()
        # 1. Decode; 2. fold in offset order; 3. encode. Unreadable records become dead letters, the others go on.
        payloads = list(map(Message.value, messages))
        taken = time.perf_counter()
        made = stage.run(payloads, outputs=not self._dry)
        made.seconds["extract"] = taken - started
        put_back = MessageBatch(messages[made.taken :], offsets[made.taken :]) if made.taken < len(messages) else None
        messages = messages[: made.taken]
        hit_failpoint("after_fold")
        # Where nothing came, and a stage went on with what it had, the input is where it was.
        before = 0 if start is None else start.next_offset
        prepared = TransactionBatch(
            start=start,
            end=stage.position(int(offsets[len(messages) - 1]) + 1 if messages else before),
            blocks=made.blocks,
            dead_letters=[self._dead_letter(messages[i], reason) for i, reason in made.refused],
        )
        stride = max(1, len(messages) // _LATENCY_SAMPLES)
        sampled = [message.timestamp() for message in messages[::stride]]
        return _InFlightBatch(
            prepared,
            made,
            len(messages),
            [ms for kind, ms in sampled if kind != TIMESTAMP_NOT_AVAILABLE],
            stride,
            messages[-1].timestamp()[1] if messages else None,
            put_back,
        )

    def _take(self) -> tuple[list[Message], NDArray[np.int64]]:
        """The next messages to fold, and their offsets."""
        messages: list[Message] = []
        offsets = [_NO_OFFSETS]
        most = self.kind.max_batch_records
        while self._backlog and len(messages) < most:
            run = self._backlog.pop(0)
            room = most - len(messages)
            messages += run.messages[:room]
            offsets.append(run.offsets[:room])
            if len(run.messages) > room:
                self._backlog.insert(0, MessageBatch(run.messages[room:], run.offsets[room:]))
        self._waiting -= len(messages)
        return messages, np.concatenate(offsets)

    def _dead_letter(self, message: Message, reason: RejectReason) -> DeadLetterRecord:
        own = cast("list[Header] | None", message.headers())
        offset = cast(int, message.offset())
        headers = dead_letter_headers(self.topic, self.partition, offset, reason, own)
        return message.key(), message.value(), headers

    # Writing

    def _start_write(self, folded: _InFlightBatch) -> None:
        self._written = folded
        if self._dry:
            self._tell(folded, {})
            self._written = None
            self._recorded = folded.transaction.end
            return
        # 4. Outputs and, last, the position, in one transaction.
        self._writer.beat = time.monotonic()
        self._writing = run_in_background(self._writer.write, folded.transaction)

    def _finish_write(self) -> None:
        if self._writing is None or not self._writing.done():
            return
        done, self._writing = self._writing, None
        folded, self._written = cast(_InFlightBatch, self._written), None
        try:
            seconds = done.result()
        except PartitionLost:
            return
        except PositionConflict:
            self._start_over()
            return
        self._recorded = folded.transaction.end
        # 5. The figures, after the commit, so that a batch that was sent twice counts once.
        self._tell(folded, seconds)

    def _tell(self, folded: _InFlightBatch, seconds: dict[str, float]) -> None:
        now = time.time()
        spent = {**folded.output.seconds, **seconds}
        self._tally.add(folded.records, spent)
        dead_letters: dict[str, int] = {}
        for _, reason in folded.output.refused:
            dead_letters[reason.name] = dead_letters.get(reason.name, 0) + 1
        # The ends of transactions have offsets too, and nothing to fold: where the consumer saw the end, it is the end.
        reached = self.eof_offset if self.at_end and not self._waiting else folded.transaction.end.next_offset
        unread = max(0, self.log_end_offset - reached)
        newest = folded.newest_timestamp_ms
        committed = CommitSummary(
            partition=self.partition,
            records=folded.records,
            dead_letters=dead_letters,
            seconds=spent,
            latency_samples=[(max(0.0, now - ms / 1000), folded.sample_stride) for ms in folded.sample_timestamps_ms],
            lag_records=unread,
            lag_seconds=max(0.0, now - newest / 1000) if unread and newest is not None else 0.0,
        )
        self._watcher(self._stage.make_committed_event(folded.output, committed))
