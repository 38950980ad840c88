"""`parcels broker` waits, can be called twice, keeps its data, and stops only its own process."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.errors import Misconfigured
from streams.kafka.local_broker import LocalBroker, free_port, jars_folder, new_cluster_id, wait_until_reachable
from tests.conftest import run_cli

needs_jars = pytest.mark.skipif(
    not list(jars_folder().glob("kafka_2.13-*.jar")) and not os.environ.get("CI"),
    reason='no jars of Kafka; "make setup" fetches them',
)


def status(folder: Path) -> dict:
    return json.loads(run_cli("broker", "status", "--data", str(folder), "--json").stdout)


@pytest.fixture
def node(tmp_path):
    node = LocalBroker(tmp_path / "node", free_port())
    yield node
    node.stop()


@needs_jars
def has_ended(process):
    """Whether a process has ended; a zombie, which its parent has not waited for, has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_broker_is_up_twice_keeps_its_data_and_goes_down(node):
    up = ("broker", "up", "--data", str(node.folder), "--port", str(node.port))
    first = run_cli(*up)
    assert (first.returncode, first.stdout, first.stderr) == (0, f"127.0.0.1:{node.port}\n", "")
    process = status(node.folder)["pid"]
    assert run_cli(*up).stdout == first.stdout
    assert status(node.folder) == {
        "running": True,
        "reachable": True,
        "bootstrap": f"127.0.0.1:{node.port}",
        "pid": process,
        "data": str(node.folder),
    }

    write(node, b"kept")
    assert run_cli("broker", "down", "--data", str(node.folder)).stdout == "stopped\n"
    assert status(node.folder)["running"] is False
    assert has_ended(process)

    elsewhere = free_port()
    assert run_cli(*up[:-1], str(elsewhere)).stdout == f"127.0.0.1:{elsewhere}\n"
    assert read(f"127.0.0.1:{elsewhere}") == b"kept"

    here = ("--data", str(node.folder), "--port")
    assert run_cli("broker", "status", *here, str(elsewhere)).returncode == 0
    for command in ("status", "down"):
        refused = run_cli("broker", command, *here, str(node.port))
        assert refused.returncode == 2
        assert f"runs on port {elsewhere}, not on {node.port}" in refused.stderr

    other = run_cli(*up)
    assert other.returncode == 2
    assert f"already runs on port {elsewhere}" in other.stderr
    assert run_cli("broker", "down", *here, str(elsewhere)).stdout == "stopped\n"


def write(node: LocalBroker, value: bytes) -> None:
    bootstrap = f"127.0.0.1:{node.port}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("kept", 1)])["kept"].result(30)
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("kept", value)
    assert producer.flush(30) == 0


def read(bootstrap: str) -> bytes:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "any", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition("kept", 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    return message.value()


@needs_jars
def test_down_leaves_another_process_with_the_old_process_id_alone(node):
    node.folder.mkdir()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (node.folder / "broker.lock").write_text(json.dumps({"pid": stranger.pid, "port": node.port}))
        assert run_cli("broker", "down", "--data", str(node.folder)).stdout == f"no broker runs in {node.folder}\n"
        assert stranger.poll() is None
        assert run_cli("broker", "status", "--data", str(node.folder)).returncode == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_a_port_that_is_taken_is_named(tmp_path, monkeypatch):
    with_java(tmp_path, monkeypatch, "17.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured, match=f"port {port} is taken by another program.*--port"):
            LocalBroker(tmp_path / "node", port).start()


def test_without_java_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = run_cli("broker", "up", "--data", str(tmp_path / "node"))
    assert refused.returncode == 2
    assert refused.stderr == "parcels: there is no java on the PATH: install Java 17 or later, or set JAVA_HOME\n"


@pytest.mark.parametrize(("version", "java_version"), [("1.8.0_392", "8"), ("11.0.2", "11"), ("16-ea", "16")])
def test_an_old_java_is_refused(tmp_path, monkeypatch, version, java_version):
    with_java(tmp_path, monkeypatch, version)
    with pytest.raises(Misconfigured, match=f"is Java {java_version}, but Kafka .* needs 17 or later"):
        LocalBroker(tmp_path / "node", free_port()).start()


def test_missing_jars_are_named(tmp_path, monkeypatch):
    with_java(tmp_path, monkeypatch, "17.0.1")
    monkeypatch.setenv("PARCELS_KAFKA_LIBS", str(tmp_path / "nowhere"))
    with pytest.raises(Misconfigured, match=f'are not in {tmp_path}/nowhere: run "make setup"'):
        LocalBroker(tmp_path / "node", free_port()).start()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"the folder .*/file/node cannot be written"):
        LocalBroker(tmp_path / "file" / "node", free_port()).start()


@needs_jars
def test_a_broker_that_dies_while_starting_shows_its_log(node):
    (node.folder / "log").mkdir(parents=True)
    (node.folder / "log" / "meta.properties").write_text("version=1\nnode.id=99\ncluster.id=nonsense\n")
    refused = run_cli("broker", "up", "--data", str(node.folder), "--port", str(node.port))
    assert refused.returncode == 3
    assert "the broker's process ended. The end of its log:" in refused.stderr
    assert "99" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.smoke
def test_the_broker_of_these_tests_answers(broker):
    wait_until_reachable(broker, seconds=10)


def with_java(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Put a fake `java` of `version` on the path, and a folder of jars that looks complete."""
    (folder / "jars").mkdir()
    (folder / "jars" / "kafka_2.13-4.3.1.jar").touch()
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(java.parent), prepend=os.pathsep)
    monkeypatch.setenv("PARCELS_KAFKA_LIBS", str(folder / "jars"))


def test_no_cluster_id_looks_like_an_option():
    ids = {new_cluster_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert not any(each.startswith("-") for each in ids)
