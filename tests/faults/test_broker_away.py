"""The broker stops under load and comes back: the worker reports it once, bounds its memory and goes on by itself."""

import json
import time
from pathlib import Path

import pytest

from tests.faults.harness import Broker, Crew, Installation, assert_exact, behind, wait_until
from tests.faults.load_generator import Day, Pump

SEED = 20_260_303
# The memory of Python and the clients varies by some, whatever happens.
GROWTH_MEGABYTES = 100


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(8, id="8 s"), pytest.param(60, id="60 s", marks=[pytest.mark.faults, pytest.mark.timeout(1200)])],
)
def test_a_worker_outlives_its_broker(own_broker: tuple[Installation, Broker], seconds: int, tmp_path: Path) -> None:
    made, broker = own_broker
    day = Day.simulated(4_000, tmp_path / "truth.json", SEED)
    with Pump(made.settings, day, rate=4_000) as pump, Crew(made) as crew:
        worker = crew.start("worker")
        crew.wait_for("worker", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: pump.sent > 4_000, "the pump does not work")
        broker.down()
        crew.wait_for("worker", "parcels.worker.kafka_unavailable")
        pump.close()
        time.sleep(2)
        at_first = worker.memory_megabytes()
        most = at_first
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            most = max(most, worker.memory_megabytes())
            assert worker.code is None, worker.err
            time.sleep(0.25)
        broker.up()
        back = time.monotonic()
        crew.wait_for("worker", "parcels.worker.kafka_available")
        pump.finish()
        wait_until(lambda: not behind(made.settings), "the worker does not get to the end of the log")
        after = worker.memory_megabytes()
        made.chronicle.tell("memory", f"{at_first:.0f} MB, at most {most:.0f} MB while away, {after:.0f} MB at the end")
        made.chronicle.tell("folded", f"{time.monotonic() - back:.1f} s after the broker was back")
        assert most - at_first < GROWTH_MEGABYTES
        assert len(worker.said("parcels.worker.kafka_unavailable")) == 1, worker.err
        assert len(worker.said("parcels.worker.kafka_available")) == 1, worker.err
        assert worker.said("parcels.worker.kafka_available")[0]["seconds"] > seconds
        crew.stop()
        others = [line["event"] for line in map(json.loads, worker.err.splitlines()) if line["level"] == "error"]
        assert others == []
    assert_exact(made.verify(day.truth))


def test_a_worker_can_be_stopped_while_its_broker_is_away(
    own_broker: tuple[Installation, Broker], tmp_path: Path
) -> None:
    made, broker = own_broker
    day = Day.simulated(1_000, tmp_path / "truth.json", SEED)
    with Pump(made.settings, day, rate=2_000) as pump, Crew(made) as crew:
        worker = crew.start("worker")
        crew.wait_for("worker", "parcels.worker.restored")
        pump.open()
        wait_until(lambda: pump.sent > 2_000, "the pump does not work")
        broker.down()
        crew.wait_for("worker", "parcels.worker.kafka_unavailable")
        pump.close()
        asked = time.monotonic()
        crew.stop()
        took = time.monotonic() - asked
        made.chronicle.tell("stopped", f"{took:.1f} s after SIGTERM")
        assert took < 30, worker.err
        broker.up()
        pump.finish()
    made.fold_the_rest()
    assert_exact(made.verify(day.truth))
