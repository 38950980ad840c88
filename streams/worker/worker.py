"""The worker of a processor: one consumer, one task for each assigned partition, one loop that waits for messages only.

The consumer group assigns partitions for progress only. A worker that wrongly believes that it owns a partition is
fenced by the rightful owner and can write nothing.
"""

import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import WorkerDead
from streams.kafka.background import run_in_background
from streams.kafka.clients import ALL_BROKERS_DOWN, AUTO_OFFSET_RESET, PARTITION_EOF, is_fatal
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import ProcessorSpec
from streams.telemetry.worker_events import EventListener, GroupMembershipLost, PartitionsAssigned, PartitionsRevoked
from streams.worker.assignment_probe import AssignmentProbe
from streams.worker.failpoints import hit_failpoint
from streams.worker.group_membership import GroupMembership, GroupProtocol, Rejoin, new_group_consumer
from streams.worker.liveness import BrokerMonitor, Watchdog
from streams.worker.partition_task import PartitionTask, ProcessingTotals

_POLL_RECORDS: Final = 20_000
# Records of all partitions that may wait in backlogs before the worker fetches no more.
_MAX_BACKLOG_RECORDS: Final = 200_000
# A thread of a partition shows a sign of life at least this often; its calls to Kafka are all bounded below it.
_SILENT_SECONDS: Final = 60.0
_FINISH_SECONDS: Final = 10.0
_LEAVE_SECONDS: Final = 5.0
_OFFSETS_SECONDS: Final = 5.0
_REJOIN_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker runs."""

    # Name of this worker among the static members of its group: with it, a worker that restarts within the session
    # keeps its partitions. None for the first free name of this machine.
    group_instance_id: str | None = None
    group_protocol: GroupProtocol = "classic"
    # Stop when no record arrived for so many seconds and everything is committed; None runs until a signal.
    until_idle_seconds: float | None = None
    # Process from the beginning of the log and write nothing: a measurement of the processor alone.
    no_output: bool = False


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker's loop reports at the end of each turn."""

    # time.monotonic() at the end of the turn.
    updated_at: float
    # Whether everything that was read is committed, nothing more is there to read, and the group has answered.
    is_settled: bool
    is_broker_suspected: bool
    # Error of the consumer since no broker answers; None while one does.
    broker_error: str | None
    # Assigned partition -> its hub time, ms since 1970; None before the first tick and while restoring.
    hub_times: Mapping[int, int | None]


