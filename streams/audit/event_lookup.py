"""From the identities in states, milestones and alerts back to the events of the log.

A state knows a record by 16 bytes, so that a million parcels fit into memory. The event, with its event_id and the
device that sent it, stays in hub.scans as long as that topic keeps it. This reads the parcel's partition to find it.
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
    # When the broker took it, ms since 1970.
    append_time: int
    # Scan or Advice.
    type: str
    # All its fields.
    said: Mapping[str, Any]


def read_parcel_events(settings: KafkaSettings, parcel_id: bytes, partition: int) -> dict[bytes, SourceEvent]:
    """The events of a parcel by identity, each where it came first; reads the whole partition of hub.scans.

    Raises:
        StreamsError: the broker does not answer.
    """
    decoders = {name: RecordDecoder(name) for name in _TYPES}
    found: dict[bytes, SourceEvent] = {}
    for message in read_to_end(settings, settings.prefix + SCANS_TOPIC, partitions=[partition]):
        # Most records are of other parcels: the bytes say so before anything is decoded.
        if parcel_id not in (value := message.value() or b""):
            continue
        for name, decode in decoders.items():
            try:
                said = decode(value)
            except DecodingError:
                continue
            if said["parcel_id"].encode() == parcel_id:
                event = SourceEvent(
                    _identity(said), partition, cast(int, message.offset()), message.timestamp()[1], name, said
                )
                found.setdefault(event.record_hash, event)
            break
    return found


def read_parcel_alerts(settings: KafkaSettings, parcel_id: bytes, partition: int) -> list[Mapping[str, Any]]:
    """Everything that was told of a parcel, in the order in which it was told; reads the partition of parcel.alerts.

    Raises:
        StreamsError: the broker does not answer.
    """
    decode = RecordDecoder("Alert")
    records = read_to_end(settings, settings.prefix + ALERTS_TOPIC, partitions=[partition])
    return [decode(record.value()) for record in records if record.key() == parcel_id]


def _identity(said: Mapping[str, Any]) -> bytes:
    name: bytes = said["event_id"].encode()
    if said.get("kind") == "VOID":
        name += b"\0" + said["event_time"].to_bytes(8, "big", signed=True)
    return record_hash(name)
