"""The worker of a stage: one consumer, one task a partition, one loop that never waits for anything but messages.

The group decides who gets which partition, for progress only: a worker that wrongly believes it owns a partition is
fenced by the rightful one and can write nothing.
"""

import contextlib
import time
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.domain.promises import Promises
from streams.errors import WorkerDead
from streams.kafka.background import run_in_background
from streams.kafka.clients import ALL_BROKERS_DOWN, AUTO_OFFSET_RESET, PARTITION_EOF, is_fatal, new_consumer
from streams.kafka.settings import KafkaSettings
from streams.kafka.topic_admin import check_topics
from streams.processors.processor import ProcessorName
from streams.processors.registry import processor_spec
from streams.telemetry.worker_events import (
    BrokerRecovered,
    BrokerUnavailable,
    EventListener,
    GroupMembershipLost,
    PartitionsAssigned,
    PartitionsRevoked,
    WorkerProgress,
    WorkerStarted,
    WorkerStopped,
)
from streams.worker.assignment_probe import AssignmentProbe
from streams.worker.failpoints import hit_failpoint
from streams.worker.group_membership import GroupMembership, Rejoin
from streams.worker.hub_times import TickMonitor
from streams.worker.idleness import IdleTimer
from streams.worker.partition_task import PartitionTask, ProcessingTotals
from streams.worker.standstill import PauseDetector
from streams.worker.tuning import collect_garbage
from streams.worker.watchdog import Watchdog

GroupProtocol = Literal["classic", "consumer"]

