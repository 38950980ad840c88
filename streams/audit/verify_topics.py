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
    """Compare the records that workers wrote with the truth.

    Raises:
        Misconfigured: the topics do not exist.
        StreamsError: the broker does not answer.
    """
    partitions = check_topics(settings)
    report = VerificationReport()
    states = StateVerifier(partitions)
    states.add(_records(read_to_end(settings, settings.prefix + PARCEL_STATE_TOPIC)))
    evidence = ParcelRecordIndex()
    evidence.mark_retired(states.retired)
    report.differences = compare_states(truth["parcels"], states.decode_states(), evidence)
    report.differences += states.differences
    report.parcels = len(states.latest)
    milestones = MilestoneVerifier(report, evidence)
    milestones.add(_records_with_value(settings, MILESTONES_TOPIC))
    milestones.compare(truth["parcels"])
    alerts = AlertVerifier(report)
    alerts.add(_records_with_value(settings, ALERTS_TOPIC))
    if truth.get("has_container_events"):
        alerts.compare_active(truth["parcels"])
        _verify_containers(settings, truth, states.positions, report)
    else:
        alerts.compare(truth["parcels"])
        report.lag = _input_lag(settings, states.positions, partitions)
    # Older truth files have no throughput.
    if "throughput" in truth:
        throughput = ThroughputVerifier(report)
        throughput.add(_records_with_value(settings, THROUGHPUT_TOPIC))
        throughput.compare(truth["throughput"])
    expected = {
        settings.prefix + SCANS_TOPIC: truth["dead_letters"],
        # Older truth files have no dead letters of hub.containers.
        settings.prefix + CONTAINERS_TOPIC: truth.get("container_dead_letters", {}),
    }
    compare_dead_letters(expected, read_dead_letters(settings), report)
    return report


def _verify_containers(
    settings: KafkaSettings, truth: Mapping[str, Any], positions: Mapping[int, int], report: VerificationReport
) -> None:
    container_offsets, pending = container_positions(
        _records(read_to_end(settings, settings.prefix + CONTAINER_STATE_TOPIC))
    )
    report.container_lag = pending
    containers = ContainerVerifier(report)
    events = _records(read_to_end(settings, settings.prefix + CONTAINERS_TOPIC))
    containers.add_events(_count_unprocessed(events, container_offsets, report.container_lag))
    scans = _records(read_to_end(settings, settings.prefix + SCANS_TOPIC))
    containers.add_scans(_count_unprocessed(scans, positions, report.lag))
    containers.compare()
    report.unsettled_partitions = containers.unsettled_partitions(truth["final_hub_time"])
    report.settled_at = datetime.fromtimestamp(truth["final_hub_time"] / 1000, UTC).isoformat()


def _count_unprocessed(
    records: Iterable[LogRecord], positions: Mapping[int, int], unprocessed: dict[int, int]
) -> Iterator[LogRecord]:
    """Count records beyond their partition's position; offsets alone would count transaction markers as well."""
    for record in records:
        _, _, partition, offset = record
        if offset >= positions.get(partition, 0):
            unprocessed[partition] = unprocessed.get(partition, 0) + 1
        yield record


def _records_with_value(settings: KafkaSettings, topic: str) -> Iterator[LogRecord]:
    """Records with a value. One without is written only to end a hanging transaction."""
    return (record for record in _records(read_to_end(settings, settings.prefix + topic)) if record[1] is not None)


def _records(messages: Iterable[Message]) -> Iterator[LogRecord]:
    for message in messages:
        yield message.key(), message.value(), cast(int, message.partition()), cast(int, message.offset())


def _input_lag(settings: KafkaSettings, positions: Mapping[int, int], partitions: int) -> dict[int, int]:
    """Partition -> records of hub.scans beyond the position; only partitions that have some."""
    reader = new_consumer(settings, "reader")
    try:
        topic = settings.prefix + SCANS_TOPIC
        deadline = time.monotonic() + 10
        ends = {p: watermark_offsets(reader, TopicPartition(topic, p), deadline) for p in range(partitions)}
    finally:
        reader.close()
    return {p: high - positions.get(p, low) for p, (low, high) in ends.items() if high > positions.get(p, low)}
