"""From the record hashes in states, milestones and alerts back to the events in the log.

A state has a hash of 16 bytes for each record, so that a million parcels fit into memory. The event with its event_id
and device stays in hub.scans for the retention time of that topic. To find it, the parcel's partition is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from streams.audit.verify import record_hash
from streams.formats.record_decoder import DecodingError, RecordDecoder
from streams.formats.topics import ALERTS_TOPIC, SCANS_TOPIC
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings

_TYPES: Final = ("Scan", "Advice")


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A record of hub.scans."""

    record_hash: bytes
    partition: int
    offset: int
    # When the broker appended it, ms since 1970.
    append_time: int
    # Scan or Advice.
    record_type: str
    # All its fields.
    fields: Mapping[str, Any]


def read_parcel_events(settings: KafkaSettings, parcel_id: bytes, partition: int) -> dict[bytes, SourceEvent]:
    """The events of a parcel by record hash, each at its first offset; reads the whole partition of hub.scans.

    Raises:
        StreamsError: the broker does not answer.
    """
    decoders = {name: RecordDecoder(name) for name in _TYPES}
    events: dict[bytes, SourceEvent] = {}
    for message in read_to_end(settings, settings.prefix + SCANS_TOPIC, partitions=[partition]):
        # Most records are of other parcels; a look at the bytes saves decoding them.
        if parcel_id not in (value := message.value() or b""):
            continue
        for name, decode in decoders.items():
            try:
                fields = decode(value)
            except DecodingError:
                continue
            if fields["parcel_id"].encode() == parcel_id:
                event = SourceEvent(
                    _event_hash(fields), partition, cast(int, message.offset()), message.timestamp()[1], name, fields
                )
                events.setdefault(event.record_hash, event)
            break
    return events


def read_parcel_alerts(settings: KafkaSettings, parcel_id: bytes, partition: int) -> list[Mapping[str, Any]]:
    """The alerts of a parcel in the order of the topic; reads the whole partition of parcel.alerts.

    Raises:
        StreamsError: the broker does not answer.
    """
    decode = RecordDecoder("Alert")
    records = read_to_end(settings, settings.prefix + ALERTS_TOPIC, partitions=[partition])
    return [decode(record.value()) for record in records if record.key() == parcel_id]


def _event_hash(fields: Mapping[str, Any]) -> bytes:
    name: bytes = fields["event_id"].encode()
    if fields.get("kind") == "VOID":
        name += b"\0" + fields["event_time"].to_bytes(8, "big", signed=True)
    return record_hash(name)
