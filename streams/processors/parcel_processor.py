"""The parcel stage of one partition, without a broker: payloads of hub.scans in, records of the output topics out.

The worker, the tests and everything that folds a log again run this same code.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import DIRECTIONS, IN_HUB_STAGES, KINDS
from streams.domain.limits import MAX_RECORDS_PER_PARCEL
from streams.domain.parcel import new_parcel_facts
from streams.domain.promise_arrays import build_promise_rules
from streams.domain.promise_clocks import ALERT_TYPES, new_findings, new_journey_facts
from streams.domain.promises import ANOMALIES, Promises
from streams.domain.reject_reasons import RejectReason
from streams.errors import StreamsError
from streams.formats.record_block import RecordBlock
from streams.kernel.alert_columns import (
    HASHES_PER_ALERT,
    count_active_alerts,
    fill_alert_columns,
    fill_monitoring_columns,
)
from streams.kernel.avro.decoder import DecodedColumns
from streams.kernel.batch_changes import (
    ALERT_COUNT,
    DUPLICATE_COUNT,
    MILESTONE_COUNT,
    RETIREMENT_COUNT,
    SCAN_COUNT,
    UPDATED_COUNT,
    BatchChanges,
    allocate_batch_changes,
    grow_batch_changes,
)
from streams.kernel.compact import compact_table
from streams.kernel.fold import MAX_DELTAS_PER_RECORD, fold
from streams.kernel.frames import HASH_BYTES, FrameArrays, allocate_frame
from streams.kernel.insert import allocate_insert_effect
from streams.kernel.insert_inferred import MAX_MILESTONES_PER_RECORD, allocate_first_records
from streams.kernel.interned_records import LOCATION_SITE, location_text
from streams.kernel.milestone_columns import fill_milestone_columns
from streams.kernel.parcel_table import SLOTS_PER_CHUNK, ParcelTable
from streams.kernel.prefetch import prefetch_rows
from streams.kernel.record_checks import DecodedBatch
from streams.kernel.restore import apply_tombstones, restore_states
from streams.kernel.state_columns import copy_keys, count_records, fill_state_columns
from streams.kernel.tick_alerts import MAX_ALERTS_PER_SUBJECT
from streams.processors import parcel_codecs
from streams.processors.throughput_deltas import ThroughputDeltaAggregator

# Bytes that an encoded Where or Plan needs beside its texts, and an identity or a time that became a word.
_WORD_OVERHEAD: Final = 64
_SNAPSHOT_ROWS: Final = 20_000
# When an eighth of the rows, and so many, are those of parcels that retired, the table is swept.
_SWEEP_SHARE: Final = 8
COMPACT_MIN_ROWS = 4096
# As many as fit, with their columns, into a core's cache: a third faster than a whole batch at once.
_STATES_AT_A_TIME: Final = 500
_MILESTONES_AT_A_TIME: Final = 2_000
_ALERTS_AT_A_TIME: Final = 20_000


def _no_records() -> RecordBlock:
    return RecordBlock.from_records([])


@dataclass(slots=True)
class ParcelProcessorOutput:
    """What one batch of one partition makes: plain bytes, and the figures of the batch."""

    # Tombstones of the parcels that retired: before the states, among which there may be new ones with their numbers.
    retired: RecordBlock = field(default_factory=_no_records)
    states: RecordBlock = field(default_factory=_no_records)
    milestones: RecordBlock = field(default_factory=_no_records)
    alerts: RecordBlock = field(default_factory=_no_records)
    throughput: RecordBlock = field(default_factory=_no_records)
    # Place in the batch and reason of each record that could not be used.
    refused: list[tuple[int, RejectReason]] = field(default_factory=list)
    scans: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    # (type, promise or anomaly) -> alerts.
    told: Mapping[tuple[str, str], int] = field(default_factory=dict)
    duplicates: int = 0
    parcels_by_stage: Mapping[str, int] = field(default_factory=dict)
    hub_time: int | None = None
    # promise -> clocks that run or stand still, at the last Tick.
    clocks: Mapping[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class ParcelProcessor:
    """The parcels of one partition, and what a batch of its records makes of them.

    >>> stage = ParcelStage(partition=0, partitions=1)
    >>> stage.run([b"rubbish"]).refused
    [(0, <Reason.BAD_FRAMING: 2>)]
    """

    def __init__(self, partition: int, partitions: int, promises: Promises | None = None) -> None:
        """`promises`: what is watched; None for the default ones."""
        self.partition = partition
        self.partitions = partitions
        self.promises = promises or Promises.default()
        # What alerts are about, in the order of `Arrays.subjects`.
        self._subjects = (*(promise.name for promise in self.promises.promises), *ANOMALIES)
        self._rules = build_promise_rules(self.promises)
        self.table = ParcelTable(self._subjects)
        self._batches = 0
        self._change, self._firsts = allocate_insert_effect(), allocate_first_records()
        self._facts, self._times = new_parcel_facts()
        self._story, self._found = new_journey_facts(), new_findings()
        # Word of a place -> its site.
        self._sites: dict[int, str] = {}
        self._throughput = ThroughputDeltaAggregator()

    def run(
        self, payloads: Sequence[bytes | None], *, outputs: bool = True, states: bool = True
    ) -> ParcelProcessorOutput:
        """Decode and fold a batch, in the order given, and encode what follows from it.

        Args:
            payloads: values of hub.scans of this partition; None for a record without a value.
            outputs: False folds only, and encodes nothing.
            states: False leaves the states out, for who wants them once at the end (`snapshot`).
        """
        started = time.perf_counter()
        columns = parcel_codecs.scan_decoder().decoder.decode(payloads)
        decoded = time.perf_counter()
        # What was refused leaves nothing behind, so it needs no room, however large it was.
        refused = sum(len(payloads[i] or b"") for i in np.flatnonzero(columns.status).tolist())
        out = self._fold(columns, _text_room(len(columns.buffer) - refused, columns.rows))
        folded = time.perf_counter()
        result = ParcelProcessorOutput()
        if outputs and states:
            result.states = self._encode_states(self._states_to_tell(out))
        if outputs:
            result.retired = self._tombstones(out)
            result.milestones = self._encode_milestones(out)
            result.alerts = self._encode_alerts(out)
            result.throughput = self._throughput.encode(self.table.arrays, out)
        encoded = time.perf_counter()
        result.refused = [(int(i), RejectReason(int(columns.status[i]))) for i in np.flatnonzero(columns.status)]
        result.scans = self._tally(out)
        result.told = self._told(out)
        result.duplicates = int(out.counts[DUPLICATE_COUNT])
        result.hub_time = self.table.hub_time
        result.clocks = dict(zip(self._subjects, self.table.arrays.running_clocks.tolist(), strict=False))
        result.parcels_by_stage = self.parcels_by_stage()
        result.seconds = {"decode": decoded - started, "fold": folded - decoded, "encode": encoded - folded}
        return result

    def parcels_by_stage(self) -> dict[str, int]:
        """How many parcels are at each stage in the hub, as last published."""
        stages = self.table.arrays.parcels_by_stage
        return {name: int(stages[number]) for number, name in enumerate(KINDS) if (IN_HUB_STAGES >> number) & 1}

    def snapshot(self) -> Iterator[RecordBlock]:
        """The states of all parcels, as `run` writes them."""
        for first in range(0, self.table.row_count, _SNAPSHOT_ROWS):
            rows = np.arange(first, min(first + _SNAPSHOT_ROWS, self.table.row_count), dtype=np.int32)
            yield self._encode_states(rows[self.table.arrays.rows["records"][rows] > 0])

    def restore(self, states: Sequence[bytes]) -> None:
        """Take values of parcel.state of this partition into the table, in the order of the topic.

        Raises:
            StreamsError: one of them cannot be read; nobody but the worker writes there, so nothing is guessed.
        """
        tools = parcel_codecs.parcel_state_codec()
        columns = tools.decoder.decode(states)
        bad = np.flatnonzero(columns.status)
        if len(bad):
            reason = RejectReason(int(columns.status[bad[0]])).name
            message = f"parcel.state [{self.partition}] holds {len(bad)} records that cannot be read ({reason})"
            raise StreamsError(message)
        root, entries, alerts = (
            columns.frames[frame] for frame in (0, tools.timeline_reader_frame, tools.active_alerts_reader_frame)
        )
        rows = len(states)
        chunks = entries.rows // SLOTS_PER_CHUNK + rows
        words = entries.rows + alerts.rows + rows
        self.table.reserve(rows, entries.rows + alerts.rows, chunks, _text_room(len(columns.buffer), words))
        self.table.reserve_alerts(alerts.rows)
        restore_states(
            self.table.arrays,
            columns.buffer,
            columns.status,
            FrameArrays(root.values, root.lengths),
            tools.root_reader_columns,
            FrameArrays(entries.values, entries.lengths),
            tools.timeline_reader_columns,
            FrameArrays(alerts.values, alerts.lengths),
            tools.active_alert_reader_columns,
        )

    def restore_tombstones(self, keys: Sequence[bytes]) -> None:
        """Take tombstones of parcel.state into the table: these parcels are not known any more."""
        block = RecordBlock.from_records([(key, b"") for key in keys])
        self.table.reserve(len(block), 0, 0, len(block.key_bytes))
        apply_tombstones(self.table.arrays, block.key_bytes, block.key_ends)

    def restore_hub_time(self, hub_time: int | None) -> None:
        """Take over the largest Tick that the position record tells of."""
        self.table.set_hub_time(hub_time)

    def _fold(self, columns: DecodedColumns, text_room: int) -> BatchChanges:
        records = columns.rows
        root = columns.frames[0]
        batch = DecodedBatch(columns.buffer, root.values, root.lengths, columns.reader_index, columns.status)
        retired = self.table.retired_row_count
        if retired * _SWEEP_SHARE > self.table.row_count and retired >= COMPACT_MIN_ROWS:
            self._sweep()
        self.table.reserve(records, records, records, text_room)
        out = allocate_batch_changes(records, len(self.table.arrays.rows))
        self._batches += 1
        done = 0
        while done < records:
            done = fold(
                self.table.arrays,
                batch,
                parcel_codecs.scan_decoder().columns,
                self._rules,
                self.partition,
                self.partitions,
                self._batches,
                done,
                self._change,
                self._firsts,
                self._story,
                self._found,
                out,
            )
            if done < records:
                # A Tick may say more than there are records, an advice may count all scans of its parcel anew.
                self.table.reserve_alerts(max(1024, MAX_ALERTS_PER_SUBJECT * len(self._subjects)))
                out = grow_batch_changes(
                    out,
                    MAX_ALERTS_PER_SUBJECT * len(self._subjects),
                    MAX_DELTAS_PER_RECORD * (MAX_RECORDS_PER_PARCEL + 2),
                    MAX_MILESTONES_PER_RECORD,
                )
        return out

    def _sweep(self) -> None:
        compact_table(self.table)
        # Words have other numbers now.
        self._sites.clear()
        self._throughput.invalidate_interned_records()

    def _tombstones(self, out: BatchChanges) -> RecordBlock:
        count = int(out.counts[RETIREMENT_COUNT])
        keys, ends = self._keys(out.retired_rows, count)
        return RecordBlock(keys, ends, np.zeros(0, np.uint8), np.zeros(count + 1, np.int64))

    def _states_to_tell(self, out: BatchChanges) -> NDArray[np.int32]:
        touched = out.updated_rows[: out.counts[UPDATED_COUNT]]
        if out.counts[RETIREMENT_COUNT]:
            # Without those that retired; one that came back since is there twice.
            touched = touched[self.table.arrays.rows["records"][touched] > 0]
            touched = touched[np.sort(np.unique(touched, return_index=True)[1])]
        return touched

    def _encode_states(self, touched: NDArray[np.int32]) -> RecordBlock:
        return RecordBlock.concatenate(
            [
                self._encode_rows(touched[first : first + _STATES_AT_A_TIME])
                for first in range(0, len(touched), _STATES_AT_A_TIME)
            ]
        )

    def _encode_rows(self, rows: NDArray[np.int32]) -> RecordBlock:
        count = len(rows)
        tools = parcel_codecs.parcel_state_codec()
        table = self.table.arrays
        prefetch_rows(table, rows, count)
        records, told = count_records(table, rows, count), count_active_alerts(table, rows, count)
        frames = [allocate_frame(tools.widths[0], count)] * len(tools.widths)
        for frame, room in (
            (tools.kinds_frame, count * len(KINDS)),
            (tools.timeline_frame, records),
            (tools.clocks_frame, count * len(self.promises.promises)),
            (tools.active_alerts_frame, told),
        ):
            frames[frame] = allocate_frame(tools.widths[frame], room)
        identities = np.empty((records + told) * HASH_BYTES, np.uint8)
        fill_state_columns(
            table,
            rows,
            count,
            frames[0],
            tools.root,
            frames[tools.kinds_frame],
            tools.kinds,
            frames[tools.timeline_frame],
            tools.entries,
            identities,
            self._facts,
            self._times,
        )
        fill_monitoring_columns(
            table,
            self._rules,
            rows,
            count,
            records,
            frames[0],
            tools.watched,
            frames[tools.clocks_frame],
            tools.clocks,
            frames[tools.active_alerts_frame],
            tools.standing,
            identities,
            self._story,
            self._found,
        )
        return RecordBlock(*self._keys(rows, count), *tools.encoder.encode(count, frames, (table.heap, identities)))

    def _encode_milestones(self, out: BatchChanges) -> RecordBlock:
        count = int(out.counts[MILESTONE_COUNT])
        return RecordBlock.concatenate(
            [
                self._encode_some(
                    out._replace(milestones=out.milestones[first : min(first + _MILESTONES_AT_A_TIME, count)])
                )
                for first in range(0, count, _MILESTONES_AT_A_TIME)
            ]
        )

    def _encode_some(self, out: BatchChanges) -> RecordBlock:
        tools = parcel_codecs.milestone_encoder()
        count = len(out.milestones)
        frame = allocate_frame(tools.width, count)
        identities = np.empty(count * 2 * HASH_BYTES, np.uint8)
        fill_milestone_columns(self.table.arrays, out, count, frame, tools.columns, identities)
        return RecordBlock(
            *self._keys(np.ascontiguousarray(out.milestones["row"]), count),
            *tools.encoder.encode(count, [frame], (self.table.arrays.heap, identities)),
        )

    def _encode_alerts(self, out: BatchChanges) -> RecordBlock:
        count = int(out.counts[ALERT_COUNT])
        return RecordBlock.concatenate(
            [
                self._encode_some_alerts(out._replace(alerts=out.alerts[first : min(first + _ALERTS_AT_A_TIME, count)]))
                for first in range(0, count, _ALERTS_AT_A_TIME)
            ]
        )

    def _encode_some_alerts(self, out: BatchChanges) -> RecordBlock:
        count = len(out.alerts)
        tools = parcel_codecs.alert_encoder()
        frame, evidence = allocate_frame(tools.widths[0], count), allocate_frame(tools.widths[1], 2 * count)
        identities = np.empty(count * HASHES_PER_ALERT * HASH_BYTES, np.uint8)
        fill_alert_columns(self.table.arrays, out, count, frame, tools.columns, evidence, identities)
        return RecordBlock(
            *self._keys(np.ascontiguousarray(out.alerts["row"]), count),
            *tools.encoder.encode(count, [frame, evidence], (self.table.arrays.heap, identities)),
        )

    def _told(self, out: BatchChanges) -> dict[tuple[str, str], int]:
        alerts = out.alerts[: out.counts[ALERT_COUNT]]
        counted = Counter(zip(alerts["type"].tolist(), alerts["subject"].tolist(), strict=True))
        return {(ALERT_TYPES[kind], self._subjects[subject]): number for (kind, subject), number in counted.items()}

    def _keys(self, rows: NDArray[np.int32], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        table = self.table.arrays
        sizes = table.rows["key_size"][rows[:count]]
        keys = np.empty(int(sizes.sum(dtype=np.int64)), np.uint8)
        offsets = np.empty(count + 1, np.int64)
        copy_keys(table, rows, count, keys, offsets)
        return keys, offsets

    def _tally(self, out: BatchChanges) -> dict[tuple[str, str, str], int]:
        count = int(out.counts[SCAN_COUNT])
        code = (
            out.scan_locations[:count].astype(np.int64) << 16
            | out.scan_kinds[:count].astype(np.int64) << 8
            | out.scan_directions[:count]
        )
        tally: dict[tuple[str, str, str], int] = {}
        for value, number in zip(*(part.tolist() for part in np.unique(code, return_counts=True)), strict=True):
            key = (self._site(value >> 16), KINDS[value >> 8 & 255], DIRECTIONS[value & 255])
            tally[key] = tally.get(key, 0) + number
        return tally

    def _site(self, where: int) -> str:
        site = self._sites.get(where)
        if site is None:
            at, size = location_text(self.table.arrays, where, LOCATION_SITE)
            site = self._sites[where] = self.table.arrays.heap[at : at + size].tobytes().decode()
        return site


def _text_room(payload_bytes: int, records: int) -> int:
    return payload_bytes + records * _WORD_OVERHEAD
