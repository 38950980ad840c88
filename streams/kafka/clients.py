"""Kafka clients with the settings that this project relies on, said in one place.

Every rule was learned on librdkafka 2.16 and Kafka 4.3.1 (docs/decisions/): the Java clients' partitioner in every
producer, the isolation level always explicit, no offset committed behind anybody's back.
"""

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from typing import Any, Final, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from streams.errors import Misconfigured, Retry, StreamsError
from streams.kafka.settings import KafkaSettings

# librdkafka logs broker loss by itself, once a second, and a fenced producer on standard error whatever the level; the
# programs here say what matters once, from the errors that they get.
_SILENT: Final = logging.getLogger("librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_QUIET: Final[dict[str, Any]] = {"log_level": 0, "logger": _SILENT, "reconnect.backoff.max.ms": 500}


# What the client says while no broker answers; it goes on trying by itself.
_AWAY: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE)  # noqa: SLF001
# Public, for all its underscore: librdkafka's own codes are named so.
PARTITION_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001
AUTO_OFFSET_RESET: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
ALL_BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
_FATAL: Final = KafkaError._FATAL  # noqa: SLF001

# How long a command asks a broker for offsets.
_ANSWER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1

# One header of a record. The client hands over text or bytes.
Header = tuple[str, str | bytes | None]


def is_fatal(error: KafkaError) -> bool:
    """Is the client broken beyond repair? `fatal()` alone misses some (librdkafka 2.16)."""
    return error.fatal() or error.code() == _FATAL


def new_producer(settings: KafkaSettings, **options: Any) -> Producer:
    """An idempotent producer; `options` are librdkafka's, with _ for the dots."""
    return Producer({**producer_config(settings), **_QUIET, **_dotted(options)})


