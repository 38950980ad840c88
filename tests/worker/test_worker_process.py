"""A worker process without a broker: its workers stop together, and it reports for all of them once."""

import threading
import time
from types import SimpleNamespace

import pytest

from streams.errors import StreamsError, WorkerDead
from streams.kafka.settings import KafkaSettings
from streams.telemetry.worker_events import (
    BrokerRecovered,
    BrokerUnavailable,
    TicksStopped,
    WorkerProgress,
    WorkerStarted,
    WorkerStopped,
)
from streams.worker import worker_process
from streams.worker.partition_task import ProcessingTotals
from streams.worker.worker import WorkerOptions, WorkerStatus
from streams.worker.worker_process import WorkerProcess


class FakeWorker:
    """A worker whose status the test sets; it runs until it is stopped or fails."""

    def __init__(self, _settings, _options, _listener, spec, _partition_count, group_instance_id):
        self.spec, self.group_instance_id = spec, group_instance_id
        self.totals = ProcessingTotals()
        self.last_record_at = time.monotonic()
        self.fields = {"is_settled": False, "is_broker_suspected": False, "broker_error": None, "hub_times": {}}
        self.error = None
        self._stopped = threading.Event()

    @property
    def status(self):
        return WorkerStatus(updated_at=time.monotonic(), **self.fields)

    def stop(self):
        self._stopped.set()

    def run(self, _watchdog):
        while not self._stopped.wait(0.01):
            if self.error is not None:
                raise self.error


@pytest.fixture
def process(monkeypatch):
    """A process with two workers; its events are in `events`, its thread in `thread`."""
    monkeypatch.setattr(worker_process, "Worker", FakeWorker)
    monkeypatch.setattr(worker_process, "check_topics", lambda _: 4)
    specs = [SimpleNamespace(name=name, group_id=f"group.{name}") for name in ("first", "second")]
    options = WorkerOptions(group_instance_id="name", until_idle_seconds=0.3)
    events = []
    process = WorkerProcess(KafkaSettings(), options, events.append, specs)
    process.events = events
    return process


def run_while(process, action):
    """Run the process, and call `action` meanwhile in another thread; returns the events between start and stop."""
    acting = threading.Thread(target=action)
    acting.start()
    try:
        process.run()
    finally:
        acting.join()
    first, *events, last = process.events
    assert isinstance(first, WorkerStarted)
    assert isinstance(last, WorkerStopped)
    return events


def wait_for_event(process, kind):
    deadline = time.monotonic() + 30
    while not any(isinstance(event, kind) for event in list(process.events)):
        assert time.monotonic() < deadline, f"no {kind.__name__}"
        time.sleep(0.01)


def test_it_stops_when_told_and_says_so_once(process):
    assert run_while(process, lambda: (time.sleep(0.1), process.stop())) == []
    assert process.events[-1] == WorkerStopped("signal")


def test_a_worker_that_fails_stops_the_others(process):
    process._workers[1].error = WorkerDead("broken")
    with pytest.raises(WorkerDead, match="broken"):
        process.run()
    assert process.events[-1] == WorkerStopped("error")


def test_an_unexpected_error_is_one_of_this_package(process):
    process._workers[0].error = ZeroDivisionError()
    with pytest.raises(StreamsError, match="a worker broke: ZeroDivisionError"):
        process.run()


def test_it_is_idle_when_all_workers_are(process):
    first, second = (worker.fields for worker in process._workers)
    settled_at = []

    def settle():
        first["is_settled"] = True
        time.sleep(0.6)
        assert process._stop_reason is None
        second["is_settled"] = True
        settled_at.append(time.monotonic())

    assert run_while(process, settle) == []
    assert process.events[-1] == WorkerStopped("idle")
    assert time.monotonic() - settled_at[0] > 0.25


def test_a_lost_broker_is_reported_once_for_all_workers(process):
    fields = [worker.fields for worker in process._workers]

    def lose_and_recover():
        for each in fields:
            each["broker_error"] = "all brokers are down"
            wait_for_event(process, BrokerUnavailable)
        for each in fields:
            assert not any(isinstance(event, BrokerRecovered) for event in process.events)
            each["broker_error"] = None
            time.sleep(0.1)
        wait_for_event(process, BrokerRecovered)
        process.stop()

    lost, recovered = run_while(process, lose_and_recover)
    assert lost == BrokerUnavailable("all brokers are down")
    assert recovered.seconds > 0


def test_ticks_and_progress_are_those_of_the_first_worker(process, monkeypatch):
    monkeypatch.setattr("streams.worker.liveness._TICKLESS_SECONDS", 0.2)
    monkeypatch.setattr(worker_process, "_PROGRESS_SECONDS", 0.4)
    first, second = process._workers
    first.fields["hub_times"], second.fields["hub_times"] = {0: 7, 1: None}, {2: 7}
    first.totals.records, second.totals.records = 5, 100

    def wait():
        wait_for_event(process, WorkerProgress)
        process.stop()

    stopped, progress = run_while(process, wait)
    assert stopped == TicksStopped((0,), 0.2)
    assert (progress.records, progress.partitions) == (5, (0, 1))
