"""Reading ranges of topics: one poll loop, and the functions that read with it.

No reader here takes part in a consumer group: partitions are assigned by hand and no offset is committed. The end of a
range is asked from the broker before the first poll (`watermark_offsets`), so a reader of a busy topic ends as well.
"""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from typing import Final, NamedTuple, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.errors import Misconfigured, Retry, StreamsError
from streams.kafka.clients import PARTITION_EOF, new_consumer, partition_count
from streams.kafka.settings import KafkaSettings

# The end of a range that never ends: no offset is larger.
NO_END: Final = (1 << 63) - 1

# librdkafka reports these while no broker answers, and reconnects by itself.
_BROKER_UNREACHABLE: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE)  # noqa: SLF001
# How long a command asks a broker for offsets.
_ANSWER_SECONDS: Final = 10.0
# How long a command waits for a record. A dead producer's open transaction holds readers of committed records up until
# its transaction.timeout.ms.
_IDLE_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_RECORDS_PER_BATCH: Final = 10_000


class OffsetRange(NamedTuple):
    """Offsets of one partition, from `start` (or OFFSET_BEGINNING, OFFSET_END) until `end`, which is not included."""

    start: int
    end: int


def is_broker_unreachable(error: KafkaError) -> bool:
    """Does this error only report that no broker answers at the moment?"""
    return error.code() in _BROKER_UNREACHABLE


def _is_never_ignored(_: KafkaError) -> bool:
    return False


def read_ranges(
    consumer: Consumer,
    topic: str,
    ranges: Mapping[int, OffsetRange],
    *,
    idle_timeout_seconds: float = _IDLE_TIMEOUT_SECONDS,
    deadline: float = math.inf,
    is_ignored: Callable[[KafkaError], bool] = _is_never_ignored,
    batch_size: int = _RECORDS_PER_BATCH,
) -> Iterator[list[Message]]:
    """The records of `ranges`, in offset order within each partition; this is the only poll loop of a reader.

    Yields after every poll, also an empty list when nothing came, so that the caller can do its own checks.

    Args:
        consumer: made with enable.partition.eof, unless no range ends. Its assignment is replaced.
        topic: name on the cluster, prefix included.
        ranges: partition -> offsets. A partition whose range is empty is not assigned.
        idle_timeout_seconds: give up after so many seconds of polls without a record. Polls are counted and not the
            clock: nothing can come while the process itself is stopped (Ctrl-Z, a paused machine).
        deadline: give up at this time (time.monotonic), whatever comes.
        is_ignored: says for which errors of the consumer the loop goes on.
        batch_size: largest number of records of one list.

    Raises:
        Retry: the end was not reached in time, or the consumer had an error.
    """
    ends = {partition: each.end for partition, each in ranges.items() if max(each.start, 0) < each.end}
    consumer.assign([TopicPartition(topic, partition, ranges[partition].start) for partition in ends])
    is_one_partition = len(ends) == 1
    idle_seconds = 0.0
    while ends:
        if time.monotonic() > deadline:
            partitions = ", ".join(map(str, sorted(ends)))
            raise Retry(f"reading {topic} [{partitions}]: the end was not reached in time")
        # consume(n, t) would wait all of t unless n records came; this takes what is there.
        first = consumer.poll(_POLL_SECONDS)
        if first is None:
            idle_seconds += _POLL_SECONDS
            if idle_seconds > idle_timeout_seconds:
                raise Retry(f"reading {topic}: nothing came for {idle_timeout_seconds:g} s before its end")
            yield []
            continue
        idle_seconds = 0.0
        messages = [first, *consumer.consume(batch_size - 1, 0)]
        records = [message for message in messages if message.error() is None]
        kept = records
        # Offsets ascend within a partition, so the last record shows whether the end was reached. This saves two calls
        # for each record of a restore.
        if not is_one_partition or (records and cast(int, records[-1].offset()) + 1 >= _end_of(records[-1], ends)):
            kept = _cut_at_ends(records, ends)
        if len(records) < len(messages):
            _handle_events(topic, messages, ends, is_ignored)
        yield kept


def _cut_at_ends(records: list[Message], ends: dict[int, int]) -> list[Message]:
    """The records before the end of their partition; partitions that are complete are removed from `ends`."""
    kept = []
    for record in records:
        offset, end = cast(int, record.offset()), _end_of(record, ends)
        if offset < end:
            kept.append(record)
        if offset + 1 >= end:
            ends.pop(cast(int, record.partition()), None)
    return kept


