"""A day of bags and ULDs with data faults, through both processors on a real broker, in either order."""

import json
from collections import Counter
from pathlib import Path

import pytest

DIRT = ("voids=0.05", "late=0.2", "very_late=0.05", "missed=0.05", "moved=0.3", "extra=0.03", "absent=0.03",
        "malformed=0.03")  # fmt: skip


@pytest.fixture
def day(parcels, tmp_path):
    truth = str(tmp_path / "truth.json")
    parcels("topics", "apply", "--partitions", "3", check=True)
    dirt = [word for each in DIRT for word in ("--fault", each)]
    parcels("simulate", "--parcels", "300", "--seed", "21", *dirt, "--truth", truth, check=True)
    return truth


def verified(parcels, truth):
    return json.loads(parcels("verify", truth, "--json").stdout)


@pytest.mark.parametrize("stages", [[()], [("parcels",), ("containers",), ("parcels",)]], ids=["both", "in turn"])
def test_ends_as_the_truth_says(parcels, day, stages):
    for stage in stages:
        parcels("run", *stage, "--until-idle", "2", check=True)
    report = verified(parcels, day)
    assert report["ok"], json.dumps(report)[:3000]
    assert (report["unprocessed"], report["unprocessed_containers"]) == ({}, {})
    assert report["partitions_without_final_tick"] == []
    assert report["inferred"]["count"] > 1_500
    # Every malformed record is a dead letter with its reason, and each log has its own.
    expected = json.loads(Path(day).read_text())
    assert {"CYCLE", "TOO_DEEP", "TOO_LARGE"} <= expected["container_dead_letters"].keys()
    both = Counter(expected["dead_letters"]) + Counter(expected["container_dead_letters"])
    assert report["dead_letters"]["by_reason"] == both


def test_without_the_container_processor_inferred_scans_are_missing(parcels, day):
    parcels("run", "parcels", "--until-idle", "2", check=True)
    report = verified(parcels, day)
    assert not report["ok"]
    assert report["inferred"]["missing"]
    assert sum(report["unprocessed_containers"].values()) > 1_000


def test_a_tick_of_a_later_time_finds_overdue_parcels(parcels, day):
    parcels("run", "--until-idle", "2", check=True)
    before = verified(parcels, day)["alerts"]["count"]
    parcels("clock", "--at", "2026-03-05T00:00Z", check=True)
    parcels("run", "--until-idle", "2", check=True)
    assert verified(parcels, day)["alerts"]["count"] > before


def test_a_tick_without_a_valid_time_is_refused(parcels):
    ended = parcels("clock", "--at", "soon")
    assert ended.returncode == 2
    assert "--at: hub_time is 'soon'" in ended.stderr
