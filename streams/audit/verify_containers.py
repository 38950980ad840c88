"""Verifies the records that were inferred from container events: each follows from an event, and none is missing.

The captured events are read from hub.containers. `streams/domain/reference/propagation.py`, which has the whole log at
once, derives the propagations. Each child that an event concerns must have exactly one record of it that is not
retracted. More records may have been written before all events were known, and records may be repeated with the same
id. Both do no harm, as long as each record follows from an event and from a packing.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from streams.audit.verify import Difference, LogRecord, VerificationReport, record_hash
from streams.domain.kinds import KINDS
from streams.domain.limits import MAX_CONTAINER_RECORD_BYTES, MAX_NESTING_DEPTH
from streams.domain.reference.propagation import ReferenceContainerEvent, propagate
from streams.formats.record_decoder import DecodingError, RecordDecoder
from streams.formats.topics import POSITION_KEY

_PREFIX: Final = "urn:parcels:inferred:"
_MARK: Final = _PREFIX.encode()
_TICK: Final = RecordDecoder("Tick")
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
_COPIED_FIELDS: Final = ("kind", "event_time", "site", "station", "lane", "utc_offset_minutes")


class _InferredRecordId(NamedTuple):
    """Names an inferred record: a parcel and a container may have records with the same event_id."""

    # "parcel" or "container": the type of the child.
    role: str
    event_id: str


class _InferredRecord(NamedTuple):
    """A record that was inferred for a child."""

    child: str
    container: str
    root_event_id: str
    content: tuple[Any, ...]


class ContainerVerifier:
    """Checks hub.containers and hub.scans, each in log order."""

    def __init__(self, report: VerificationReport) -> None:
        self._report = report
        # Captured events by (container_id, event hash).
        self._captured: dict[tuple[str, bytes], Mapping[str, Any]] = {}
        # Inferred records: how often each is there, which are retracted, and their content.
        self._counts: Counter[_InferredRecordId] = Counter()
        self._retracted: set[_InferredRecordId] = set()
        self._inferred: dict[_InferredRecordId, _InferredRecord] = {}
        # (container_id, root event_id) -> ids of the events that the container received from the root event.
        self._received: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        # Partition of hub.scans -> offset of its last inferred record; and offsets and hub times of its ticks.
        self._last_inferred: dict[int, int] = {}
        self._ticks: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._scan, self._event = RecordDecoder("Scan"), RecordDecoder("ContainerEvent")

    def add_events(self, records: Iterable[LogRecord]) -> None:
        """Add records of hub.containers; those that cannot be decoded are checked as dead letters."""
        for _, value, _, _ in records:
            try:
                event = self._event(value)
            except DecodingError:
                continue
            if _is_rejected(event, value):
                continue
            if event["inferred_from"] is None and not _is_inferred(event["voids"]):
                self._captured.setdefault((event["container_id"], _event_hash(event)), event)
                continue
            self._add_inferred("container", event, event["container_id"], event["parent_id"])
            if event["kind"] != "VOID":
                self._received[event["container_id"], event["inferred_from"]][event["event_id"]] = None

    def add_scans(self, records: Iterable[LogRecord]) -> None:
        """Add records of hub.scans."""
        for key, value, partition, offset in records:
            if key is None:
                self._ticks[partition].append((offset, _hub_time(value)))
            elif value is not None and _MARK in value:
                try:
                    scan = self._scan(value)
                except DecodingError:
                    continue
                if scan["inferred_from"] is not None or _is_inferred(scan["voids"]):
                    self._add_inferred("parcel", scan, scan["parcel_id"], scan["container_id"])
                    self._last_inferred[partition] = offset

    def unsettled_partitions(self, hub_time: int) -> list[int]:
        """Partitions of hub.scans in which no tick with at least this hub time follows the inferred records."""
        return sorted(
            partition
            for partition, last_offset in self._last_inferred.items()
            if not any(offset > last_offset and tick_time >= hub_time for offset, tick_time in self._ticks[partition])
        )

    def compare(self) -> None:
        """Check that each required record is there once, and that each record has a cause."""
        self._report.inferred_records = len(self._counts)
        self._report.repeated_inferred_records = self._counts.total() - len(self._counts)
        declared = self._compare_required()
        roots = {(container, event["event_id"]): event for (container, _), event in self._captured.items()
                 if event["kind"] != "VOID"}  # fmt: skip
        by_id = {event_id: event for (_, event_id), event in roots.items()}
        for record_id, found in self._inferred.items():
            if (mismatch := self._mismatch(record_id, found, by_id, roots, declared)) is not None:
                self._report.wrong_inferred.append(Difference(found.child, record_id.event_id, *mismatch))

    def _compare_required(self) -> dict[str, set[str]]:
        """Check that each required record is there once; returns container -> children that were ever declared."""
        declared: defaultdict[str, set[str]] = defaultdict(set)
        events = (_to_reference(event, event_hash) for (_, event_hash), event in self._captured.items())
        for propagation in propagate(events):
            container = str(propagation.path[-1])
            if propagation.cause.container == container:
                declared[container].update(propagation.cause.parcels, propagation.cause.containers)
            if not propagation.required:
                continue
            root = str(propagation.cause.event_id)
            received = [_InferredRecordId("container", each) for each in self._received[container, root]]
            causes = [root] if len(propagation.path) == 1 else [each.event_id for each in self._live(received)]
            children = [("parcel", each) for each in propagation.parcels] + [
                ("container", each) for each in propagation.containers
            ]
            for role, child in children:
                live = self._live(each for cause in causes for each in self._ids(role, cause, child))
                if len(live) != 1:
                    path = " in ".join(map(str, reversed(propagation.path)))
                    field = f"{propagation.cause.kind} of {path}, from {root}"
                    self._report.missing_inferred.append(Difference(str(child), field, "one record", len(live)))
        return declared

    def _ids(self, role: str, cause: str, child: str) -> list[_InferredRecordId]:
        """Ids of the records of an event for a child: one, and another after each retraction."""
        ids: list[_InferredRecordId] = []
        for generation in count():
            record_id = _InferredRecordId(role, expected_inferred_id(cause, child, generation))
            if record_id not in self._counts:
                return ids
            ids.append(record_id)
        raise AssertionError

    def _live(self, ids: Iterable[_InferredRecordId]) -> list[_InferredRecordId]:
        return [record_id for record_id in ids if record_id not in self._retracted]

    def _mismatch(
        self, record_id: _InferredRecordId, found: _InferredRecord, by_id: Mapping[str, Mapping[str, Any]],
        roots: Mapping[tuple[str, str], Mapping[str, Any]], declared: Mapping[str, set[str]],
    ) -> tuple[Any, Any] | None:  # fmt: skip
        """What was expected of a wrong inferred record, and what was found; None if it is right."""
        root = by_id.get(found.root_event_id)
        if root is None:
            return "an event of a container", f"no event {found.root_event_id}"
        direct = [found.root_event_id] if (found.container, found.root_event_id) in roots else []
        causes = [*direct, *self._received[found.container, found.root_event_id]]
        if not any(record_id in self._ids(record_id.role, cause, found.child) for cause in causes):
            return "the id that follows from its cause", f"one that does not follow from {found.root_event_id}"
        if found.content != tuple(root[name] for name in _COPIED_FIELDS):
            return "as in the event that it follows from", f"{found.content}"
        if found.child not in declared[found.container]:
            return f"a child of {found.container}", "never put into it"
        return None

    def _add_inferred(self, role: str, record: Mapping[str, Any], child: str, container: str | None) -> None:
        if record["kind"] == "VOID":
            self._retracted.add(_InferredRecordId(role, record["voids"]))
            return
        record_id = _InferredRecordId(role, record["event_id"])
        self._counts[record_id] += 1
        content = tuple(record[field] for field in _COPIED_FIELDS)
        self._inferred[record_id] = _InferredRecord(child, container or "", record["inferred_from"], content)


def container_positions(records: Iterable[LogRecord]) -> tuple[dict[int, int], dict[int, int]]:
    """By partition: the next offset of hub.containers, and the number of pending fan-outs, if there are any."""
    decode = RecordDecoder("InputPosition")
    newest = {partition: decode(value) for key, value, partition, _ in records if key == POSITION_KEY}
    positions = {partition: position["next_offset"] for partition, position in newest.items()}
    pending = {
        partition: len(position["pending_fan_outs"])
        for partition, position in newest.items()
        if position["pending_fan_outs"]
    }
    return positions, pending


def expected_inferred_id(cause: str, child: str, generation: int = 0) -> str:
    """The event_id of the record that a child has from an event (`cause`) of the container around it."""
    tail = f"\0{generation}" if generation else ""
    return _PREFIX + record_hash(f"{cause}\0{child}{tail}".encode()).hex()


def _to_reference(event: Mapping[str, Any], event_hash: bytes) -> ReferenceContainerEvent:
    return ReferenceContainerEvent(
        event["event_id"], event["container_id"], event["kind"], event["event_time"], event["site"],
        event["parcels"], event["containers"], event["parent_id"], event["voids"], event_hash,
    )  # fmt: skip


def _is_rejected(event: Mapping[str, Any], value: bytes | None) -> bool:
    """Whether an event is a dead letter though it can be decoded."""
    own, parent = event["container_id"], event["parent_id"]
    childless = event["kind"] == "PACKED" and parent is None and not event["parcels"] and not event["containers"]
    cyclic = own == parent or own in event["containers"] or own in event["path"]
    too_large = len(event["path"]) > MAX_NESTING_DEPTH or len(value or b"") > MAX_CONTAINER_RECORD_BYTES
    return childless or cyclic or too_large


def _event_hash(event: Mapping[str, Any]) -> bytes:
    name = event["event_id"].encode()
    return record_hash(name + b"\0" + struct.pack(">q", event["event_time"]) if event["kind"] == "VOID" else name)


def _is_inferred(event_id: str | None) -> bool:
    return event_id is not None and event_id.startswith(_PREFIX)


def _hub_time(value: bytes | None) -> int:
    try:
        hub_time: int = _TICK(value)["hub_time"]
    except DecodingError:
        return -(1 << 63)
    return hub_time
