"""What the truth says of a hub with containers is what both stages make of it, in whatever order they come to it."""

import json

import pytest

from streams.audit.verify import ParcelRecordIndex, VerificationReport, compare_states
from streams.audit.verify_alerts import AlertVerifier
from streams.audit.verify_containers import ContainerVerifier
from streams.audit.verify_milestones import MilestoneVerifier
from streams.audit.verify_throughput import ThroughputVerifier
from streams.simulate.data_faults import DataFaults
from streams.simulate.day import Scenario
from tests.kernel.records import read
from tests.simulate import both_processors

FILTHY = DataFaults(
    duplicates=0.05, late=0.2, very_late=0.1, voids=0.1, wrong_time_zone=0.05, malformed=0.01, no_reads=0.1,
    missorted=0.1, recirculated=0.1, held=0.2, lost=0.05, unadvised=0.1, missed=0.05, extra=0.05, absent=0.05,
    moved=0.3,
)  # fmt: skip


def placed(records):
    return ((key, value, 0, offset) for offset, (key, value) in enumerate(records))


def verified(ran: both_processors.Ran, truth: dict) -> VerificationReport:
    report, evidence = VerificationReport(), ParcelRecordIndex()
    report.differences = compare_states(
        truth["parcels"], (read("ParcelState", value) for value in ran.states.values() if value), evidence
    )
    milestones = MilestoneVerifier(report, evidence)
    milestones.add(placed(ran.milestones))
    milestones.compare(truth["parcels"])
    alerts = AlertVerifier(report)
    alerts.add(placed(ran.alerts))
    alerts.compare_active(truth["parcels"])
    throughput = ThroughputVerifier(report)
    throughput.add(placed(ran.deltas))
    throughput.compare(truth["throughput"])
    containers = ContainerVerifier(report)
    containers.add_events(placed(ran.containers))
    containers.add_scans(placed(ran.scans))
    containers.compare()
    report.unsettled_partitions = containers.unsettled_partitions(truth["final_hub_time"])
    return report


@pytest.mark.parametrize(
    ("dirt", "portions", "seed"),
    [(DataFaults.none(), [100], 1), (DataFaults(), [1, 50, 2_000], 2), (FILTHY, [7, 300], 3), (FILTHY, [10_000], 4)],
)
def test_a_day_ends_as_the_truth_says(tmp_path, dirt, portions, seed):
    scenario = Scenario(400, seed, after_hours=60, tick_seconds=600, dirt=dirt)
    logs = both_processors.simulated(scenario, tmp_path / "truth.json")
    truth = json.loads((tmp_path / "truth.json").read_text())
    ran = both_processors.run(logs, scenario.last_tick_ms, portions, seed)
    report = verified(ran, truth)
    assert report.ok, {name: list(map(str, found[:5])) for name, found in report.sections().items() if found}
    assert report.inferred > 1_500
    assert ran.refused == truth["container_dead_letters"]
    assert bool(ran.refused) == (dirt.malformed > 0)
    assert report.unsettled_partitions == []
    assert truth["has_container_events"] is True
