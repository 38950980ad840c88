"""A log that is folded again gives the same digest and ids, for any batch size and number of partitions."""

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
    """A file with a day of a small hub, with faults."""
    path = tmp_path_factory.mktemp("day") / "day.ndjson"
    result = run_cli("simulate", "--scans-only", "--parcels", "400", "--seed", "12", "--out", str(path))
    assert result.returncode == 0, result.stderr
    return path


def records(day):
    with day.open("rb") as stream:
        yield from (record for record in RecordFile(stream, "day") if isinstance(record, ProducerRecord))


def digest_of(folds):
    """Digest of all states and alerts, and ids of all milestones, over several folds."""
    digest, milestones = RecordSetDigest(), []
    for refold, values in folds:
        for output in refold.fold(values):
            for key, value in output.alerts:
                digest.add(ALERTS_TOPIC, key, value)
            milestones += [value[5:21] for _, value in output.milestones]
        for key, value in refold.states():
            digest.add(PARCEL_STATE_TOPIC, key, value)
    return digest.hexdigest(), sorted(milestones)


def test_the_batch_size_does_not_matter(day):
    values = [record.value for record in records(day)]
    digests = [digest_of([(Refold(batch=batch), values)]) for batch in (1, 7, 1_000, 100_000)]
    assert digests[0][1]
    assert all(digest == digests[0] for digest in digests)


def test_the_number_of_partitions_does_not_matter(day):
    whole = digest_of([(Refold(), [record.value for record in records(day)])])
    partitions = {number: [] for number in range(4)}
    for record in records(day):
        targets = range(4) if record.broadcast else [partition_of(record.key, 4)] if record.key is not None else []
        for number in targets:
            partitions[number].append(record.value)
    parts = [(Refold(partition=number, partitions=4), values) for number, values in partitions.items()]
    assert digest_of(parts) == whole


def test_a_missing_record_changes_the_digest(day):
    values = [record.value for record in records(day)]
    assert digest_of([(Refold(), values)])[0] != digest_of([(Refold(), values[:-200])])[0]


def test_the_command_writes_the_output_of_the_fold(day, tmp_path):
    out = {name: tmp_path / name for name in ("states", "milestones", "alerts")}
    options = [part for name, path in out.items() for part in (f"--{name}", str(path))]
    result = run_cli("fold", str(day), "--digest", "--batch", "777", *options)
    # The faults of the day include unusable values.
    assert result.returncode == 1
    assert "2 OUT_OF_BOUNDS" in result.stderr
    values = [record.value for record in records(day)]
    expected, milestones = digest_of([(Refold(), values)])
    assert result.stdout.split() == [expected]
    found = {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in out.items()}
    assert len(found["states"]) == len({state["parcel_id"] for state in found["states"]}) == 400
    assert sorted(bytes.fromhex(each["milestone_id"]) for each in found["milestones"]) == milestones
    assert {alert["type"] for alert in found["alerts"]} <= {"AT_RISK", "BREACHED", "WITHDRAWN", "ANOMALY"}


def test_a_bad_line_is_reported_and_the_rest_is_folded(tmp_path):
    path = tmp_path / "two.ndjson"
    path.write_text('{"type": "scan"}\n{"type": "tick", "hub_time": "2026-03-01T04:00:00Z"}\n')
    result = run_cli("fold", str(path))
    assert result.returncode == 1
    assert "two.ndjson:1: " in result.stderr
    assert "1 records of 0 parcels" in result.stderr
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


def test_a_missing_file_is_an_error():
    result = run_cli("fold", "no such file")
    assert result.returncode == 2
    assert "no such file cannot be read" in result.stderr


def test_inferred_scans_are_folded(tmp_path):
    path, truth = tmp_path / "day.ndjson", tmp_path / "truth.json"
    simulated = run_cli("simulate", "--parcels", "300", "--seed", "3", "--out", str(path), "--truth", str(truth))
    expected = json.loads(truth.read_text())
    with path.open("a") as file:
        file.write(json.dumps({"type": "tick", "hub_time": expected["final_hub_time"]}) + "\n")
    states = tmp_path / "states"
    result = run_cli("fold", str(path), "--states", str(states))
    assert simulated.returncode == 0, simulated.stderr
    assert "container events" in result.stderr
    states_found = [json.loads(line) for line in states.read_text().splitlines()]
    for state in states_found:
        for entry in state["timeline"]:
            entry["record_hash"] = bytes.fromhex(entry["record_hash"])
    assert compare_states(expected["parcels"], states_found, ParcelRecordIndex()) == []
