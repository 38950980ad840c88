"""The parcel processor of one partition, without a broker: values of hub.scans in, records of the output topics out.

The worker, the tests and every program that replays a log run this same code.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from streams.domain.kinds import DIRECTIONS, IN_HUB_STAGES, KINDS
from streams.domain.limits import MAX_RECORDS_PER_PARCEL
from streams.domain.promise_arrays import build_promise_rules
from streams.domain.promise_clocks import ALERT_TYPES, new_findings, new_journey_facts
from streams.domain.promises import ANOMALIES, Promises
from streams.domain.reject_reasons import RejectReason
from streams.errors import StreamsError
from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.kernel.avro.decoder import DecodedColumns
from streams.kernel.batch_changes import (
    ALERT_COUNT,
    DUPLICATE_COUNT,
    SCAN_COUNT,
    BatchChanges,
    allocate_batch_changes,
    grow_batch_changes,
)
from streams.kernel.compact import compact_table
from streams.kernel.fold import MAX_DELTAS_PER_RECORD, fold
from streams.kernel.frames import FrameArrays
from streams.kernel.insert import allocate_insert_effect
from streams.kernel.insert_inferred import MAX_MILESTONES_PER_RECORD, allocate_first_records
from streams.kernel.interned_records import LOCATION_SITE, location_text
from streams.kernel.parcel_table import SLOTS_PER_CHUNK, ParcelTable
from streams.kernel.record_checks import DecodedBatch
from streams.kernel.restore import apply_tombstones, restore_states
from streams.kernel.tick_alerts import MAX_ALERTS_PER_SUBJECT
from streams.processors import parcel_codecs
from streams.processors.parcel_output import ParcelOutput, ParcelOutputEncoder
from streams.telemetry.worker_events import PartitionRestored

# Bytes that an encoded location or plan needs beside its texts, and an interned identity or time.
_INTERNED_OVERHEAD_BYTES: Final = 64
_SNAPSHOT_ROWS: Final = 20_000
# The table is compacted when an eighth of its rows, and so many, are those of parcels that retired.
_COMPACT_SHARE: Final = 8
COMPACT_MIN_ROWS = 4096


class ParcelProcessor:
    """The state of the parcels of one partition, and what batches of its records change.

    >>> processor = ParcelProcessor(partition=0, partitions=1)
    >>> processor.run([b"rubbish"]).rejects
    [(0, <RejectReason.BAD_FRAMING: 2>)]
    """

    # Everything that follows from a batch is in its output.
    has_pending_output: Final = False
    has_due_output: Final = False

    def __init__(self, partition: int, partitions: int, promises: Promises | None = None) -> None:
        """`promises`: the promises to watch; None for the default ones."""
        self.partition = partition
        self.partitions = partitions
        self.promises = promises or Promises.default()
        self._promises_digest = self.promises.digest()
        # Promises and anomalies, in the order of `TableArrays.subjects`.
        self._subjects = (*(promise.name for promise in self.promises.promises), *ANOMALIES)
        self._rules = build_promise_rules(self.promises)
        self.table = ParcelTable(self._subjects)
        self._batch_count = 0
        self._encoder = ParcelOutputEncoder(self.table, self.promises)
        # Scratch space of the compiled functions.
        self._insert_effect, self._first_records = allocate_insert_effect(), allocate_first_records()
        self._journey_facts, self._findings = new_journey_facts(), new_findings()
        # Number of an interned location -> its site.
        self._sites: dict[int, str] = {}

    @property
    def hub_time(self) -> int | None:
        """Largest tick processed, ms since 1970; None before the first."""
        return self.table.hub_time

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True, states: bool = True) -> ParcelOutput:
        """Decode and apply a batch, in the order given, and encode what follows from it.

        Args:
            payloads: values of hub.scans of this partition; None for a record without a value.
            outputs: False only updates the state, and encodes nothing.
            states: False leaves the states out, for callers that need them once at the end (`snapshot`).
        """
        started = time.perf_counter()
        columns = parcel_codecs.scan_decoder().decoder.decode(payloads)
        decoded = time.perf_counter()
        # What cannot be decoded leaves nothing behind, so it needs no room, however large it is.
        undecoded_bytes = sum(len(payloads[index] or b"") for index in np.flatnonzero(columns.status).tolist())
        changes = self._fold(columns, _text_room(len(columns.buffer) - undecoded_bytes, columns.rows))
        folded = time.perf_counter()
        # The fold rejects records, too.
        rejects = [(int(index), RejectReason(int(columns.status[index]))) for index in np.flatnonzero(columns.status)]
        output = ParcelOutput(self.partition, len(payloads), rejects)
        if outputs:
            self._encoder.encode(output, changes, states=states)
        encoded = time.perf_counter()
        output.scan_counts = self._count_scans(changes)
        output.alert_counts = self._count_alerts(changes)
        output.duplicates = int(changes.counts[DUPLICATE_COUNT])
        output.hub_time = self.table.hub_time
        output.active_clocks = dict(zip(self._subjects, self.table.arrays.running_clocks.tolist(), strict=False))
        output.parcels_by_stage = self.parcels_by_stage()
        output.phase_seconds = {"decode": decoded - started, "fold": folded - decoded, "encode": encoded - folded}
        return output

    def position(self, next_offset: int) -> PartitionPosition:
        """The position after the last batch, of which the input ends before `next_offset`."""
        return PartitionPosition(next_offset, self.hub_time, self._promises_digest)

    def parcels_by_stage(self) -> dict[str, int]:
        """How many parcels are at each stage in the hub, as last published."""
        stages = self.table.arrays.parcels_by_stage
        return {name: int(stages[number]) for number, name in enumerate(KINDS) if (IN_HUB_STAGES >> number) & 1}

    def snapshot(self) -> Iterator[RecordBlock]:
        """The states of all parcels, as `run` writes them."""
        for first in range(0, self.table.row_count, _SNAPSHOT_ROWS):
            rows = np.arange(first, min(first + _SNAPSHOT_ROWS, self.table.row_count), dtype=np.int32)
            yield self._encoder.encode_states(rows[self.table.arrays.rows["records"][rows] > 0])

    # Restore

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Enter states and tombstones of parcel.state, the newest of each key, in the order of the topic.

        Raises:
            StreamsError: a state cannot be read.
        """
        if retired := [key for key, value in records.items() if value is None]:
            self.restore_tombstones(retired)
        if states := [value for value in records.values() if value is not None]:
            self.restore_states(states)

    def finish_restore(self, position: PartitionPosition | None) -> None:
        """End the restore: take over the hub time of the position."""
        if position is not None:
            self.restore_hub_time(position.hub_time)

    def restored_event(self, records: int, seconds: float, offset: int) -> PartitionRestored:
        """The event for the end of the restore."""
        return PartitionRestored(
            partition=self.partition,
            rows=len(self.table),
            records=records,
            seconds=seconds,
            offset=offset,
            parcels_by_stage=self.parcels_by_stage(),
        )

    def restore_states(self, states: Sequence[bytes]) -> None:
        """Enter values of parcel.state of this partition, in the order of the topic.

        Raises:
            StreamsError: one of them cannot be read. Only the worker writes there, so nothing is guessed.
        """
        codec = parcel_codecs.parcel_state_codec()
        columns = codec.decoder.decode(states)
        bad = np.flatnonzero(columns.status)
        if len(bad):
            reason = RejectReason(int(columns.status[bad[0]])).name
            message = f"parcel.state [{self.partition}] holds {len(bad)} records that cannot be read ({reason})"
            raise StreamsError(message)
        root, entries, alerts = (
            columns.frames[frame] for frame in (0, codec.timeline_reader_frame, codec.active_alerts_reader_frame)
        )
        rows = len(states)
        chunks = entries.rows // SLOTS_PER_CHUNK + rows
        interned = entries.rows + alerts.rows + rows
        self.table.reserve(rows, entries.rows + alerts.rows, chunks, _text_room(len(columns.buffer), interned))
        self.table.reserve_alerts(alerts.rows)
        restore_states(
            self.table.arrays,
            columns.buffer,
            columns.status,
            FrameArrays(root.values, root.lengths),
            codec.root_reader_columns,
            FrameArrays(entries.values, entries.lengths),
            codec.timeline_reader_columns,
            FrameArrays(alerts.values, alerts.lengths),
            codec.active_alert_reader_columns,
        )

    def restore_tombstones(self, keys: Sequence[bytes]) -> None:
        """Apply tombstones of parcel.state: remove these parcels."""
        block = RecordBlock.from_records([(key, b"") for key in keys])
        self.table.reserve(len(block), 0, 0, len(block.key_bytes))
        apply_tombstones(self.table.arrays, block.key_bytes, block.key_ends)

    def restore_hub_time(self, hub_time: int | None) -> None:
        """Take over the largest tick of the position record."""
        self.table.set_hub_time(hub_time)

    # Fold

    def _fold(self, columns: DecodedColumns, text_room: int) -> BatchChanges:
        """Apply the decoded records to the table."""
        records = columns.rows
        root = columns.frames[0]
        batch = DecodedBatch(columns.buffer, root.values, root.lengths, columns.reader_index, columns.status)
        retired = self.table.retired_row_count
        if retired * _COMPACT_SHARE > self.table.row_count and retired >= COMPACT_MIN_ROWS:
            self._compact()
        self.table.reserve(records, records, records, text_room)
        changes = allocate_batch_changes(records, len(self.table.arrays.rows))
        self._batch_count += 1
        done = 0
        while done < records:
            done = fold(
                self.table.arrays,
                batch,
                parcel_codecs.scan_decoder().columns,
                self._rules,
                self.partition,
                self.partitions,
                self._batch_count,
                done,
                self._insert_effect,
                self._first_records,
                self._journey_facts,
                self._findings,
                changes,
            )
            if done < records:
                # A tick may cause more alerts than there are records; an advice may count all scans of its parcel anew.
                self.table.reserve_alerts(max(1024, MAX_ALERTS_PER_SUBJECT * len(self._subjects)))
                changes = grow_batch_changes(
                    changes,
                    MAX_ALERTS_PER_SUBJECT * len(self._subjects),
                    MAX_DELTAS_PER_RECORD * (MAX_RECORDS_PER_PARCEL + 2),
                    MAX_MILESTONES_PER_RECORD,
                )
        return changes

    def _compact(self) -> None:
        compact_table(self.table)
        # The interned records have other numbers now.
        self._sites.clear()
        self._encoder.invalidate_interned_records()

    # Counts

    def _count_alerts(self, changes: BatchChanges) -> dict[tuple[str, str], int]:
        alerts = changes.alerts[: changes.counts[ALERT_COUNT]]
        counts = Counter(zip(alerts["type"].tolist(), alerts["subject"].tolist(), strict=True))
        return {(ALERT_TYPES[type_], self._subjects[subject]): count for (type_, subject), count in counts.items()}

    def _count_scans(self, changes: BatchChanges) -> dict[tuple[str, str, str], int]:
        count = int(changes.counts[SCAN_COUNT])
        codes = (
            changes.scan_locations[:count].astype(np.int64) << 16
            | changes.scan_kinds[:count].astype(np.int64) << 8
            | changes.scan_directions[:count]
        )
        counts: dict[tuple[str, str, str], int] = {}
        for code, scans in zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True):
            key = (self._site(code >> 16), KINDS[code >> 8 & 255], DIRECTIONS[code & 255])
            counts[key] = counts.get(key, 0) + scans
        return counts

    def _site(self, location: int) -> str:
        site = self._sites.get(location)
        if site is None:
            start, size = location_text(self.table.arrays, location, LOCATION_SITE)
            site = self._sites[location] = self.table.arrays.heap[start : start + size].tobytes().decode()
        return site


def _text_room(payload_bytes: int, records: int) -> int:
    return payload_bytes + records * _INTERNED_OVERHEAD_BYTES
