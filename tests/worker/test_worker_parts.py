"""The parts of a worker that need no broker: leases, slots, the watchdog, failpoints, messages out of order."""

import itertools
import signal
import subprocess
import sys
import threading
import time

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from streams.domain.promises import Promises
from streams.errors import PartitionLost, Retry
from streams.formats.position import PartitionPosition
from streams.kafka.background import DaemonThreadPool, run_in_background
from streams.kafka.settings import KafkaSettings
from streams.processors.registry import processor_spec
from streams.telemetry.worker_events import TicksResumed, TicksStopped
from streams.worker.backlog import Backlog
from streams.worker.liveness import EXIT_CODE, IdleTimer, PauseDetector, TickMonitor
from streams.worker.partition_lease import PartitionLease
from streams.worker.partition_task import PartitionTask, ProcessingTotals
from streams.worker.static_member_id import StaticMemberId
from streams.worker.transaction_recovery import recover_unknown_outcome


class Message:
    """A message of which the value is its offset."""

    def __init__(self, offset):
        self._offset = offset

    def offset(self):
        return self._offset

    value = offset

    def timestamp(self):
        return TIMESTAMP_NOT_AVAILABLE, 0


@pytest.fixture
def task(monkeypatch):
    for module in ("backlog", "partition_task"):
        monkeypatch.setattr(f"streams.worker.{module}.Message", Message)
    task = PartitionTask(
        KafkaSettings(),
        processor_spec("parcels", Promises.default()),
        0,
        1,
        poll_count=lambda: 0,
        listener=lambda _: None,
        totals=ProcessingTotals(),
        no_output=True,
    )
    task.step()
    return task


class TestProcessedRecordsAreDropped:
    @pytest.fixture
    def backlog(self, monkeypatch):
        monkeypatch.setattr("streams.worker.backlog.Message", Message)
        return Backlog(next_offset=5)

    @staticmethod
    def append(backlog, *offsets):
        backlog.append([Message(offset) for offset in offsets])

    @staticmethod
    def offsets(backlog):
        batch = backlog.take(1_000)
        assert [message.offset() for message in batch.messages] == batch.offsets.tolist()
        return batch.offsets.tolist()

    def test_records_below_the_position(self, backlog):
        self.append(backlog, 3, 4, 5, 7)
        assert self.offsets(backlog) == [5, 7]

    def test_an_older_run_delivered_after_a_newer_one(self, backlog):
        self.append(backlog, 5, 6, 7)
        self.append(backlog, 6, 7, 8)
        assert self.offsets(backlog) == [5, 6, 7, 8]

    def test_a_run_that_falls_back_in_the_middle(self, backlog):
        self.append(backlog, 5, 6, 9, 7, 8, 9, 10)
        assert self.offsets(backlog) == [5, 6, 9, 10]

    def test_a_large_backlog_is_cut_into_batches_without_loss(self, backlog):
        for first in range(5, 17, 3):
            self.append(backlog, first, first + 1, first + 2)
        batches = []
        while backlog:
            batch = backlog.take(4)
            batches.append([message.offset() for message in batch.messages])
            assert batches[-1] == batch.offsets.tolist()
        assert batches == [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]

    def test_what_was_put_back_comes_first(self, backlog):
        self.append(backlog, 5, 6, 7, 8)
        _, rest = backlog.take(3).split(1)
        backlog.put_back(rest)
        assert len(backlog) == 3
        assert self.offsets(backlog) == [6, 7, 8]


class SlowOutput:
    def __init__(self, processed_count):
        self.processed_count, self.blocks, self.rejects, self.phase_seconds = processed_count, [], [], {}

    def committed_event(self, summary):
        return summary


class SlowProcessor:
    """A processor that takes three records at a time, and waits for `let`."""

    hub_time = None
    has_pending_output = False
    has_due_output = False

    def __init__(self):
        self.let = threading.Event()
        self.folded = []
        self.pending_fan_outs = ()
        self.runs = 0

    def run(self, payloads, *, outputs):
        assert not outputs
        assert self.let.wait(10)
        self.runs += 1
        self.folded += payloads[:3]
        return SlowOutput(min(3, len(payloads)))

    def position(self, next_offset):
        return PartitionPosition(next_offset, None, pending_fan_outs=self.pending_fan_outs)


