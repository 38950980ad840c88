"""Both processors give the result of the truth for a hub with containers, whatever the order of their batches."""

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

MANY_FAULTS = DataFaults(
    duplicates=0.05, late=0.2, very_late=0.1, voids=0.1, wrong_time_zone=0.05, malformed=0.01, no_reads=0.1,
    missorted=0.1, recirculated=0.1, held=0.2, lost=0.05, unadvised=0.1, missed=0.05, extra=0.05, absent=0.05,
    moved=0.3,
)  # fmt: skip


def with_offsets(records):
    return ((key, value, 0, offset) for offset, (key, value) in enumerate(records))


def verify(result: both_processors.ProcessorRun, truth: dict) -> VerificationReport:
    report, evidence = VerificationReport(), ParcelRecordIndex()
    report.differences = compare_states(
        truth["parcels"], (read("ParcelState", value) for value in result.states.values() if value), evidence
    )
    milestones = MilestoneVerifier(report, evidence)
    milestones.add(with_offsets(result.milestones))
    milestones.compare(truth["parcels"])
    alerts = AlertVerifier(report)
    alerts.add(with_offsets(result.alerts))
    alerts.compare_active(truth["parcels"])
    throughput = ThroughputVerifier(report)
    throughput.add(with_offsets(result.deltas))
    throughput.compare(truth["throughput"])
    containers = ContainerVerifier(report)
    containers.add_events(with_offsets(result.containers))
    containers.add_scans(with_offsets(result.scans))
    containers.compare()
    report.unsettled_partitions = containers.unsettled_partitions(truth["final_hub_time"])
    return report


@pytest.mark.parametrize(
    ("faults", "batch_sizes", "seed"),
    [
        (DataFaults.none(), [100], 1),
        (DataFaults(), [1, 50, 2_000], 2),
        (MANY_FAULTS, [7, 300], 3),
        (MANY_FAULTS, [10_000], 4),
    ],
)
def test_a_day_ends_as_the_truth_says(tmp_path, faults, batch_sizes, seed):
    scenario = Scenario(400, seed, after_hours=60, tick_seconds=600, faults=faults)
    logs = both_processors.simulated(scenario, tmp_path / "truth.json")
    truth = json.loads((tmp_path / "truth.json").read_text())
    result = both_processors.run(logs, scenario.last_tick_ms, batch_sizes, seed)
    report = verify(result, truth)
    assert report.ok, {name: list(map(str, found[:5])) for name, found in report.sections().items() if found}
    assert report.inferred_records > 1_500
    assert result.refused == truth["container_dead_letters"]
    assert bool(result.refused) == (faults.malformed > 0)
    assert report.unsettled_partitions == []
    assert truth["has_container_events"] is True