def _handle_events(
    topic: str, messages: list[Message], ends: dict[int, int], is_ignored: Callable[[KafkaError], bool]
) -> None:
    """Take the partitions that were read to their end out of `ends`; raise the other errors."""
    for message in messages:
        error = message.error()
        if error is None:
            continue
        if error.code() != PARTITION_EOF:
            if not is_ignored(error):
                raise Retry(f"reading {topic}: {error.str()}")
        # An end that librdkafka knew from before may be older than the one that was asked for.
        elif cast(int, message.offset()) >= _end_of(message, ends):
            ends.pop(cast(int, message.partition()), None)


def _end_of(message: Message, ends: Mapping[int, int]) -> int:
    """Where the range of a message's partition ends; 0 when all of it was read."""
    return ends.get(cast(int, message.partition()), 0)


def read_to_end(
    settings: KafkaSettings,
    topic: str,
    *,
    partitions: Collection[int] | None = None,
    idle_timeout_seconds: float = _IDLE_TIMEOUT_SECONDS,
) -> Iterator[Message]:
    """Every committed record that `topic` holds now, in offset order within each partition, then stop.

    Args:
        settings: which cluster.
        topic: name on the cluster, prefix included.
        partitions: only these; None for all.
        idle_timeout_seconds: how long to wait for a record before giving up.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers, or nothing was read for `idle_timeout_seconds` before the end was reached.
    """
    with closing(new_consumer(settings, "reader", enable_partition_eof=True)) as reader:
        wanted = range(partition_count(reader, topic)) if partitions is None else partitions
        deadline = time.monotonic() + _ANSWER_SECONDS
        ranges = {
            partition: OffsetRange(
                OFFSET_BEGINNING, watermark_offsets(reader, TopicPartition(topic, partition), deadline)[1]
            )
            for partition in wanted
        }
        for records in read_ranges(reader, topic, ranges, idle_timeout_seconds=idle_timeout_seconds):
            yield from records


def read_past_last_stable_offset(
    settings: KafkaSettings, topic: str, *, partitions: Collection[int] | None = None
) -> Iterator[Message]:
    """The records of `topic` beyond the last stable offset: of open transactions, and of hanging ones.

    A transaction hangs where a broker had no leader for a partition, as when it is the only broker and is stopped: it
    leaves out the end of the transaction there and takes it for complete (docs/decisions/recovery.md).

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers.
    """
    reader = new_consumer(settings, "reader", isolation_level="read_uncommitted", enable_partition_eof=True)
    with closing(reader), closing(new_consumer(settings, "reader")) as committed_reader:
        wanted = range(partition_count(reader, topic)) if partitions is None else partitions
        deadline = time.monotonic() + _ANSWER_SECONDS
        ranges = {}
        for partition in wanted:
            topic_partition = TopicPartition(topic, partition)
            ranges[partition] = OffsetRange(
                watermark_offsets(committed_reader, topic_partition, deadline)[1],
                watermark_offsets(reader, topic_partition, deadline)[1],
            )
        for records in read_ranges(reader, topic, ranges):
            yield from records


def read_offset_range(
    settings: KafkaSettings, topic: str, partition: int, start_offset: int, end_offset: int
) -> Iterator[Message]:
    """Every committed record of a partition from `start_offset` until `end_offset`, which is not included.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers, or the records from `start_offset` on are not there (any more).
    """
    with closing(new_consumer(settings, "reader", enable_partition_eof=True)) as reader:
        partition_count(reader, topic)
        low, high = watermark_offsets(reader, TopicPartition(topic, partition), time.monotonic() + _ANSWER_SECONDS)
        if start_offset < end_offset and not low <= start_offset < end_offset <= high:
            raise StreamsError(
                f"{topic} [{partition}] holds the offsets {low} to {high - 1}, not {start_offset} to "
                f"{end_offset - 1}: what is needed was deleted, by its age or with the topic"
            )
        for records in read_ranges(reader, topic, {partition: OffsetRange(start_offset, end_offset)}):
            yield from records


