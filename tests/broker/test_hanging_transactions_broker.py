"""`parcels show`, `follow` and `verify` on a real broker, with topics as a worker writes them."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from streams.formats.topics import MILESTONES_TOPIC, PARCEL_STATE_TOPIC, POSITION_KEY, partition_of
from streams.kafka.clients import new_producer
from streams.kafka.reader import follow_topic, read_newest_of_key, read_to_end
from streams.kafka.topic_admin import apply_topics, plan_topics
from tests.audit.test_verify import Log
from tests.formats.avro import framed


@pytest.fixture
def topics(settings):
    apply_topics(settings, plan_topics(settings))
    return settings


@pytest.fixture
def written(topics):
    """The log of two parcels, in transactions, with one that was aborted."""
    log = Log()
    sender = new_producer(topics, transactional_id=topics.prefix + "test")
    sender.init_transactions(10)
    sender.begin_transaction()
    sender.produce(
        topics.prefix + PARCEL_STATE_TOPIC, framed("ParcelState", log.states["P1"] | {"version": 99}), b"P1", 0
    )
    sender.flush(10)
    sender.abort_transaction(10)
    sender.begin_transaction()
    for state in (*log.older_states.values(), *log.states.values()):
        key = state["parcel_id"].encode()
        sender.produce(topics.prefix + PARCEL_STATE_TOPIC, framed("ParcelState", state), key, partition_of(key, 4))
    for position in ({"next_offset": 0, "hub_time": None},):
        sender.produce(topics.prefix + PARCEL_STATE_TOPIC, framed("InputPosition", position), POSITION_KEY, 0)
    for milestone in log.milestones:
        key = milestone["parcel_id"].encode()
        sender.produce(topics.prefix + MILESTONES_TOPIC, framed("Milestone", milestone), key, partition_of(key, 4))
    sender.commit_transaction(10)
    return log


def test_show_is_the_newest_state_as_a_timeline(written, parcels):
    shown = parcels("show", "P2")
    assert shown.returncode == 0, shown.stderr
    assert "P2  UNLOADED, version 3" in shown.stdout
    assert "voids UNLOADED of 2026-03-01 10:00:00 +01:00" in shown.stdout
    (voided,) = [line for line in shown.stdout.splitlines() if " voided" in line]
    assert "UNLOADED" in voided
    state = json.loads(parcels("show", "P1", "--json").stdout)
    assert (state["version"], len(state["timeline"])) == (2, 2)
    assert state["timeline"][0]["record_hash"] == written.states["P1"]["timeline"][0]["record_hash"].hex()


def test_show_finds_the_events_behind_a_parcel_and_its_alerts(topics, parcels, tmp_path):
    scans = [
        {"type": "scan", "event_id": name, "parcel_id": "P7", "kind": kind, "event_time": when, "site": "LGG"}
        | {"station": "S1", "device_id": "gun-4", **more}
        for name, kind, when, more in (
            ("one", "ARRIVED", "2026-03-01T04:00:00Z", {}),
            ("two", "DAMAGED", "2026-03-01T04:05:00Z", {}),
            ("no", "VOID", "2026-03-01T04:06:00Z", {"voids": "two"}),
        )
    ]
    ticks = [{"type": "tick", "hub_time": f"2026-03-0{day}T05:00:00Z"} for day in (1, 9)]
    lines = tmp_path / "lines.ndjson"
    lines.write_text("".join(json.dumps(each) + "\n" for each in (*scans, scans[0], *ticks)))
    assert parcels("load", str(lines)).returncode == 0
    assert parcels("run", "--until-idle", "1").returncode == 0
    shown = parcels("show", "P7", "--events")
    assert shown.returncode == 0, shown.stderr
    assert "event_id 'one' at " in shown.stdout
    assert ", sent by gun-4" in shown.stdout
    assert "BREACHED unload" in shown.stdout
    found = json.loads(parcels("show", "P7", "--events", "--json").stdout)
    assert {each["fields"]["event_id"] for each in found["events"]} == {"one", "two", "no"}
    known = {each["record_hash"]: each["fields"]["event_id"] for each in found["events"]}
    assert {known[each["record_hash"]] for each in found["timeline"]} == {"one", "two", "no"}
    (broken,) = [each for each in found["alert_history"] if (each["type"], each["condition"]) == ("BREACHED", "unload")]
    assert [known[proof] for proof in broken["evidence"]] == ["one"]


def test_an_unknown_parcel(written, parcels):
    shown = parcels("show", "P9")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "no parcel and no container P9 is known" in shown.stderr


def test_the_newest_record_of_a_key_is_found_in_its_partition_only(written, topics):
    assert (
        read_newest_of_key(topics, topics.prefix + PARCEL_STATE_TOPIC, b"P1", (partition_of(b"P1", 4) + 1) % 4) is None
    )
    assert read_newest_of_key(
        topics, topics.prefix + PARCEL_STATE_TOPIC, b"P1", partition_of(b"P1", 4)
    ).value() == framed("ParcelState", written.states["P1"])


def test_follow_yields_earlier_and_new_records(written, topics):
    records = follow_topic(topics, topics.prefix + MILESTONES_TOPIC, range(4), since_ms=0)
    seen = [next(records).key() for _ in range(5)]
    assert sorted(seen) == [b"P1", b"P1", b"P2", b"P2", b"P2"]
    sender = new_producer(topics)
    sender.produce(topics.prefix + MILESTONES_TOPIC, framed("Milestone", written.milestones[0]), b"P1", 3)
    sender.flush(10)
    assert next(records).partition() == 3
    records.close()


def test_follow_ends_at_ctrl_c(written, topics):
    # A shell that runs the tests in the background may ignore the signal, and child processes inherit that.
    python = ["env", "--default-signal=INT", sys.executable]
    command = [*python, "-m", "streams.cli", "follow", "P2", "--since", "1h", "--json"]
    where = ["--bootstrap", topics.bootstrap, "--prefix", topics.prefix]
    with subprocess.Popen([*command, *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # A process that prints too little, or ignores the signal, must end as well.
        guard = threading.Timer(60, process.kill)
        guard.start()
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
        guard.cancel()
    assert (process.returncode, rest, errors) == (0, "", "")
    assert [line["type"] for line in lines] == ["REACHED", "RETRACTED", "REACHED"]
    assert {line["parcel_id"] for line in lines} == {"P2"}


def test_verify_accepts_a_right_log_and_names_a_difference(written, topics, parcels, tmp_path):
    truth = {"format": "parcel-streams truth 3", "parcels": written.truth, "dead_letters": {}}
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    right = parcels("verify", str(path), "--json")
    assert right.returncode == 0, right.stdout + right.stderr
    assert json.loads(right.stdout)["ok"]
    written.truth["P1"]["stage"] = "SORTED"
    path.write_text(json.dumps(truth))
    wrong = parcels("verify", str(path), "--json")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout)["differences"] == [
        {"key": "P1", "field": "stage", "expected": "SORTED", "found": "UNLOADED"}
    ]
    assert "P1: stage: expected SORTED, found UNLOADED" in parcels("verify", str(path)).stdout


def test_a_reader_stops_at_the_end_of_a_topic_that_ends_in_markers(written, topics):
    begun = time.monotonic()
    assert len(list(read_to_end(topics, topics.prefix + PARCEL_STATE_TOPIC))) == 4
    assert time.monotonic() - begun < 20
