"""Dead letters: records of the logs that could not be used, kept unchanged, with the reason in headers.

The worker writes them in the transaction of the batch (`dead_letter_headers`). Everything else here serves
`parcels dlq`: find dead letters, decode them, send them again once the cause is gone, delete them.
"""

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, cast

import fastavro
from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from streams.domain.limits import MAX_CONTAINER_RECORD_BYTES
from streams.domain.reject_reasons import REJECT_REASON_TEXTS, RejectReason
from streams.errors import BadRecord, StreamsError
from streams.formats.record_decoder import without_logical_types
from streams.formats.schemas import load_schemas
from streams.formats.topics import CONTAINERS_TOPIC, DEAD_LETTERS_TOPIC, SCANS_TOPIC, find_topic
from streams.kafka.clients import Header, new_admin_client, new_producer
from streams.kafka.reader import read_past_last_stable_offset, read_record, read_to_end
from streams.kafka.settings import KafkaSettings

# Partition and offset in the dead-letter topic.
PartitionOffset = tuple[int, int]

_CONNECT_PREFIX: Final = "__connect.errors."
_REASON_HEADER: Final = "parcels.reason"
# The headers that the worker adds, in their order.
_ADDED_HEADERS: Final = (
    *(_CONNECT_PREFIX + name for name in ("topic", "partition", "offset", "stage", "exception.class.name")),
    _CONNECT_PREFIX + "exception.message",
    _REASON_HEADER,
)
_UNKNOWN_REASON: Final = "UNKNOWN"
_ANSWER_SECONDS: Final = 30.0


