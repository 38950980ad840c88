"""Containers as the topics of states tell of them, for people: what is inside one, and what a thing travelled in.

What a container's own events say of its children is a declaration; whether a child is inside is judged by the child's
own records (docs/decisions/containers.md), so that both ways of asking give one answer. Keeps nothing.
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
    """A time that something spent in a container; `until` is None where it is still inside."""

    container_id: str
    since: int
    until: int | None
    # What the container itself was in meanwhile.
    outer_stays: list["Stay"] = field(default_factory=list)


def load_container(settings: KafkaSettings, container_id: str, partitions: int) -> Container | None:
    """A container and its children; None where nothing is known of it.

    Raises:
        StreamsError: the broker does not answer, or a record cannot be read.
    """
    key = container_id.encode(errors="surrogateescape")
    partition = partition_of(key, partitions)
    newest: dict[bytes, bytes | None] = {}
    for record in read_to_end(settings, settings.prefix + CONTAINER_STATE_TOPIC, partitions=[partition]):
        name = record.key() or b""
        if name != POSITION_KEY and (name == key or name.startswith(key + b"\0")):
            newest[name] = record.value()
    stage = ContainerProcessor(partition, partitions)
    stage.restore(newest)
    stage.finish_restore(None)
    return next(iter(stage.containers.values()), None)


def order_as_of(time_ms: int | None) -> Order:
    """The place in a container's order after everything that happened until then; None: after everything."""
    return (LATEST_MS if time_ms is None else time_ms, _LAST_RANK, b"")


def events_as_of(container: Container, time_ms: int | None) -> list[ContainerEvent]:
    """Its events until then."""
    return [event for event in container.events if event.order < order_as_of(time_ms)]


def stays_of_parcel(state: Mapping[str, Any]) -> list[Stay]:
    """What a parcel was in, by its state."""
    wrong = {entry["voids"] for entry in state["timeline"] if entry["voids"]}
    own = [entry for entry in state["timeline"] if entry["kind"] != "VOID" and entry["details"] is not None]
    told = [
        ContainmentRecord(
            entry["kind"],
            entry["details"]["site"] or "",
            entry["container_id"],
            entry["inferred"],
            entry["record_hash"] in wrong,
            entry["details"]["reason"],
        )
        for entry in own
    ]
    return _stays(zip((entry["event_time"] for entry in own), evaluate_containment(told).containers_after, strict=True))


def stays_of_container(container: Container) -> list[Stay]:
    """What a container was in itself."""
    return _stays((event.event_time, inside) for event, inside in container.containment_history())


@dataclass(frozen=True, slots=True)
class ContainerContents:
    """Who is in a container, ids in their order."""

    containers: list[str]
    parcels: list[str]


def load_contents(settings: KafkaSettings, container_id: str, time_ms: int | None) -> ContainerContents:
    """Who is in a container as of a time (ms since 1970; None: now), by the records of each child.

    Reads both topics of states as a whole. A parcel or container that has retired is in nothing any more.

    Raises:
        StreamsError: the broker does not answer, or a record cannot be read.
    """
    state, container = RecordDecoder("ParcelState"), container_state_codec()
    parcels = {key: stays_of_parcel(state(value)) for key, value in _naming(settings, PARCEL_STATE_TOPIC, container_id)}
    containers = {
        key: stays_of_container(container.decode(value))
        for key, value in _naming(settings, CONTAINER_STATE_TOPIC, container_id)
    }
    return ContainerContents(*(_inside(each, container_id, time_ms) for each in (containers, parcels)))


def _naming(settings: KafkaSettings, topic: str, container_id: str) -> Iterator[tuple[str, bytes]]:
    """Key and newest value of those whose state mentions a container: few, so the others are not decoded."""
    named, newest = container_id.encode(errors="surrogateescape"), dict[bytes, bytes]()
    for record in read_to_end(settings, settings.prefix + topic):
        key, value = record.key(), record.value()
        # A membership is a container's declaration, and has a NUL byte in its key, as the position has.
        if key is None or b"\0" in key:
            continue
        if value is not None and named in value:
            newest[key] = value
        else:
            newest.pop(key, None)
    for key, value in newest.items():
        yield key.decode(errors="surrogateescape"), value


def _inside(stays: Mapping[str, list[Stay]], container_id: str, time_ms: int | None) -> list[str]:
    def holds(stay: Stay) -> bool:
        if stay.container_id != container_id:
            return False
        if time_ms is None:
            return stay.until is None
        return stay.since <= time_ms and (stay.until is None or time_ms < stay.until)

    return sorted(child for child, all_of_it in stays.items() if any(map(holds, all_of_it)))


def with_outer_stays(
    settings: KafkaSettings, stays: list[Stay], partitions: int, above: tuple[str, ...] = ()
) -> list[Stay]:
    """The same stays, each with what its container was in meanwhile, and so on outwards.

    Raises:
        StreamsError: as `load_container` does.
    """
    known: dict[str, Container | None] = {}
    made = []
    for stay in stays:
        name = stay.container_id
        if name not in known:
            deep = len(above) >= MAX_NESTING_DEPTH or name in above
            known[name] = None if deep else load_container(settings, name, partitions)
        container = known[name]
        around = [] if container is None else _during(stays_of_container(container), stay)
        made.append(Stay(name, stay.since, stay.until, with_outer_stays(settings, around, partitions, (*above, name))))
    return made


def _stays(after: Iterable[tuple[int, str | None]]) -> list[Stay]:
    """Of each record the time, and what the thing was in after it."""
    stays: list[Stay] = []
    now: tuple[str, int] | None = None
    for time, inside in after:
        if now is not None and inside != now[0]:
            stays.append(Stay(now[0], now[1], time))
            now = None
        if now is None and inside is not None:
            now = inside, time
    return [*stays, Stay(*now, None)] if now is not None else stays


def _during(stays: Iterable[Stay], of: Stay) -> list[Stay]:
    """The parts of stays that lie within another one."""
    parts = []
    for stay in stays:
        since = max(stay.since, of.since)
        ends = [end for end in (stay.until, of.until) if end is not None]
        if not ends or since < min(ends):
            parts.append(Stay(stay.container_id, since, min(ends, default=None)))
    return parts
