"""Installations for the fault tests; the seed of each is that of its module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.errors import Misconfigured
from streams.kafka.local_broker import free_port
from streams.kafka.settings import KafkaSettings
from tests.conftest import unable
from tests.faults.harness import Broker, Chronicle, Installation


@pytest.fixture
def installation(settings: KafkaSettings, tmp_path: Path, request: pytest.FixtureRequest) -> Installation:
    """Topics of two partitions on the broker that all tests share."""
    made = Installation(settings, tmp_path, Chronicle(request.module.SEED))
    made.create_topics(2)
    return made


@pytest.fixture
def own_broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Installation, Broker]]:
    """Topics of two partitions on a broker that can be stopped."""
    chronicle = Chronicle(request.module.SEED)
    try:
        broker = Broker(tmp_path / "broker", free_port(), chronicle)
    except Misconfigured as error:
        unable(f"no broker that can be stopped: {error}")
    try:
        made = Installation(KafkaSettings(bootstrap=broker.bootstrap), tmp_path, chronicle)
        made.create_topics(2)
        yield made, broker
    finally:
        broker.close()
