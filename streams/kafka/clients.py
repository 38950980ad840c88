"""Factories of Kafka clients, with the settings that this project relies on.

Every setting was learned on librdkafka 2.16 and Kafka 4.3.1 (docs/decisions/): every producer has the partitioner of
the Java clients, the isolation level is always explicit, and no consumer commits offsets by itself.
"""

import logging
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streams.errors import Misconfigured, StreamsError
from streams.kafka.settings import KafkaSettings

# librdkafka logs the loss of a broker once a second, and a fenced producer on standard error whatever the level. The
# programs here log what matters once, from the errors that they get.
_SILENT: Final = logging.getLogger("librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_QUIET: Final[dict[str, Any]] = {"log_level": 0, "logger": _SILENT, "reconnect.backoff.max.ms": 500}

# The underscore does not make these names private: librdkafka's own error codes begin with it.
PARTITION_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001
AUTO_OFFSET_RESET: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
ALL_BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
_FATAL: Final = KafkaError._FATAL  # noqa: SLF001

# One header of a record. The client hands over text or bytes.
Header = tuple[str, str | bytes | None]


def is_fatal(error: KafkaError) -> bool:
    """Is the client broken beyond repair? `fatal()` alone misses some (librdkafka 2.16)."""
    return error.fatal() or error.code() == _FATAL


def new_producer(settings: KafkaSettings, **options: Any) -> Producer:
    """An idempotent producer; `options` are librdkafka's, with _ for the dots."""
    return Producer({**producer_config(settings), **_QUIET, **_dotted(options)})


def producer_config(settings: KafkaSettings, **options: Any) -> dict[str, Any]:
    """The settings of every producer here; `options` are librdkafka's, with _ for the dots, and override them."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "enable.idempotence": True,
        # One request at a time to each broker. With several, the first request to a partition that was created a
        # moment ago may be refused and overtaken by the second. Kafka accepts any first sequence number of a producer
        # that it does not know. So when the first request is sent again, Kafka takes it for a duplicate: it
        # acknowledges the records and drops them.
        "max.in.flight": 1,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.size": 1 << 20,
        # Above the limit of every topic. The largest record is a dead letter: a record of hub.scans and its headers.
        "message.max.bytes": 20 << 20,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1 << 20,
        "reconnect.backoff.max.ms": 500,
        **_dotted(options),
    }


def new_consumer(settings: KafkaSettings, group: str, **options: Any) -> Consumer:
    """A consumer that reads committed records only and commits no offset by itself.

    `options` are librdkafka's, with _ for the dots, and override these.
    """
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
    """The number of partitions of a topic.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: no broker answers within `timeout` seconds.
    """
    try:
        metadata = client.list_topics(topic, timeout=timeout).topics[topic]
    except KafkaException as error:
        message = f"no answer from Kafka within {timeout:g} s: {error.args[0].str()}"
        raise StreamsError(message) from error
    if metadata.error is not None or not metadata.partitions:
        message = f'topic {topic} does not exist: run "parcels topics apply"'
        raise Misconfigured(message)
    return len(metadata.partitions)


def _dotted(options: dict[str, Any]) -> dict[str, Any]:
    # Callbacks are the only options that librdkafka's Python client spells with an underscore.
    return {name if name.endswith("_cb") else name.replace("_", "."): value for name, value in options.items()}
