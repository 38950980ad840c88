"""The container stage's way from payloads to events and back: what is read, what is kept, and what children get.

Shared by all partitions: nothing here keeps anything between batches.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from sys import intern
from typing import Any, Final, NamedTuple

import fastavro
import numpy as np

from streams.domain.container_events import ContainerEvent, identity_of, pack_ids
from streams.domain.containers import Container
from streams.domain.kinds import KINDS
from streams.domain.limits import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_CONTAINER_ID_BYTES,
    MAX_CONTAINER_RECORD_BYTES,
    MAX_EVENT_ID_BYTES,
    MAX_NESTING_DEPTH,
    MAX_PARCEL_ID_BYTES,
    MAX_TEXT_BYTES,
    MAX_UTC_OFFSET_MINUTES,
)
from streams.domain.reject_reasons import RejectReason
from streams.formats.record_block import RecordBlock
from streams.formats.record_decoder import RecordDecoder as PlainDecoder
from streams.formats.record_decoder import without_logical_types
from streams.formats.schemas import load_schemas
from streams.kernel.avro.decoder import ColumnDecoder, DecodedColumns
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.avro.layout import Layout

_EVENT: Final = 0
_CONTROL: Final = bytes((*range(0x20), 0x7F))
_LISTING: Final = ("PACKED", "UNPACKED")
_ENTRY: Final = (
    "event_id", "kind", "event_time", "utc_offset_minutes", "record_time", "site", "station", "lane", "reason",
    "parent_id", "voids", "inferred_from", "path", "propagated", "generation", "conflicting_packing",
)  # fmt: skip
_STATE_BYTES: Final = 16 << 20
# So much is decoded at a time: manifests of freighters are large, and a transaction may have room for one of them only.
_SLICE_BYTES: Final = 1 << 20


class ContainerLogRecord(NamedTuple):
    """One record of hub.containers: an event of a container, a Tick, or why it is neither."""

    container_id: str = ""
    event: ContainerEvent | None = None
    hub_time: int | None = None
    reason: RejectReason = RejectReason.OK


class ChildRecord(NamedTuple):
    """What is kept of a child: is it a container, and the identities of the events that name it, one by one."""

    child: bytes
    is_container: bool
    record_hashes: bytes

    @property
    def key(self) -> bytes:
        """What stands behind the container_id and a NUL byte; the same id may be that of a parcel and a container."""
        return child_key_suffix(self.child, is_container=self.is_container)


def child_key_suffix(child: bytes, *, is_container: bool) -> bytes:
    """What a child's key in container.state ends with."""
    return child + b"\0" if is_container else child


class ContainerEventDecoder:
    """Decoder of hub.containers."""

    def __init__(self) -> None:
        schemas = load_schemas()
        names = ("ContainerEvent", "Tick")
        readers = [schemas.current(name) for name in names]
        layout = Layout.of(*readers)
        writers = {
            number: (schema, names.index(name)) for number, (name, schema) in schemas.writer_schemas(*names).items()
        }
        self._decoder = ColumnDecoder(layout, readers, writers, max_value_bytes=MAX_CONTAINER_RECORD_BYTES)
        self._columns = {column.path: place for place, column in enumerate(layout.frames[0].columns)}
        self._frames = {name: layout.frame_index(f"{name}[]") for name in ("parcels", "containers", "path")}

    def read(self, payloads: Sequence[bytes | None]) -> Iterator[ContainerLogRecord]:
        """The records of a batch, in their order; decoded as they are asked for."""
        for first, end in _slices(payloads):
            yield from self._read(payloads[first:end])

    def _read(self, payloads: Sequence[bytes | None]) -> Iterator[ContainerLogRecord]:
        columns = self._decoder.decode(payloads)
        text = columns.buffer.tobytes()
        values, lengths = (part.T.tolist() for part in (columns.frames[0].values, columns.frames[0].lengths))
        for row, (status, record) in enumerate(
            zip(columns.status.tolist(), columns.reader_index.tolist(), strict=True)
        ):
            if status:
                yield ContainerLogRecord(reason=RejectReason(status))
            elif record == _EVENT:
                yield self._event(columns, text, values[row], lengths[row])
            else:
                hub_time = values[row][self._columns["hub_time"]]
                good = EARLIEST_MS <= hub_time < LATEST_MS
                yield (
                    ContainerLogRecord(hub_time=hub_time)
                    if good
                    else ContainerLogRecord(reason=RejectReason.OUT_OF_BOUNDS)
                )

    def _event(self, columns: DecodedColumns, text: bytes, values: list[int], lengths: list[int]) -> ContainerLogRecord:
        at = self._columns

        def word(name: str) -> str | None:
            place = at[name]
            size = lengths[place]
            return None if size < 0 else text[values[place] : values[place] + size].decode()

        def words(name: str) -> list[bytes]:
            first, count = values[at[name]], lengths[at[name]]
            if not count:
                return []
            frame = columns.frames[self._frames[name]]
            starts, sizes = frame.values[0, first : first + count].tolist(), frame.lengths[0, first : first + count]
            return [text[start : start + size] for start, size in zip(starts, sizes.tolist(), strict=True)]

        said: dict[str, Any] = {
            name: word(name)
            for name in (
                "event_id", "site", "station", "lane", "reason", "parent_id", "voids", "inferred_from",
            )
        }  # fmt: skip
        # A hub has some dozen of these words, and days' worth of events are kept.
        said |= {name: intern(said[name]) for name in ("site", "station", "lane", "reason") if said[name] is not None}
        said |= {name: values[at[name]] for name in ("event_time", "utc_offset_minutes", "record_time")}
        said["kind"] = KINDS[values[at["kind"]]]
        container_id = word("container_id") or ""
        containers, parcels, path = words("containers"), words("parcels"), words("path")
        reason = _trouble(container_id, said, containers, parcels, path)
        if reason:
            return ContainerLogRecord(container_id, reason=reason)
        event = ContainerEvent(
            record_hash=identity_of(said["event_id"], said["kind"], said["event_time"]),
            path=tuple(each.decode() for each in path),
            containers=pack_ids(containers),
            parcels=pack_ids(parcels),
            names_children=bool(containers or parcels),
            **said,
        )
        return ContainerLogRecord(container_id, event)


