"""With a wrong set-up `parcels run` refuses to start; its one message says what to do."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.formats import topics
from streams.kafka.settings import KafkaSettings
from tests.faults.harness import REPOSITORY, Chronicle, Installation

REFUSED, UNREACHABLE = 2, 3


@pytest.fixture
def installation(settings: KafkaSettings, tmp_path: Path) -> Installation:
    return Installation(settings, tmp_path, Chronicle(0))


def complaint(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one message on standard error."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("parcels: ")
    return lines[0]


def test_no_topics(installation: Installation) -> None:
    said = complaint(installation.parcels("run", "--until-idle", "1"), REFUSED)
    assert topics.SCANS_TOPIC in said and "topics apply" in said


def test_one_topic_missing(installation: Installation) -> None:
    installation.create_topics(2)
    client = AdminClient({"bootstrap.servers": installation.settings.bootstrap})
    name = installation.settings.prefix + topics.MILESTONES_TOPIC
    client.delete_topics([name], operation_timeout=30)[name].result()
    said = complaint(installation.parcels("run", "--until-idle", "1"), REFUSED)
    assert name in said and "does not exist" in said and "topics apply" in said


def test_partitions_that_do_not_match(installation: Installation) -> None:
    client = AdminClient({"bootstrap.servers": installation.settings.bootstrap})
    prefix = installation.settings.prefix
    counts = {
        topics.SCANS_TOPIC: 4,
        topics.PARCEL_STATE_TOPIC: 6,
        topics.MILESTONES_TOPIC: 4,
        topics.DEAD_LETTERS_TOPIC: 4,
    }
    new = [NewTopic(prefix + name, count, 1, config={"cleanup.policy": "compact"}) for name, count in counts.items()]
    for future in client.create_topics(new, operation_timeout=30).values():
        future.result()
    said = complaint(installation.parcels("run", "--until-idle", "1"), REFUSED)
    assert f"{prefix}hub.scans has 4 partitions but {prefix}parcel.state has 6" in said
    assert "must match" in said


def test_a_state_topic_that_deletes_records(installation: Installation) -> None:
    installation.create_topics(1)
    client = AdminClient({"bootstrap.servers": installation.settings.bootstrap})
    name = installation.settings.prefix + topics.PARCEL_STATE_TOPIC
    client.delete_topics([name], operation_timeout=30)[name].result()
    installation.parcels("topics", "plan")
    new = NewTopic(name, 1, 1, config={"cleanup.policy": "delete"})
    client.create_topics([new], operation_timeout=30)[name].result()
    said = complaint(installation.parcels("run", "--until-idle", "1"), REFUSED)
    assert "cleanup.policy=delete" in said and "topics apply" in said


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("an id that was changed", "ids never change"),
        ("a schema that was edited", "differs from its locked version"),
        ("no lock at all", "restore it from git"),
    ],
)
def test_wrong_schema_ids(what: str, said: str, tmp_path: Path) -> None:
    """It refuses before it asks a broker: with other schema ids it would take one record for another."""
    for name in ("streams", "schemas"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    ids = tmp_path / "schemas" / "ids.json"
    locked = json.loads(ids.read_text())
    match what:
        case "an id that was changed":
            locked["Scan"]["1"]["id"] = 77
            ids.write_text(json.dumps(locked))
        case "a schema that was edited":
            newest = tmp_path / "schemas" / "Scan.avsc"
            newest.write_text(newest.read_text().replace("1,024 bytes", "4 bytes"))
        case _:
            ids.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "run", "--bootstrap", "127.0.0.1:9", "--until-idle", "1"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    message = complaint(done, REFUSED)
    assert "schemas/" in message and said in message


def test_a_port_for_metrics_that_is_taken(installation: Installation) -> None:
    installation.create_topics(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = complaint(installation.parcels("run", "--until-idle", "1", "--metrics-port", str(port)), REFUSED)
    assert str(port) in said and "--metrics-port" in said


def test_a_protocol_that_does_not_exist(installation: Installation) -> None:
    done = installation.parcels("run", "--group-protocol", "modern")
    assert done.returncode == REFUSED
    assert "Traceback" not in done.stderr
    assert "modern" in done.stderr and "classic" in done.stderr and "consumer" in done.stderr


def test_no_broker() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", "run", "--bootstrap", address, "--until-idle", "1"],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert address in complaint(done, UNREACHABLE)