class TestProcessingBesideTheLoop:
    @pytest.fixture
    def processor(self, task):
        task._processor = SlowProcessor()
        return task._processor

    @staticmethod
    def step_until(task, done):
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline
            task.step()
            time.sleep(0.001)

    def test_messages_gather_meanwhile_behind_those_that_it_had_no_room_for(self, task, processor):
        task.accept([Message(offset) for offset in range(7)])
        task.step()
        task.accept([Message(offset) for offset in range(7, 10)])
        task.step()
        assert (task.backlog_records, processor.folded, task.busy) == (3, [], True)
        processor.let.set()
        self.step_until(task, lambda: not task.busy)
        assert processor.folded == list(range(10))
        assert task.position == 10

    def test_its_result_is_dropped_when_another_worker_went_on_meanwhile(self, task, processor):
        task.accept([Message(offset) for offset in range(3)])
        task.step()
        task._restore_again()
        processor.let.set()
        self.step_until(task, lambda: processor.folded)
        assert task.position is None

    def test_pending_output_waits_until_it_is_due(self, task, processor):
        processor.let.set()
        task.accept([Message(0)])
        self.step_until(task, lambda: not task.busy)
        processor.has_pending_output = True
        for _ in range(20):
            task.step()
        assert (processor.runs, task.busy) == (1, True)
        processor.has_due_output = True
        self.step_until(task, lambda: processor.runs == 2)

    def test_an_empty_batch_is_not_written_unless_a_fan_out_came_to_its_end(self, task, processor, monkeypatch):
        processor.let.set()
        task.accept([Message(0)])
        self.step_until(task, lambda: not task.busy)
        written = []
        monkeypatch.setattr(task, "_start_write", written.append)
        processor.has_due_output = True
        self.step_until(task, lambda: processor.runs > 3)
        assert written == []
        processor.pending_fan_outs = ("something else",)
        self.step_until(task, lambda: written)
        assert written[0].end.pending_fan_outs == processor.pending_fan_outs

    def test_a_processor_that_hangs_is_noticed(self, task, processor, monkeypatch):
        task.accept([Message(0)])
        task.step()
        assert task.seconds_since_heartbeat() == 0
        monkeypatch.setattr("streams.worker.partition_task._PROCESSING_SECONDS", -60.0)
        assert task.seconds_since_heartbeat() >= 60
        processor.let.set()
        self.step_until(task, lambda: not task.busy)
        assert task.seconds_since_heartbeat() == 0


class TestALease:
    def test_is_confirmed_only_after_the_consumer_was_polled_again(self):
        polls = [0]
        lease = PartitionLease(lambda: polls[0])
        confirmed = run_in_background(lease.confirm)
        polls[0] += 1
        time.sleep(0.05)
        assert not confirmed.done()
        polls[0] += 1
        confirmed.result(timeout=5)

    def test_that_was_revoked_raises_in_every_thread_that_waits(self):
        lease = PartitionLease(lambda: 0)
        confirmed = run_in_background(lease.confirm)
        lease.revoke()
        with pytest.raises(PartitionLost):
            confirmed.result(timeout=5)
        with pytest.raises(PartitionLost):
            lease.wait(0)


class TestRecoveryOfATransaction:
    START, END, OTHER = PartitionPosition(5, None), PartitionPosition(9, None), PartitionPosition(7, None)

    def recover(self, *positions, start=START):
        """The outcome for these answers of the broker in turn, and how often the partition was fenced."""
        answers, fences = iter(positions), []

        def read_position():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        lease = PartitionLease(itertools.count().__next__)
        outcome, _ = recover_unknown_outcome(start, self.END, lease, lambda: fences.append(None), read_position)
        return outcome, len(fences)

    def test_a_batch_whose_position_is_found_was_committed(self):
        assert self.recover(self.END) == ("committed", 1)

    def test_a_batch_whose_start_is_found_is_sent_again(self):
        assert self.recover(self.START) == ("resent", 1)
        assert self.recover(None, start=None) == ("resent", 1)

    def test_any_other_position_is_another_workers(self):
        assert self.recover(self.OTHER) == ("superseded", 1)
        assert self.recover(self.START, start=None) == ("superseded", 1)

    def test_it_fences_again_when_the_broker_does_not_answer(self):
        assert self.recover(Retry("no answer"), Retry("no answer"), self.END) == ("committed", 3)

    def test_a_worker_without_a_lease_does_not_fence(self):
        lease, fences = PartitionLease(lambda: 0), []
        recovered = run_in_background(
            recover_unknown_outcome, self.START, self.END, lease, lambda: fences.append(None), lambda: self.END
        )
        lease.revoke()
        with pytest.raises(PartitionLost):
            recovered.result(timeout=5)
        assert fences == []


