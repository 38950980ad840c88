"""The truth about alerts: the parcel processor writes exactly these alerts for the same log."""

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

MANY_FAULTS = DataFaults(
    duplicates=0.05, late=0.2, very_late=0.1, voids=0.1, wrong_time_zone=0.05, malformed=0.01, no_reads=0.3,
    missorted=0.2, recirculated=0.3, held=0.4, lost=0.05, unadvised=0.1, missed=0.05,
)  # fmt: skip
# Retirement so early that late scans bring some parcels back.
EARLY_RETIREMENT = Promises.parse(
    Promises.default().model_dump(mode="json") | {"retirement": {"finished": "6h", "unfinished": "1d"}}
)


def actual_and_expected(tmp_path, scenario, promises, batch):
    path = tmp_path / "truth.json"
    processor, values = ParcelProcessor(0, 1, promises), []
    with TruthFile(path, scenario, promises) as file:
        simulation = Simulation(scenario, file)
        encoder = RecordColumnsEncoder()
        for columns in simulation.batches():
            values += encoder.encode(columns).values
        file.complete(simulation.counts)
    alerts, states = [], {}
    for first in range(0, len(values), batch):
        output = processor.run(values[first : first + batch])
        alerts += [read("Alert", value) for _, value in output.alerts]
        states |= dict(output.tombstones)
        states |= dict(output.states)
    return alerts, {key.decode(): value for key, value in states.items()}, json.loads(path.read_text())


@pytest.mark.parametrize(
    ("promises", "batch", "seed"),
    [(Promises.default(), 1_000, 3), (EARLY_RETIREMENT, 7, 4), (EARLY_RETIREMENT, 100_000, 5)],
)
def test_the_alerts_of_a_day_with_many_faults_are_those_of_the_truth(tmp_path, promises, batch, seed):
    scenario = Scenario(150, seed, after_hours=90, tick_seconds=600, faults=MANY_FAULTS, scans_only=True)
    alerts, states, truth = actual_and_expected(tmp_path, scenario, promises, batch)
    expected = [tuple(alert) for parcel in truth["parcels"].values() for alert in parcel["alerts"]]
    found = [(alert["type"], alert["condition"], alert["hub_time"], alert["alert_id"].hex()) for alert in alerts]
    assert sorted(found) == sorted(expected)
    assert {alert[0] for alert in found} == {"AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY"}
    retired = {name for name, parcel in truth["parcels"].items() if "version" not in parcel}
    assert {name for name, value in states.items() if not value} == retired
    assert bool(retired) == (promises is EARLY_RETIREMENT)
    for name, parcel in truth["parcels"].items():
        if name in retired:
            continue
        state = read("ParcelState", states[name])
        assert state["clocks"] == parcel["clocks"]
        assert {alert["condition"]: alert["type"] for alert in state["active_alerts"]} == parcel["active_alerts"]


def test_the_schedule_has_the_ticks_of_the_log():
    scenario = Scenario(20, 1, after_hours=1, tick_seconds=90)
    encoder, log = RecordColumnsEncoder(), []
    for columns in Simulation(scenario).batches():
        encoded = encoder.encode(columns)
        log += [read("Tick", encoded.values[index])["hub_time"] for index in encoded.broadcast_indexes]
    schedule, expected = TickSchedule(scenario.start_ms, scenario.tick_ms, scenario.end_ms), []
    tick = schedule.next_after(scenario.start_ms - 1)
    while tick is not None:
        expected.append(tick)
        tick = schedule.next_after(tick)
    assert expected == log
    assert schedule.last == log[-1]
