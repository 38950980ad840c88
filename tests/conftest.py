"""A real broker for the tests that need one, and what they share.

PARCELS_TEST_BROKER says which: `external` (KAFKA_BOOTSTRAP_SERVERS), `docker` (the apache/kafka image), `local` (Java
and Kafka's jars, from `make setup`). Unset: the first of these that can be had, in this order. Without any, the tests
are skipped with the reason; where CI is set they fail.
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


def unable(why: str) -> NoReturn:
    """This test cannot be run here: told to a user, not accepted in CI."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


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
    """A container of the apache/kafka image, where an engine answers and the image is there."""
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
    """A broker of our own, with Java and Kafka's jars, in a folder that goes away."""
    node = LocalBroker(folder / "broker", free_port())
    try:
        yield node.start()
    finally:
        node.stop()


WAYS = {"external": external_broker, "docker": docker_broker, "local": local_broker}


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real broker for the whole test session."""
    forced = os.environ.get("PARCELS_TEST_BROKER")
    if forced and forced not in WAYS:
        pytest.fail(f"PARCELS_TEST_BROKER={forced!r} must be one of {', '.join(WAYS)}")
    reasons = []
    with ExitStack() as stack:
        for name in [forced] if forced else list(WAYS):
            try:
                bootstrap = stack.enter_context(WAYS[name](tmp_path_factory.mktemp("kafka")))
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
    """Settings of an installation that shares the broker with no other test."""
    return KafkaSettings(bootstrap=broker, prefix=f"t{uuid.uuid4().hex[:10]}.")


def run_cli(
    *args: str, check: bool = False, environment: dict[str, str] | None = None, **options
) -> subprocess.CompletedProcess[str]:
    """Run the `parcels` command line as a process of its own; stdout and stderr are text."""
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    options = {"capture_output": True, "text": True, "timeout": 120, "env": here | (environment or {})} | options
    return subprocess.run([sys.executable, "-m", "streams.cli", *args], check=check, **options)


@pytest.fixture
def parcels(settings: KafkaSettings) -> Cli:
    """`parcels(*args)` on the test's own topics: `run_cli` with the address and the prefix in its environment."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap, "PARCELS_PREFIX": settings.prefix}

    def parcels(*args: str, **options) -> subprocess.CompletedProcess[str]:
        return run_cli(*args, environment=environment | options.pop("environment", {}), **options)

    return parcels
