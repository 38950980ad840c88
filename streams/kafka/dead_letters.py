"""Dead letters: records of the logs that could not be used, kept as they came, with the reason in headers.

The worker writes them in the transaction of the batch (`dead_letter_headers`). Everything else here is for people: find
them, look into them, send them again once the cause is gone, delete them.
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
from streams.kafka.clients import new_admin_client, new_producer
from streams.kafka.reader import read_past_last_stable_offset, read_record, read_to_end
from streams.kafka.settings import KafkaSettings

# As the client types it; what it hands over is bytes, or None for a header without a value.
Header = tuple[str, str | bytes | None]
# Partition and offset in the dead-letter topic.
PartitionOffset = tuple[int, int]

_CONNECT: Final = "__connect.errors."
_REASON: Final = "parcels.reason"
_ADDED: Final = (
    *(_CONNECT + word for word in ("topic", "partition", "offset", "stage", "exception.class.name")),
    _CONNECT + "exception.message",
    _REASON,
)
_UNKNOWN: Final = "UNKNOWN"
_ANSWER_SECONDS: Final = 30.0


def dead_letter_headers(
    topic: str, partition: int, offset: int, reason: RejectReason, original_headers: Sequence[Header] | None
) -> list[Header]:
    """Headers of a dead letter: those of the record, then where it was and why it is here.

    Named as Kafka Connect names them, so that its tools read them; the stage is its word for where a record failed.

    Args:
        topic: name on the cluster of the topic that the record was read from.
        partition: its partition there.
        offset: its offset there.
        reason: why it cannot be used.
        original_headers: the record's own headers.
    """
    stage = "VALUE_CONVERTER" if reason <= RejectReason.UNRESOLVABLE else "TRANSFORMATION"
    words = (topic, partition, offset, stage, f"{BadRecord.__module__}.{BadRecord.__name__}")
    added = (*words, REJECT_REASON_TEXTS[reason], reason.name)
    return [*(original_headers or ()), *((name, str(word).encode()) for name, word in zip(_ADDED, added, strict=True))]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic."""

    place: PartitionOffset
    # When it was sent there, ms since 1970.
    timestamp: int
    # Where it was before: topic (with the prefix), partition and offset; None where the headers do not say.
    source: tuple[str, int, int] | None
    # Name of a Reason, or UNKNOWN where the headers do not say.
    reason: str
    message: str
    key: bytes | None
    value: bytes | None
    # The headers that the record itself had.
    headers: list[Header]


def parse_dead_letter(message: Message) -> DeadLetter:
    """The dead letter that `message` of the dead-letter topic is."""
    headers = cast(list[Header], message.headers() or [])
    names = tuple(name for name, _ in headers[-len(_ADDED) :])
    # What the worker added is at the end, so a record that had such headers before keeps them.
    own = headers[: -len(_ADDED)] if names == _ADDED else [h for h in headers if h[0] not in _ADDED]
    said = {name: _text(word) for name, word in headers if name in _ADDED}
    partition, offset = said.get(_CONNECT + "partition", ""), said.get(_CONNECT + "offset", "")
    source = None
    if partition.isdecimal() and offset.isdecimal():
        source = (said.get(_CONNECT + "topic", ""), int(partition), int(offset))
    return DeadLetter(
        place=(cast(int, message.partition()), cast(int, message.offset())),
        timestamp=message.timestamp()[1],
        source=source,
        reason=said.get(_REASON, _UNKNOWN),
        message=said.get(_CONNECT + "exception.message", ""),
        key=message.key(),
        value=message.value(),
        headers=own,
    )


def read_dead_letters(
    settings: KafkaSettings, *, reasons: Collection[str] = (), places: Collection[PartitionOffset] = ()
) -> Iterator[DeadLetter]:
    """Every dead letter there is now, or those of some reasons, or those at some places.

    Last come those of transactions without an end, which no reader of committed records sees before the next dead
    letter of the same partition: that may take days.

    Raises:
        Misconfigured: the topic does not exist.
        StreamsError: the broker does not answer.
    """
    partitions = {partition for partition, _ in places} or None
    topic = settings.prefix + DEAD_LETTERS_TOPIC
    # What was aborted was sent again, later: of each source the last one counts, and one that is committed before it.
    without_end = {
        letter.source or letter.place: letter
        for letter in map(parse_dead_letter, read_past_last_stable_offset(settings, topic, partitions=partitions))
    }
    committed = map(parse_dead_letter, read_to_end(settings, topic, partitions=partitions))
    for letter in chain(_forgetting(without_end, committed), without_end.values()):
        if (not reasons or letter.reason in reasons) and (not places or letter.place in places):
            yield letter


