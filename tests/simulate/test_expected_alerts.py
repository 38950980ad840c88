"""The truth about alerts: the worker's own stage, over the same log, tells them all and none beside them."""

import json

import pytest

from streams.domain.promises import Promises
from streams.kafka.bulk_producer import RecordColumnsEncoder
from streams.processors.parcel_processor import ParcelProcessor
from streams.simulate.data_faults import DataFaults
from streams.simulate.day import Scenario, Simulation
from streams.simulate.expected_alerts import TickSchedule
from streams.simulate.truth import TruthFile
from tests.kernel.records import read

FILTHY = DataFaults(
    duplicates=0.05, late=0.2, very_late=0.1, voids=0.1, wrong_clock=0.05, broken=0.01, no_reads=0.3, mis_sorted=0.2,
    recirculated=0.3, held=0.4, lost=0.05, unadvised=0.1, missed=0.05,
)  # fmt: skip
# So short that parcels retire, and late scans bring some of them back.
HASTY = Promises.parse(
    Promises.default().model_dump(mode="json") | {"retirement": {"finished": "6h", "unfinished": "1d"}}
)


def told_and_true(tmp_path, scenario, promises, batch):
    path = tmp_path / "truth.json"
    stage, values = ParcelProcessor(0, 1, promises), []
    with TruthFile(path, scenario, promises) as file:
        simulation = Simulation(scenario, file)
        encoder = RecordColumnsEncoder()
        for columns in simulation.batches():
            values += encoder.encode(columns).values
        file.complete(simulation.counts)
    alerts, states = [], {}
    for first in range(0, len(values), batch):
        made = stage.run(values[first : first + batch])
        alerts += [read("Alert", value) for _, value in made.alerts]
        states |= dict(made.tombstones)
        states |= dict(made.states)
    return alerts, {key.decode(): value for key, value in states.items()}, json.loads(path.read_text())


@pytest.mark.parametrize(
    ("promises", "batch", "seed"), [(Promises.default(), 1_000, 3), (HASTY, 7, 4), (HASTY, 100_000, 5)]
)
def test_the_alerts_of_a_filthy_day_are_those_of_the_truth(tmp_path, promises, batch, seed):
    scenario = Scenario(150, seed, after_hours=90, tick_seconds=600, dirt=FILTHY, expanded=True)
    alerts, states, truth = told_and_true(tmp_path, scenario, promises, batch)
    wanted = [tuple(told) for parcel in truth["parcels"].values() for told in parcel["told"]]
    found = [(each["type"], each["condition"], each["hub_time"], each["alert_id"].hex()) for each in alerts]
    assert sorted(found) == sorted(wanted)
    assert {each[0] for each in found} == {"AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY"}
    retired = {name for name, parcel in truth["parcels"].items() if "version" not in parcel}
    assert {name for name, value in states.items() if not value} == retired
    assert bool(retired) == (promises is HASTY)
    for name, parcel in truth["parcels"].items():
        if name in retired:
            continue
        state = read("ParcelState", states[name])
        assert state["clocks"] == parcel["clocks"]
        assert {each["condition"]: each["type"] for each in state["active_alerts"]} == parcel["standing"]


def test_ticks_are_those_of_the_log():
    scenario = Scenario(20, 1, after_hours=1, tick_seconds=90)
    encoder, log = RecordColumnsEncoder(), []
    for columns in Simulation(scenario).batches():
        encoded = encoder.encode(columns)
        log += [read("Tick", encoded.values[index])["hub_time"] for index in encoded.broadcast_indexes]
    ticks, told = TickSchedule(scenario.start_ms, scenario.tick_ms, scenario.end_ms), []
    tick = ticks.after(scenario.start_ms - 1)
    while tick is not None:
        told.append(tick)
        tick = ticks.after(tick)
    assert told == log
    assert ticks.last == log[-1]
