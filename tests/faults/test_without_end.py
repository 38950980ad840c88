"""Records that a broker's crash left without an end count: they become visible with the next commit.

Such a crash cannot be had at will. What it leaves looks like a transaction that nobody ends, and that can.
"""

import time

import pytest
from confluent_kafka import Producer

from streams.domain.promises import Promises
from streams.pipeline import topics
from streams.pipeline.clients import producer
from streams.pipeline.parcel_stage import ParcelStage
from streams.pipeline.position import Position, read_position
from streams.pipeline.restorer import restore
from streams.pipeline.settings import Settings
from streams.pipeline.stages import stage_kind
from streams.pipeline.transaction import Claim, PartitionWriter
from streams.pipeline.warm import _SCAN, _record

PLACE = {"site": "LGG", "station": "UNL-01"}


@pytest.fixture
def sender(settings: Settings) -> Producer:
    topics.apply(settings, topics.plan(settings, 1))
    made = producer(settings, transactional_id=f"{settings.prefix}test")
    made.init_transactions(30)
    return made


def begin_batch(settings: Settings, sender: Producer, parcel_id: str, position: int) -> None:
    """A transaction with a state and a position, not ended, but in the log."""
    scan = _record("Scan", {**_SCAN, **PLACE, "parcel_id": parcel_id})
    (key, value), *_ = ParcelStage(partition=0, partitions=1).run([scan]).states
    sender.begin_transaction()
    sender.produce(settings.prefix + topics.STATE, value, key, 0)
    sender.produce(settings.prefix + topics.STATE, Position(position, None).encoded(), topics.POSITION_KEY, 0)
    assert sender.flush(30) == 0


class Fenced(PartitionWriter):
    """A writer whose partition is fenced already; another id than the test's, which must stay as it is."""

    def fence(self) -> None:
        self.beat = time.monotonic()


def parcels_restored(settings: Settings) -> tuple[int, int | None]:
    claim = Claim(lambda: 0)
    kind = stage_kind("parcels", Promises.default())
    restored = restore(settings, kind, 0, 1, claim, Fenced(settings, kind, 0, claim, lambda _: None))
    return restored.stage.tell_restored(0, 0, 0.0, 0).parcels, restored.position and restored.position.next_offset


def test_they_count_until_they_are_aborted(settings: Settings, sender: Producer) -> None:
    begin_batch(settings, sender, "LP1", 5)
    assert read_position(settings, 0) == Position(5, None)
    assert parcels_restored(settings) == (1, 5)
    sender.commit_transaction(30)
    assert read_position(settings, 0) == Position(5, None)
    assert parcels_restored(settings) == (1, 5)

    begin_batch(settings, sender, "LP2", 9)
    assert read_position(settings, 0) == Position(9, None)
    assert parcels_restored(settings) == (2, 9)

    sender.abort_transaction(30)
    assert read_position(settings, 0) == Position(5, None)
    assert parcels_restored(settings) == (1, 5)