def _slices(payloads: Sequence[bytes | None]) -> Iterator[tuple[int, int]]:
    """Runs of payloads, first and end, of at most _SLICE_BYTES each, or of one."""
    first = size = 0
    for place, payload in enumerate(payloads):
        more = len(payload or b"")
        if size + more > _SLICE_BYTES and place > first:
            yield first, place
            first, size = place, 0
        size += more
    if first < len(payloads):
        yield first, len(payloads)


def _trouble(
    container_id: str, said: dict[str, Any], containers: list[bytes], parcels: list[bytes], path: list[bytes]
) -> RejectReason:
    """Why an event cannot be used; OK when it can."""
    own, parent, kind = container_id.encode(), said["parent_id"], said["kind"]
    around = [own] if parent is None else [own, parent.encode()]
    if _bad([*around, *containers, *path], MAX_CONTAINER_ID_BYTES):
        return RejectReason.BAD_CONTAINER
    if _bad(parcels, MAX_PARCEL_ID_BYTES):
        return RejectReason.BAD_PARCEL_ID
    texts = (said[name] for name in ("site", "station", "lane", "reason"))
    ids = (said[name] for name in ("event_id", "voids", "inferred_from"))
    if (
        any(text is not None and len(text.encode()) > MAX_TEXT_BYTES for text in texts)
        or any(text is not None and not 0 < len(text.encode()) <= MAX_EVENT_ID_BYTES for text in ids)
        or abs(said["utc_offset_minutes"]) > MAX_UTC_OFFSET_MINUTES
        or not all(EARLIEST_MS <= said[name] < LATEST_MS for name in ("event_time", "record_time"))
    ):
        return RejectReason.OUT_OF_BOUNDS
    if (kind == "VOID") != (said["voids"] is not None):
        return RejectReason.BAD_VOID
    lists = bool(containers or parcels)
    if (lists and (kind not in _LISTING or parent is not None)) or (kind == "PACKED" and not lists and parent is None):
        return RejectReason.BAD_CONTAINER
    if own in containers or own in path or parent == container_id:
        return RejectReason.CYCLE
    return RejectReason.TOO_DEEP if len(path) > MAX_NESTING_DEPTH else RejectReason.OK


def _bad(ids: list[bytes], most: int) -> bool:
    if not ids:
        return False
    sizes = [len(each) for each in ids]
    joined = b"".join(ids)
    return min(sizes) == 0 or max(sizes) > most or len(joined.translate(None, _CONTROL)) < len(joined)


