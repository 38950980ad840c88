"""The parts of a worker that need no broker: claims, slots, the watchdog, crash points, messages out of order."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from streams.domain.promises import Promises
from streams.errors import PartitionLost
from streams.formats.position import PartitionPosition
from streams.kafka.background import DaemonThreadPool, run_in_background
from streams.kafka.settings import KafkaSettings
from streams.processors.processor import ProcessorOutput
from streams.processors.registry import processor_spec
from streams.telemetry.worker_events import TicksResumed, TicksStopped
from streams.worker.hub_times import TickMonitor
from streams.worker.idleness import IdleTimer
from streams.worker.partition_task import PartitionTask, ProcessingTotals
from streams.worker.partition_writer import PartitionLease
from streams.worker.standstill import PauseDetector
from streams.worker.static_member_id import StaticMemberId
from streams.worker.watchdog import EXIT_CODE


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
    monkeypatch.setattr("streams.worker.partition_task.Message", Message)
    made = PartitionTask(
        KafkaSettings(),
        processor_spec("parcels", Promises.default()),
        0,
        1,
        turns=lambda: 0,
        listener=lambda _: None,
        tally=ProcessingTotals(),
        no_output=True,
    )
    made.step()
    return made


def taken(task):
    return [offset for run in task._backlog for offset in run.offsets.tolist()]


class TestWhatIsFoldedAlreadyIsDropped:
    def test_records_below_the_position(self, task):
        task._next = 5
        task.accept([Message(offset) for offset in (3, 4, 5, 7)])
        assert taken(task) == [5, 7]

    def test_an_older_run_delivered_after_a_newer_one(self, task):
        task.accept([Message(offset) for offset in (0, 1, 2)])
        task.accept([Message(offset) for offset in (1, 2, 3)])
        assert taken(task) == [0, 1, 2, 3]

    def test_a_run_that_falls_back_in_the_middle(self, task):
        task.accept([Message(offset) for offset in (0, 1, 4, 2, 3, 4, 5)])
        assert taken(task) == [0, 1, 4, 5]

    def test_a_large_backlog_is_cut_into_batches_without_loss(self, task):
        task.kind = replace(task.kind, max_batch_records=4)
        for first in range(0, 12, 3):
            task.accept([Message(first + i) for i in range(3)])
        batches = []
        while task.backlog_records:
            messages, offsets = task._take()
            batches.append([message.offset() for message in messages])
            assert batches[-1] == offsets.tolist()
        assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


class Taking:
    """A stage that takes three records at a time, when it is let."""

    hub_time = None
    pending = False
    due = False

    def __init__(self):
        self.let = threading.Event()
        self.folded = []
        self.left = ()
        self.runs = 0

    def run(self, payloads, *, outputs):
        assert not outputs
        assert self.let.wait(10)
        self.runs += 1
        self.folded += payloads[:3]
        return ProcessorOutput(min(3, len(payloads)), [], [], {})

    def position(self, next_offset):
        return PartitionPosition(next_offset, None, left=self.left)

    def make_committed_event(self, made, committed):
        return (made.taken, committed.records)


class TestAFoldBesideTheLoop:
    @pytest.fixture
    def stage(self, task):
        task._stage = Taking()
        return task._stage

    @staticmethod
    def step_until(task, done):
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline
            task.step()
            time.sleep(0.001)

    def test_messages_gather_while_it_lasts_and_what_it_had_no_room_for_comes_before_them(self, task, stage):
        task.accept([Message(offset) for offset in range(7)])
        task.step()
        task.accept([Message(offset) for offset in range(7, 10)])
        task.step()
        assert (task.backlog_records, stage.folded, task.busy) == (3, [], True)
        stage.let.set()
        self.step_until(task, lambda: not task.busy)
        assert stage.folded == list(range(10))
        assert task.position == 10

    def test_nothing_comes_of_it_when_somebody_else_folded_on_meanwhile(self, task, stage):
        task.accept([Message(offset) for offset in range(3)])
        task.step()
        task._start_over()
        stage.let.set()
        self.step_until(task, lambda: stage.folded)
        assert task.position is None

    def test_what_is_pending_waits_until_it_is_due(self, task, stage):
        stage.let.set()
        task.accept([Message(0)])
        self.step_until(task, lambda: not task.busy)
        stage.pending = True
        for _ in range(20):
            task.step()
        assert (stage.runs, task.busy) == (1, True)
        stage.due = True
        self.step_until(task, lambda: stage.runs == 2)

    def test_what_made_nothing_is_not_written_and_what_came_to_its_end_is(self, task, stage, monkeypatch):
        stage.let.set()
        task.accept([Message(0)])
        self.step_until(task, lambda: not task.busy)
        written = []
        monkeypatch.setattr(task, "_start_write", written.append)
        stage.due = True
        self.step_until(task, lambda: stage.runs > 3)
        assert written == []
        stage.left = ("something else",)
        self.step_until(task, lambda: written)
        assert written[0].transaction.end.left == stage.left

    def test_one_that_hangs_is_noticed(self, task, stage, monkeypatch):
        task.accept([Message(0)])
        task.step()
        assert task.seconds_since_heartbeat() == 0
        monkeypatch.setattr("streams.worker.partition_task._FOLD_SECONDS", -60.0)
        assert task.seconds_since_heartbeat() >= 60
        stage.let.set()
        self.step_until(task, lambda: not task.busy)
        assert task.seconds_since_heartbeat() == 0


class TestAClaim:
    def test_is_confirmed_only_after_the_consumer_was_polled_again(self):
        turns = [0]
        claim = PartitionLease(lambda: turns[0])
        confirmed = run_in_background(claim.confirm)
        turns[0] += 1
        time.sleep(0.05)
        assert not confirmed.done()
        turns[0] += 1
        confirmed.result(timeout=5)

    def test_that_was_given_up_says_so_to_whoever_waits(self):
        claim = PartitionLease(lambda: 0)
        confirmed = run_in_background(claim.confirm)
        claim.give_up()
        with pytest.raises(PartitionLost):
            confirmed.result(timeout=5)
        with pytest.raises(PartitionLost):
            claim.wait(0)


class TestWorkersOfOneMachine:
    def test_take_different_slots_and_a_dead_ones_slot_is_free_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        first, second = StaticMemberId("group"), StaticMemberId("group")
        assert first.name != second.name
        name = first.name
        first._held.close()
        assert StaticMemberId("group").name == name
        assert StaticMemberId("another group").name == name


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env={**environment}
    )


class TestTheWatchdog:
    def test_ends_a_process_whose_loop_hangs(self):
        ended = run_python(
            "import sys, time; sys.path[:0] = ['.']\n"
            "from streams.worker.watchdog import Watchdog\n"
            "Watchdog(0.4)\n"
            "time.sleep(30)"
        )
        assert ended.returncode == EXIT_CODE
        assert "made no turn" in ended.stderr
        assert "time.sleep" in ended.stderr or "<string>" in ended.stderr

    def test_leaves_a_process_alone_whose_loop_turns(self):
        ended = run_python(
            "import sys, time; sys.path[:0] = ['.']\n"
            "from streams.worker.watchdog import Watchdog\n"
            "dog = Watchdog(1.0)\n"
            "for _ in range(30): time.sleep(0.1); dog.beat()\n"
            "dog.stop(); time.sleep(1.5)"
        )
        assert ended.returncode == 0, ended.stderr

    def test_leaves_a_process_alone_that_stood_still(self):
        code = (
            "import sys, time; sys.path[:0] = ['.']\n"
            "from streams.worker.watchdog import Watchdog\n"
            "dog = Watchdog(1.0)\n"
            "print('watched', flush=True)\n"
            "for turn in range(1, 31):\n"
            "    time.sleep(0.1)\n"
            "    if turn % 6 == 0: dog.beat()\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == 0

    def test_ends_a_process_that_hangs_because_nobody_reads_what_it_says(self):
        code = (
            "import sys; sys.path[:0] = ['.']\n"
            "from streams.worker.watchdog import Watchdog\n"
            "Watchdog(0.4)\n"
            "sys.stderr.write('x' * 1_000_000)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
            assert process.wait(30) == -signal.SIGALRM


class TestACrashPoint:
    CODE = (
        "import sys; sys.path[:0] = ['.']\n"
        "from streams.worker.failpoints import crash_point\n"
        "for turn in range(3): crash_point('after_fold'); crash_point('after_begin'); print(turn, flush=True)"
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
    """Looked at every 20 ms, as the worker's loop does."""

    def lasting(self, idleness, begin, seconds, *, could_hear=True):
        looks = [begin + n * 0.02 for n in range(1, round(seconds / 0.02) + 1)]
        return [idleness.idle_seconds(now, can_receive=could_hear) for now in looks][-1]

    def test_time_without_anything_counts_from_what_came_last(self):
        now = time.monotonic()
        idleness = IdleTimer()
        assert self.lasting(idleness, now, 4) == pytest.approx(4, abs=0.1)
        idleness.heard(now + 4)
        assert self.lasting(idleness, now + 4, 1) == pytest.approx(1, abs=0.1)

    def test_who_could_not_have_heard_anything_is_not_idle(self):
        now = time.monotonic()
        idleness = IdleTimer()
        self.lasting(idleness, now, 4)
        assert self.lasting(idleness, now + 4, 4, can_receive=False) == 0
        assert self.lasting(idleness, now + 8, 1) == pytest.approx(1, abs=0.1)


