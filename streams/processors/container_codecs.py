"""Codecs of the container processor: hub.containers to events, and the records of container.state both ways.

All partitions share them: a codec keeps nothing between batches.
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
from streams.formats.record_decoder import RecordDecoder, without_logical_types
from streams.formats.schemas import load_schemas
from streams.kernel.avro.decoder import ColumnDecoder, DecodedColumns
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.avro.layout import Layout
from streams.kernel.frames import HASH_BYTES

_CONTROL_CHARACTERS: Final = bytes((*range(0x20), 0x7F))
_AGGREGATION_KINDS: Final = ("PACKED", "UNPACKED")
_TEXT_FIELDS: Final = ("site", "station", "lane", "reason")
_ID_FIELDS: Final = ("event_id", "parent_id", "voids", "inferred_from")
_NUMBER_FIELDS: Final = ("event_time", "utc_offset_minutes", "record_time")
# Fields of an event in ContainerState, all of them attributes of ContainerEvent.
_STATE_FIELDS: Final = (
    "event_id", "kind", "event_time", "utc_offset_minutes", "record_time", "site", "station", "lane", "reason",
    "parent_id", "voids", "inferred_from", "path", "propagated", "generation", "conflicting_packing",
)  # fmt: skip
_MAX_STATE_BYTES: Final = 16 << 20
# Bytes decoded at a time: manifests of freighters are large, and a transaction may have room for one of them only.
_SLICE_BYTES: Final = 1 << 20


class ContainerLogRecord(NamedTuple):
    """One record of hub.containers: a container event, a tick, or the reason why it is rejected."""

    container_id: str = ""
    event: ContainerEvent | None = None
    hub_time: int | None = None
    reason: RejectReason = RejectReason.OK


class ChildRecord(NamedTuple):
    """A child of a container: its id, whether it is a container, and the hashes of the events that name it."""

    child_id: bytes
    is_container: bool
    # Of HASH_BYTES each, one after the other.
    record_hashes: bytes

    @property
    def key_suffix(self) -> bytes:
        """What the key of the record ends with, behind the container_id and a NUL byte."""
        return child_key_suffix(self.child_id, is_container=self.is_container)


def child_key_suffix(child_id: bytes, *, is_container: bool) -> bytes:
    """What the key of a child record ends with; a parcel and a container may have the same id."""
    return child_id + b"\0" if is_container else child_id


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
        self._event_index = names.index("ContainerEvent")
        self._columns = {column.path: index for index, column in enumerate(layout.frames[0].columns)}
        self._frames = {name: layout.frame_index(f"{name}[]") for name in ("parcels", "containers", "path")}

    def decode(self, payloads: Sequence[bytes | None]) -> Iterator[ContainerLogRecord]:
        """The records of a batch, in their order; a slice is decoded when its first record is asked for."""
        for first, end in _slices(payloads):
            yield from self._decode_slice(payloads[first:end])

    def _decode_slice(self, payloads: Sequence[bytes | None]) -> Iterator[ContainerLogRecord]:
        columns = self._decoder.decode(payloads)
        text = columns.buffer.tobytes()
        values, lengths = (part.T.tolist() for part in (columns.frames[0].values, columns.frames[0].lengths))
        for row, (status, reader_index) in enumerate(
            zip(columns.status.tolist(), columns.reader_index.tolist(), strict=True)
        ):
            if status:
                yield ContainerLogRecord(reason=RejectReason(status))
            elif reader_index == self._event_index:
                yield self._event(columns, text, values[row], lengths[row])
            else:
                hub_time = values[row][self._columns["hub_time"]]
                if EARLIEST_MS <= hub_time < LATEST_MS:
                    yield ContainerLogRecord(hub_time=hub_time)
                else:
                    yield ContainerLogRecord(reason=RejectReason.OUT_OF_BOUNDS)

    def _event(self, columns: DecodedColumns, text: bytes, values: list[int], lengths: list[int]) -> ContainerLogRecord:
        index_of = self._columns

        def read_text(name: str) -> str | None:
            start, size = values[index_of[name]], lengths[index_of[name]]
            return None if size < 0 else text[start : start + size].decode()

        def read_ids(name: str) -> list[bytes]:
            first, count = values[index_of[name]], lengths[index_of[name]]
            if not count:
                return []
            frame = columns.frames[self._frames[name]]
            starts, sizes = frame.values[0, first : first + count].tolist(), frame.lengths[0, first : first + count]
            return [text[start : start + size] for start, size in zip(starts, sizes.tolist(), strict=True)]

        fields: dict[str, Any] = {name: read_text(name) for name in (*_ID_FIELDS, *_TEXT_FIELDS)}
        # A hub has some dozen of these texts, and the events of days are kept.
        fields |= {name: intern(fields[name]) for name in _TEXT_FIELDS if fields[name] is not None}
        fields |= {name: values[index_of[name]] for name in _NUMBER_FIELDS}
        fields["kind"] = KINDS[values[index_of["kind"]]]
        container_id = read_text("container_id") or ""
        containers, parcels, path = read_ids("containers"), read_ids("parcels"), read_ids("path")
        reason = _check(container_id, fields, containers, parcels, path)
        if reason:
            return ContainerLogRecord(container_id, reason=reason)
        event = ContainerEvent(
            record_hash=identity_of(fields["event_id"], fields["kind"], fields["event_time"]),
            path=tuple(ancestor.decode() for ancestor in path),
            containers=pack_ids(containers),
            parcels=pack_ids(parcels),
            names_children=bool(containers or parcels),
            **fields,
        )
        return ContainerLogRecord(container_id, event)


def _slices(payloads: Sequence[bytes | None]) -> Iterator[tuple[int, int]]:
    """Slices of a batch, first and end, of at most _SLICE_BYTES each, or of one record."""
    first = size = 0
    for index, payload in enumerate(payloads):
        payload_size = len(payload or b"")
        if size + payload_size > _SLICE_BYTES and index > first:
            yield first, index
            first, size = index, 0
        size += payload_size
    if first < len(payloads):
        yield first, len(payloads)


def _check(
    container_id: str, fields: dict[str, Any], containers: list[bytes], parcels: list[bytes], path: list[bytes]
) -> RejectReason:
    """Why an event is rejected; OK when it is not."""
    own, parent, kind = container_id.encode(), fields["parent_id"], fields["kind"]
    own_and_parent = [own] if parent is None else [own, parent.encode()]
    if _has_bad_id([*own_and_parent, *containers, *path], MAX_CONTAINER_ID_BYTES):
        return RejectReason.BAD_CONTAINER
    if _has_bad_id(parcels, MAX_PARCEL_ID_BYTES):
        return RejectReason.BAD_PARCEL_ID
    texts = (fields[name] for name in _TEXT_FIELDS)
    ids = (fields[name] for name in ("event_id", "voids", "inferred_from"))
    if (
        any(text is not None and len(text.encode()) > MAX_TEXT_BYTES for text in texts)
        or any(text is not None and not 0 < len(text.encode()) <= MAX_EVENT_ID_BYTES for text in ids)
        or abs(fields["utc_offset_minutes"]) > MAX_UTC_OFFSET_MINUTES
        or not all(EARLIEST_MS <= fields[name] < LATEST_MS for name in ("event_time", "record_time"))
    ):
        return RejectReason.OUT_OF_BOUNDS
    if (kind == "VOID") != (fields["voids"] is not None):
        return RejectReason.BAD_VOID
    names_children = bool(containers or parcels)
    if names_children and (kind not in _AGGREGATION_KINDS or parent is not None):
        return RejectReason.BAD_CONTAINER
    if kind == "PACKED" and not names_children and parent is None:
        return RejectReason.BAD_CONTAINER
    if own in containers or own in path or parent == container_id:
        return RejectReason.CYCLE
    return RejectReason.TOO_DEEP if len(path) > MAX_NESTING_DEPTH else RejectReason.OK


def _has_bad_id(ids: list[bytes], max_bytes: int) -> bool:
    if not ids:
        return False
    sizes = [len(each) for each in ids]
    joined = b"".join(ids)
    return min(sizes) == 0 or max(sizes) > max_bytes or len(joined.translate(None, _CONTROL_CHARACTERS)) < len(joined)


class ContainerStateCodec:
    """Encoder and decoder of the record of a container: one at a time, for there are few beside their fan-outs."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self._head = schemas.to_wire_format("ContainerState", b"")
        self._schema = fastavro.parse_schema(without_logical_types(schemas.current("ContainerState")))
        self._decoder = RecordDecoder("ContainerState")

    def encode(self, container: Container) -> bytes:
        """The value of its record."""
        body = io.BytesIO(self._head)
        body.seek(len(self._head))
        events = [
            {**{name: getattr(event, name) for name in _STATE_FIELDS}, "children": event.child_count}
            for event in container.events
        ]
        state = {
            "container_id": container.container_id,
            "version": len(events),
            "last_activity": container.last_activity,
            "events": events,
        }
        fastavro.schemaless_writer(body, self._schema, state)
        return body.getvalue()

    def decode(self, value: bytes) -> Container:
        """The container of a value, without its children.

        Raises:
            DecodingError: the value is no record of a container.
        """
        state = self._decoder(value)
        container = Container(state["container_id"])
        container.last_activity = state["last_activity"]
        for event in state["events"]:
            fields = {name: event[name] for name in _STATE_FIELDS} | {"path": tuple(event["path"])}
            record_hash = identity_of(event["event_id"], event["kind"], event["event_time"])
            names_children = event["children"] > 0
            container.insert_event(ContainerEvent(record_hash=record_hash, names_children=names_children, **fields))
        return container


