"""Look-ups in the state topics: the contents of a container, and the containers that a parcel or container was in.

A container's own events only declare its children. Whether a child is inside follows from the child's own records
(docs/decisions/containers.md), so that both look-ups agree. Nothing is kept between calls.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from streams.domain.container_events import ContainerEvent, Order
from streams.domain.containers import Container
from streams.domain.containment import ContainmentRecord, evaluate_containment
from streams.domain.limits import LATEST_MS, MAX_NESTING_DEPTH
from streams.formats.record_decoder import RecordDecoder
from streams.formats.topics import CONTAINER_STATE_TOPIC, PARCEL_STATE_TOPIC, POSITION_KEY, partition_of
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from streams.processors.container_codecs import container_state_codec
from streams.processors.container_processor import ContainerProcessor

_LAST_RANK: Final = 32


@dataclass(frozen=True, slots=True)
class Stay:
    """A time that a parcel or container spent in a container; `until` is None while it is inside."""

    container_id: str
    since: int
    until: int | None
    # The stays of that container in outer containers during this time.
    outer_stays: list["Stay"] = field(default_factory=list)


def load_container(settings: KafkaSettings, container_id: str, partitions: int) -> Container | None:
    """A container and its children; None if there is no state of it.

    Raises:
        StreamsError: the broker does not answer, or a record cannot be read.
    """
    key = container_id.encode(errors="surrogateescape")
    partition = partition_of(key, partitions)
    newest: dict[bytes, bytes | None] = {}
    for record in read_to_end(settings, settings.prefix + CONTAINER_STATE_TOPIC, partitions=[partition]):
        record_key = record.key() or b""
        if record_key != POSITION_KEY and (record_key == key or record_key.startswith(key + b"\0")):
            newest[record_key] = record.value()
    processor = ContainerProcessor(partition, partitions)
    processor.restore(newest)
    processor.finish_restore(None)
    return next(iter(processor.containers.values()), None)


def order_as_of(time_ms: int | None) -> Order:
    """The position in a container's order after all events until a time; None: after all events."""
    return (LATEST_MS if time_ms is None else time_ms, _LAST_RANK, b"")


def events_as_of(container: Container, time_ms: int | None) -> list[ContainerEvent]:
    """The events of a container until a time; None: all."""
    return [event for event in container.events if event.order < order_as_of(time_ms)]


def stays_of_parcel(state: Mapping[str, Any]) -> list[Stay]:
    """The stays of a parcel in containers, from its state."""
    voided = {entry["voids"] for entry in state["timeline"] if entry["voids"]}
    entries = [entry for entry in state["timeline"] if entry["kind"] != "VOID" and entry["details"] is not None]
    records = [
        ContainmentRecord(
            entry["kind"],
            entry["details"]["site"] or "",
            entry["container_id"],
            entry["inferred"],
            entry["record_hash"] in voided,
            entry["details"]["reason"],
        )
        for entry in entries
    ]
    return _stays(
        zip((entry["event_time"] for entry in entries), evaluate_containment(records).containers_after, strict=True)
    )


def stays_of_container(container: Container) -> list[Stay]:
    """The stays of a container in other containers."""
    return _stays((event.event_time, inside) for event, inside in container.containment_history())


@dataclass(frozen=True, slots=True)
class ContainerContents:
    """The children in a container, as sorted ids."""

    containers: list[str]
    parcels: list[str]


def load_contents(settings: KafkaSettings, container_id: str, time_ms: int | None) -> ContainerContents:
    """The children in a container at a time (ms since 1970; None: now), from the records of each child.

    This reads both state topics as a whole. A parcel or container that has retired is in no container.

    Raises:
        StreamsError: the broker does not answer, or a record cannot be read.
    """
    decode_state, codec = RecordDecoder("ParcelState"), container_state_codec()
    parcels = {
        key: stays_of_parcel(decode_state(value))
        for key, value in _states_naming(settings, PARCEL_STATE_TOPIC, container_id)
    }
    containers = {
        key: stays_of_container(codec.decode(value))
        for key, value in _states_naming(settings, CONTAINER_STATE_TOPIC, container_id)
    }
    return ContainerContents(*(_children_inside(stays, container_id, time_ms) for stays in (containers, parcels)))


def _states_naming(settings: KafkaSettings, topic: str, container_id: str) -> Iterator[tuple[str, bytes]]:
    """Key and newest value of the states that contain a container's id: these few are decoded, the others are not."""
    id_bytes, newest = container_id.encode(errors="surrogateescape"), dict[bytes, bytes]()
    for record in read_to_end(settings, settings.prefix + topic):
        key, value = record.key(), record.value()
        # Keys with a NUL byte are of positions, and of the children that a container declares.
        if key is None or b"\0" in key:
            continue
        if value is not None and id_bytes in value:
            newest[key] = value
        else:
            newest.pop(key, None)
    for key, value in newest.items():
        yield key.decode(errors="surrogateescape"), value


def _children_inside(stays: Mapping[str, list[Stay]], container_id: str, time_ms: int | None) -> list[str]:
    def holds(stay: Stay) -> bool:
        if stay.container_id != container_id:
            return False
        if time_ms is None:
            return stay.until is None
        return stay.since <= time_ms and (stay.until is None or time_ms < stay.until)

    return sorted(child for child, child_stays in stays.items() if any(map(holds, child_stays)))


def with_outer_stays(
    settings: KafkaSettings, stays: list[Stay], partitions: int, outer_containers: tuple[str, ...] = ()
) -> list[Stay]:
    """The same stays, each with the stays of its container in outer containers, and so on outwards.

    Raises:
        StreamsError: as `load_container` does.
    """
    containers: dict[str, Container | None] = {}
    result = []
    for stay in stays:
        container_id = stay.container_id
        if container_id not in containers:
            at_limit = len(outer_containers) >= MAX_NESTING_DEPTH or container_id in outer_containers
            containers[container_id] = None if at_limit else load_container(settings, container_id, partitions)
        container = containers[container_id]
        outer = [] if container is None else _overlaps(stays_of_container(container), stay)
        result.append(
            Stay(
                container_id,
                stay.since,
                stay.until,
                with_outer_stays(settings, outer, partitions, (*outer_containers, container_id)),
            )
        )
    return result


def _stays(history: Iterable[tuple[int, str | None]]) -> list[Stay]:
    """Stays from a history: the time of each record, and the container after it."""
    stays: list[Stay] = []
    current: tuple[str, int] | None = None
    for time, container_id in history:
        if current is not None and container_id != current[0]:
            stays.append(Stay(current[0], current[1], time))
            current = None
        if current is None and container_id is not None:
            current = container_id, time
    return [*stays, Stay(*current, None)] if current is not None else stays


def _overlaps(stays: Iterable[Stay], other: Stay) -> list[Stay]:
    """The parts of `stays` that lie within another stay."""
    parts = []
    for stay in stays:
        since = max(stay.since, other.since)
        ends = [end for end in (stay.until, other.until) if end is not None]
        if not ends or since < min(ends):
            parts.append(Stay(stay.container_id, since, min(ends, default=None)))
    return parts