def read_record(
    settings: KafkaSettings, topic: str, partition: int, offset: int, *, committed: bool = True
) -> Message | None:
    """The record of `topic` at this offset; None where there is none (any more).

    committed: only one that is committed.

    Raises:
        Misconfigured: the topic or the partition does not exist.
        StreamsError: the broker does not answer.
    """
    level = "read_committed" if committed else "read_uncommitted"
    with closing(new_consumer(settings, "reader", isolation_level=level, enable_partition_eof=True)) as reader:
        count = partition_count(reader, topic)
        if not 0 <= partition < count:
            raise Misconfigured(f"{topic} has partitions 0 to {count - 1}, not {partition}")
        low, high = watermark_offsets(reader, TopicPartition(topic, partition), time.monotonic() + _ANSWER_SECONDS)
        if not low <= offset < high:
            return None
        # Nothing is there at the offset of a transaction marker, or of a record that was compacted away.
        ranges = {partition: OffsetRange(offset, offset + 1)}
        batches = read_ranges(reader, topic, ranges, idle_timeout_seconds=_ANSWER_SECONDS)
        return next((record for records in batches for record in records), None)


def read_newest_of_key(settings: KafkaSettings, topic: str, key: bytes, partition: int) -> Message | None:
    """The newest committed record of a compacted topic with this key; reads the one partition, decodes nothing.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: the broker does not answer.
    """
    newest = None
    for record in read_to_end(settings, topic, partitions=[partition]):
        if record.key() == key:
            newest = record
    return newest


def follow_topic(
    settings: KafkaSettings, topic: str, partitions: Collection[int], *, since_ms: int | None = None
) -> Iterator[Message]:
    """Every committed record of these partitions from now on, for ever; waits for a broker that goes away.

    Args:
        settings: which cluster.
        topic: name on the cluster, prefix included.
        partitions: which partitions.
        since_ms: begin with records sent at this time (ms since 1970), not with the next one.

    Raises:
        StreamsError: the broker does not answer at the start, or refuses.
    """
    with closing(new_consumer(settings, "follower")) as reader:
        starts = [TopicPartition(topic, p, OFFSET_END if since_ms is None else since_ms) for p in partitions]
        if since_ms is not None:
            starts = _offsets_for_times(reader, starts)
        ranges = {start.partition: OffsetRange(start.offset, NO_END) for start in starts}
        for records in read_ranges(
            reader, topic, ranges, idle_timeout_seconds=math.inf, is_ignored=is_broker_unreachable
        ):
            yield from records


def watermark_offsets(reader: Consumer, partition: TopicPartition, deadline: float) -> tuple[int, int]:
    """The low watermark and the end, retried until `deadline` (time.monotonic).

    The end is the last stable offset for a reader of committed records, else the high watermark.

    Raises:
        Retry: no broker answered in time.
    """
    while True:
        try:
            # Also of a topic that was created a moment ago a broker may at first say that it does not lead it.
            low, high = reader.get_watermark_offsets(partition, timeout=5, cached=False)
        except KafkaException as error:
            if time.monotonic() > deadline:
                message = f"asking for the end of {partition.topic} [{partition.partition}]: {error.args[0].str()}"
                raise Retry(message) from error
            _refresh_leaders(reader, partition.topic)
        else:
            return low, high


def _offsets_for_times(
    reader: Consumer, times: list[TopicPartition], timeout_seconds: float = _ANSWER_SECONDS
) -> list[TopicPartition]:
    """Where the records of these times (as offsets, ms since 1970) begin.

    Raises:
        StreamsError: no answer for each of them within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        # A partition whose leader is not known yet comes back with an error, and with the end of the partition as its
        # offset.
        try:
            found = reader.offsets_for_times(times, timeout=timeout_seconds)
        except KafkaException as raised:
            error = raised.args[0]
        else:
            error = next((partition.error for partition in found if partition.error is not None), None)
            if error is None:
                return found
        if time.monotonic() > deadline:
            raise StreamsError(f"asking {times[0].topic} for the offsets of a time: {error.str()}")
        _refresh_leaders(reader, times[0].topic)


def _refresh_leaders(reader: Consumer, topic: str) -> None:
    """Have the client ask which broker leads a topic that is not assigned to it.

    It asks once and keeps the answer (librdkafka 2.16) for metadata.max.age.ms, which is 15 minutes. It also keeps the
    answer that no broker does. A broker gives that answer when it was stopped for longer than its own session and comes
    back: it leads nothing for a tenth of a second. Until then every question for an offset ends with "Unknown
    partition".
    """
    time.sleep(0.1)
    with contextlib.suppress(KafkaException):
        reader.list_topics(topic, timeout=1)
