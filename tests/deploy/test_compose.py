"""docker-compose.yml and deploy/Dockerfile: what they promise without a container engine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from streams.kafka.local_broker import _PROPERTIES, KAFKA_VERSION

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict = COMPOSE["services"]


def test_compose_itself_accepts_the_file():
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose plugin")
    checked = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_of_one_version(name):
    assert re.search(r":\d+\.\d+\.\d+$", SERVICES[name]["image"])


def test_everywhere_it_is_the_same_kafka():
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert f"<kafka.version>{KAFKA_VERSION}</kafka.version>" in (ROOT / "deploy/kafka/pom.xml").read_text()


def test_the_node_is_set_up_like_the_local_one():
    environment = SERVICES["kafka"]["environment"]
    for name in (
        "auto.create.topics.enable",
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "message.max.bytes",
        "replica.fetch.max.bytes",
    ):
        assert environment["KAFKA_" + name.upper().replace(".", "_")] == _PROPERTIES[name]


def test_the_worker_waits_for_the_topics_and_they_for_kafka():
    assert SERVICES["init"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["init"]["command"] == ["topics", "apply"]
    assert SERVICES["worker"]["depends_on"]["init"] == {"condition": "service_completed_successfully"}
    assert "healthcheck" in SERVICES["kafka"]


def test_every_service_comes_back_but_the_one_that_is_done():
    assert {name for name, service in SERVICES.items() if service["restart"] != "unless-stopped"} == {"init"}


def test_the_spool_outlives_its_container():
    assert SERVICES["gateway"]["volumes"] == ["spool:/var/lib/parcels"]
    assert "spool" in COMPOSE["volumes"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "kafka"])
def test_our_containers_may_do_little(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["init"]


def test_the_image_installs_by_hash_and_is_nobody():
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["', dockerfile, re.MULTILINE)


def test_the_image_has_the_versions_that_the_tests_ran_with():
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    assert versions("deploy/requirements.lock") < versions("requirements.lock")
