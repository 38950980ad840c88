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

from streams.domain.reject_reasons import Reason
from streams.errors import PartitionLost, Retry
from streams.formats.position import Position
from streams.kafka.background import Threads, in_background
from streams.kafka.clients import Header
from streams.kafka.dead_letters import dead_letter_headers
from streams.kafka.settings import Settings
from streams.processors.processor import Committed, Kind, Made, Stage
from streams.telemetry.worker_events import Watcher
from streams.worker.failpoints import crash_point
from streams.worker.partition_writer import Claim, DeadLetter, Moved, PartitionWriter, Prepared
from streams.worker.restore import Restored, restore

# A Tick at which a million parcels become due keeps a fold busy for a while; longer than this, it hangs.
_FOLD_SECONDS: Final = 240.0
# All partitions' folds, as many at a time as there are cores. The threads stay, and with them the memory that each of
# them has from the C library: one a batch would clear fresh pages for every batch.
_FOLDS: Final = Threads(os.cpu_count() or 1, "fold")
_RETRY_SECONDS: Final = 1.0
# Of a batch's records this many tell how long they took to the commit.
_LATENCY_SAMPLES: Final = 256
_NO_OFFSETS: Final = np.empty(0, np.int64)


@dataclass(slots=True)
class Run:
    """Consecutive messages of the partition, offsets ascending."""

    messages: list[Message]
    offsets: NDArray[np.int64]


@dataclass(slots=True)
class _Folded:
    """A batch between the fold and the commit."""

    prepared: Prepared
    made: Made
    records: int
    # Kafka timestamps (ms) of some of its records, and how many records each stands for.
    sampled_ms: list[int]
    stride: int
    # Of its newest record; None when it had none.
    newest_ms: int | None
    # What the stage had no room for, to be folded again.
    put_back: Run | None


