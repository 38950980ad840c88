"""The output of the parcel processor: the records of its five kinds, encoded from the table after a batch.

Records are encoded many at a time, column by column, with no Python object for any of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import KINDS
from streams.domain.parcel import new_parcel_facts
from streams.domain.promise_arrays import build_promise_rules
from streams.domain.promise_clocks import new_findings, new_journey_facts
from streams.domain.promises import Promises
from streams.domain.reject_reasons import RejectReason
from streams.formats.record_block import RecordBlock
from streams.formats.topics import ALERTS_TOPIC, MILESTONES_TOPIC, PARCEL_STATE_TOPIC, THROUGHPUT_TOPIC
from streams.kernel.alert_columns import (
    HASHES_PER_ALERT,
    count_active_alerts,
    fill_alert_columns,
    fill_monitoring_columns,
)
from streams.kernel.batch_changes import ALERT_COUNT, MILESTONE_COUNT, RETIREMENT_COUNT, UPDATED_COUNT, BatchChanges
from streams.kernel.frames import HASH_BYTES, allocate_frame
from streams.kernel.milestone_columns import fill_milestone_columns
from streams.kernel.parcel_table import ParcelTable
from streams.kernel.prefetch import prefetch_rows
from streams.kernel.state_columns import copy_keys, count_records, fill_state_columns
from streams.processors import parcel_codecs
from streams.processors.processor import CommitSummary, OutputBlock
from streams.processors.throughput_deltas import ThroughputDeltaAggregator
from streams.telemetry.worker_events import ParcelBatchCommitted

# As many as fit, with their columns, into a core's cache: a third faster than a whole batch at once.
_STATES_AT_A_TIME = 500
_MILESTONES_AT_A_TIME = 2_000
_ALERTS_AT_A_TIME = 20_000


def _no_records() -> RecordBlock:
    return RecordBlock.from_records([])


@dataclass(slots=True)
class ParcelOutput:
    """What one batch of one partition leads to: encoded records, and counts."""

    partition: int
    processed_count: int
    # Index in the batch and reason of each record that could not be used.
    rejects: list[tuple[int, RejectReason]]
    # Tombstones of the parcels that retired.
    tombstones: RecordBlock = field(default_factory=_no_records)
    states: RecordBlock = field(default_factory=_no_records)
    milestones: RecordBlock = field(default_factory=_no_records)
    alerts: RecordBlock = field(default_factory=_no_records)
    throughput: RecordBlock = field(default_factory=_no_records)
    # (site, kind, direction) -> distinct scans.
    scan_counts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    # (type, promise or anomaly) -> alerts.
    alert_counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    duplicates: int = 0
    # After the batch: stage in the hub -> parcels, and largest tick (ms since 1970; None before the first).
    parcels_by_stage: Mapping[str, int] = field(default_factory=dict)
    hub_time: int | None = None
    # Promise -> clocks that run or stand still, at the last tick.
    active_clocks: Mapping[str, int] = field(default_factory=dict)
    phase_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def blocks(self) -> list[OutputBlock]:
        """All records. The tombstones precede the states, among which the same parcels may be new again."""
        blocks = (
            (PARCEL_STATE_TOPIC, self.tombstones),
            (PARCEL_STATE_TOPIC, self.states),
            (MILESTONES_TOPIC, self.milestones),
            (ALERTS_TOPIC, self.alerts),
            (THROUGHPUT_TOPIC, self.throughput),
        )
        return [(topic, self.partition, block) for topic, block in blocks]

    def committed_event(self, summary: CommitSummary) -> ParcelBatchCommitted:
        """The event for the commit of this batch."""
        return ParcelBatchCommitted(
            partition=summary.partition,
            records=summary.records,
            scans=self.scan_counts,
            duplicates=self.duplicates,
            dead_letters=summary.dead_letters,
            states=len(self.states),
            milestones=len(self.milestones),
            seconds=summary.phase_seconds,
            scan_to_state=summary.latency_samples,
            lag_records=summary.lag_records,
            lag_seconds=summary.lag_seconds,
            parcels_by_stage=self.parcels_by_stage,
            hub_time=self.hub_time,
            alerts=self.alert_counts,
            retired=len(self.tombstones),
            active_clocks=self.active_clocks,
        )


class ParcelOutputEncoder:
    """Encodes the records that the parcel processor of one partition writes."""

    def __init__(self, table: ParcelTable, promises: Promises) -> None:
        self._table = table
        self._rules = build_promise_rules(promises)
        self._promise_count = len(promises.promises)
        self._throughput = ThroughputDeltaAggregator()
        # Scratch space of the compiled functions.
        self._facts, self._times = new_parcel_facts()
        self._journey_facts, self._findings = new_journey_facts(), new_findings()

    def invalidate_interned_records(self) -> None:
        """The table's interned records have other numbers now."""
        self._throughput.invalidate_interned_records()

    def encode(self, output: ParcelOutput, changes: BatchChanges, *, states: bool) -> None:
        """Put the records of a batch into its output; without the states if `states` is False."""
        if states:
            output.states = self.encode_states(self._updated_rows(changes))
        output.tombstones = self._encode_tombstones(changes)
        output.milestones = self._encode_milestones(changes)
        output.alerts = self._encode_alerts(changes)
        output.throughput = self._throughput.encode(self._table.arrays, changes)

    def encode_states(self, rows: NDArray[np.int32]) -> RecordBlock:
        """The states of the parcels in these rows of the table."""
        return RecordBlock.concatenate(
            [
                self._encode_some_states(rows[first : first + _STATES_AT_A_TIME])
                for first in range(0, len(rows), _STATES_AT_A_TIME)
            ]
        )

    def _updated_rows(self, changes: BatchChanges) -> NDArray[np.int32]:
        rows = changes.updated_rows[: changes.counts[UPDATED_COUNT]]
        if changes.counts[RETIREMENT_COUNT]:
            # Without the parcels that retired; one that is new again since then is listed twice.
            rows = rows[self._table.arrays.rows["records"][rows] > 0]
            rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
        return rows

    def _encode_some_states(self, rows: NDArray[np.int32]) -> RecordBlock:
        count = len(rows)
        codec = parcel_codecs.parcel_state_codec()
        table = self._table.arrays
        prefetch_rows(table, rows, count)
        records, alerts = count_records(table, rows, count), count_active_alerts(table, rows, count)
        frames = [allocate_frame(codec.widths[0], count)] * len(codec.widths)
        for frame, room in (
            (codec.kinds_frame, count * len(KINDS)),
            (codec.timeline_frame, records),
            (codec.clocks_frame, count * self._promise_count),
            (codec.active_alerts_frame, alerts),
        ):
            frames[frame] = allocate_frame(codec.widths[frame], room)
        hashes = np.empty((records + alerts) * HASH_BYTES, np.uint8)
        fill_state_columns(
            table,
            rows,
            count,
            frames[0],
            codec.root_columns,
            frames[codec.kinds_frame],
            codec.kind_columns,
            frames[codec.timeline_frame],
            codec.timeline_columns,
            hashes,
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
            codec.monitoring_columns,
            frames[codec.clocks_frame],
            codec.clock_columns,
            frames[codec.active_alerts_frame],
            codec.active_alert_columns,
            hashes,
            self._journey_facts,
            self._findings,
        )
        return RecordBlock(*self._keys(rows, count), *codec.encoder.encode(count, frames, (table.heap, hashes)))

    def _encode_tombstones(self, changes: BatchChanges) -> RecordBlock:
        count = int(changes.counts[RETIREMENT_COUNT])
        keys, key_ends = self._keys(changes.retired_rows, count)
        return RecordBlock(keys, key_ends, np.zeros(0, np.uint8), np.zeros(count + 1, np.int64))

    def _encode_milestones(self, changes: BatchChanges) -> RecordBlock:
        milestones = changes.milestones[: changes.counts[MILESTONE_COUNT]]
        return RecordBlock.concatenate(
            [
                self._encode_some_milestones(changes._replace(milestones=milestones[first:][:_MILESTONES_AT_A_TIME]))
                for first in range(0, len(milestones), _MILESTONES_AT_A_TIME)
            ]
        )

    def _encode_some_milestones(self, changes: BatchChanges) -> RecordBlock:
        codec = parcel_codecs.milestone_encoder()
        count = len(changes.milestones)
        frame = allocate_frame(codec.width, count)
        hashes = np.empty(count * 2 * HASH_BYTES, np.uint8)
        fill_milestone_columns(self._table.arrays, changes, count, frame, codec.columns, hashes)
        return RecordBlock(
            *self._keys(np.ascontiguousarray(changes.milestones["row"]), count),
            *codec.encoder.encode(count, [frame], (self._table.arrays.heap, hashes)),
        )

    def _encode_alerts(self, changes: BatchChanges) -> RecordBlock:
        alerts = changes.alerts[: changes.counts[ALERT_COUNT]]
        return RecordBlock.concatenate(
            [
                self._encode_some_alerts(changes._replace(alerts=alerts[first:][:_ALERTS_AT_A_TIME]))
                for first in range(0, len(alerts), _ALERTS_AT_A_TIME)
            ]
        )

    def _encode_some_alerts(self, changes: BatchChanges) -> RecordBlock:
        codec = parcel_codecs.alert_encoder()
        count = len(changes.alerts)
        frame, evidence = allocate_frame(codec.widths[0], count), allocate_frame(codec.widths[1], 2 * count)
        hashes = np.empty(count * HASHES_PER_ALERT * HASH_BYTES, np.uint8)
        fill_alert_columns(self._table.arrays, changes, count, frame, codec.columns, evidence, hashes)
        return RecordBlock(
            *self._keys(np.ascontiguousarray(changes.alerts["row"]), count),
            *codec.encoder.encode(count, [frame, evidence], (self._table.arrays.heap, hashes)),
        )

    def _keys(self, rows: NDArray[np.int32], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        table = self._table.arrays
        sizes = table.rows["key_size"][rows[:count]]
        keys = np.empty(int(sizes.sum(dtype=np.int64)), np.uint8)
        key_ends = np.empty(count + 1, np.int64)
        copy_keys(table, rows, count, keys, key_ends)
        return keys, key_ends
