"""The task of one partition: restore its state, then process one batch after the other. It never blocks the loop.

The path of a batch, in the order of the methods below:

1. Gather. `accept` puts polled messages into the backlog and drops those that were processed already.
2. Process. A thread gives a batch to the processor, which decodes the payloads, applies them in offset order and
   encodes the outputs. Unreadable records become dead letters with the reason; they do not stop the others.
3. Write. Another thread sends the outputs, the dead letters and, last, the position, in one transaction.
4. Recover. When the outcome of the transaction is unknown, the position shows whether it was committed; if not, the
   same bytes are sent again (`transaction_recovery.py`). When another worker wrote, the task restores again.
5. Report. The batch's figures are published after the commit, so that a batch that was sent twice counts once.

While a batch is under way the next messages gather. So batches are small when little arrives and large when the worker
is behind, and a parcel's state is then written once for many scans. Only when a whole batch is waiting, it is processed
while the one before is being committed.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, cast

from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Message

from streams.domain.reject_reasons import RejectReason
from streams.errors import PartitionLost, Retry
from streams.formats.position import PartitionPosition
from streams.kafka.background import DaemonThreadPool, run_in_background
from streams.kafka.clients import Header
from streams.kafka.dead_letters import dead_letter_headers
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import CommitSummary, Processor, ProcessorOutput, ProcessorSpec
from streams.telemetry.worker_events import EventListener
from streams.worker.backlog import Backlog, MessageBatch
from streams.worker.failpoints import hit_failpoint
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_writer import DeadLetterRecord, PartitionWriter, TransactionBatch
from streams.worker.restore import RestoreResult, restore
from streams.worker.transaction_recovery import PositionConflict

# A tick at which a million parcels become due keeps a processor busy for a while; longer than this, it hangs.
_PROCESSING_SECONDS: Final = 240.0
# Processes the batches of all partitions, as many at a time as there are cores. The threads stay, and with them the
# memory that each of them has from the C library: a thread for each batch would clear fresh pages for every batch.
_PROCESSING_POOL: Final = DaemonThreadPool(os.cpu_count() or 1, "process")
_RETRY_SECONDS: Final = 1.0
# Records of a batch of which the time from append to commit is measured.
_LATENCY_SAMPLES: Final = 256


@dataclass(slots=True)
class ProcessedBatch(TransactionBatch):
    """A batch from its processing to its commit: what is written, and what is reported then."""

    output: ProcessorOutput
    record_count: int
    # Kafka timestamps (ms) of some of its records, and the number of records that each stands for.
    sample_timestamps_ms: list[int]
    sample_stride: int
    # Of its newest record; None for a batch without records.
    newest_timestamp_ms: int | None

    @property
    def is_empty(self) -> bool:
        """Whether a commit would change nothing."""
        return not (
            self.record_count
            or self.blocks
            or self.start is None
            or self.start.pending_fan_outs != self.end.pending_fan_outs
        )


@dataclass(slots=True)
class ProcessingTotals:
    """What a worker did so far, all partitions together."""

    records: int = 0
    # time.monotonic() when the first batch began, and of the last commit.
    first_batch_at: float | None = None
    last_commit_at: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=dict)

    def add(self, records: int, phase_seconds: dict[str, float]) -> None:
        """Count a committed batch."""
        self.records += records
        self.last_commit_at = time.monotonic()
        for phase, seconds in phase_seconds.items():
            self.phase_seconds[phase] = self.phase_seconds.get(phase, 0.0) + seconds


class PartitionTask:
    """Everything that a worker does for one partition, from assignment to loss."""

    def __init__(
        self,
        settings: KafkaSettings,
        spec: ProcessorSpec,
        partition: int,
        partition_count: int,
        *,
        poll_count: Callable[[], int],
        listener: EventListener,
        totals: ProcessingTotals,
        no_output: bool,
    ) -> None:
        """`poll_count`: of the worker's consumer. `no_output`: process the log from its beginning, write nothing."""
        self.partition = partition
        # Whether the state is restored.
        self.ready = False
        self.paused = True
        # Offset at which the consumer must go on, from the restore until the seek worked.
        self.seek_to: int | None = None
        # Set by the worker: offset after the newest record in the input partition, as far as its consumer knows.
        self.log_end_offset = 0
        # Set by the worker: where the consumer last found nothing more to fetch.
        self.eof_offset = -1
        self.spec = spec
        self._settings = settings
        self._partition_count = partition_count
        self._listener = listener
        self._totals = totals
        self._no_output = no_output
        self._lease = PartitionLease(poll_count)
        self._writer = PartitionWriter(settings, spec, partition, partition_count, self._lease, listener)
        self._processor: Processor = spec.create_processor(partition, partition_count)
        self._backlog = Backlog()
        self._restoring: Future[RestoreResult] | None = None
        self._restore_at = 0.0
        self._committed: PartitionPosition | None = None
        # The batch in each of the places between the backlog and the commit, one at most.
        self._processing: Future[tuple[ProcessedBatch, MessageBatch]] | None = None
        self._processing_since = 0.0
        self._processed: ProcessedBatch | None = None
        self._writing: tuple[ProcessedBatch, Future[dict[str, float]]] | None = None

    @property
    def busy(self) -> bool:
        """Whether anything of this partition waits to be processed or committed."""
        is_under_way = self._processed is not None or bool(self.in_flight)
        return not self.ready or is_under_way or bool(self._backlog) or self._processor.has_pending_output

    @property
    def at_end(self) -> bool:
        """Whether every record of the input partition was accepted, as far as the broker has reported."""
        return self.ready and self.eof_offset >= self._backlog.next_offset

    @property
    def backlog_records(self) -> int:
        """Records that wait to be processed."""
        return len(self._backlog)

    @property
    def in_flight(self) -> list[Future[Any]]:
        """The processing and the transaction that run beside the loop."""
        writing = None if self._writing is None else self._writing[1]
        return [future for future in (self._processing, writing) if future is not None]

    @property
    def hub_time(self) -> int | None:
        """Largest tick processed, ms since 1970; None before the first, and while restoring."""
        return self._processor.hub_time if self.ready else None

    @property
    def should_pause(self) -> bool:
        """Whether to fetch no more for this partition for now."""
        return not self.ready or self.seek_to is not None or len(self._backlog) > self.spec.max_backlog_records

    @property
    def position(self) -> int | None:
        """Offset at which the committed part ends; None while nothing is committed or known."""
        return None if self._committed is None else self._committed.next_offset

    def seconds_since_heartbeat(self) -> float:
        """Age of the last sign of life of the threads that work for this partition; 0 when there are none."""
        is_at_work = self._writing is not None or self._restoring is not None
        age = self._writer.heartbeat.age_seconds() if is_at_work else 0.0
        if self._processing is None:
            return age
        return max(age, time.monotonic() - self._processing_since - _PROCESSING_SECONDS)

    def give_up(self) -> None:
        """Write nothing more: this worker no longer owns the partition."""
        self._lease.revoke()
        self.ready = False
        self._writer.drop_producer()

    def finish(self, deadline: float) -> None:
        """Wait for the transaction on its way, until `deadline` (time.monotonic), then give the partition up."""
        if self._writing is not None:
            while not self._writing[1].done() and time.monotonic() < deadline:
                time.sleep(0.005)
            self._finish_write()
        self.give_up()

    def step(self) -> None:
        """Do what can be done now without waiting."""
        if not self.ready:
            self._step_restore()
        self._finish_write()
        if not self.ready:
            return
        self._finish_processing()
        if self._processed is not None and self._writing is None:
            self._start_write(self._processed)
            self._processed = None
        if self._processing is None and self._processed is None:
            is_due = self._processor.has_due_output
            is_urgent = is_due or len(self._backlog) >= self.spec.max_batch_records
            if (self._backlog or is_due) and (self._writing is None or is_urgent):
                self._start_processing()

    # Restore

    def _step_restore(self) -> None:
        if self._no_output:
            self.ready, self.seek_to = True, OFFSET_BEGINNING
            return
        if self._restoring is None:
            if time.monotonic() >= self._restore_at:
                self._writer.heartbeat.beat()
                self._restoring = run_in_background(
                    restore,
                    self._settings,
                    self.spec,
                    self.partition,
                    self._partition_count,
                    self._lease,
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
            # The broker may be away: try again until it is back or the partition is lost.
            self._restore_at = time.monotonic() + _RETRY_SECONDS
            return
        self._processor = restored.processor
        self._committed = restored.position
        next_offset = self.position or 0
        self._backlog = Backlog(next_offset)
        self.ready = True
        self.seek_to = OFFSET_BEGINNING if self.position is None else self.position
        self._listener(self._processor.restored_event(restored.records, restored.seconds, next_offset))

    # 1. Gather

    def accept(self, messages: list[Message]) -> None:
        """Take messages of this partition; those that were processed already are dropped."""
        self._backlog.append(messages)

    # 2. Process

    def _start_processing(self) -> None:
        batch = self._backlog.take(self.spec.max_batch_records)
        self._processing_since = time.monotonic()
        if self._totals.first_batch_at is None:
            self._totals.first_batch_at = self._processing_since
        start = self._committed if self._writing is None else self._writing[0].end
        self._processing = _PROCESSING_POOL.submit(self._process, self._processor, batch, start)

    def _process(
        self, processor: Processor, batch: MessageBatch, start: PartitionPosition | None
    ) -> tuple[ProcessedBatch, MessageBatch]:
        """Process a batch that follows `start`, in a thread that has the processor to itself.

        Returns:
            what is to be written, and the messages for which the processor had no room.
        """
        started = time.perf_counter()
        payloads = list(map(Message.value, batch.messages))
        extracted = time.perf_counter()
        output = processor.run(payloads, outputs=not self._no_output)
        output.phase_seconds["extract"] = extracted - started
        batch, rest = batch.split(output.processed_count)
        hit_failpoint("after_fold")
        messages = batch.messages
        # Where no message came, and the processor went on with pending output, the input is where it was.
        before = 0 if start is None else start.next_offset
        stride = max(1, len(messages) // _LATENCY_SAMPLES)
        samples = [message.timestamp() for message in messages[::stride]]
        processed = ProcessedBatch(
            start=start,
            end=processor.position(int(batch.offsets[-1]) + 1 if messages else before),
            blocks=output.blocks,
            dead_letters=[self._dead_letter(messages[index], reason) for index, reason in output.rejects],
            output=output,
            record_count=len(messages),
            sample_timestamps_ms=[ms for kind, ms in samples if kind != TIMESTAMP_NOT_AVAILABLE],
            sample_stride=stride,
            newest_timestamp_ms=messages[-1].timestamp()[1] if messages else None,
        )
        return processed, rest

    def _dead_letter(self, message: Message, reason: RejectReason) -> DeadLetterRecord:
        original_headers = cast("list[Header] | None", message.headers())
        topic, offset = self._settings.prefix + self.spec.input_topic, cast(int, message.offset())
        headers = dead_letter_headers(topic, self.partition, offset, reason, original_headers)
        return message.key(), message.value(), headers

    def _finish_processing(self) -> None:
        if self._processing is None or not self._processing.done():
            return
        done, self._processing = self._processing, None
        processed, rest = done.result()
        self._backlog.put_back(rest)
        # A processor with due output has nothing to write when another partition used up the rate limit before it.
        if not processed.is_empty:
            self._processed = processed

    # 3. Write

    def _start_write(self, processed: ProcessedBatch) -> None:
        if self._no_output:
            self._committed = processed.end
            self._report(processed, {})
            return
        self._writer.heartbeat.beat()
        self._writing = processed, run_in_background(self._writer.write, processed)

    def _finish_write(self) -> None:
        if self._writing is None or not self._writing[1].done():
            return
        (processed, done), self._writing = self._writing, None
        try:
            phase_seconds = done.result()
        except PartitionLost:
            return
        except PositionConflict:
            self._restore_again()
            return
        self._committed = processed.end
        self._report(processed, phase_seconds)

    # 4. Recover: the writer sends a batch again by itself; what is left is the case that another worker wrote

    def _restore_again(self) -> None:
        """Forget everything but the lease: another worker went on from the committed position."""
        self.ready = False
        self._backlog.clear()
        self._processing = self._processed = None

    # 5. Report

    def _report(self, processed: ProcessedBatch, write_seconds: dict[str, float]) -> None:
        now = time.time()
        phase_seconds = {**processed.output.phase_seconds, **write_seconds}
        self._totals.add(processed.record_count, phase_seconds)
        # Control records of transactions have offsets, too: where the consumer has seen the end, the end is reached.
        reached = self.eof_offset if self.at_end and not self._backlog else processed.end.next_offset
        unread = max(0, self.log_end_offset - reached)
        newest_ms = processed.newest_timestamp_ms
        summary = CommitSummary(
            partition=self.partition,
            records=processed.record_count,
            dead_letters=Counter(reason.name for _, reason in processed.output.rejects),
            phase_seconds=phase_seconds,
            latency_samples=[
                (max(0.0, now - ms / 1000), processed.sample_stride) for ms in processed.sample_timestamps_ms
            ],
            lag_records=unread,
            lag_seconds=max(0.0, now - newest_ms / 1000) if unread and newest_ms is not None else 0.0,
        )
        self._listener(processed.output.committed_event(summary))