def producer_config(settings: KafkaSettings, **options: Any) -> dict[str, Any]:
    """How every producer here is set; `options` are librdkafka's, with _ for the dots, and go before."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "enable.idempotence": True,
        # One request at a time to each broker. With several, the first one to a partition that was created a moment
        # ago may be refused and overtaken by the next; Kafka takes whatever number a producer that it does not know
        # begins with, and calls the first one a duplicate when it comes again: acknowledged, and lost.
        "max.in.flight": 1,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.size": 1 << 20,
        # Above every topic's own limit: a dead letter is the largest record of hub.scans and its headers.
        "message.max.bytes": 20 << 20,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1 << 20,
        "reconnect.backoff.max.ms": 500,
        **_dotted(options),
    }


def new_consumer(settings: KafkaSettings, group: str, **options: Any) -> Consumer:
    """A consumer that sees committed records only and commits nothing by itself."""
    return Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": settings.prefix + group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 5,
            "fetch.message.max.bytes": 8 << 20,
            **_QUIET,
            **_dotted(options),
        }
    )


def new_admin_client(settings: KafkaSettings) -> AdminClient:
    """A client for topics and their configuration."""
    return AdminClient({"bootstrap.servers": settings.bootstrap, **_QUIET})


def no_answer_error(settings: KafkaSettings, seconds: float, error: KafkaException) -> StreamsError:
    """The error to raise when no broker answered within `seconds`."""
    return StreamsError(f"no answer from Kafka at {settings.bootstrap} within {seconds:g} s: {error.args[0].str()}")


def partition_count(client: Consumer | Producer, topic: str, timeout: float = 10.0) -> int:
    """How many partitions a topic has.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers within `timeout` seconds.
    """
    try:
        found = client.list_topics(topic, timeout=timeout).topics[topic]
    except KafkaException as error:
        message = f"no answer from Kafka within {timeout:g} s: {error.args[0].str()}"
        raise StreamsError(message) from error
    if found.error is not None or not found.partitions:
        message = f'topic {topic} does not exist: run "parcels topics apply"'
        raise Misconfigured(message)
    return len(found.partitions)


def read_to_end(
    settings: KafkaSettings,
    topic: str,
    *,
    partitions: Collection[int] | None = None,
    idle_timeout_seconds: float = 30.0,
) -> Iterator[Message]:
    """Every committed record that `topic` holds now, in offset order within each partition, then stop.

    Args:
        settings: which cluster.
        topic: name on the cluster, prefix included.
        partitions: only these; None for all.
        silence_seconds: how long to wait for a record before giving up. A dead producer's open transaction holds
            readers up until its transaction.timeout.ms.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers, or nothing was read for `silence_seconds` before the end was reached.
    """
    reader = new_consumer(settings, "reader", enable_partition_eof=True)
    try:
        wanted = range(partition_count(reader, topic)) if partitions is None else partitions
        deadline = time.monotonic() + _ANSWER_SECONDS
        ends = {
            partition: watermark_offsets(reader, TopicPartition(topic, partition), deadline)[1] for partition in wanted
        }
        yield from _read(reader, topic, {p: (OFFSET_BEGINNING, end) for p, end in ends.items()}, idle_timeout_seconds)
    finally:
        reader.close()


def read_past_last_stable_offset(
    settings: KafkaSettings, topic: str, *, partitions: Collection[int] | None = None
) -> Iterator[Message]:
    """What `topic` holds beyond the end of what is committed: transactions that are open or that Kafka never ended.

    A broker that has no leader for a partition, as when it is the only one and is stopped or has stood still, leaves
    out the end of a transaction there and takes it for complete (docs/decisions/recovery.md).

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers.
    """
    reader = new_consumer(settings, "reader", isolation_level="read_uncommitted", enable_partition_eof=True)
    onlooker = new_consumer(settings, "reader")
    try:
        wanted = range(partition_count(reader, topic)) if partitions is None else partitions
        deadline = time.monotonic() + _ANSWER_SECONDS
        parts = {}
        for partition in wanted:
            place = TopicPartition(topic, partition)
            parts[partition] = (
                watermark_offsets(onlooker, place, deadline)[1],
                watermark_offsets(reader, place, deadline)[1],
            )
        yield from _read(reader, topic, parts, 30.0)
    finally:
        onlooker.close()
        reader.close()


def read_offset_range(settings: KafkaSettings, topic: str, partition: int, first: int, end: int) -> Iterator[Message]:
    """Every committed record of a partition from the offset `first` until `end`.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers, or the records from `first` on are not there (any more).
    """
    reader = new_consumer(settings, "reader", enable_partition_eof=True)
    try:
        partition_count(reader, topic)
        low, high = watermark_offsets(reader, TopicPartition(topic, partition), time.monotonic() + _ANSWER_SECONDS)
        if first < end and not low <= first < end <= high:
            raise StreamsError(
                f"{topic} [{partition}] holds the offsets {low} to {high - 1}, not {first} to {end - 1}: "
                "what is needed was deleted, by its age or with the topic"
            )
        yield from _read(reader, topic, {partition: (first, end)}, 30.0)
    finally:
        reader.close()


def _read(reader: Consumer, topic: str, parts: dict[int, tuple[int, int]], silence_seconds: float) -> Iterator[Message]:
    unread = {partition for partition, (first, end) in parts.items() if max(first, 0) < end}
    reader.assign([TopicPartition(topic, partition, parts[partition][0]) for partition in unread])
    waited = 0.0
    while unread:
        # consume(n, t) would wait all of t unless n records came; this takes what is there.
        first = reader.poll(_POLL_SECONDS)
        if first is None:
            # Not by the clock: while the process itself stands still (Ctrl-Z, a paused machine) nothing can come.
            waited += _POLL_SECONDS
            if waited > silence_seconds:
                message = f"reading {topic}: nothing came for {silence_seconds:g} s before its end"
                raise StreamsError(message)
            continue
        waited = 0.0
        for record in (first, *reader.consume(10_000, 0)):
            error = record.error()
            partition, offset = cast(int, record.partition()), cast(int, record.offset())
            if error is None:
                if partition in unread and offset < parts[partition][1]:
                    yield record
                else:
                    unread.discard(partition)
            elif error.code() != PARTITION_EOF:
                message = f"reading {topic}: {error.str()}"
                raise StreamsError(message)
            elif offset >= parts[partition][1]:
                unread.discard(partition)


def read_record(
    settings: KafkaSettings, topic: str, partition: int, offset: int, *, committed: bool = True
) -> Message | None:
    """The record of `topic` at this place; None where there is none (any more).

    committed: only one that is committed.

    Raises:
        Misconfigured: the topic or the partition does not exist.
        StreamsError: the broker does not answer.
    """
    level = "read_committed" if committed else "read_uncommitted"
    reader = new_consumer(settings, "reader", isolation_level=level, enable_partition_eof=True)
    try:
        count = partition_count(reader, topic)
        if not 0 <= partition < count:
            raise Misconfigured(f"{topic} has partitions 0 to {count - 1}, not {partition}")
        low, high = watermark_offsets(reader, TopicPartition(topic, partition), time.monotonic() + _ANSWER_SECONDS)
        if not low <= offset < high:
            return None
        reader.assign([TopicPartition(topic, partition, offset)])
        found = reader.poll(10)
        if found is None:
            raise StreamsError(f"reading {topic} [{partition}]: nothing came within 10 s")
        error = found.error()
        if error is not None and error.code() != PARTITION_EOF:
            raise StreamsError(f"reading {topic} [{partition}]: {error.str()}")
        # At the offset of a transaction marker, or of a record that was compacted away, the next record comes.
        return found if error is None and found.offset() == offset else None
    finally:
        reader.close()


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
    """Every committed record of these partitions from now on, for ever; a broker that goes away is waited for.

    Args:
        settings: which cluster.
        topic: name on the cluster, prefix included.
        partitions: which partitions.
        since_ms: begin with records sent at this time (ms since 1970), not with the next one.

    Raises:
        StreamsError: the broker does not answer at the start, or refuses.
    """
    reader = new_consumer(settings, "follower")
    try:
        starts = [TopicPartition(topic, p, OFFSET_END if since_ms is None else since_ms) for p in partitions]
        if since_ms is not None:
            starts = _offsets_at(reader, starts)
        reader.assign(starts)
        while True:
            record = reader.poll(1.0)
            if record is None:
                continue
            error = record.error()
            if error is None:
                yield record
            elif error.code() not in _AWAY:
                raise StreamsError(f"reading {topic}: {error.str()}")
    finally:
        reader.close()


def _offsets_at(reader: Consumer, times: list[TopicPartition], seconds: float = 10) -> list[TopicPartition]:
    """Where the records of these times (as offsets, ms since 1970) begin.

    Raises:
        StreamsError: no answer for each of them within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        # A partition whose leader is not known yet comes back with an error and, as it were, the end of the partition.
        try:
            found = reader.offsets_for_times(times, timeout=seconds)
        except KafkaException as raised:
            error = raised.args[0]
        else:
            error = next((partition.error for partition in found if partition.error is not None), None)
            if error is None:
                return found
        if time.monotonic() > deadline:
            raise StreamsError(f"asking {times[0].topic} for the offsets of a time: {error.str()}")
        _look_for_leaders(reader, times[0].topic)