class ContainerStateCodec:
    """The record of a container, both ways; one at a time, as there are few beside what they fan out to."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self._head = schemas.to_wire_format("ContainerState", b"")
        self._schema = fastavro.parse_schema(without_logical_types(schemas.current("ContainerState")))
        self._decoder = PlainDecoder("ContainerState")

    def encode(self, container: Container) -> bytes:
        """The value of its record."""
        body = io.BytesIO(self._head)
        body.seek(len(self._head))
        entries = [
            {**{name: getattr(event, name) for name in _ENTRY}, "children": event.child_count}
            for event in container.events
        ]
        state = {
            "container_id": container.container_id,
            "version": len(entries),
            "last_activity": container.last_activity,
            "events": entries,
        }
        fastavro.schemaless_writer(body, self._schema, state)
        return body.getvalue()

    def decoded(self, value: bytes) -> Container:
        """The container that a value tells of, without its children.

        Raises:
            Undecodable: it is none.
        """
        state = self._decoder(value)
        container = Container(state["container_id"])
        container.last_activity = state["last_activity"]
        for entry in state["events"]:
            said = {name: entry[name] for name in _ENTRY} | {"path": tuple(entry["path"])}
            identity = identity_of(entry["event_id"], entry["kind"], entry["event_time"])
            container.insert_event(ContainerEvent(record_hash=identity, names_children=entry["children"] > 0, **said))
        return container


class ChildRecordCodec:
    """Encoder of the records of children, many at a time, and decoder for the way back."""

    def __init__(self) -> None:
        schemas = load_schemas()
        schema = schemas.current("ContainerChild")
        self._encoder = ColumnEncoder(schema, schemas.id("ContainerChild"), sources={"record_hashes[]": 1})
        self._place = self._encoder.layout.column_index
        writers = {number: (text, 0) for number, (_, text) in schemas.writer_schemas("ContainerChild").items()}
        self._layout = Layout.of(schema)
        self._decoder = ColumnDecoder(self._layout, [schema], writers, max_value_bytes=_STATE_BYTES)

    def encode(self, container_id: bytes, children: Sequence[ChildRecord]) -> RecordBlock:
        """Records of children of a container."""
        count = len(children)
        keys = [container_id + b"\0" + child.key for child in children]
        key_ends = np.zeros(count + 1, np.int64)
        np.cumsum([len(key) for key in keys], out=key_ends[1:])
        text = np.frombuffer(b"".join(keys), np.uint8)
        record_hashes = b"".join(each.record_hashes for each in children)
        counts = np.array([len(each.record_hashes) // 16 for each in children], np.int32)
        values, lengths = np.zeros((4, count), np.int64), np.zeros((4, count), np.int32)
        for name, value, length in (
            ("container_id", key_ends[:-1], len(container_id)),
            ("child_id", key_ends[:-1] + (len(container_id) + 1), np.array([len(each.child) for each in children])),
            ("is_container", np.array([each.is_container for each in children], np.int64), 0),
            ("record_hashes", np.cumsum(counts, dtype=np.int64) - counts, counts),
        ):
            values[self._place(name)], lengths[self._place(name)] = value, length
        items = np.arange(len(record_hashes) // 16, dtype=np.int64)[None] * 16
        frames = [(values, lengths), (items, np.full(items.shape, 16, np.int32))]
        return RecordBlock(text, key_ends, *self._encoder.encode(count, frames, (text, record_hashes)))

    def decoded(
        self, values: Sequence[bytes], unreadable: Callable[[str], Exception]
    ) -> Iterator[tuple[bytes, ChildRecord]]:
        """Of each record the container_id, and the child.

        Args:
            values: of the records.
            unreadable: makes what is raised when one of them is none.
        """
        columns = self._decoder.decode(values)
        if bad := columns.status[columns.status > 0].tolist():
            raise unreadable(RejectReason(bad[0]).name)
        text = columns.buffer.tobytes()
        own, sizes = columns.frames[0].values, columns.frames[0].lengths
        items = columns.frames[1].values[0].tolist()
        container, child, which, record_hashes = (
            self._layout.column_index(name) for name in ("container_id", "child_id", "is_container", "record_hashes")
        )
        for at, size, at_child, size_child, is_container, first, count in zip(
            own[container].tolist(), sizes[container].tolist(), own[child].tolist(), sizes[child].tolist(),
            own[which].tolist(), own[record_hashes].tolist(), sizes[record_hashes].tolist(), strict=True,
        ):  # fmt: skip
            identities = b"".join(text[place : place + 16] for place in items[first : first + count])
            yield (
                text[at : at + size],
                ChildRecord(text[at_child : at_child + size_child], bool(is_container), identities),
            )


@cache
def container_event_decoder() -> ContainerEventDecoder:
    """The one decoder of hub.containers."""
    return ContainerEventDecoder()


@cache
def container_state_codec() -> ContainerStateCodec:
    """The one codec of the records of containers."""
    return ContainerStateCodec()


@cache
def child_record_codec() -> ChildRecordCodec:
    """The one codec of the records of children."""
    return ChildRecordCodec()