def dead_letter_headers(
    topic: str, partition: int, offset: int, reason: RejectReason, original_headers: Sequence[Header] | None
) -> list[Header]:
    """Headers of a dead letter: those of the record, then its source and the reason.

    The names are those of Kafka Connect, so that its tools can read them. Connect calls the step in which a record
    failed the stage.

    Args:
        topic: name on the cluster of the topic that the record was read from.
        partition: its partition there.
        offset: its offset there.
        reason: why it cannot be used.
        original_headers: the record's own headers.
    """
    stage = "VALUE_CONVERTER" if reason <= RejectReason.UNRESOLVABLE else "TRANSFORMATION"
    class_name = f"{BadRecord.__module__}.{BadRecord.__name__}"
    values = (topic, partition, offset, stage, class_name, REJECT_REASON_TEXTS[reason], reason.name)
    added = ((name, str(value).encode()) for name, value in zip(_ADDED_HEADERS, values, strict=True))
    return [*(original_headers or ()), *added]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic."""

    partition_offset: PartitionOffset
    # When it was sent to the dead-letter topic, ms since 1970.
    timestamp: int
    # Topic (with the prefix), partition and offset that it was read from; None where the headers do not say so.
    source: tuple[str, int, int] | None
    # Name of a RejectReason, or UNKNOWN where the headers do not say so.
    reason: str
    message: str
    key: bytes | None
    value: bytes | None
    # The headers that the record itself had.
    headers: list[Header]


def parse_dead_letter(message: Message) -> DeadLetter:
    """A message of the dead-letter topic as a dead letter."""
    headers = cast(list[Header], message.headers() or [])
    last_names = tuple(name for name, _ in headers[-len(_ADDED_HEADERS) :])
    # The worker adds its headers at the end, so a record that had such headers before keeps them.
    if last_names == _ADDED_HEADERS:
        own_headers = headers[: -len(_ADDED_HEADERS)]
    else:
        own_headers = [header for header in headers if header[0] not in _ADDED_HEADERS]
    added = {name: _text(value) for name, value in headers if name in _ADDED_HEADERS}
    partition, offset = added.get(_CONNECT_PREFIX + "partition", ""), added.get(_CONNECT_PREFIX + "offset", "")
    source = None
    if partition.isdecimal() and offset.isdecimal():
        source = (added.get(_CONNECT_PREFIX + "topic", ""), int(partition), int(offset))
    return DeadLetter(
        partition_offset=(cast(int, message.partition()), cast(int, message.offset())),
        timestamp=message.timestamp()[1],
        source=source,
        reason=added.get(_REASON_HEADER, _UNKNOWN_REASON),
        message=added.get(_CONNECT_PREFIX + "exception.message", ""),
        key=message.key(),
        value=message.value(),
        headers=own_headers,
    )


def read_dead_letters(
    settings: KafkaSettings, *, reasons: Collection[str] = (), partition_offsets: Collection[PartitionOffset] = ()
) -> Iterator[DeadLetter]:
    """Every dead letter there is now, or only those of some reasons, or at some offsets.

    Last come those of open and hanging transactions. A reader of committed records does not see them before the next
    dead letter of the same partition, which may take days.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: the broker does not answer.
    """
    partitions = {partition for partition, _ in partition_offsets} or None
    topic = settings.prefix + DEAD_LETTERS_TOPIC
    # An aborted dead letter was sent again, later. So of each source the committed one counts, or else the last one.
    uncommitted = {
        letter.source or letter.partition_offset: letter
        for letter in map(parse_dead_letter, read_past_last_stable_offset(settings, topic, partitions=partitions))
    }
    committed = map(parse_dead_letter, read_to_end(settings, topic, partitions=partitions))
    for letter in chain(_removing(uncommitted, committed), uncommitted.values()):
        if (not reasons or letter.reason in reasons) and (
            not partition_offsets or letter.partition_offset in partition_offsets
        ):
            yield letter


def _removing(
    uncommitted: dict[tuple[str, int, int] | PartitionOffset, DeadLetter], committed: Iterable[DeadLetter]
) -> Iterator[DeadLetter]:
    """The committed dead letters; each is removed from `uncommitted` when it comes."""
    for letter in committed:
        uncommitted.pop(letter.source or letter.partition_offset, None)
        yield letter


def read_dead_letter(settings: KafkaSettings, partition_offset: PartitionOffset) -> DeadLetter | None:
    """The dead letter at `partition_offset`; None where there is none (any more).

    Raises:
        Misconfigured: the topic or the partition does not exist.
        StreamsError: the broker does not answer.
    """
    message = read_record(settings, settings.prefix + DEAD_LETTERS_TOPIC, *partition_offset, committed=False)
    return None if message is None else parse_dead_letter(message)


@dataclass(frozen=True, slots=True)
class PartialRecord:
    """The fields of a value that could be decoded."""

    schema: str
    fields: Mapping[str, Any]
    # The field at which decoding ended; None when all were decoded.
    failed_field: str | None
    # Number of bytes after the last decoded field.
    remaining_bytes: int


def decode_partially(value: bytes | None) -> PartialRecord | None:
    """Decode a value of a log, field by field until one fails; None where not even its schema is known."""
    if value is None or len(value) < 5 or value[0] != 0 or len(value) > MAX_CONTAINER_RECORD_BYTES:
        return None
    writers = load_schemas().writer_schemas(*find_topic(SCANS_TOPIC).schemas, *find_topic(CONTAINERS_TOPIC).schemas)
    name, schema = writers.get(int.from_bytes(value[1:5], "big"), (None, None))
    if name is None or schema is None:
        return None
    schema = without_logical_types(schema)
    fields = schema["fields"]
    for count in range(len(fields), 0, -1):
        body = io.BytesIO(value[5:])
        try:
            decoded = fastavro.schemaless_reader(body, {**schema, "fields": fields[:count]}, None)
        except Exception:  # noqa: BLE001, S112 - hostile bytes can make fastavro raise anything: try fewer fields
            continue
        failed_field = fields[count]["name"] if count < len(fields) else None
        return PartialRecord(name, cast(Mapping[str, Any], decoded), failed_field, len(value) - 5 - body.tell())
    return PartialRecord(name, {}, fields[0]["name"], len(value) - 5)


def redrive(settings: KafkaSettings, partition_offsets: Collection[PartitionOffset]) -> list[PartitionOffset]:
    """Send the records of these dead letters again, unchanged, to the topic that they were read from.

    A record that was in the wrong partition gets its parcel_id or container_id as its key; every other keeps its
    key. The dead letters stay where they are.

    Returns:
        the offsets of those that cannot be sent, because their source or their own key is not known.

    Raises:
        StreamsError: the broker does not take them.
    """
    producer = new_producer(settings)
    errors: list[str] = []
    not_sendable: list[PartitionOffset] = []

    def on_delivery(error: Any, _: Message) -> None:
        if error is not None:
            errors.append(error.str())

    for letter in read_dead_letters(settings, partition_offsets=partition_offsets):
        key = _own_key(letter) if letter.reason == RejectReason.WRONG_PARTITION.name else letter.key
        if letter.source is None or (key is None and letter.key is not None):
            not_sendable.append(letter.partition_offset)
            continue
        _send(producer, letter, key, on_delivery)
    unsent = producer.flush(_ANSWER_SECONDS)
    if unsent or errors:
        raise StreamsError(
            f"{unsent + len(errors)} of {len(partition_offsets)} records could not be sent "
            f"({errors[0] if errors else 'no answer'}): do it again, what arrives twice is recognised as a duplicate"
        )
    return not_sendable


def purge(settings: KafkaSettings, before_offsets: Mapping[int, int]) -> None:
    """Delete, in each partition, the dead letters below an offset, for good.

    Args:
        settings: which cluster.
        before_offsets: partition -> first offset that is kept.

    Raises:
        StreamsError: the broker refused.
    """
    topic = settings.prefix + DEAD_LETTERS_TOPIC
    ends = [TopicPartition(topic, partition, offset) for partition, offset in before_offsets.items()]
    if not ends:
        return
    client = new_admin_client(settings)  # must outlive its futures: they get no answer without it
    for end, future in client.delete_records(ends, request_timeout=_ANSWER_SECONDS).items():
        try:
            future.result()
        except KafkaException as error:
            raise StreamsError(f"deleting from {topic} [{end.partition}]: {error.args[0].str()}") from error


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _own_key(letter: DeadLetter) -> bytes | None:
    """The parcel_id or container_id in the value, as a key."""
    decoded = decode_partially(letter.value)
    fields = decoded.fields if decoded else {}
    key = fields.get("parcel_id") or fields.get("container_id")
    return key.encode() if key else None


def _send(producer: Producer, letter: DeadLetter, key: bytes | None, on_delivery: Any) -> None:
    assert letter.source is not None
    while True:
        try:
            producer.produce(letter.source[0], letter.value, key, headers=letter.headers, on_delivery=on_delivery)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return