class ChildRecordCodec:
    """Encoder and decoder of child records, many at a time."""

    def __init__(self) -> None:
        schemas = load_schemas()
        schema = schemas.current("ContainerChild")
        self._encoder = ColumnEncoder(schema, schemas.id("ContainerChild"), sources={"record_hashes[]": 1})
        self._column_index = self._encoder.layout.column_index
        writers = {number: (text, 0) for number, (_, text) in schemas.writer_schemas("ContainerChild").items()}
        self._layout = Layout.of(schema)
        self._decoder = ColumnDecoder(self._layout, [schema], writers, max_value_bytes=_MAX_STATE_BYTES)

    def encode(self, container_id: bytes, children: Sequence[ChildRecord]) -> RecordBlock:
        """The records of children of a container."""
        count = len(children)
        keys = [container_id + b"\0" + child.key_suffix for child in children]
        key_ends = np.zeros(count + 1, np.int64)
        np.cumsum([len(key) for key in keys], out=key_ends[1:])
        text = np.frombuffer(b"".join(keys), np.uint8)
        record_hashes = b"".join(child.record_hashes for child in children)
        hash_counts = np.array([len(child.record_hashes) // HASH_BYTES for child in children], np.int32)
        values, lengths = np.zeros((4, count), np.int64), np.zeros((4, count), np.int32)
        # Both ids are parts of the keys.
        child_sizes = np.array([len(child.child_id) for child in children])
        for name, value, length in (
            ("container_id", key_ends[:-1], len(container_id)),
            ("child_id", key_ends[:-1] + (len(container_id) + 1), child_sizes),
            ("is_container", np.array([child.is_container for child in children], np.int64), 0),
            ("record_hashes", np.cumsum(hash_counts, dtype=np.int64) - hash_counts, hash_counts),
        ):
            values[self._column_index(name)], lengths[self._column_index(name)] = value, length
        items = np.arange(len(record_hashes) // HASH_BYTES, dtype=np.int64)[None] * HASH_BYTES
        frames = [(values, lengths), (items, np.full(items.shape, HASH_BYTES, np.int32))]
        return RecordBlock(text, key_ends, *self._encoder.encode(count, frames, (text, record_hashes)))

    def decode(
        self, values: Sequence[bytes], make_error: Callable[[str], Exception]
    ) -> Iterator[tuple[bytes, ChildRecord]]:
        """The container_id and the child of each record.

        Args:
            values: of the records.
            make_error: makes the error to raise when one of them cannot be decoded, from the reject reason.
        """
        columns = self._decoder.decode(values)
        if bad := columns.status[columns.status > 0].tolist():
            raise make_error(RejectReason(bad[0]).name)
        text = columns.buffer.tobytes()
        starts, sizes = columns.frames[0].values, columns.frames[0].lengths
        hash_starts = columns.frames[1].values[0].tolist()
        container, child, is_container, record_hashes = (
            self._layout.column_index(name) for name in ("container_id", "child_id", "is_container", "record_hashes")
        )
        for start, size, child_start, child_size, is_container_child, first, count in zip(
            starts[container].tolist(), sizes[container].tolist(), starts[child].tolist(), sizes[child].tolist(),
            starts[is_container].tolist(), starts[record_hashes].tolist(), sizes[record_hashes].tolist(), strict=True,
        ):  # fmt: skip
            hashes = b"".join(text[at : at + HASH_BYTES] for at in hash_starts[first : first + count])
            child_id = text[child_start : child_start + child_size]
            yield text[start : start + size], ChildRecord(child_id, bool(is_container_child), hashes)


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
    """The one codec of child records."""
    return ChildRecordCodec()