class TestWorkersOfOneMachine:
    def test_take_different_slots_and_the_slot_of_a_dead_one_is_free_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        first, second = StaticMemberId("group"), StaticMemberId("group")
        assert first.group_instance_id != second.group_instance_id
        name = first.group_instance_id
        first._lock.close()
        assert StaticMemberId("group").group_instance_id == name
        assert StaticMemberId("another group").group_instance_id == name


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env={**environment}
    )


class TestTheWatchdog:
    def test_ends_a_process_whose_loop_hangs(self):
        ended = run_python(
            "import sys, time; sys.path[:0] = ['.']\n"
            "from streams.worker.liveness import Watchdog\n"
            "Watchdog(0.4).watch()\n"
            "time.sleep(30)"
        )
        assert ended.returncode == EXIT_CODE
        assert "made no turn" in ended.stderr
        assert "time.sleep" in ended.stderr or "<string>" in ended.stderr

    def test_leaves_a_process_alone_whose_loop_turns(self):
        ended = run_python(
            "import sys, time; sys.path[:0] = ['.']\n"
            "from streams.worker.liveness import Watchdog\n"
            "dog = Watchdog(1.0); heartbeat = dog.watch()\n"
            "for _ in range(30): time.sleep(0.1); heartbeat.beat()\n"
            "dog.stop(); time.sleep(1.5)"
        )
        assert ended.returncode == 0, ended.stderr

    def test_leaves_a_process_alone_that_stood_still(self):
        code = (
            "import sys, time; sys.path[:0] = ['.']\n"
            "from streams.worker.liveness import Watchdog\n"
            "dog = Watchdog(1.0); heartbeat = dog.watch()\n"
            "print('watched', flush=True)\n"
            "for turn in range(1, 31):\n"
            "    time.sleep(0.1)\n"
            "    if turn % 6 == 0: heartbeat.beat()\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == 0

    def test_ends_a_process_that_hangs_because_its_standard_error_is_blocked(self):
        code = (
            "import sys; sys.path[:0] = ['.']\n"
            "from streams.worker.liveness import Watchdog\n"
            "Watchdog(0.4).watch()\n"
            "sys.stderr.write('x' * 1_000_000)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
            assert process.wait(30) == -signal.SIGALRM


class TestACrashPoint:
    CODE = (
        "import sys; sys.path[:0] = ['.']\n"
        "from streams.worker.failpoints import hit_failpoint\n"
        "for turn in range(3): hit_failpoint('after_fold'); hit_failpoint('after_begin'); print(turn, flush=True)"
    )

    def test_kills_the_process_the_nth_time_it_is_reached(self):
        ended = run_python(self.CODE, PARCELS_FAILPOINT="after_fold:3")
        assert ended.returncode == -signal.SIGKILL
        assert ended.stdout.split() == ["0", "1"]

    def test_does_nothing_unless_asked(self):
        assert run_python(self.CODE).stdout.split() == ["0", "1", "2"]


class TestAPosition:
    @pytest.mark.parametrize("hub_time", [None, 0, -1, 1_772_323_404_873, 7_258_118_399_999])
    def test_survives_its_own_encoding(self, hub_time):
        assert PartitionPosition.decode(PartitionPosition(12_345, hub_time).encode()) == PartitionPosition(
            12_345, hub_time
        )


class TestIdleness:
    """Checked every 20 ms, as the process does at least."""

    def idle_seconds(self, timer, begin, seconds, *, last_record=0.0, can_receive=True):
        checks = [begin + n * 0.02 for n in range(1, round(seconds / 0.02) + 1)]
        return [timer.idle_seconds(now, last_record=last_record, can_receive=can_receive) for now in checks][-1]

    def test_time_without_records_counts_from_the_last_one(self):
        now = time.monotonic()
        timer = IdleTimer()
        assert self.idle_seconds(timer, now, 4) == pytest.approx(4, abs=0.1)
        assert self.idle_seconds(timer, now + 4, 1, last_record=now + 4) == pytest.approx(1, abs=0.1)

    def test_a_worker_that_could_not_receive_anything_is_not_idle(self):
        now = time.monotonic()
        timer = IdleTimer()
        self.idle_seconds(timer, now, 4)
        assert self.idle_seconds(timer, now + 4, 4, can_receive=False) == 0
        assert self.idle_seconds(timer, now + 8, 1) == pytest.approx(1, abs=0.1)


def test_a_pause_is_noticed_once_by_frequent_checks():
    now = time.monotonic()
    detector = PauseDetector()
    checks = [now + 0.2 * n for n in range(10)]
    assert not any(detector.detect_pause(check) for check in checks)
    assert detector.detect_pause(checks[-1] + 5)
    assert not detector.detect_pause(checks[-1] + 5.2)


class TestTicks:
    """Checked every second."""

    def events(self, monitor, begin, hub_times, *, can_receive=True):
        """The events for these hub times of partition 0, one a second."""
        checks = (monitor.check(begin + n, {0: time_}, can_receive=can_receive) for n, time_ in enumerate(hub_times))
        return [event for event in checks if event is not None]

    def test_a_stop_is_reported_once_and_so_is_its_end(self):
        monitor = TickMonitor()
        assert self.events(monitor, 0, range(20)) == []
        assert self.events(monitor, 20, [19] * 30) == [TicksStopped((0,), 15.0)]
        assert self.events(monitor, 50, range(20, 40)) == [TicksResumed(30.0)]

    def test_a_partition_without_a_first_tick_is_not_reported(self):
        assert self.events(TickMonitor(), 0, [None] * 100) == []

    def test_time_in_which_no_tick_could_arrive_does_not_count(self):
        monitor = TickMonitor()
        assert self.events(monitor, 0, [7] * 10) == []
        assert self.events(monitor, 30, [7], can_receive=False) == []
        assert self.events(monitor, 31, [7] * 15) == []
        assert self.events(monitor, 46, [7] * 5) == [TicksStopped((0,), 15.0)]

    @pytest.mark.parametrize("meanwhile", [7, None])
    def test_they_do_not_resume_because_the_broker_is_back_or_the_state_restored(self, meanwhile):
        monitor = TickMonitor()
        assert self.events(monitor, 0, [7] * 20) == [TicksStopped((0,), 15.0)]
        assert self.events(monitor, 20, [meanwhile] * 20, can_receive=False) == []
        assert self.events(monitor, 40, [meanwhile] * 5) == []
        assert self.events(monitor, 45, [7] * 40) == []
        assert self.events(monitor, 85, [8]) == [TicksResumed(84.0)]

    def test_a_partition_that_was_revoked_does_not_count(self):
        monitor = TickMonitor()
        assert self.events(monitor, 0, [7] * 20)
        assert isinstance(monitor.check(20, {}, can_receive=True), TicksResumed)


def test_an_error_in_the_background_is_raised_for_the_caller():
    def fail():
        raise ValueError("reason")

    failed = run_in_background(fail)
    with pytest.raises(ValueError, match="reason"):
        failed.result(timeout=5)


def test_long_processing_does_not_keep_an_ended_process():
    code = "import sys, threading; from streams.worker.partition_task import _PROCESSING_POOL as pool"
    code += "; begun = threading.Event(); pool.submit(lambda: begun.set() or threading.Event().wait())"
    code += "; begun.wait(); sys.exit(3)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 3


def test_threads_that_stay_take_one_job_after_the_other():
    threads = DaemonThreadPool(2, "fold")
    both = threading.Barrier(2)
    # The barrier opens only if two jobs run at a time.
    jobs = [threads.submit(lambda: (both.wait(60), threading.get_ident())[1]) for _ in range(10)]
    assert len({job.result(60) for job in jobs}) == 2
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(60)
    assert threads.submit(int, "7").result(60) == 7
