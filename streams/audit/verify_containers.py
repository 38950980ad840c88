"""Containers, read independently: does what was inferred follow from what was said of them, each thing once?

All events that somebody made are taken from hub.containers. `streams/domain/reference/propagation.py`, which knows the
whole log at once, derives what follows from them. Each child that an event concerns must have exactly one record of it
that is not retracted. More may have been written while less was known, and the same again, which its id says: that does
no harm, as long as it follows from an event and from a packing.
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
_SAID: Final = ("kind", "event_time", "site", "station", "lane", "utc_offset_minutes")


class _InferredRecordId(NamedTuple):
    """What an inferred record is known by: the same event_id is one of a parcel and one of a container."""

    # "parcel" or "container": what the child is that it was written for.
    role: str
    event_id: str


class _InferredRecord(NamedTuple):
    """A record that was written for a child."""

    child: str
    container: str
    root: str
    said: tuple[Any, ...]


class ContainerVerifier:
    """What hub.containers and hub.scans say of containers, told in the order of each log."""

    def __init__(self, report: VerificationReport) -> None:
        self._report = report
        # Events that somebody made, by (container, identity).
        self._own: dict[tuple[str, bytes], Mapping[str, Any]] = {}
        # Inferred records: how often each is there, and which are taken back.
        self._there: Counter[_InferredRecordId] = Counter()
        self._back: set[_InferredRecordId] = set()
        self._inferred: dict[_InferredRecordId, _InferredRecord] = {}
        # (container, root) -> ids of the events that it got of it.
        self._got: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        # Partition of hub.scans -> offset of the last inferred record; offsets and hub times of its ticks.
        self._last: dict[int, int] = {}
        self._ticks: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._scan, self._event = RecordDecoder("Scan"), RecordDecoder("ContainerEvent")

    def add_events(self, records: Iterable[LogRecord]) -> None:
        """Take in hub.containers; what nobody can read is somebody else's affair."""
        for _, value, _, _ in records:
            try:
                event = self._event(value)
            except DecodingError:
                continue
            if _is_refused(event, value):
                continue
            if event["inferred_from"] is None and not _is_inferred(event["voids"]):
                self._own.setdefault((event["container_id"], _identity(event)), event)
                continue
            self._take("container", event, event["container_id"], event["parent_id"])
            if event["kind"] != "VOID":
                self._got[event["container_id"], event["inferred_from"]][event["event_id"]] = None

    def add_scans(self, records: Iterable[LogRecord]) -> None:
        """Take in hub.scans."""
        for key, value, partition, offset in records:
            if key is None:
                self._ticks[partition].append((offset, _hub_time(value)))
            elif value is not None and _MARK in value:
                try:
                    scan = self._scan(value)
                except DecodingError:
                    continue
                if scan["inferred_from"] is not None or _is_inferred(scan["voids"]):
                    self._take("parcel", scan, scan["parcel_id"], scan["container_id"])
                    self._last[partition] = offset

    def unsettled_partitions(self, hub_time: int) -> list[int]:
        """Partitions of hub.scans in which no tick of this hub time or a later one follows what was inferred."""
        return sorted(
            partition
            for partition, last in self._last.items()
            if not any(offset > last and at >= hub_time for offset, at in self._ticks[partition])
        )

    def compare(self) -> None:
        """Everything that must have been inferred is there once, and nothing without a cause."""
        self._report.inferred = len(self._there)
        self._report.repeated_inferred_records = self._there.total() - len(self._there)
        named = self._told_of_must()
        roots = {(container, event["event_id"]): event for (container, _), event in self._own.items()
                 if event["kind"] != "VOID"}  # fmt: skip
        by_id = {event_id: event for (_, event_id), event in roots.items()}
        for name, found in self._inferred.items():
            if (wrong := self._wrong(name, found, by_id, roots, named)) is not None:
                self._report.wrong_inferred.append(Difference(found.child, name.event_id, *wrong))

    def _told_of_must(self) -> dict[str, set[str]]:
        """Compare with what must be there; container -> children that were ever named."""
        named: defaultdict[str, set[str]] = defaultdict(set)
        for handed in propagate(_plain(event, mark) for (_, mark), event in self._own.items()):
            container = str(handed.path[-1])
            if handed.cause.container == container:
                named[container].update(handed.cause.parcels, handed.cause.containers)
            if not handed.required:
                continue
            root = str(handed.cause.event_id)
            got = [_InferredRecordId("container", each) for each in self._got[container, root]]
            causes = [root] if len(handed.path) == 1 else [each.event_id for each in self._live(got)]
            children = [("parcel", each) for each in handed.parcels] + [
                ("container", each) for each in handed.containers
            ]
            for role, child in children:
                live = self._live(each for cause in causes for each in self._ids(role, cause, child))
                if len(live) != 1:
                    what = f"{handed.cause.kind} of {' in '.join(map(str, reversed(handed.path)))}, from {root}"
                    self._report.missing_inferred.append(Difference(str(child), what, "one record", len(live)))
        return named

    def _ids(self, role: str, cause: str, child: str) -> list[_InferredRecordId]:
        """The ids under which it was told, again after each time that it was taken back."""
        found: list[_InferredRecordId] = []
        for generation in count():
            name = _InferredRecordId(role, expected_inferred_id(cause, child, generation))
            if name not in self._there:
                return found
            found.append(name)
        raise AssertionError

    def _live(self, ids: Iterable[_InferredRecordId]) -> list[_InferredRecordId]:
        return [name for name in ids if name not in self._back]

    def _wrong(
        self, name: _InferredRecordId, found: _InferredRecord, by_id: Mapping[str, Mapping[str, Any]],
        roots: Mapping[tuple[str, str], Mapping[str, Any]], named: Mapping[str, set[str]],
    ) -> tuple[Any, Any] | None:  # fmt: skip
        """What is wrong with an inferred record: what it must be, and what it is."""
        root = by_id.get(found.root)
        if root is None:
            return "an event of a container", f"nobody said {found.root}"
        direct = [found.root] if (found.container, found.root) in roots else []
        causes = [*direct, *self._got[found.container, found.root]]
        if not any(name in self._ids(name.role, cause, found.child) for cause in causes):
            return "the id that follows from its cause", f"one that does not follow from {found.root}"
        if found.said != tuple(root[name] for name in _SAID):
            return "as in the event that it follows from", f"{found.said}"
        if found.child not in named[found.container]:
            return f"a child of {found.container}", "never put into it"
        return None

    def _take(self, role: str, record: Mapping[str, Any], child: str, container: str | None) -> None:
        if record["kind"] == "VOID":
            self._back.add(_InferredRecordId(role, record["voids"]))
            return
        name = _InferredRecordId(role, record["event_id"])
        self._there[name] += 1
        said = tuple(record[field] for field in _SAID)
        self._inferred[name] = _InferredRecord(child, container or "", record["inferred_from"], said)


