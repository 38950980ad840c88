"""Kafka clients with the settings that this project relies on, said in one place.

Every rule was learned on librdkafka 2.16 and Kafka 4.3.1 (docs/decisions/): the Java clients' partitioner in every
producer, the isolation level always explicit, no offset committed behind anybody's back.
"""

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.errors import Misconfigured, StreamsError
from streams.pipeline.settings import Settings

# librdkafka logs broker loss by itself, once a second; the programs here say it once, through their error callback.
_QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 500}


def producer(settings: Settings, **options: Any) -> Producer:
    """An idempotent producer; `options` are librdkafka's, with _ for the dots."""
    return Producer(
        {
            "bootstrap.servers": settings.bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 1 << 20,
            "message.max.bytes": 16 << 20,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
            **_QUIET,
            **_dotted(options),
        }
    )


def consumer(settings: Settings, group: str, **options: Any) -> Consumer:
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


def admin(settings: Settings) -> AdminClient:
    """A client for topics and their configuration."""
    return AdminClient({"bootstrap.servers": settings.bootstrap, **_QUIET})


def no_answer(settings: Settings, seconds: float, error: KafkaException) -> StreamsError:
    """The error to raise when no broker answered within `seconds`."""
    return StreamsError(f"no answer from Kafka at {settings.bootstrap} within {seconds:g} s: {error.args[0].str()}")


def partitions_of(client: Consumer | Producer, topic: str, timeout: float = 10.0) -> int:
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


def read_to_end(settings: Settings, topic: str, *, silence_seconds: float = 30.0) -> Iterator[Message]:
    """Every committed record that `topic` holds now, in offset order within each partition, then stop.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: nothing was read for `silence_seconds` before the end was reached.
    """
    reader = consumer(settings, "reader", enable_partition_eof=True)
    try:
        count = partitions_of(reader, topic)
        ends = {p: reader.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(count)}
        open_partitions = {p for p, end in ends.items() if end > 0}
        reader.assign([TopicPartition(topic, p, -2) for p in open_partitions])
        heard = time.monotonic()
        while open_partitions:
            for message in reader.consume(10_000, 0.1):
                heard = time.monotonic()
                partition = message.partition()
                error = message.error()
                if error is None:
                    yield message
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise StreamsError(f"reading {topic}: {error.str()}")
                elif message.offset() >= ends[partition]:
                    open_partitions.discard(partition)
            if time.monotonic() - heard > silence_seconds:
                raise StreamsError(f"reading {topic}: nothing came for {silence_seconds:g} s")
    finally:
        reader.close()


def _dotted(options: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in options.items()}
