"""The parcel stage of one partition, without a broker: payloads of hub.scans in, records of the output topics out.

The worker, the tests and everything that folds a log again run this same code.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import DIRECTIONS, IN_HUB, KINDS
from streams.domain.parcel import blank
from streams.domain.reasons import Reason
from streams.errors import StreamsError
from streams.kernel.avro_decode import Columns, Decoder
from streams.kernel.avro_encode import Encoder
from streams.kernel.avro_layout import Layout
from streams.kernel.emit import (
    FROM_IDENTITIES,
    IDENTITY_BYTES,
    EntryColumns,
    Frame,
    KindColumns,
    MilestoneColumns,
    StateColumns,
    blank_frame,
    copy_keys,
    count_records,
    emit_milestones,
    emit_states,
)
from streams.kernel.fold import (
    DUPLICATES,
    MILESTONES,
    SCANS,
    TOUCHED,
    Batch,
    Folded,
    ScanColumns,
    blank_folded,
    fold,
)
from streams.kernel.insert import blank_change
from streams.kernel.places import SITE, text_in
from streams.kernel.restore import EntryParts, StateParts, restore_rows
from streams.kernel.table import CHUNK, ParcelTable
from streams.pipeline.record_block import RecordBlock
from streams.pipeline.schemas import load_schemas

# Bytes that an encoded Where or Plan needs beside its texts, and an identity or a time that became a word.
_WORD_OVERHEAD: Final = 64
# A state may be larger than any record that a scanner sends (streams/pipeline/topics.py: max.message.bytes).
_STATE_BYTES: Final = 16 << 20
_SNAPSHOT_ROWS: Final = 20_000
# As many as fit, with their columns, into a core's cache: a third faster than a whole batch at once.
_STATES_AT_A_TIME: Final = 500
_MILESTONES_AT_A_TIME: Final = 2_000


@dataclass(slots=True)
class Outputs:
    """What one batch of one partition makes: plain bytes, and the figures of the batch."""

    states: RecordBlock = field(default_factory=lambda: RecordBlock.of([]))
    milestones: RecordBlock = field(default_factory=lambda: RecordBlock.of([]))
    # Place in the batch and reason of each record that could not be used.
    refused: list[tuple[int, Reason]] = field(default_factory=list)
    scans: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    duplicates: int = 0
    parcels_by_stage: Mapping[str, int] = field(default_factory=dict)
    hub_time: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)


_Numbers = TypeVar("_Numbers")


def _numbers(
    kind: Callable[..., _Numbers], layout: Layout, path: str = "", renamed: Mapping[str, str] | None = None
) -> _Numbers:
    """Column numbers for the fields of the NamedTuple `kind`, by the paths of the schema."""
    fields: tuple[str, ...] = cast(Any, kind)._fields
    return kind(*(layout.column(path + (renamed or {}).get(field, field)) for field in fields))


class _Scans:
    """Decoder of hub.scans: shared by all partitions, as it keeps nothing between batches."""

    def __init__(self) -> None:
        schemas = load_schemas()
        names = ("Scan", "Advice", "Tick")
        # A handful of fields say nothing of the state: they are checked and skipped.
        self.layout = Layout.of(*(schemas.current(name) for name in names), only=ScanColumns._fields)
        writers = {number: (schema, names.index(name)) for number, (name, schema) in schemas.writers(*names).items()}
        self.decoder = Decoder(self.layout, [schemas.current(name) for name in names], writers)
        self.columns = _numbers(ScanColumns, self.layout)


class _States:
    """Encoder of parcel.state, and decoder for the way back."""

    def __init__(self) -> None:
        schemas = load_schemas()
        schema = schemas.current("ParcelState")
        self.encoder = Encoder(
            schema,
            schemas.id("ParcelState"),
            raw=("plan", "scans[].at", "scans[].plan"),
            sources={"scans[].identity": FROM_IDENTITIES},
        )
        layout = self.encoder.layout
        self.root = _numbers(StateColumns, layout)
        self.kinds = _numbers(KindColumns, layout, "kinds[].", {"scans": "count"})
        self.entries = _numbers(EntryColumns, layout, "scans[].")
        self.kinds_frame = layout.frame("kinds[]")
        self.entries_frame = layout.frame("scans[]")
        self.widths = [len(frame.columns) for frame in layout.frames]
        reader = Layout.of(schema, only=StateParts._fields)
        writers = {number: (text, 0) for number, (_, text) in schemas.writers("ParcelState").items()}
        self.decoder = Decoder(reader, [schema], writers, limit=_STATE_BYTES)
        self.root_parts = _numbers(StateParts, reader)
        nested = {name: name.replace("_", ".", 1) for name in EntryParts._fields if name.startswith(("at_", "plan_"))}
        self.entry_parts = _numbers(EntryParts, reader, "scans[].", nested)
        self.restored_frame = reader.frame("scans[]")


class _Milestones:
    """Encoder of parcel.milestones."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self.encoder = Encoder(
            schemas.current("Milestone"),
            schemas.id("Milestone"),
            sources={"milestone_id": FROM_IDENTITIES, "evidence": FROM_IDENTITIES},
        )
        self.columns = _numbers(MilestoneColumns, self.encoder.layout)
        self.width = len(self.encoder.layout.frames[0].columns)


