"""Fixtures: a real broker, settings of an installation of its own, and the command line.

PARCELS_TEST_BROKER selects the broker: `external` (KAFKA_BOOTSTRAP_SERVERS), `docker` (the apache/kafka image) or
`local` (Java and Kafka's jars, from `make setup`). Unset: the first of these that is available. Without any, the tests
are skipped with the reason; if CI is set, they fail.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from streams.errors import StreamsError
from streams.kafka.local_broker import LocalBroker, free_port, wait_until_reachable
from streams.kafka.settings import KafkaSettings

Cli = Callable[..., subprocess.CompletedProcess[str]]


def unable(reason: str) -> NoReturn:
    """Skip a test that cannot run here; in CI, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def external_broker(_: Path) -> Iterator[str]:
    """The cluster that KAFKA_BOOTSTRAP_SERVERS names."""
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if not bootstrap:
        raise StreamsError("KAFKA_BOOTSTRAP_SERVERS is not set")
    wait_until_reachable(bootstrap, seconds=10)
    yield bootstrap


@contextmanager
def docker_broker(_: Path) -> Iterator[str]:
    """A container of the apache/kafka image, if a Docker engine answers and has the image."""
    import docker
    from docker.errors import DockerException

    from tests.containers import IMAGE, KafkaContainer

    try:
        engine = docker.from_env(timeout=10)
        engine.ping()
        if not engine.images.list(name=IMAGE):
            raise StreamsError(f"the image {IMAGE} is not there: docker pull {IMAGE}")
    except DockerException as error:
        raise StreamsError(f"no Docker engine answers: {error}") from error
    with KafkaContainer() as container:
        wait_until_reachable(container.bootstrap, seconds=90)
        yield container.bootstrap


@contextmanager
def local_broker(folder: Path) -> Iterator[str]:
    """A broker as a process, with Java and Kafka's jars, in a temporary folder."""
    local = LocalBroker(folder / "broker", free_port())
    try:
        yield local.start()
    finally:
        local.stop()


BROKERS = {"external": external_broker, "docker": docker_broker, "local": local_broker}


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real broker for the whole test session."""
    forced = os.environ.get("PARCELS_TEST_BROKER")
    if forced and forced not in BROKERS:
        pytest.fail(f"PARCELS_TEST_BROKER={forced!r} must be one of {', '.join(BROKERS)}")
    reasons = []
    with ExitStack() as stack:
        for name in [forced] if forced else list(BROKERS):
            try:
                bootstrap = stack.enter_context(BROKERS[name](tmp_path_factory.mktemp("kafka")))
            except StreamsError as error:
                reasons.append(f"{name}: {error}")
            else:
                break
        else:
            reason = "no broker to test with. " + "; ".join(reasons)
            unable(reason)
        yield bootstrap


@pytest.fixture
def settings(broker: str) -> KafkaSettings:
    """Settings with a prefix of its own, so that tests share no topics."""
    return KafkaSettings(bootstrap=broker, prefix=f"t{uuid.uuid4().hex[:10]}.")


def run_cli(
    *args: str, check: bool = False, environment: dict[str, str] | None = None, **options
) -> subprocess.CompletedProcess[str]:
    """Run the `parcels` command line as a process; stdout and stderr are text."""
    base_environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    options = {
        "capture_output": True,
        "text": True,
        "timeout": 120,
        "env": base_environment | (environment or {}),
    } | options
    return subprocess.run([sys.executable, "-m", "streams.cli", *args], check=check, **options)


@pytest.fixture
def parcels(settings: KafkaSettings) -> Cli:
    """`parcels(*args)` on the test's own topics: `run_cli` with address and prefix in its environment."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap, "PARCELS_PREFIX": settings.prefix}

    def parcels(*args: str, **options) -> subprocess.CompletedProcess[str]:
        return run_cli(*args, environment=environment | options.pop("environment", {}), **options)

    return parcels