class Worker:
    """The consumer loop of one processor: reads its input topic and drives a task for each assigned partition."""

    def __init__(
        self,
        settings: KafkaSettings,
        options: WorkerOptions,
        listener: EventListener,
        spec: ProcessorSpec,
        partition_count: int,
        group_instance_id: str | None,
    ) -> None:
        self.spec = spec
        self.group_instance_id = group_instance_id
        self.totals = ProcessingTotals()
        # None before the end of the first turn.
        self.status: WorkerStatus | None = None
        # time.monotonic() when a record last arrived.
        self.last_record_at = time.monotonic()
        self._settings = settings
        self._options = options
        self._listener = listener
        self._topic = settings.prefix + spec.input_topic
        self._partition_count = partition_count
        self._tasks: dict[int, PartitionTask] = {}
        self._poll_count = 0
        self._is_stopping = False
        self._broker_monitor = BrokerMonitor()
        # The error that broke the consumer.
        self._fatal_error: KafkaError | None = None
        self._membership = GroupMembership(group_instance_id)
        # A measurement of the processor runs beside the worker, not instead of it.
        self._group = spec.group_id + (".dry" if options.no_output else "")
        self._assignment_probe = AssignmentProbe(settings, settings.prefix + self._group)
        self._offsets_at = time.monotonic()
        self._consumer_count = 0
        self._consumer = self._new_consumer()

    def stop(self) -> None:
        """Let `run` finish the transactions on their way, leave the group and return. Safe in a signal handler."""
        self._is_stopping = True

    def run(self, watchdog: Watchdog) -> None:
        """Process records until `stop`.

        Args:
            watchdog: watches the turns of the loop.

        Raises:
            WorkerDead: the consumer is broken beyond repair, or the log lost records that were not processed yet.
            StreamsError: a state cannot be read.
        """
        heartbeat = watchdog.watch()
        try:
            self._subscribe()
            while not self._is_stopping:
                self._turn()
                if all(task.seconds_since_heartbeat() < _SILENT_SECONDS for task in self._tasks.values()):
                    heartbeat.beat()
        finally:
            watchdog.unwatch(heartbeat)
            self._close()

    # One turn of the loop

    def _turn(self) -> None:
        messages = self._poll()
        self._poll_count += 1
        if messages:
            self._accept(messages)
        for task in list(self._tasks.values()):
            task.step()
            self._seek(task)
            self._pause_or_resume(task)
        self._do_regular_work()
        self._update_status()

    def _poll(self) -> list[Message]:
        tasks = self._tasks.values()
        in_flight = [future for task in tasks for future in task.in_flight]
        waiting = sum(task.backlog_records for task in tasks)
        if waiting > _MAX_BACKLOG_RECORDS and in_flight:
            # Enough to do: only serve the group, and wait for what is in flight instead of for messages.
            wait_for(in_flight, timeout=0.002, return_when=FIRST_COMPLETED)
            first = self._consumer.poll(0)
            return [] if first is None else [first]
        first = self._consumer.poll(0.002 if in_flight else 0.02)
        return [] if first is None else [first, *self._consumer.consume(_POLL_RECORDS - 1, 0)]

    def _accept(self, messages: list[Message]) -> None:
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            if message.error() is not None:
                self._on_message_error(cast(KafkaError, message.error()), message)
                continue
            by_partition.setdefault(cast(int, message.partition()), []).append(message)
        if by_partition:
            self.last_record_at = time.monotonic()
        for partition, partition_messages in by_partition.items():
            task = self._tasks.get(partition)
            # A partition may have been revoked while consume ran. One that is not restored yet is read again after the
            # restore. After a position conflict, messages before the seek may lie beyond the new position.
            if task is not None and task.ready and task.seek_to is None:
                task.accept(partition_messages)
                self._update_log_end(task)

    def _on_message_error(self, error: KafkaError, message: Message) -> None:
        if error.code() == PARTITION_EOF:
            task = self._tasks.get(cast(int, message.partition()))
            if task is not None and task.ready and task.seek_to is None:
                task.eof_offset = cast(int, message.offset())
        elif error.code() == AUTO_OFFSET_RESET:
            text = (
                f"{self._topic} [{message.partition()}] does not hold the offset at which to go on ({error.str()}): "
                "records that were not processed yet are gone, or the topic was deleted and created again"
            )
            raise WorkerDead(text)
        elif is_fatal(error):
            self._fatal_error = self._fatal_error or error

    def _pause_or_resume(self, task: PartitionTask) -> None:
        """Pause or resume the fetching of a partition, by name: a pause survives loss and reassignment."""
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
            return  # librdkafka refuses to seek before its first fetch; the next turn tries again
        task.seek_to = None

    def _do_regular_work(self) -> None:
        now = time.monotonic()
        if self._fatal_error is not None:
            self._rejoin(self._membership.on_fatal_error(self._fatal_error, now), self._fatal_error.str())
        if self._membership.is_join_overdue(now):
            self._join_again(now)
        if self._broker_monitor.is_check_due(now):
            self._check_broker()
        if now - self._offsets_at > _OFFSETS_SECONDS:
            self._offsets_at = now
            self._commit_offsets()
        if self._options.until_idle_seconds is not None:
            self._probe_assignment(now)

    def _update_status(self) -> None:
        tasks = self._tasks
        self.status = WorkerStatus(
            updated_at=time.monotonic(),
            is_settled=self._membership.is_joined and all(task.at_end and not task.busy for task in tasks.values()),
            is_broker_suspected=self._broker_monitor.is_suspected,
            broker_error=self._broker_monitor.error,
            hub_times={partition: task.hub_time for partition, task in tasks.items()},
        )

    def _probe_assignment(self, now: float) -> None:
        """Under the protocol of KIP-848 no member is told that the group has no partition for it."""
        if self._options.group_protocol == "classic":
            return
        if self._tasks:
            self._assignment_probe.reset()
            return
        is_unassigned = self._assignment_probe.poll(self._consumer, now)
        if is_unassigned is True:
            self._membership.complete_join()
        elif is_unassigned is False:
            self._membership.start_join(now)

    def _update_log_end(self, task: PartitionTask) -> None:
        """Record where the input partition ended when it was last fetched from: for the lag."""
        try:
            partition = TopicPartition(self._topic, task.partition)
            task.log_end_offset = self._consumer.get_watermark_offsets(partition, cached=True)[1]
        except KafkaException:
            return

    def _commit_offsets(self) -> None:
        """Commit group offsets for the tools that show them: the worker itself never reads them."""
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
            self._broker_monitor.suspect(error.str())
        elif is_fatal(error):
            self._fatal_error = self._fatal_error or error

    def _check_broker(self) -> None:
        """Ask a broker for an answer, through the connection that messages arrive on."""
        try:
            self._consumer.list_topics(self._topic, timeout=0.5)
        except KafkaException:
            self._broker_monitor.confirm()
        else:
            self._broker_monitor.clear()

    # The group

    def _new_consumer(self) -> Consumer:
        self._consumer_count += 1
        number = self._consumer_count
        return new_group_consumer(
            self._settings,
            self._group,
            None if self._options.no_output else self.group_instance_id,
            self._options.group_protocol,
            # The last errors of an abandoned consumer say nothing about its successor.
            on_error=lambda error: self._on_client_error(error) if number == self._consumer_count else None,
        )

    def _subscribe(self) -> None:
        self._membership.start_join(time.monotonic())
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _join_again(self, now: float) -> None:
        """Join again, with a new client, when the group does not answer.

        A broker that stood still for longer than its own session accepts the join requests that were waiting. A moment
        later it becomes leader of the group's partition again and forgets them (Kafka 4.3.1). The client waits for the
        answer until max.poll.interval.ms is over, without a partition. Such a client once did not even get an answer to
        other requests, while a client beside it did; so it is not asked whether the broker is there. Under the new
        protocol the client asks the group all the time.
        """
        self._membership.start_join(now)
        if self._options.group_protocol == "classic" and not self._broker_monitor.is_suspected:
            self._rejoin(self._membership.on_join_timeout(), "no answer to a join")

    def _rejoin(self, rejoin: Rejoin, error: str) -> None:
        """The place in the group is lost: give up its partitions and ask for a new place with a new consumer."""
        if rejoin.is_new:
            self._listener(GroupMembershipLost(rejoin.reason, error))
        abandoned = self._consumer
        partitions = [TopicPartition(self._topic, partition) for partition in self._tasks]
        self._drop(abandoned, partitions, lost=True)
        time.sleep(rejoin.wait_seconds)
        self._consumer = self._new_consumer()
        self._fatal_error = None
        self._offsets_at = time.monotonic() + _REJOIN_SECONDS
        self._subscribe()
        run_in_background(abandoned.close)

    def _on_assign(self, source: Consumer, partitions: list[TopicPartition]) -> None:
        if source is not self._consumer:
            return
        self._membership.complete_join()
        numbers = tuple(sorted(partition.partition for partition in partitions))
        for number in numbers:
            old = self._tasks.pop(number, None)
            if old is not None:
                old.give_up()
            self._tasks[number] = PartitionTask(
                self._settings,
                self.spec,
                number,
                self._partition_count,
                poll_count=lambda: self._poll_count,
                listener=self._listener,
                totals=self.totals,
                no_output=self._options.no_output,
            )
        # From the beginning, explicitly: a message that arrives before the seek is then older than the position, never
        # newer.
        assigned = [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in numbers]
        source.incremental_assign(assigned)
        if assigned:
            source.pause(assigned)
            self._listener(PartitionsAssigned(numbers, self.spec.name))

    def _on_revoke(self, source: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(source, partitions, lost=False)

    def _on_lost(self, source: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(source, partitions, lost=True)

    def _drop(self, source: Consumer, partitions: list[TopicPartition], *, lost: bool) -> None:
        if source is not self._consumer:
            return  # an abandoned consumer in its last moments
        numbers = tuple(sorted(partition.partition for partition in partitions))
        deadline = time.monotonic() + _FINISH_SECONDS / 4
        for number in numbers:
            task = self._tasks.pop(number, None)
            if task is None:
                continue
            if lost:
                task.give_up()
            else:
                # No other worker has it yet: the transaction on its way may finish, which saves the next owner work.
                task.finish(deadline)
        # Without a partition, silence means nothing until the group has answered again.
        if not self._tasks:
            self._membership.start_join(time.monotonic())
        with contextlib.suppress(KafkaException):  # a broken consumer has let go of them already
            source.incremental_unassign(partitions)
        if numbers:
            self._listener(PartitionsRevoked(numbers, lost, self.spec.name))

    def _close(self) -> None:
        hit_failpoint("before_close")
        deadline = time.monotonic() + _FINISH_SECONDS
        for task in self._tasks.values():
            task.finish(deadline)
        self._commit_offsets()
        self._tasks.clear()
        # The partitions are released already. Leaving the group may last while no broker answers.
        closing = run_in_background(self._consumer.close)
        wait_for([closing], timeout=_LEAVE_SECONDS)