@dataclass(slots=True)
class Tally:
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
        settings: Settings,
        kind: Kind,
        partition: int,
        partitions: int,
        *,
        turns: Callable[[], int],
        watcher: Watcher,
        tally: Tally,
        dry: bool,
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
        self._watcher = watcher
        self._tally = tally
        self._dry = dry
        self._claim = Claim(turns)
        self._writer = PartitionWriter(settings, kind, partition, partitions, self._claim, watcher)
        self._restoring: Future[Restored] | None = None
        self._retry_at = 0.0
        self._stage = kind.make(partition, partitions)
        self._recorded: Position | None = None
        # Every record below this is folded already.
        self._next = 0
        self._backlog: list[Run] = []
        self._waiting = 0
        self._folding: Future[_Folded] | None = None
        self._folding_since = 0.0
        self._folded: _Folded | None = None
        self._writing: Future[dict[str, float]] | None = None
        self._written: _Folded | None = None
        # Set by the worker: offset after the newest record in the input partition, as far as its consumer knows.
        self.log_end = 0
        # And where the consumer last found nothing more to fetch.
        self.seen_end = -1

    @property
    def busy(self) -> bool:
        """Is anything of this partition folded, waiting or on its way?"""
        return bool(not self.ready or self._waiting or self._folded or self.under_way or self._stage.pending)

    @property
    def at_end(self) -> bool:
        """Has everything of the input partition been taken, as far as the broker has said?"""
        return self.ready and self.seen_end >= self._next

    @property
    def waiting(self) -> int:
        """Records that wait to be folded."""
        return self._waiting

    @property
    def under_way(self) -> list[Future[Any]]:
        """The fold and the transaction that run beside the loop."""
        return [future for future in (self._folding, self._writing) if future is not None]

    @property
    def hub_time(self) -> int | None:
        """Largest Tick folded, ms since 1970; None before the first, and while restoring."""
        return self._stage.hub_time if self.ready else None

    @property
    def overfull(self) -> bool:
        """Should no more be fetched for this partition until it gets on?"""
        return not self.ready or self.seek_to is not None or self._waiting > self.kind.largest_backlog

    @property
    def position(self) -> int | None:
        """Offset at which the committed part ends; None while nothing is committed or known."""
        return None if self._recorded is None else self._recorded.next_offset

    def silent_seconds(self) -> float:
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
        self._backlog.append(Run(messages, offsets))
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
            whole = due or self._waiting >= self.kind.largest_batch
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
                self._restoring = in_background(
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
        self._stage = restored.stage
        self._recorded = restored.position
        self._next = self.position or 0
        self.ready = True
        self.seek_to = OFFSET_BEGINNING if self.position is None else self.position
        self._watcher(self._stage.tell_restored(self.partition, restored.records, restored.seconds, self._next))

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
        start = self._recorded if self._written is None else self._written.prepared.end
        self._folding = _FOLDS.submit(self._fold, self._stage, messages, offsets, start)

    def _finish_fold(self) -> None:
        if self._folding is None or not self._folding.done():
            return
        done, self._folding = self._folding, None
        folded = done.result()
        if folded.put_back:
            # What the stage had no room for.
            self._backlog.insert(0, folded.put_back)
            self._waiting += len(folded.put_back.messages)
        # A stage that was due has nothing to write when another partition was quicker.
        start, end = folded.prepared.start, folded.prepared.end
        if folded.records or folded.made.blocks or start is None or start.left != end.left:
            self._folded = folded

    def _fold(
        self, stage: Stage, messages: list[Message], offsets: NDArray[np.int64], start: Position | None
    ) -> _Folded:
        """Fold messages of these offsets, which come after `start`. In a thread that has the stage to itself."""
        started = time.perf_counter()
        # 1. Decode; 2. fold in offset order; 3. encode. Unreadable records become dead letters, the others go on.
        payloads = list(map(Message.value, messages))
        taken = time.perf_counter()
        made = stage.run(payloads, outputs=not self._dry)
        made.seconds["take"] = taken - started
        put_back = Run(messages[made.taken :], offsets[made.taken :]) if made.taken < len(messages) else None
        messages = messages[: made.taken]
        crash_point("after_fold")
        # Where nothing came, and a stage went on with what it had, the input is where it was.
        before = 0 if start is None else start.next_offset
        prepared = Prepared(
            start=start,
            end=stage.position(int(offsets[len(messages) - 1]) + 1 if messages else before),
            blocks=made.blocks,
            dead_letters=[self._dead_letter(messages[i], reason) for i, reason in made.refused],
        )
        stride = max(1, len(messages) // _LATENCY_SAMPLES)
        sampled = [message.timestamp() for message in messages[::stride]]
        return _Folded(
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
        most = self.kind.largest_batch
        while self._backlog and len(messages) < most:
            run = self._backlog.pop(0)
            room = most - len(messages)
            messages += run.messages[:room]
            offsets.append(run.offsets[:room])
            if len(run.messages) > room:
                self._backlog.insert(0, Run(run.messages[room:], run.offsets[room:]))
        self._waiting -= len(messages)
        return messages, np.concatenate(offsets)

    def _dead_letter(self, message: Message, reason: Reason) -> DeadLetter:
        own = cast("list[Header] | None", message.headers())
        offset = cast(int, message.offset())
        headers = dead_letter_headers(self.topic, self.partition, offset, reason, own)
        return message.key(), message.value(), headers

    # Writing

    def _start_write(self, folded: _Folded) -> None:
        self._written = folded
        if self._dry:
            self._tell(folded, {})
            self._written = None
            self._recorded = folded.prepared.end
            return
        # 4. Outputs and, last, the position, in one transaction.
        self._writer.beat = time.monotonic()
        self._writing = in_background(self._writer.write, folded.prepared)

    def _finish_write(self) -> None:
        if self._writing is None or not self._writing.done():
            return
        done, self._writing = self._writing, None
        folded, self._written = cast(_Folded, self._written), None
        try:
            seconds = done.result()
        except PartitionLost:
            return
        except Moved:
            self._start_over()
            return
        self._recorded = folded.prepared.end
        # 5. The figures, after the commit, so that a batch that was sent twice counts once.
        self._tell(folded, seconds)

    def _tell(self, folded: _Folded, seconds: dict[str, float]) -> None:
        now = time.time()
        spent = {**folded.made.seconds, **seconds}
        self._tally.add(folded.records, spent)
        dead_letters: dict[str, int] = {}
        for _, reason in folded.made.refused:
            dead_letters[reason.name] = dead_letters.get(reason.name, 0) + 1
        # The ends of transactions have offsets too, and nothing to fold: where the consumer saw the end, it is the end.
        reached = self.seen_end if self.at_end and not self._waiting else folded.prepared.end.next_offset
        unread = max(0, self.log_end - reached)
        newest = folded.newest_ms
        committed = Committed(
            partition=self.partition,
            records=folded.records,
            dead_letters=dead_letters,
            seconds=spent,
            waited=[(max(0.0, now - ms / 1000), folded.stride) for ms in folded.sampled_ms],
            lag_records=unread,
            lag_seconds=max(0.0, now - newest / 1000) if unread and newest is not None else 0.0,
        )
        self._watcher(self._stage.tell_committed(folded.made, committed))