@cache
def _scans() -> _Scans:
    return _Scans()


@cache
def _states() -> _States:
    return _States()


@cache
def _milestones() -> _Milestones:
    return _Milestones()


class ParcelStage:
    """The parcels of one partition, and what a batch of its records makes of them.

    >>> stage = ParcelStage(partition=0, partitions=1)
    >>> stage.run([b"rubbish"]).refused
    [(0, <Reason.BAD_FRAMING: 2>)]
    """

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition = partition
        self.partitions = partitions
        self.table = ParcelTable()
        self._batches = 0
        self._change = blank_change()
        self._facts, self._times = blank()
        # Word of a place -> its site.
        self._sites: dict[int, str] = {}

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True, states: bool = True) -> Outputs:
        """Decode and fold a batch, in the order given, and encode what follows from it.

        Args:
            payloads: values of hub.scans of this partition; None for a record without a value.
            outputs: False folds only, and encodes nothing.
            states: False leaves the states out, for who wants them once at the end (`snapshot`).
        """
        started = time.perf_counter()
        columns = _scans().decoder.decode(payloads)
        decoded = time.perf_counter()
        out = blank_folded(len(payloads))
        # What was refused leaves nothing behind, so it needs no room, however large it was.
        refused = sum(len(payloads[i] or b"") for i in np.flatnonzero(columns.status).tolist())
        self._fold(columns, out, _text_room(len(columns.buffer) - refused, columns.rows))
        folded = time.perf_counter()
        result = Outputs()
        if outputs and states:
            result.states = self._encode_states(out.touched, int(out.counts[TOUCHED]))
        if outputs:
            result.milestones = self._encode_milestones(out)
        encoded = time.perf_counter()
        result.refused = [(int(i), Reason(int(columns.status[i]))) for i in np.flatnonzero(columns.status)]
        result.scans = self._tally(out)
        result.duplicates = int(out.counts[DUPLICATES])
        result.hub_time = self.table.hub_time
        result.parcels_by_stage = self.parcels_by_stage()
        result.seconds = {"decode": decoded - started, "fold": folded - decoded, "encode": encoded - folded}
        return result

    def parcels_by_stage(self) -> dict[str, int]:
        """How many parcels are at each stage in the hub, as last published."""
        stages = self.table.arrays.stages
        return {name: int(stages[number]) for number, name in enumerate(KINDS) if (IN_HUB >> number) & 1}

    def snapshot(self) -> Iterator[RecordBlock]:
        """The states of all parcels, as `run` writes them."""
        for first in range(0, len(self.table), _SNAPSHOT_ROWS):
            rows = np.arange(first, min(first + _SNAPSHOT_ROWS, len(self.table)), dtype=np.int32)
            yield self._encode_states(rows, len(rows))

    def restore(self, states: Sequence[bytes]) -> None:
        """Take values of parcel.state of this partition into the table, in the order of the topic.

        Raises:
            StreamsError: one of them cannot be read; nobody but the worker writes there, so nothing is guessed.
        """
        tools = _states()
        columns = tools.decoder.decode(states)
        bad = np.flatnonzero(columns.status)
        if len(bad):
            reason = Reason(int(columns.status[bad[0]])).name
            message = f"parcel.state [{self.partition}] holds {len(bad)} records that cannot be read ({reason})"
            raise StreamsError(message)
        entries = columns.frames[tools.restored_frame]
        rows = len(states)
        chunks = entries.rows // CHUNK + rows
        self.table.reserve(rows, entries.rows, chunks, _text_room(len(columns.buffer), entries.rows + rows))
        root = columns.frames[0]
        restore_rows(
            self.table.arrays,
            columns.buffer,
            columns.status,
            Frame(root.values, root.lengths),
            tools.root_parts,
            Frame(entries.values, entries.lengths),
            tools.entry_parts,
        )

    def restore_hub_time(self, hub_time: int | None) -> None:
        """Take over the largest Tick that the position record tells of."""
        self.table.set_hub_time(hub_time)

    def _fold(self, columns: Columns, out: Folded, text_room: int) -> None:
        records = columns.rows
        root = columns.frames[0]
        self.table.reserve(records, records, records, text_room)
        self._batches += 1
        fold(
            self.table.arrays,
            Batch(columns.buffer, root.values, root.lengths, columns.record, columns.status),
            _scans().columns,
            self.partition,
            self.partitions,
            self._batches,
            self._change,
            out,
        )

    def _encode_states(self, touched: NDArray[np.int32], count: int) -> RecordBlock:
        return RecordBlock.joined(
            [
                self._encode_rows(touched[first : min(first + _STATES_AT_A_TIME, count)])
                for first in range(0, count, _STATES_AT_A_TIME)
            ]
        )

    def _encode_rows(self, rows: NDArray[np.int32]) -> RecordBlock:
        tools = _states()
        table = self.table.arrays
        count = len(rows)
        records = count_records(table, rows, count)
        frames = [blank_frame(tools.widths[0], count)] * len(tools.widths)
        frames[tools.kinds_frame] = blank_frame(tools.widths[tools.kinds_frame], count * len(KINDS))
        frames[tools.entries_frame] = blank_frame(tools.widths[tools.entries_frame], records)
        identities = np.empty(records * IDENTITY_BYTES, np.uint8)
        emit_states(
            table,
            rows,
            count,
            frames[0],
            tools.root,
            frames[tools.kinds_frame],
            tools.kinds,
            frames[tools.entries_frame],
            tools.entries,
            identities,
            self._facts,
            self._times,
        )
        return RecordBlock(*self._keys(rows, count), *tools.encoder.encode(count, frames, (table.heap, identities)))

    def _encode_milestones(self, out: Folded) -> RecordBlock:
        count = int(out.counts[MILESTONES])
        return RecordBlock.joined(
            [
                self._encode_some(
                    out._replace(milestones=out.milestones[first : min(first + _MILESTONES_AT_A_TIME, count)])
                )
                for first in range(0, count, _MILESTONES_AT_A_TIME)
            ]
        )

    def _encode_some(self, out: Folded) -> RecordBlock:
        tools = _milestones()
        count = len(out.milestones)
        frame = blank_frame(tools.width, count)
        identities = np.empty(count * 2 * IDENTITY_BYTES, np.uint8)
        emit_milestones(self.table.arrays, out, count, frame, tools.columns, identities)
        return RecordBlock(
            *self._keys(np.ascontiguousarray(out.milestones["row"]), count),
            *tools.encoder.encode(count, [frame], (self.table.arrays.heap, identities)),
        )

    def _keys(self, rows: NDArray[np.int32], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        table = self.table.arrays
        sizes = table.rows["key_size"][rows[:count]]
        keys = np.empty(int(sizes.sum(dtype=np.int64)), np.uint8)
        offsets = np.empty(count + 1, np.int64)
        copy_keys(table, rows, count, keys, offsets)
        return keys, offsets

    def _tally(self, out: Folded) -> dict[tuple[str, str, str], int]:
        count = int(out.counts[SCANS])
        code = (
            out.scan_at[:count].astype(np.int64) << 16
            | out.scan_kind[:count].astype(np.int64) << 8
            | out.scan_direction[:count]
        )
        tally: dict[tuple[str, str, str], int] = {}
        for value, number in zip(*(part.tolist() for part in np.unique(code, return_counts=True)), strict=True):
            key = (self._site(value >> 16), KINDS[value >> 8 & 255], DIRECTIONS[value & 255])
            tally[key] = tally.get(key, 0) + number
        return tally

    def _site(self, where: int) -> str:
        site = self._sites.get(where)
        if site is None:
            at, size = text_in(self.table.arrays, where, SITE)
            site = self._sites[where] = self.table.arrays.heap[at : at + size].tobytes().decode()
        return site


def _text_room(payload_bytes: int, records: int) -> int:
    return payload_bytes + records * _WORD_OVERHEAD