def watermark_offsets(reader: Consumer, partition: TopicPartition, deadline: float) -> tuple[int, int]:
    """First committed offset still there and the one after the last, asked until `deadline` (time.monotonic).

    Raises:
        Retry: nobody answered in time.
    """
    while True:
        try:
            # Also of a topic that was created a moment ago a broker may at first say that it does not lead it.
            low, high = reader.get_watermark_offsets(partition, timeout=5, cached=False)
        except KafkaException as error:
            if time.monotonic() > deadline:
                message = f"asking for the end of {partition.topic} [{partition.partition}]: {error.args[0].str()}"
                raise Retry(message) from error
            _look_for_leaders(reader, partition.topic)
        else:
            return low, high


def _look_for_leaders(reader: Consumer, topic: str) -> None:
    """Have the client ask who leads a topic that it has not been assigned.

    It asks once and keeps the answer (librdkafka 2.16), for metadata.max.age.ms, which is 15 minutes, also the answer
    that nobody does: as when a broker that stood still for longer than its own session comes back, and leads nothing
    for a tenth of a second. Until then every question for an offset ends with "Unknown partition".
    """
    time.sleep(0.1)
    with contextlib.suppress(KafkaException):
        reader.list_topics(topic, timeout=1)


def _dotted(options: dict[str, Any]) -> dict[str, Any]:
    # Callbacks are the only options that librdkafka's Python client spells with an underscore.
    return {name if name.endswith("_cb") else name.replace("_", "."): value for name, value in options.items()}
