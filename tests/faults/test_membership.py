"""A worker that lost its place in the group joins again; two workers of one name do not fight for ever."""

import signal
import threading
from pathlib import Path

import pytest

from streams.formats import topics
from streams.kafka.clients import new_consumer
from streams.kafka.settings import KafkaSettings
from streams.processors.registry import PARCELS_GROUP
from tests.faults.harness import (
    DEAD,
    SESSION_SECONDS,
    Broker,
    Crew,
    Installation,
    assert_exact,
    behind,
    positions,
    wait_until,
)
from tests.faults.load_generator import Day, Pump

SEED = 20_260_305


def test_a_worker_that_a_dead_member_fenced_joins_again(installation: Installation, tmp_path: Path) -> None:
    """As after a stall: the group took the worker's own request for a second member, and fenced the first."""
    settings = installation.settings
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=500) as pump, Crew(installation) as crew:
        worker = crew.start("worker")
        crew.wait_for("worker", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: positions(settings), "nothing was folded")
        _come_and_go(settings, "worker")
        told = crew.wait_for("worker", "parcels.worker.rejoining")
        assert told["reason"] == "fenced_instance_id"
        wait_until(lambda: len(worker.said("parcels.worker.restored")) >= 4, "the worker did not come back")
        pump.finish()
        wait_until(lambda: not behind(settings), "the worker does not get to the end of the log")
        assert worker.code is None
        crew.stop()
        assert not [line for line in worker.err.splitlines() if '"level": "error"' in line]
    assert_exact(installation.verify(day.truth))


def _come_and_go(settings: KafkaSettings, name: str) -> None:
    """A member of this name joins and leaves."""
    joined = threading.Event()
    rival = new_consumer(
        settings,
        PARCELS_GROUP,
        group_instance_id=name,
        partition_assignment_strategy="cooperative-sticky",
        session_timeout_ms=int(SESSION_SECONDS * 1000),
    )
    rival.subscribe([settings.prefix + topics.SCANS_TOPIC], on_assign=lambda *_: joined.set())
    wait_until(lambda: rival.poll(0.05) or joined.is_set(), "the rival did not join")
    rival.close()


def test_of_two_workers_of_one_name_one_ends_with_an_explanation(installation: Installation, tmp_path: Path) -> None:
    settings = installation.settings
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=500) as pump, Crew(installation) as crew:
        workers = [crew.start("twin")]
        crew.wait_for("twin", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: positions(settings), "nothing was folded")
        workers.append(crew.start("twin"))
        wait_until(lambda: [each for each in workers if each.code is not None], "they fight for ever")
        pump.finish()
        wait_until(lambda: not behind(settings), "the other one does not get to the end of the log")
        ended = [each for each in workers if each.code is not None]
        assert [each.code for each in ended] == [DEAD]
        assert "another one runs under the same name" in ended[0].err
        assert '"twin"' in ended[0].err
        left = next(each for each in workers if each.code is None)
        left.signal(signal.SIGTERM)
        assert left.wait() == 0, left.err
    assert_exact(installation.verify(day.truth))


def test_a_worker_joins_again_when_the_group_does_not_answer(installation: Installation, tmp_path: Path) -> None:
    """As after a pause of the broker, which may accept a join and forget it."""
    settings = installation.settings
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=100_000) as pump:
        pump.open()
        pump.finish()
    with Crew(installation, "--until-idle", "2") as crew:
        worker = crew.start("worker", spoilt={"PARCELS_TEST_UNHEARD": "1"})
        assert worker.wait() == 0, worker.err
        # Once for each processor.
        assert [line["reason"] for line in worker.said("parcels.worker.rejoining")] == ["timeout"] * 2
    assert not behind(settings)
    assert_exact(installation.verify(day.truth))


def test_under_the_new_protocol_a_restarted_worker_waits_for_its_name(
    installation: Installation, tmp_path: Path
) -> None:
    settings = installation.settings
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with (
        Pump(settings, day, rate=500) as pump,
        Crew(installation, "--group-protocol", "consumer", "--group-instance-id", "named") as crew,
    ):
        crew.start("first")
        crew.wait_for("first", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: positions(settings), "nothing was folded")
        crew.kill("first")
        second = crew.start("second")
        crew.wait_for("second", "parcels.worker.restored")
        assert {line["reason"] for line in second.said("parcels.worker.rejoining")} == {"unreleased_instance_id"}
        pump.finish()
        wait_until(lambda: not behind(settings), "the second worker does not get to the end of the log")
        del crew.members["first"]
        crew.stop()
    assert_exact(installation.verify(day.truth))


def test_a_worker_is_not_idle_while_its_broker_stands_still(
    own_broker: tuple[Installation, Broker], tmp_path: Path
) -> None:
    """The pause is longer than its session and its idle time: it loses its partitions and gets them back."""
    made, broker = own_broker
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with Pump(made.settings, day, rate=100_000) as pump:
        pump.open()
        pump.finish()
    with Crew(made, "--until-idle", "3") as crew:
        # Before anything is committed.
        worker = crew.start("worker", spoilt={"PARCELS_TEST_STOP_AT": "before_commit:1"})
        wait_until(lambda: worker.halted, "the worker does not come to its first commit")
        broker.freeze()
        made.chronicle.tell("frozen")
        crew.thaw("worker")
        threading.Event().wait(SESSION_SECONDS * 1.6)
        assert worker.code is None, worker.err
        broker.thaw()
        assert worker.wait() == 0, worker.err
        assert worker.said("parcels.worker.stopped")[0]["reason"] == "idle"
        assert worker.said("parcels.worker.partitions_lost"), "nothing took its partitions"
    assert not behind(made.settings)
    assert_exact(made.verify(day.truth))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_is_not_idle_because_a_stall_took_its_partitions(
    installation: Installation, protocol: str, tmp_path: Path
) -> None:
    """It was paused for longer than its session, and processes the records of that time when it goes on."""
    settings = installation.settings
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with (
        Pump(settings, day, rate=500) as pump,
        Crew(installation, "--group-protocol", protocol, "--until-idle", "1") as crew,
    ):
        pump.open()
        worker = crew.start("worker")
        wait_until(lambda: positions(settings), "nothing was folded")
        crew.freeze("worker")
        assert pump.left, "all was there before it stood still"
        pump.finish()
        threading.Event().wait(SESSION_SECONDS * 1.6)
        crew.thaw("worker")
        assert worker.wait() == 0, worker.err
        assert worker.said("parcels.worker.stopped")[0]["reason"] == "idle"
        assert worker.said("parcels.worker.partitions_lost"), "nothing took its partitions"
    assert not behind(settings)
    assert_exact(installation.verify(day.truth))