_AT_A_TIME: Final = 20_000
# Records that may wait, of all partitions together, before no more are asked for.
_ENOUGH: Final = 200_000
_HUNG_SECONDS: Final = 20.0
# A thread of a partition tells that it lives at least this often; its calls to Kafka are all bounded below it.
_SILENT_SECONDS: Final = 60.0
_FINISH_SECONDS: Final = 10.0
_LEAVE_SECONDS: Final = 5.0
_MINUTE: Final = 60.0
_OFFSETS_SECONDS: Final = 5.0
_REJOIN_SECONDS: Final = 15.0
_SESSION_MS: Final = 6_000


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker runs."""

    # Name of this worker among the group's static members; it keeps its partitions over a restart within the session.
    instance: str | None = None
    protocol: GroupProtocol = "classic"
    # Stop when nothing arrived for so many seconds and everything is committed; None runs until a signal.
    until_idle_seconds: float | None = None
    # Fold from the beginning of the log and write nothing: a measure of the fold, not of the pipeline.
    no_output: bool = False
    # What is watched about parcels.
    promises: Promises = field(default_factory=Promises.default)


class Worker:
    """Records of a stage's log in, what follows from them out. `run` returns when it was told to stop."""

    def __init__(
        self, settings: KafkaSettings, options: WorkerOptions, listener: EventListener, stage: ProcessorName = "parcels"
    ) -> None:
        """Checks the set-up of the cluster.

        Raises:
            Misconfigured: topics are missing or do not fit together.
            StreamsError: no broker answers.
        """
        self.tally = ProcessingTotals()
        self.kind = processor_spec(stage, options.promises)
        # Workers of other stages in this process: none is idle before all are, for one gives the other something to do.
        self.sibling_workers: list[Worker] = []
        self.idle = False
        self._settings = settings
        self._options = options
        self._watcher = listener
        self._topic = settings.prefix + self.kind.input
        self._partitions = check_topics(settings)
        self._tasks: dict[int, PartitionTask] = {}
        self._turns = 0
        self._stop: str | None = None
        # What the client said when it lost every broker; None while one answers.
        self._doubt: str | None = None
        self._away_since: float | None = None
        self._looked = 0.0
        # The error that broke the consumer.
        self._fatal: KafkaError | None = None
        self._membership = GroupMembership(options.instance)
        # A measure of the fold runs beside the worker, not instead of it.
        self._group = self.kind.group + (".dry" if options.no_output else "")
        self._spare = AssignmentProbe(settings, settings.prefix + self._group)
        self._idleness = IdleTimer()
        self._told = time.monotonic()
        self._told_records = 0
        self._offsets_at = time.monotonic()
        self._hub_times = TickMonitor()
        self._standstill = PauseDetector()
        self._made = 0
        self._watchdog: Watchdog
        self._consumer = self._new_consumer()

    def stop(self, why: str = "signal") -> None:
        """Finish the transactions on their way and leave the group. Safe in a signal handler."""
        self._stop = self._stop or why

    @property
    def why(self) -> str:
        """Why it was told to stop."""
        return self._stop or ""

    def run(self) -> None:
        """Fold until told to stop.

        Raises:
            WorkerDead: the consumer is broken beyond repair, or the log lost records that were not folded yet.
            StreamsError: a state cannot be read.
        """
        watchdog = self._watchdog = Watchdog(_HUNG_SECONDS)
        group = self._settings.prefix + self.kind.group
        self._watcher(WorkerStarted(self._settings.bootstrap, group, self._options.instance or ""))
        self._subscribe()
        why = "error"
        try:
            while self._stop is None:
                self._turn()
            why = self._stop
        finally:
            watchdog.stop()
            self._close()
            self._watcher(WorkerStopped(why))

    # One turn of the loop

    def _turn(self) -> None:
        messages = self._poll()
        self._turns += 1
        self._alive()
        if messages:
            self._accept(messages)
        for task in list(self._tasks.values()):
            task.step()
            self._seek(task)
            self._hold(task)
        self._regularly()

    def _alive(self) -> None:
        if max((task.seconds_since_heartbeat() for task in self._tasks.values()), default=0.0) < _SILENT_SECONDS:
            self._watchdog.beat()

    def _poll(self) -> list[Message]:
        tasks = self._tasks.values()
        under_way = [future for task in tasks for future in task.in_flight]
        waiting = sum(task.backlog_records for task in tasks)
        if waiting > _ENOUGH and under_way:
            # Enough to do: only serve the group, and wait for what is under way instead of for messages.
            wait_for(under_way, timeout=0.002, return_when=FIRST_COMPLETED)
            first = self._consumer.poll(0)
            return [] if first is None else [first]
        first = self._consumer.poll(0.002 if under_way else 0.02)
        return [] if first is None else [first, *self._consumer.consume(_AT_A_TIME - 1, 0)]

    def _accept(self, messages: list[Message]) -> None:
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            if message.error() is not None:
                self._on_message_error(cast(KafkaError, message.error()), message)
                continue
            by_partition.setdefault(cast(int, message.partition()), []).append(message)
        if by_partition:
            self._idleness.heard(time.monotonic())
        for partition, own in by_partition.items():
            task = self._tasks.get(partition)
            # A partition may have been revoked while consume ran; one that is not restored yet is read again then. And
            # until the seek, after somebody else folded on, what comes may lie beyond the place at which to go on.
            if task is not None and task.ready and task.seek_to is None:
                task.accept(own)
                self._see_end(task)

    def _on_message_error(self, error: KafkaError, message: Message) -> None:
        if error.code() == PARTITION_EOF:
            task = self._tasks.get(cast(int, message.partition()))
            if task is not None and task.ready and task.seek_to is None:
                task.eof_offset = cast(int, message.offset())
        elif error.code() == AUTO_OFFSET_RESET:
            text = (
                f"{self._topic} [{message.partition()}] does not hold the offset at which to go on ({error.str()}): "
                "records that were not folded yet are gone, or the topic is another one than before"
            )
            raise WorkerDead(text)
        elif is_fatal(error):
            self._fatal = self._fatal or error

    def _hold(self, task: PartitionTask) -> None:
        """Pause what cannot be taken, resume what can: by name, because a pause survives loss and reassignment."""
        if task.should_pause == task.paused:
            return
        partition = [TopicPartition(self._topic, task.partition)]
        try:
            (self._consumer.pause if task.should_pause else self._consumer.resume)(partition)
        except KafkaException:
            return  # not assigned at this moment; the next turn tries again
        task.paused = task.should_pause

    def _seek(self, task: PartitionTask) -> None:
        if task.seek_to is None:
            return
        try:
            self._consumer.seek(TopicPartition(self._topic, task.partition, task.seek_to))
        except KafkaException:
            return  # librdkafka refuses to seek what it has not begun to fetch; the next turn tries again
        task.seek_to = None

    def _regularly(self) -> None:
        now = time.monotonic()
        stood_still = self._standstill.detect_pause(now)
        if self._fatal is not None:
            self._rejoin(self._membership.lost(self._fatal, now), self._fatal.str())
        if self._membership.is_join_overdue(now):
            self._ask_again(now)
        if self._doubt is not None:
            self._look_for_broker(now)
        if now - self._offsets_at > _OFFSETS_SECONDS:
            self._offsets_at = now
            self._tell_offsets()
        if now - self._told > _MINUTE:
            records = self.tally.records - self._told_records
            self._watcher(WorkerProgress(records, now - self._told, tuple(sorted(self._tasks))))
            self._told, self._told_records = now, self.tally.records
            collect_garbage()
        # Not while the broker is away or stands still. That it is away is told already.
        can_receive = not stood_still and self._doubt is None
        self._look_for_ticks(now, can_receive=can_receive)
        if self._options.until_idle_seconds is not None:
            self._look_whether_idle(now, self._options.until_idle_seconds, can_receive=can_receive)

    def _look_whether_idle(self, now: float, until_idle: float, *, can_receive: bool) -> None:
        self._look_whether_spare(now)
        # Nor while restoring or writing, nor before the group has answered.
        done = all(task.at_end and not task.busy for task in self._tasks.values())
        can_receive = can_receive and done and self._membership.is_joined
        self.idle = self._idleness.idle_seconds(now, can_receive=can_receive) > until_idle
        if self.idle and all(other.idle for other in self.sibling_workers):
            self.stop("idle")

    def _look_whether_spare(self, now: float) -> None:
        """Under the protocol of KIP-848 nobody is told that the group has no partition for it."""
        if self._options.protocol == "classic":
            return
        if self._tasks:
            self._spare.forget()
            return
        spare = self._spare.poll(self._consumer, now)
        if spare is True:
            self._membership.joined()
        elif spare is False:
            self._membership.start_join(now)

    def _look_for_ticks(self, now: float, *, can_receive: bool) -> None:
        times = {number: task.hub_time for number, task in self._tasks.items()}
        if (news := self._hub_times.look(now, times, can_receive=can_receive)) is not None:
            self._watcher(news)

    def _see_end(self, task: PartitionTask) -> None:
        """Where the input partition ended when it was last fetched from: for the lag."""
        try:
            partition = TopicPartition(self._topic, task.partition)
            task.log_end_offset = self._consumer.get_watermark_offsets(partition, cached=True)[1]
        except KafkaException:
            return

    def _tell_offsets(self) -> None:
        """Group offsets, for the tools that show them: nothing here trusts them."""
        offsets = [
            TopicPartition(self._topic, task.partition, task.position)
            for task in self._tasks.values()
            if task.position is not None and not self._options.no_output
        ]
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException:
                return

    # The broker

    def _on_client_error(self, error: KafkaError) -> None:
        # A static member that commits before it has rejoined a restarted coordinator is fenced by its own former self.
        self._offsets_at = time.monotonic() + _REJOIN_SECONDS
        if error.code() == ALL_BROKERS_DOWN:
            # Such news may be old, for it waits in a queue until the next poll: whether it is true is asked.
            self._doubt = self._doubt or error.str()
        elif is_fatal(error):
            self._fatal = self._fatal or error

    def _look_for_broker(self, now: float) -> None:
        if now - self._looked < 1:
            return
        self._looked = now
        try:
            self._consumer.list_topics(self._topic, timeout=0.5)
        except KafkaException:
            if self._away_since is None:
                self._away_since = now
                self._watcher(BrokerUnavailable(cast(str, self._doubt)))
            return
        self._doubt = None
        if self._away_since is not None:
            self._watcher(BrokerRecovered(now - self._away_since))
            self._away_since = None

    # The group

    def _new_consumer(self) -> Consumer:
        options = self._options
        extra: dict[str, object] = {}
        if options.instance is not None and not options.no_output:
            extra["group_instance_id"] = options.instance
        if options.protocol == "classic":
            extra |= {
                "partition_assignment_strategy": "cooperative-sticky",
                "session_timeout_ms": _SESSION_MS,
                "heartbeat_interval_ms": 1_000,
            }
        else:
            extra["group_protocol"] = "consumer"
        self._made += 1
        made = self._made
        return new_consumer(
            self._settings,
            self._group,
            # What is left of a consumer before says nothing of this one.
            error_cb=lambda error: self._on_client_error(error) if made == self._made else None,
            enable_partition_eof=True,
            # Above what a step may take: whether the loop hangs is the watchdog's matter.
            max_poll_interval_ms=600_000,
            fetch_wait_max_ms=50,
            queued_min_messages=200_000,
            queued_max_messages_kbytes=128 << 10,
            **extra,
        )

    def _subscribe(self) -> None:
        self._membership.start_join(time.monotonic())
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _ask_again(self, now: float) -> None:
        """Join anew, with a new client, when the group does not answer.

        A broker that stood still for longer than its own session takes the joins that waited meanwhile, and a moment
        later becomes leader of the group's partition anew and forgets them (Kafka 4.3.1). The client waits for the
        answer until max.poll.interval.ms is over, without a partition. Once such a client did not even get an answer
        to other questions, while a client beside it did; so it is not asked whether the broker is there. Under the new
        protocol it asks the group all the time.
        """
        self._membership.start_join(now)
        if self._options.protocol == "classic" and self._doubt is None:
            self._rejoin(self._membership.on_join_timeout(), "no answer to a join")

    def _rejoin(self, again: Rejoin, why: str) -> None:
        """The place in the group is gone: what it gave is given up, and a new consumer asks for a new one."""
        if again.is_new:
            self._watcher(GroupMembershipLost(again.reason, why))
        gone, tasks = self._consumer, list(self._tasks.values())
        self._drop(gone, [TopicPartition(self._topic, task.partition) for task in tasks], lost=True)
        time.sleep(again.wait_seconds)
        self._consumer = self._new_consumer()
        self._fatal = None
        self._offsets_at = time.monotonic() + _REJOIN_SECONDS
        self._subscribe()
        run_in_background(gone.close)

    def _on_assign(self, source: Consumer, partitions: list[TopicPartition]) -> None:
        if source is not self._consumer:
            return
        self._membership.joined()
        numbers = tuple(sorted(partition.partition for partition in partitions))
        for number in numbers:
            old = self._tasks.pop(number, None)
            if old is not None:
                old.give_up()
            self._tasks[number] = PartitionTask(
                self._settings,
                self.kind,
                number,
                self._partitions,
                turns=lambda: self._turns,
                listener=self._watcher,
                tally=self.tally,
                no_output=self._options.no_output,
            )
        # From the beginning, explicitly: what comes before the seek is then older than the position, never newer.
        assigned = [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in numbers]
        source.incremental_assign(assigned)
        if assigned:
            source.pause(assigned)
            self._watcher(PartitionsAssigned(numbers, self.kind.name))

    def _on_revoke(self, source: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(source, partitions, lost=False)

    def _on_lost(self, source: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(source, partitions, lost=True)

    def _drop(self, source: Consumer, partitions: list[TopicPartition], *, lost: bool) -> None:
        if source is not self._consumer:
            return  # one that was given up, in its last moments
        numbers = tuple(sorted(partition.partition for partition in partitions))
        deadline = time.monotonic() + _FINISH_SECONDS / 4
        for number in numbers:
            task = self._tasks.pop(number, None)
            if task is None:
                continue
            if lost:
                task.give_up()
            else:
                # Nobody has it yet: what is on its way may arrive, so that the next owner need not do it again.
                task.finish(deadline)
        # Without a partition, that nothing comes says nothing until the group has answered again.
        if not self._tasks:
            self._membership.start_join(time.monotonic())
        with contextlib.suppress(KafkaException):  # a broken consumer has let go of them already
            source.incremental_unassign(partitions)
        if numbers:
            self._watcher(PartitionsRevoked(numbers, lost, self.kind.name))

    def _close(self) -> None:
        hit_failpoint("before_close")
        deadline = time.monotonic() + _FINISH_SECONDS
        for task in self._tasks.values():
            task.finish(deadline)
        self._tell_offsets()
        self._tasks.clear()
        # It takes leave of its group, which may last while no broker answers; its partitions are let go already.
        closing = run_in_background(self._consumer.close)
        wait_for([closing], timeout=_LEAVE_SECONDS)
