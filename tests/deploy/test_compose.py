"""Properties of docker-compose.yml and deploy/Dockerfile that can be checked without a container engine."""

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


def test_docker_compose_accepts_the_file():
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose plugin")
    checked = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_the_loopback_interface_only(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_a_fixed_version(name):
    assert re.search(r":\d+\.\d+\.\d+$", SERVICES[name]["image"])


def test_compose_and_pom_use_the_same_kafka_version():
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert f"<kafka.version>{KAFKA_VERSION}</kafka.version>" in (ROOT / "deploy/kafka/pom.xml").read_text()


def test_the_kafka_node_is_configured_like_the_local_broker():
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


def test_the_worker_waits_for_the_topics_which_wait_for_kafka():
    assert SERVICES["init"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["init"]["command"] == ["topics", "apply"]
    assert SERVICES["worker"]["depends_on"]["init"] == {"condition": "service_completed_successfully"}
    assert "healthcheck" in SERVICES["kafka"]


def test_every_service_restarts_except_init():
    assert {name for name, service in SERVICES.items() if service["restart"] != "unless-stopped"} == {"init"}


def test_the_spool_outlives_its_container():
    assert SERVICES["gateway"]["volumes"] == ["spool:/var/lib/parcels"]
    assert "spool" in COMPOSE["volumes"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "kafka"])
def test_our_containers_have_no_capabilities(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["init"]


def test_the_image_installs_by_hash_and_runs_without_root():
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["', dockerfile, re.MULTILINE)


def test_the_image_has_the_tested_versions():
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    assert versions("deploy/requirements.lock") < versions("requirements.lock")