def test_that_it_stood_still_is_noticed_once_by_who_looks_often():
    now = time.monotonic()
    standstill = PauseDetector()
    looks = [now + 0.2 * n for n in range(10)]
    assert not any(standstill.detect_pause(look) for look in looks)
    assert standstill.detect_pause(looks[-1] + 5)
    assert not standstill.detect_pause(looks[-1] + 5.2)


class TestHubTimes:
    """Looked at every second."""

    def looked(self, hub_times, begin, times, *, could_hear=True):
        """What they say of these hub times of partition 0, one a second."""
        looks = (hub_times.look(begin + n, {0: time_}, can_receive=could_hear) for n, time_ in enumerate(times))
        return [news for news in looks if news is not None]

    def test_ticks_that_stay_away_are_told_once_and_that_they_are_back_once(self):
        hub_times = TickMonitor()
        assert self.looked(hub_times, 0, range(20)) == []
        assert self.looked(hub_times, 20, [19] * 30) == [TicksStopped((0,), 15.0)]
        assert self.looked(hub_times, 50, range(20, 40)) == [TicksResumed(30.0)]

    def test_nobody_waits_for_a_first_tick(self):
        assert self.looked(TickMonitor(), 0, [None] * 100) == []

    def test_time_in_which_none_could_be_heard_does_not_count(self):
        hub_times = TickMonitor()
        assert self.looked(hub_times, 0, [7] * 10) == []
        assert self.looked(hub_times, 30, [7], can_receive=False) == []
        assert self.looked(hub_times, 31, [7] * 15) == []
        assert self.looked(hub_times, 46, [7] * 5) == [TicksStopped((0,), 15.0)]

    @pytest.mark.parametrize("meanwhile", [7, None])
    def test_they_are_not_back_because_the_broker_is_or_a_table(self, meanwhile):
        hub_times = TickMonitor()
        assert self.looked(hub_times, 0, [7] * 20) == [TicksStopped((0,), 15.0)]
        assert self.looked(hub_times, 20, [meanwhile] * 20, can_receive=False) == []
        assert self.looked(hub_times, 40, [meanwhile] * 5) == []
        assert self.looked(hub_times, 45, [7] * 40) == []
        assert self.looked(hub_times, 85, [8]) == [TicksResumed(84.0)]

    def test_a_partition_that_went_away_is_no_matter_of_this_worker(self):
        hub_times = TickMonitor()
        assert self.looked(hub_times, 0, [7] * 20)
        assert isinstance(hub_times.look(20, {}, can_receive=True), TicksResumed)


def test_what_fails_in_the_background_fails_for_whoever_asks():
    def fail():
        raise ValueError("reason")

    failed = run_in_background(fail)
    with pytest.raises(ValueError, match="reason"):
        failed.result(timeout=5)


def test_a_fold_that_lasts_does_not_keep_an_ended_process():
    code = "import sys, threading; from streams.worker.partition_task import _FOLDS; begun = threading.Event()"
    code += "; _FOLDS.submit(lambda: begun.set() or threading.Event().wait()); begun.wait(); sys.exit(3)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 3


def test_threads_that_stay_take_one_job_after_the_other():
    threads = DaemonThreadPool(2, "fold")
    both = threading.Barrier(2)
    # Two at a time, or they would wait for ever.
    jobs = [threads.submit(lambda: (both.wait(60), threading.get_ident())[1]) for _ in range(10)]
    assert len({job.result(60) for job in jobs}) == 2
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(60)
    assert threads.submit(int, "7").result(60) == 7
