"""The same log, folded again: whatever the batches and the partitions, the same digest and the same ids."""

import json

import pytest

from streams.audit.refold import RecordSetDigest, Refold
from streams.audit.verify import ParcelRecordIndex, compare_states
from streams.formats.record_files import RecordFile
from streams.formats.record_parser import ProducerRecord
from streams.formats.topics import ALERTS_TOPIC, PARCEL_STATE_TOPIC, partition_of
from tests.conftest import run_cli


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """A dirty day of a small hub as a file."""
    path = tmp_path_factory.mktemp("day") / "day.ndjson"
    made = run_cli("simulate", "--scans-only", "--parcels", "400", "--seed", "12", "--out", str(path))
    assert made.returncode == 0, made.stderr
    return path


def lines(day):
    with day.open("rb") as stream:
        yield from (line for line in RecordFile(stream, "day") if isinstance(line, ProducerRecord))


def digest_of(folds):
    """Digest of all states and alerts, ids of all milestones, over several folds."""
    digest, milestones = RecordSetDigest(), []
    for refold, values in folds:
        for made in refold.fold(values):
            for key, value in made.alerts:
                digest.add(ALERTS_TOPIC, key, value)
            milestones += [value[5:21] for _, value in made.milestones]
        for key, value in refold.states():
            digest.add(PARCEL_STATE_TOPIC, key, value)
    return digest.hexdigest(), sorted(milestones)


def test_batches_change_nothing(day):
    values = [line.value for line in lines(day)]
    said = [digest_of([(Refold(batch=batch), values)]) for batch in (1, 7, 1_000, 100_000)]
    assert said[0][1]
    assert all(each == said[0] for each in said)


def test_partitions_change_nothing(day):
    whole = digest_of([(Refold(), [line.value for line in lines(day)])])
    partitions = {number: [] for number in range(4)}
    for line in lines(day):
        own = range(4) if line.everywhere else [partition_of(line.key, 4)] if line.key is not None else []
        for number in own:
            partitions[number].append(line.value)
    parts = [(Refold(partition=number, partitions=4), values) for number, values in partitions.items()]
    assert digest_of(parts) == whole


def test_a_missing_record_changes_the_digest(day):
    values = [line.value for line in lines(day)]
    assert digest_of([(Refold(), values)])[0] != digest_of([(Refold(), values[:-200])])[0]


def test_the_command_writes_what_the_fold_says(day, tmp_path):
    out = {name: tmp_path / name for name in ("states", "milestones", "alerts")}
    options = [part for name, path in out.items() for part in (f"--{name}", str(path))]
    said = run_cli("fold", str(day), "--digest", "--batch", "777", *options)
    # The dirt of the day holds bytes that nobody can read.
    assert said.returncode == 1
    assert "2 OUT_OF_BOUNDS" in said.stderr
    values = [line.value for line in lines(day)]
    expected, milestones = digest_of([(Refold(), values)])
    assert said.stdout.split() == [expected]
    found = {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in out.items()}
    assert len(found["states"]) == len({state["parcel_id"] for state in found["states"]}) == 400
    assert sorted(bytes.fromhex(each["milestone_id"]) for each in found["milestones"]) == milestones
    assert {alert["type"] for alert in found["alerts"]} <= {"AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY"}


def test_a_bad_line_is_told_and_the_rest_is_folded(tmp_path):
    path = tmp_path / "two.ndjson"
    path.write_text('{"type": "scan"}\n{"type": "tick", "hub_time": "2026-03-01T04:00:00Z"}\n')
    said = run_cli("fold", str(path))
    assert said.returncode == 1
    assert "two.ndjson:1: " in said.stderr
    assert "1 records of 0 parcels" in said.stderr
    as_json = run_cli("fold", str(path), "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout) == {
        "records": 1,
        "parcels": 0,
        "duplicates": 0,
        "container_events": 0,
        "dead_letters": {},
        "rejected_lines": 1,
        "digest": None,
    }


def test_a_file_that_is_not_there():
    said = run_cli("fold", "no such file")
    assert said.returncode == 2
    assert "no such file cannot be read" in said.stderr


def test_what_follows_from_containers_is_folded_too(tmp_path):
    path, truth = tmp_path / "day.ndjson", tmp_path / "truth.json"
    made = run_cli("simulate", "--parcels", "300", "--seed", "3", "--out", str(path), "--truth", str(truth))
    wanted = json.loads(truth.read_text())
    with path.open("a") as file:
        file.write(json.dumps({"type": "tick", "hub_time": wanted["final_hub_time"]}) + "\n")
    states = tmp_path / "states"
    said = run_cli("fold", str(path), "--states", str(states))
    assert made.returncode == 0, made.stderr
    assert "container events" in said.stderr
    found = [json.loads(line) for line in states.read_text().splitlines()]
    for state in found:
        for entry in state["scans"]:
            entry["identity"] = bytes.fromhex(entry["identity"])
    assert compare_states(wanted["parcels"], found, ParcelRecordIndex()) == []
