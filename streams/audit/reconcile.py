"""The proof that nothing is missing: the log folded again beside the live system, and what was told compared.

A broker that crashes may keep one topic's part of a transaction and drop another's. State and position share a
partition, so the worker goes on rightly; a milestone may be gone. Its id is a hash of what it says, so who folds the
log again finds it, and can send it again, with the same bytes.
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
# Topics whose records begin with an id that is a hash of what they say, and their schemas.
_RECORDS: Final = {MILESTONES_TOPIC: "Milestone", ALERTS_TOPIC: "Alert"}


@dataclass(slots=True)
class TopicReconciliation:
    """What one topic tells, against what it must."""

    expected: int = 0
    # Records that the topic lacks, by partition.
    missing: dict[int, list[KeyValue]] = field(default_factory=dict)
    # Ids that the topic has and the log does not lead to, and ids that it has more than once.
    extra: int = 0
    duplicates: int = 0

    @property
    def missing_records(self) -> int:
        """How many records the topic lacks."""
        return sum(map(len, self.missing.values()))


def reconcile(
    settings: KafkaSettings, promises: Promises, progress: Callable[[int, int], None]
) -> dict[str, TopicReconciliation]:
    """Fold hub.scans again and compare; may run beside workers, and changes nothing.

    Args:
        settings: which cluster.
        promises: those that the workers watch.
        progress: told partition and records folded, now and then.

    Returns:
        By topic, without its prefix.

    Raises:
        Misconfigured: the topics do not fit, or the workers watch other promises.
        StreamsError: the broker does not answer, or the log does not begin at its beginning any more.
    """
    partitions = check_topics(settings)
    told = {topic: TopicReconciliation() for topic in _RECORDS}
    for partition in range(partitions):
        _reconcile(settings, partition, partitions, promises, told, progress)
    return told


def send_missing(settings: KafkaSettings, told: dict[str, TopicReconciliation]) -> int:
    """Send what is missing, with the bytes that it would have had; returns how many records.

    Raises:
        StreamsError: not all of them arrived.
    """
    sender = new_producer(settings)
    failed: list[str] = []
    sent = 0
    for topic, each in told.items():
        for partition, records in each.missing.items():
            for key, value in records:
                sender.produce(
                    settings.prefix + topic,
                    value,
                    key,
                    partition,
                    on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
                )
                sent += 1
                sender.poll(0)
    waiting = sender.flush(60)
    if failed or waiting:
        raise StreamsError(f"{len(failed) + waiting} of {sent} records did not arrive: {(failed or ['no answer'])[0]}")
    return sent


def _reconcile(
    settings: KafkaSettings,
    partition: int,
    partitions: int,
    promises: Promises,
    told: dict[str, TopicReconciliation],
    progress: Callable[[int, int], None],
) -> None:
    # What was committed before the topics are read must be in them; what they hold was committed by the time after.
    before = _committed(settings, partition, promises)
    found = {topic: _ids(settings, topic, partition) for topic in told}
    after = _committed(settings, partition, promises)
    refold = Refold(partition=partition, partitions=partitions, promises=promises)
    seen: dict[str, set[bytes]] = {topic: set() for topic in told}
    for end, required in ((before, True), (after, False)):
        for made in refold.fold(_values(settings, partition, refold.records, end)):
            for topic, block in ((MILESTONES_TOPIC, made.milestones), (ALERTS_TOPIC, made.alerts)):
                decode = _decoder(topic)
                for key, value in block:
                    (identity,) = decode(value).values()
                    seen[topic].add(identity)
                    if identity in found[topic]:
                        continue
                    if required:
                        told[topic].missing.setdefault(partition, []).append((key, value))
            progress(partition, refold.records)
    for topic, each in told.items():
        each.expected += len(seen[topic])
        each.extra += len(found[topic].keys() - seen[topic])
        each.duplicates += sum(number - 1 for number in found[topic].values())


def _decoder(topic: str) -> RecordDecoder:
    return RecordDecoder(_RECORDS[topic], leading_fields=1)


def _ids(settings: KafkaSettings, topic: str, partition: int) -> Counter[bytes]:
    """Ids that a partition of a topic holds, each with how often."""
    decode = _decoder(topic)
    ids: Counter[bytes] = Counter()
    for message in read_to_end(settings, settings.prefix + topic, partitions=[partition]):
        value = message.value()
        if value is not None:
            (identity,) = decode(value).values()
            ids[identity] += 1
    return ids


def _committed(settings: KafkaSettings, partition: int, promises: Promises) -> int:
    """Offset of hub.scans up to which the live system has folded."""
    position = read_position(settings, partition, _SECONDS, fenced=False)
    if position is None:
        return 0
    if position.promises_digest != promises.digest():
        raise Misconfigured(
            f"the worker of partition {partition} watches other promises: give this command the same --promises FILE"
        )
    return position.next_offset


def _values(settings: KafkaSettings, partition: int, first: int, end: int) -> Iterator[bytes | None]:
    for message in read_offset_range(settings, settings.prefix + SCANS_TOPIC, partition, first, end):
        yield message.value()
