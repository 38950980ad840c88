"""`parcels verify`: the checks of streams/audit/verify.py over the topics of a cluster."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from confluent_kafka import Message, TopicPartition

from streams.audit.verify import (
    LogRecord,
    ParcelRecordIndex,
    StateVerifier,
    VerificationReport,
    compare_dead_letters,
    compare_states,
)
from streams.audit.verify_alerts import AlertVerifier
from streams.audit.verify_containers import ContainerVerifier, container_positions
from streams.audit.verify_milestones import MilestoneVerifier
from streams.audit.verify_throughput import ThroughputVerifier
from streams.formats.topics import (
    ALERTS_TOPIC,
    CONTAINER_STATE_TOPIC,
    CONTAINERS_TOPIC,
    MILESTONES_TOPIC,
    PARCEL_STATE_TOPIC,
    SCANS_TOPIC,
    THROUGHPUT_TOPIC,
)
from streams.kafka.clients import new_consumer
from streams.kafka.dead_letters import read_dead_letters
from streams.kafka.reader import read_to_end, watermark_offsets
from streams.kafka.settings import KafkaSettings
from streams.kafka.topic_admin import check_topics


def verify(settings: KafkaSettings, truth: Mapping[str, Any]) -> VerificationReport:
    """Compare what the workers wrote with the truth.

    Raises:
        Misconfigured: the topics are not there.
        StreamsError: the broker does not answer.
    """
    partitions = check_topics(settings)
    report = VerificationReport()
    states = StateVerifier(partitions)
    states.add(_records(read_to_end(settings, settings.prefix + PARCEL_STATE_TOPIC)))
    evidence = ParcelRecordIndex()
    evidence.retire(states.retired)
    report.differences = compare_states(truth["parcels"], states.decoded(), evidence)
    report.differences += states.differences
    report.parcels = len(states.latest)
    milestones = MilestoneVerifier(report, evidence)
    milestones.add(_told(settings, MILESTONES_TOPIC))
    milestones.compare(truth["parcels"])
    alerts = AlertVerifier(report)
    alerts.add(_told(settings, ALERTS_TOPIC))
    if truth.get("containers"):
        alerts.compare_active(truth["parcels"])
        _verify_containers(settings, truth, states.positions, report)
    else:
        alerts.compare(truth["parcels"])
        report.behind = _behind(settings, states.positions, partitions)
    # A truth file of a time before it had this says nothing of it.
    if "throughput" in truth:
        throughput = ThroughputVerifier(report)
        throughput.add(_told(settings, THROUGHPUT_TOPIC))
        throughput.compare(truth["throughput"])
    expected = {
        settings.prefix + SCANS_TOPIC: truth["dead_letters"],
        # A truth file of a time before it had these says nothing of them.
        settings.prefix + CONTAINERS_TOPIC: truth.get("container_dead_letters", {}),
    }
    compare_dead_letters(expected, read_dead_letters(settings), report)
    return report


def _verify_containers(
    settings: KafkaSettings, truth: Mapping[str, Any], positions: Mapping[int, int], report: VerificationReport
) -> None:
    handed_on_to, left = container_positions(_records(read_to_end(settings, settings.prefix + CONTAINER_STATE_TOPIC)))
    report.container_lag = left
    containers = ContainerVerifier(report)
    events = _records(read_to_end(settings, settings.prefix + CONTAINERS_TOPIC))
    containers.add_events(_counting(events, handed_on_to, report.container_lag))
    scans = _records(read_to_end(settings, settings.prefix + SCANS_TOPIC))
    containers.add_scans(_counting(scans, positions, report.behind))
    containers.compare()
    report.unsettled_partitions = containers.unsettled_partitions(truth["settled"])
    report.settled_at = datetime.fromtimestamp(truth["settled"] / 1000, UTC).isoformat()


def _counting(
    records: Iterable[LogRecord], positions: Mapping[int, int], beyond: dict[int, int]
) -> Iterator[LogRecord]:
    """Count those beyond their partition's position: the end of a log that is written in transactions says less."""
    for record in records:
        _, _, partition, offset = record
        if offset >= positions.get(partition, 0):
            beyond[partition] = beyond.get(partition, 0) + 1
        yield record


def _told(settings: KafkaSettings, topic: str) -> Iterator[LogRecord]:
    """Records with a value: one without says nothing, and ends what a broker forgot to end."""
    return (record for record in _records(read_to_end(settings, settings.prefix + topic)) if record[1] is not None)


def _records(messages: Iterable[Message]) -> Iterator[LogRecord]:
    for message in messages:
        yield message.key(), message.value(), cast(int, message.partition()), cast(int, message.offset())


def _behind(settings: KafkaSettings, positions: Mapping[int, int], partitions: int) -> dict[int, int]:
    """Partition -> records of hub.scans beyond the position; only partitions that are behind."""
    reader = new_consumer(settings, "reader")
    try:
        topic = settings.prefix + SCANS_TOPIC
        deadline = time.monotonic() + 10
        ends = {p: watermark_offsets(reader, TopicPartition(topic, p), deadline) for p in range(partitions)}
    finally:
        reader.close()
    return {p: high - positions.get(p, low) for p, (low, high) in ends.items() if high > positions.get(p, low)}