def container_positions(records: Iterable[LogRecord]) -> tuple[dict[int, int], dict[int, int]]:
    """By partition: up to where hub.containers is folded, and how many fan-outs are not written to their end."""
    decode = RecordDecoder("InputPosition")
    newest = {partition: decode(value) for key, value, partition, _ in records if key == POSITION_KEY}
    positions = {partition: position["next_offset"] for partition, position in newest.items()}
    left = {
        partition: len(position["pending_fan_outs"])
        for partition, position in newest.items()
        if position["pending_fan_outs"]
    }
    return positions, left


def expected_inferred_id(cause: str, child: str, generation: int = 0) -> str:
    """The event_id that a record must have which follows from an event of the container around a child."""
    tail = f"\0{generation}" if generation else ""
    return _PREFIX + record_hash(f"{cause}\0{child}{tail}".encode()).hex()


def _plain(event: Mapping[str, Any], mark: bytes) -> ReferenceContainerEvent:
    return ReferenceContainerEvent(
        event["event_id"], event["container_id"], event["kind"], event["event_time"], event["site"],
        event["parcels"], event["containers"], event["parent_id"], event["voids"], mark,
    )  # fmt: skip


def _is_refused(event: Mapping[str, Any], value: bytes | None) -> bool:
    """Can it be read, and yet nobody takes it?"""
    own, parent = event["container_id"], event["parent_id"]
    nothing = event["kind"] == "PACKED" and parent is None and not event["parcels"] and not event["containers"]
    around = own == parent or own in event["containers"] or own in event["path"]
    return nothing or around or len(event["path"]) > MAX_NESTING_DEPTH or len(value or b"") > MAX_CONTAINER_RECORD_BYTES


def _identity(event: Mapping[str, Any]) -> bytes:
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
