"""A worker that is stopped finishes its transactions; one that hangs is ended; one that died is back soon."""

import json
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.kafka.settings import KafkaSettings
from streams.processors.registry import PARCELS_GROUP
from streams.worker.liveness import EXIT_CODE
from tests.faults.harness import (
    Crew,
    Installation,
    assert_exact,
    behind,
    group_offsets,
    positions,
    wait_until,
)
from tests.faults.load_generator import Day, Pump

SEED = 20_260_304


def test_sigterm_while_it_starts_ends_it_as_well(installation: Installation) -> None:
    with Crew(installation) as crew:
        worker = crew.start("early")
        wait_until(lambda: _catches(worker.process.pid, signal.SIGTERM), "it never catches the signal")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.err
        assert not worker.said("parcels.worker.started")


def _catches(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_sigterm_finishes_the_batch_and_leaves_the_group(
    installation: Installation, protocol: str, tmp_path: Path
) -> None:
    settings = installation.settings
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=2_000) as pump, Crew(installation, "--group-protocol", protocol, "--json") as crew:
        worker = crew.start("worker")
        crew.wait_for("worker", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: positions(settings), "nothing was folded")
        asked = time.monotonic()
        crew.stop()
        installation.chronicle.tell("stopped", f"{time.monotonic() - asked:.1f} s after SIGTERM ({protocol})")
        assert worker.said("parcels.worker.stopped")[0]["reason"] == "signal"
        assert not worker.said("parcels.worker.transaction_recovered")
        # Its count equals the positions in the log, and so do the group offsets for monitoring tools.
        reached = positions(settings)
        assert json.loads(worker.out)["records"] == sum(reached.values())
        assert group_offsets(settings, PARCELS_GROUP) == reached
        pump.finish()
        # A worker of another name does not wait for the end of a session.
        asked = time.monotonic()
        crew.start("next")
        crew.wait_for("next", "parcels.worker.restored")
        installation.chronicle.tell(
            "taken over", f"{time.monotonic() - asked:.1f} s after the start of the next worker"
        )
        wait_until(lambda: not behind(settings), "the next worker does not get to the end of the log")
        crew.stop()
        wait_until(lambda: _members(settings) == 0, "the group still has members")
    assert_exact(installation.verify(day.truth))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_sigterm_amid_a_long_fold_does_not_wait_for_it(
    installation: Installation, protocol: str, tmp_path: Path
) -> None:
    """Its output is dropped; the next worker processes the batch again."""
    settings = installation.settings
    day = Day.simulated(200, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=100_000) as pump, Crew(installation, "--group-protocol", protocol) as crew:
        pump.open()
        pump.finish()
        worker = crew.start("worker", spoilt={"PARCELS_TEST_LONG_FOLD": "1"})
        wait_until(lambda: worker.out.count("folding") == 2, "the worker does not fold both partitions")
        asked = time.monotonic()
        crew.stop()
        took = time.monotonic() - asked
        installation.chronicle.tell("stopped", f"{took:.1f} s after SIGTERM")
        # Far less than the rest of the fold; on an idle machine a second or two.
        assert took < 20, worker.err
        assert worker.said("parcels.worker.stopped")[0]["reason"] == "signal"
        assert not any(positions(settings).values()), "something was committed"
        if protocol == "consumer":
            assert _members(settings) == 0, "it did not leave the group"
    installation.fold_the_rest()
    assert_exact(installation.verify(day.truth))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_idle_workers_end_also_when_there_are_more_than_partitions(
    installation: Installation, protocol: str, tmp_path: Path
) -> None:
    day = Day.simulated(200, tmp_path / "truth.json", SEED)
    with Pump(installation.settings, day, rate=100_000) as pump:
        pump.open()
        pump.finish()
    with Crew(installation, "--group-protocol", protocol, "--until-idle", "3") as crew:
        workers = [crew.start(name) for name in ("one", "two", "three")]
        assert [worker.wait() for worker in workers] == [0, 0, 0]
        assert [worker.said("parcels.worker.stopped")[0]["reason"] for worker in workers] == ["idle"] * 3
    assert_exact(installation.verify(day.truth))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_without_partitions_ends_when_it_is_idle_while_those_that_have_them_go_on(
    installation: Installation, protocol: str, tmp_path: Path
) -> None:
    day = Day.simulated(200, tmp_path / "truth.json", SEED)
    with (
        Pump(installation.settings, day, rate=100_000) as pump,
        Crew(installation, "--group-protocol", protocol) as crew,
        Crew(installation, "--group-protocol", protocol, "--until-idle", "2") as more,
    ):
        for name in ("one", "two"):
            crew.start(name)
        wait_until(lambda: all(len(each.holds) == 1 for each in crew.members.values()), "they do not share")
        pump.open()
        spare = more.start("spare")
        assert spare.wait() == 0, spare.err
        assert spare.said("parcels.worker.stopped")[0]["reason"] == "idle"
        assert not spare.said("parcels.worker.partitions_assigned")
        wait_until(lambda: not behind(installation.settings), "the others do not get to the end of the log")
        crew.stop()
    assert_exact(installation.verify(day.truth))


def _members(settings: KafkaSettings) -> int:
    group = settings.prefix + PARCELS_GROUP
    client = AdminClient({"bootstrap.servers": settings.bootstrap})
    return len(client.describe_consumer_groups([group])[group].result().members)


def test_a_worker_that_hangs_is_ended_by_its_watchdog(installation: Installation, tmp_path: Path) -> None:
    with Crew(installation) as crew:
        worker = crew.start("worker", spoilt={"PARCELS_TEST_HANG": "1"})
        assert worker.wait() == EXIT_CODE
    assert "made no turn" in worker.err
    assert "hang" in worker.err, "the stack does not show where it hung"


def test_a_worker_that_was_killed_folds_again_within_seconds(installation: Installation, tmp_path: Path) -> None:
    settings = installation.settings
    day = Day.simulated(1_500, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=500) as pump, Crew(installation) as crew:
        crew.start("worker")
        crew.wait_for("worker", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: positions(settings), "nothing was folded")
        for _ in range(2):
            crew.kill("worker")
            before, killed = positions(settings), time.monotonic()
            crew.keep_up()
            wait_until(lambda b=before: positions(settings) != b, "the new worker folds nothing")
            installation.chronicle.tell("back", f"{time.monotonic() - killed:.1f} s after the kill")
        pump.finish()
        wait_until(lambda: not behind(settings), "the worker does not get to the end of the log")
        crew.stop()
    assert_exact(installation.verify(day.truth))
