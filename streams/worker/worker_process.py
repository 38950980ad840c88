"""The process of `parcels run`: a worker for each processor, each in a thread of its own, and what they share.

The process checks whether its workers hang, whether the brokers and the ticks are there, and whether there is anything
left to do. Its workers stop together: when one of them fails, the others stop too.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from streams.errors import StreamsError
from streams.kafka.settings import KafkaSettings
from streams.kafka.topic_admin import check_topics
from streams.processors.processor import ProcessorSpec
from streams.telemetry.worker_events import (
    BrokerRecovered,
    BrokerUnavailable,
    EventListener,
    WorkerProgress,
    WorkerStarted,
    WorkerStopped,
)
from streams.worker.liveness import IdleTimer, PauseDetector, TickMonitor, Watchdog, is_pause
from streams.worker.partition_task import ProcessingTotals
from streams.worker.static_member_id import StaticMemberId
from streams.worker.tuning import collect_garbage
from streams.worker.worker import Worker, WorkerOptions, WorkerStatus

_HUNG_SECONDS: Final = 20.0
_CHECK_SECONDS: Final = 0.05
_PROGRESS_SECONDS: Final = 60.0


class WorkerProcess:
    """Runs one worker for each processor until one of them ends or `stop` is called."""

    def __init__(
        self, settings: KafkaSettings, options: WorkerOptions, listener: EventListener, specs: Sequence[ProcessorSpec]
    ) -> None:
        """Checks the set-up of the cluster.

        Args:
            settings: the cluster.
            options: of every worker.
            listener: gets the events of the process and of its workers, from several threads.
            specs: at least one processor. The events of the process report the group, the partitions, the ticks and
                the records of the first one.

        Raises:
            Misconfigured: topics are missing or do not fit together, or no name is free for a worker.
            StreamsError: no broker answers.
        """
        self._settings = settings
        self._options = options
        self._listener = listener
        partition_count = check_topics(settings)
        # A name is held as long as its object lives.
        self._member_ids: list[StaticMemberId] = []
        self._workers = [
            Worker(settings, options, listener, spec, partition_count, self._group_instance_id(spec)) for spec in specs
        ]
        self._stop_reason: str | None = None
        self._errors: list[Exception] = []
        self._pause_detector = PauseDetector()
        self._tick_monitor = TickMonitor()
        self._idle_timer = IdleTimer()
        self._broker_lost_at: float | None = None
        self._progress_at = time.monotonic()
        self._progress_records = 0

    @property
    def totals(self) -> Mapping[str, ProcessingTotals]:
        """What was processed so far: processor -> totals, in the order of the specs."""
        return {worker.spec.name: worker.totals for worker in self._workers}

    def stop(self, reason: str = "signal") -> None:
        """Let every worker finish its transactions and leave its group. Safe in a signal handler."""
        self._stop_reason = self._stop_reason or reason
        for worker in self._workers:
            worker.stop()

    def run(self) -> None:
        """Run the workers, each in its own thread, until all have stopped.

        Raises:
            WorkerDead: a consumer is broken beyond repair, or the log lost records that were not processed yet.
            StreamsError: a state cannot be read, or a worker broke.
        """
        first = self._workers[0]
        group = self._settings.prefix + first.spec.group_id
        self._listener(WorkerStarted(self._settings.bootstrap, group, first.group_instance_id or ""))
        watchdog = Watchdog(_HUNG_SECONDS)
        threads = [
            threading.Thread(target=self._run_worker, args=(worker, watchdog), name=worker.spec.name)
            for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(_CHECK_SECONDS)
                    if self._stop_reason is None:
                        self._check(time.monotonic())
        finally:
            self.stop("error")  # of no effect unless a check failed
        watchdog.stop()
        self._listener(WorkerStopped("error" if self._errors else self._stop_reason or ""))
        for error in self._errors:
            if isinstance(error, StreamsError):
                raise error
            raise StreamsError(f"a worker broke: {error!r}") from error

    def _group_instance_id(self, spec: ProcessorSpec) -> str | None:
        options = self._options
        # KIP-848 refuses a restarted static member until its session ends, so there the members are dynamic.
        if options.group_instance_id is None and options.group_protocol == "classic" and not options.no_output:
            self._member_ids.append(StaticMemberId(self._settings.prefix + spec.group_id))
            return self._member_ids[-1].group_instance_id
        return options.group_instance_id

    def _run_worker(self, worker: Worker, watchdog: Watchdog) -> None:
        try:
            worker.run(watchdog)
        except Exception as error:  # noqa: BLE001 - it ends the process, from its main thread
            self._errors.append(error)
        finally:
            self.stop("error")

    def _check(self, now: float) -> None:
        stood_still = self._pause_detector.detect_pause(now)
        statuses = [worker.status for worker in self._workers if worker.status is not None]
        if len(statuses) < len(self._workers):
            return  # a worker has not made its first turn
        # Not while the brokers are away, nor after a pause of the process or of a worker's loop.
        can_receive = [
            not (stood_still or status.is_broker_suspected or is_pause(now - status.updated_at)) for status in statuses
        ]
        self._check_broker(now, statuses)
        self._check_progress(now, statuses[0])
        if event := self._tick_monitor.check(now, statuses[0].hub_times, can_receive=can_receive[0]):
            self._listener(event)
        # Nor while one of them restores or writes, or its group has not answered. No worker is idle before all are,
        # because one processor writes records for another.
        settled = all(can_receive) and all(status.is_settled for status in statuses)
        last_record = max(worker.last_record_at for worker in self._workers)
        idle_seconds = self._idle_timer.idle_seconds(now, last_record=last_record, can_receive=settled)
        if self._options.until_idle_seconds is not None and idle_seconds > self._options.until_idle_seconds:
            self.stop("idle")

    def _check_broker(self, now: float, statuses: Sequence[WorkerStatus]) -> None:
        error = next((status.broker_error for status in statuses if status.broker_error is not None), None)
        if error is not None and self._broker_lost_at is None:
            self._broker_lost_at = now
            self._listener(BrokerUnavailable(error))
        elif error is None and self._broker_lost_at is not None:
            self._listener(BrokerRecovered(now - self._broker_lost_at))
            self._broker_lost_at = None

    def _check_progress(self, now: float, first: WorkerStatus) -> None:
        seconds = now - self._progress_at
        if seconds > _PROGRESS_SECONDS:
            records = self._workers[0].totals.records
            self._listener(WorkerProgress(records - self._progress_records, seconds, tuple(sorted(first.hub_times))))
            self._progress_at, self._progress_records = now, records
            collect_garbage()
