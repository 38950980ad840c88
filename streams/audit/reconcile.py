"""Reconciliation: the log is folded again beside the live system, and the milestones and alerts are compared.

A broker that crashes may keep one topic's part of a transaction and lose another's. State and position share a
partition, so the worker continues correctly, but a milestone may be lost. Its id is a hash of its content. Folding the
log again finds the missing record, which can then be sent with the same bytes.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from streams.audit.refold import Refold
from streams.domain.promises import Promises
from streams.errors import Misconfigured, StreamsError
from streams.formats.record_block import KeyValue
from streams.formats.record_decoder import RecordDecoder
from streams.formats.topics import ALERTS_TOPIC, MILESTONES_TOPIC, SCANS_TOPIC
from streams.kafka.clients import new_producer
from streams.kafka.reader import read_offset_range, read_to_end
from streams.kafka.settings import KafkaSettings
from streams.kafka.topic_admin import check_topics
from streams.worker.position_reader import read_position

_SECONDS: Final = 20.0
# Topics whose records begin with an id that is a hash of the content -> their schemas.
_RECORDS: Final = {MILESTONES_TOPIC: "Milestone", ALERTS_TOPIC: "Alert"}


@dataclass(slots=True)
class TopicReconciliation:
    """Comparison of one topic with the records that the log leads to."""

    expected: int = 0
    # Records that the topic lacks, by partition.
    missing: dict[int, list[KeyValue]] = field(default_factory=dict)
    # Ids in the topic that the log does not lead to; and repetitions of ids.
    extra: int = 0
    duplicates: int = 0

    @property
    def missing_records(self) -> int:
        """How many records the topic lacks."""
        return sum(map(len, self.missing.values()))


def reconcile(
    settings: KafkaSettings, promises: Promises, progress: Callable[[int, int], None]
) -> dict[str, TopicReconciliation]:
    """Fold hub.scans again and compare. It may run beside workers, and writes nothing.

    Args:
        settings: the cluster.
        promises: those that the workers evaluate.
        progress: called with the partition and the number of its records folded, after each batch.

    Returns:
        Topic without its prefix -> its comparison.

    Raises:
        Misconfigured: the topics do not fit, or the workers evaluate other promises.
        StreamsError: the broker does not answer, or the first records of the log are not there any more.
    """
    partitions = check_topics(settings)
    reconciliations = {topic: TopicReconciliation() for topic in _RECORDS}
    for partition in range(partitions):
        _reconcile(settings, partition, partitions, promises, reconciliations, progress)
    return reconciliations


def send_missing(settings: KafkaSettings, reconciliations: dict[str, TopicReconciliation]) -> int:
    """Send the missing records, with their original bytes; returns their number.

    Raises:
        StreamsError: the broker did not acknowledge all of them.
    """
    producer = new_producer(settings)
    failed: list[str] = []
    sent = 0
    for topic, reconciliation in reconciliations.items():
        for partition, records in reconciliation.missing.items():
            for key, value in records:
                producer.produce(
                    settings.prefix + topic,
                    value,
                    key,
                    partition,
                    on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
                )
                sent += 1
                producer.poll(0)
    unconfirmed = producer.flush(60)
    if failed or unconfirmed:
        raise StreamsError(
            f"{len(failed) + unconfirmed} of {sent} records did not arrive: {(failed or ['no answer'])[0]}"
        )
    return sent


def _reconcile(
    settings: KafkaSettings,
    partition: int,
    partitions: int,
    promises: Promises,
    reconciliations: dict[str, TopicReconciliation],
    progress: Callable[[int, int], None],
) -> None:
    # Output committed before the topics are read must be in them. Output in them was committed before they were read.
    offset_before = _committed_offset(settings, partition, promises)
    present = {topic: _ids(settings, topic, partition) for topic in reconciliations}
    offset_after = _committed_offset(settings, partition, promises)
    refold = Refold(partition=partition, partitions=partitions, promises=promises)
    expected: dict[str, set[bytes]] = {topic: set() for topic in reconciliations}
    for end, required in ((offset_before, True), (offset_after, False)):
        for output in refold.fold(_values(settings, partition, refold.records, end)):
            for topic, block in ((MILESTONES_TOPIC, output.milestones), (ALERTS_TOPIC, output.alerts)):
                decode = _decoder(topic)
                for key, value in block:
                    (record_id,) = decode(value).values()
                    expected[topic].add(record_id)
                    if record_id in present[topic]:
                        continue
                    if required:
                        reconciliations[topic].missing.setdefault(partition, []).append((key, value))
            progress(partition, refold.records)
    for topic, reconciliation in reconciliations.items():
        reconciliation.expected += len(expected[topic])
        reconciliation.extra += len(present[topic].keys() - expected[topic])
        reconciliation.duplicates += sum(number - 1 for number in present[topic].values())


def _decoder(topic: str) -> RecordDecoder:
    return RecordDecoder(_RECORDS[topic], leading_fields=1)


def _ids(settings: KafkaSettings, topic: str, partition: int) -> Counter[bytes]:
    """Ids in a partition of a topic -> how often each is there."""
    decode = _decoder(topic)
    ids: Counter[bytes] = Counter()
    for message in read_to_end(settings, settings.prefix + topic, partitions=[partition]):
        value = message.value()
        if value is not None:
            (record_id,) = decode(value).values()
            ids[record_id] += 1
    return ids


def _committed_offset(settings: KafkaSettings, partition: int, promises: Promises) -> int:
    """Offset of hub.scans up to which the live system has folded, by its position record."""
    position = read_position(settings, partition, _SECONDS, fenced=False)
    if position is None:
        return 0
    if position.promises_digest != promises.digest():
        raise Misconfigured(
            f"the worker of partition {partition} evaluates other promises: give this command the same --promises FILE"
        )
    return position.next_offset


def _values(settings: KafkaSettings, partition: int, first: int, end: int) -> Iterator[bytes | None]:
    for message in read_offset_range(settings, settings.prefix + SCANS_TOPIC, partition, first, end):
        yield message.value()
