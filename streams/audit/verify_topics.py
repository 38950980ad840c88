"""`parcels verify`: the checks of streams/audit/verify.py over the topics of a cluster."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from confluent_kafka import Message, TopicPartition

from streams.audit.verify import Evidence, Record, Report, States, compare_dead_letters, compare_states
from streams.audit.verify_alerts import Alerts
from streams.audit.verify_containers import Containers, container_positions
from streams.audit.verify_milestones import Milestones
from streams.audit.verify_throughput import Throughput
from streams.formats.topics import ALERTS, CONTAINER_STATE, CONTAINERS, MILESTONES, SCANS, STATE, THROUGHPUT
from streams.kafka.clients import bounds, consumer, read_to_end
from streams.kafka.dead_letters import read_dead_letters
from streams.kafka.settings import Settings
from streams.kafka.topic_admin import check


def verify(settings: Settings, truth: Mapping[str, Any]) -> Report:
    """Compare what the workers wrote with the truth.

    Raises:
        Misconfigured: the topics are not there.
        StreamsError: the broker does not answer.
    """
    partitions = check(settings)
    report = Report()
    states = States(partitions)
    states.add(_records(read_to_end(settings, settings.prefix + STATE)))
    evidence = Evidence()
    evidence.retire(states.retired)
    report.differences = compare_states(truth["parcels"], states.decoded(), evidence)
    report.differences += states.differences
    report.parcels = len(states.newest)
    milestones = Milestones(report, evidence)
    milestones.add(_told(settings, MILESTONES))
    milestones.compare(truth["parcels"])
    alerts = Alerts(report)
    alerts.add(_told(settings, ALERTS))
    if truth.get("containers"):
        alerts.compare_standing(truth["parcels"])
        _verify_containers(settings, truth, states.positions, report)
    else:
        alerts.compare(truth["parcels"])
        report.behind = _behind(settings, states.positions, partitions)
    # A truth file of a time before it had this says nothing of it.
    if "throughput" in truth:
        throughput = Throughput(report)
        throughput.add(_told(settings, THROUGHPUT))
        throughput.compare(truth["throughput"])
    expected = {
        settings.prefix + SCANS: truth["dead_letters"],
        # A truth file of a time before it had these says nothing of them.
        settings.prefix + CONTAINERS: truth.get("container_dead_letters", {}),
    }
    compare_dead_letters(expected, read_dead_letters(settings), report)
    return report


def _verify_containers(
    settings: Settings, truth: Mapping[str, Any], positions: Mapping[int, int], report: Report
) -> None:
    handed_on_to, left = container_positions(_records(read_to_end(settings, settings.prefix + CONTAINER_STATE)))
    report.containers_behind = left
    containers = Containers(report)
    events = _records(read_to_end(settings, settings.prefix + CONTAINERS))
    containers.add_events(_counting(events, handed_on_to, report.containers_behind))
    scans = _records(read_to_end(settings, settings.prefix + SCANS))
    containers.add_scans(_counting(scans, positions, report.behind))
    containers.compare()
    report.unsettled = containers.unsettled(truth["settled"])
    report.settled = datetime.fromtimestamp(truth["settled"] / 1000, UTC).isoformat()


def _counting(records: Iterable[Record], positions: Mapping[int, int], beyond: dict[int, int]) -> Iterator[Record]:
    """Count those beyond their partition's position: the end of a log that is written in transactions says less."""
    for record in records:
        _, _, partition, offset = record
        if offset >= positions.get(partition, 0):
            beyond[partition] = beyond.get(partition, 0) + 1
        yield record


def _told(settings: Settings, topic: str) -> Iterator[Record]:
    """Records with a value: one without says nothing, and ends what a broker forgot to end."""
    return (record for record in _records(read_to_end(settings, settings.prefix + topic)) if record[1] is not None)


def _records(messages: Iterable[Message]) -> Iterator[Record]:
    for message in messages:
        yield message.key(), message.value(), cast(int, message.partition()), cast(int, message.offset())


def _behind(settings: Settings, positions: Mapping[int, int], partitions: int) -> dict[int, int]:
    """Partition -> records of hub.scans beyond the position; only partitions that are behind."""
    reader = consumer(settings, "reader")
    try:
        topic = settings.prefix + SCANS
        deadline = time.monotonic() + 10
        ends = {p: bounds(reader, TopicPartition(topic, p), deadline) for p in range(partitions)}
    finally:
        reader.close()
    return {p: high - positions.get(p, low) for p, (low, high) in ends.items() if high > positions.get(p, low)}
