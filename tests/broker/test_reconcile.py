"""Records that a crash of the broker lost are found by folding the log again, and sent again with the same bytes."""

import json

import pytest

from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.formats.topics import (
    ALERTS_TOPIC,
    MILESTONES_TOPIC,
    PARCEL_STATE_TOPIC,
    POSITION_KEY,
    SCANS_TOPIC,
    partition_of,
)
from streams.kafka.clients import new_producer
from streams.kafka.reader import read_to_end
from streams.kafka.topic_admin import apply_topics, plan_topics
from streams.processors.parcel_processor import ParcelProcessor
from tests.formats.avro import framed, scan

HOUR = 3_600_000
MORNING = 1_772_355_600_000
PARCELS = [f"P{number}" for number in range(40)]


def values_of(partition):
    """Scans of a partition: every parcel arrives, and is not unloaded in time."""
    own = [parcel for parcel in PARCELS if partition_of(parcel.encode(), 4) == partition]
    arrived = [framed("Scan", scan(f"{parcel}-1", parcel, "ARRIVED", event_time=MORNING)) for parcel in own]
    late = [framed("Scan", scan(f"{parcel}-2", parcel, "UNLOADED", event_time=MORNING + 5 * HOUR)) for parcel in own]
    ticks = [framed("Tick", {"hub_time": MORNING + hour * HOUR, "producer": "c"}) for hour in (1, 4)]
    return [*arrived, *ticks, *late]


@pytest.fixture
def told(settings):
    """A log and the outputs of a worker, without one milestone and two alerts; returns these."""
    apply_topics(settings, plan_topics(settings))
    sender = new_producer(settings)
    lost = {MILESTONES_TOPIC: [], ALERTS_TOPIC: []}
    for partition in range(4):
        values = values_of(partition)
        for value in values:
            sender.produce(settings.prefix + SCANS_TOPIC, value, partition=partition)
        stage = ParcelProcessor(partition, 4)
        made = stage.run(values)
        position = PartitionPosition(len(values), stage.table.hub_time, stage.promises.digest())
        dropped = {
            MILESTONES_TOPIC: {3} if partition == 1 else set(),
            ALERTS_TOPIC: {0, 2} if partition == 2 else set(),
        }
        for topic, block in (
            (PARCEL_STATE_TOPIC, made.states),
            (MILESTONES_TOPIC, made.milestones),
            (ALERTS_TOPIC, made.alerts),
        ):
            for number, record in enumerate(block):
                if number in dropped.get(topic, ()):
                    lost[topic].append(record)
                else:
                    sender.produce(settings.prefix + topic, record[1], record[0], partition)
        sender.produce(settings.prefix + PARCEL_STATE_TOPIC, position.encode(), POSITION_KEY, partition)
    assert sender.flush(30) == 0
    assert [len(records) for records in lost.values()] == [1, 2]
    return lost


def reconciled(parcels, *options):
    ended = parcels("reconcile", "--json", *options)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_missing_records_are_found_and_sent(told, settings, parcels):
    code, report = reconciled(parcels)
    assert (code, report["ok"], report["sent"]) == (1, False, 0)
    keys = ("missing", "unexpected", "duplicated")
    counts = {topic: tuple(each[key] for key in keys) for topic, each in report["topics"].items()}
    assert counts == {MILESTONES_TOPIC: (1, 0, 0), ALERTS_TOPIC: (2, 0, 0)}
    assert report["topics"][MILESTONES_TOPIC]["expected"] == 2 * len(PARCELS)
    code, report = reconciled(parcels, "--send")
    assert (code, report["ok"], report["sent"]) == (0, True, 3)
    code, report = reconciled(parcels)
    assert (code, report["ok"]) == (0, True)
    for topic, records in told.items():
        held = [(message.key(), message.value()) for message in read_to_end(settings, settings.prefix + topic)]
        assert all(held.count(record) == 1 for record in records)


def test_duplicates_and_records_without_a_reason_are_found(told, settings, parcels):
    reconciled(parcels, "--send")
    messages = list(read_to_end(settings, settings.prefix + ALERTS_TOPIC))
    sender = new_producer(settings)
    topic = settings.prefix + ALERTS_TOPIC
    sender.produce(topic, messages[0].value(), messages[0].key(), messages[0].partition())
    invented = RecordBlock.from_records(
        [(messages[1].key(), messages[1].value()[:5] + bytes(16) + messages[1].value()[21:])]
    )
    sender.produce(topic, invented[0][1], invented[0][0], messages[1].partition())
    assert sender.flush(30) == 0
    code, report = reconciled(parcels)
    assert code == 1
    alerts = report["topics"][ALERTS_TOPIC]
    assert (alerts["missing"], alerts["unexpected"], alerts["duplicated"]) == (0, 1, 1)
    assert "1 unexpected, 1 duplicated" in parcels("reconcile").stdout


def test_other_promises_are_refused(told, parcels, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("promises: []\n")
    ended = parcels("reconcile", "--promises", str(path))
    assert ended.returncode == 2
    assert "evaluates other promises" in ended.stderr