def _forgetting(
    without_end: dict[tuple[str, int, int] | PartitionOffset, DeadLetter], committed: Iterable[DeadLetter]
) -> Iterator[DeadLetter]:
    """The committed ones, each taken from `without_end` when it comes."""
    for letter in committed:
        without_end.pop(letter.source or letter.place, None)
        yield letter


def read_dead_letter(settings: KafkaSettings, place: PartitionOffset) -> DeadLetter | None:
    """The dead letter at `place`; None where there is none (any more).

    Raises:
        Misconfigured: the topic or the partition does not exist.
        StreamsError: the broker does not answer.
    """
    message = read_record(settings, settings.prefix + DEAD_LETTERS_TOPIC, *place, committed=False)
    return None if message is None else parse_dead_letter(message)


@dataclass(frozen=True, slots=True)
class PartialRecord:
    """As much of a value as could be decoded."""

    schema: str
    fields: Mapping[str, Any]
    # The field at which decoding ended; None when all were read.
    failed_field: str | None
    # Bytes that follow what was read.
    rest: int


def decode_partially(value: bytes | None) -> PartialRecord | None:
    """What a value of a log says, field by field until it breaks; None where not even its schema is known."""
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
            read = fastavro.schemaless_reader(body, {**schema, "fields": fields[:count]}, None)
        except Exception:  # noqa: BLE001, S112 - whatever hostile bytes make the decoder raise: try with less of them
            continue
        stopped_at = fields[count]["name"] if count < len(fields) else None
        return PartialRecord(name, cast(Mapping[str, Any], read), stopped_at, len(value) - 5 - body.tell())
    return PartialRecord(name, {}, fields[0]["name"], len(value) - 5)


def redrive(settings: KafkaSettings, places: Collection[PartitionOffset]) -> list[PartitionOffset]:
    """Send the records of the dead letters at `places` again, to the topic that they came from, as they came.

    A record that was in the wrong partition gets its parcel_id or container_id as its key; every other keeps its
    key. The dead letters stay where they are.

    Returns:
        the places of those that cannot be sent: nobody knows where they came from, or what they are of.

    Raises:
        StreamsError: the broker does not take them.
    """
    sender = new_producer(settings)
    failed: list[str] = []
    left: list[PartitionOffset] = []

    def delivered(error: Any, _: Message) -> None:
        if error is not None:
            failed.append(error.str())

    for letter in read_dead_letters(settings, places=places):
        key = _own_key(letter) if letter.reason == RejectReason.WRONG_PARTITION.name else letter.key
        if letter.source is None or (key is None and letter.key is not None):
            left.append(letter.place)
            continue
        _send(sender, letter, key, delivered)
    unsent = sender.flush(_ANSWER_SECONDS)
    if unsent or failed:
        raise StreamsError(
            f"{unsent + len(failed)} of {len(places)} records could not be sent "
            f"({failed[0] if failed else 'no answer'}): do it again, what arrives twice is recognised as a duplicate"
        )
    return left


def purge(settings: KafkaSettings, before_offsets: Mapping[int, int]) -> None:
    """Delete, in each partition, the dead letters below an offset. They cannot be had back.

    Args:
        settings: which cluster.
        ends: partition -> first offset that is kept.

    Raises:
        StreamsError: the broker refused.
    """
    topic = settings.prefix + DEAD_LETTERS_TOPIC
    wanted = [TopicPartition(topic, partition, end) for partition, end in before_offsets.items()]
    if not wanted:
        return
    client = new_admin_client(settings)  # must outlive the answers: they are lost with it
    for each, future in client.delete_records(wanted, request_timeout=_ANSWER_SECONDS).items():
        try:
            future.result()
        except KafkaException as error:
            raise StreamsError(f"deleting from {topic} [{each.partition}]: {error.args[0].str()}") from error


def _text(word: str | bytes | None) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else word or ""


def _own_key(letter: DeadLetter) -> bytes | None:
    decoded = decode_partially(letter.value)
    fields = decoded.fields if decoded else {}
    key = fields.get("parcel_id") or fields.get("container_id")
    return key.encode() if key else None


def _send(sender: Producer, letter: DeadLetter, key: bytes | None, delivered: Any) -> None:
    assert letter.source is not None
    while True:
        try:
            sender.produce(letter.source[0], letter.value, key, headers=letter.headers, on_delivery=delivered)
        except BufferError:
            sender.poll(0.1)
        else:
            sender.poll(0)
            return
