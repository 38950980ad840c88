"""The changes that a batch makes to a table: filled by `fold`, read by the encoders of the outputs."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import jit_inline
from streams.kernel.parcel_table import ByteArray, TableArrays

MILESTONE: Final = np.dtype(
    [
        ("row", np.int32),
        ("version", np.int32),
        ("event_time", np.int64),
        ("previous_time", np.int64),
        ("high", np.uint64),
        ("low", np.uint64),
        ("location", np.int32),  # intern id
        ("type", np.uint8),
        ("stage", np.uint8),
        ("direction", np.uint8),
    ],
    align=True,
)
ALERT: Final = np.dtype(
    [
        ("high", np.uint64),  # alert id
        ("low", np.uint64),
        ("hub_time", np.int64),
        ("since", np.int64),
        ("deadline", np.int64),
        ("limit", np.int64),
        ("stopped_at", np.int64),
        ("first_evidence_high", np.uint64),  # record hashes
        ("first_evidence_low", np.uint64),
        ("second_evidence_high", np.uint64),
        ("second_evidence_low", np.uint64),
        ("withdrawn_high", np.uint64),  # id of the alert that is withdrawn
        ("withdrawn_low", np.uint64),
        ("row", np.int32),
        ("version", np.int32),
        ("location", np.int32),  # intern id of the location of the evidence
        ("subject", np.int32),  # index in `TableArrays.subject_intern_ids`
        ("type", np.uint8),
        ("evidence_count", np.uint8),
        ("direction", np.uint8),
    ],
    align=True,
)
# Bits of a delta's code: minutes since 1970, kind, direction, and 1 for a decrement.
MINUTE_SHIFT, KIND_SHIFT, DIRECTION_SHIFT = 8, 3, 1
_MINUTE_MS: Final = 60_000


class BatchChanges(NamedTuple):
    """The changes of a batch. There is room for one entry a record; `fold` stops where Ticks or advices need more."""

    updated_rows: NDArray[np.int32]  # rows that changed, in the order of their first change
    milestones: NDArray[np.void]
    # Intern id of the location, kind and direction of each distinct scan, for the metrics.
    scan_locations: NDArray[np.int32]
    scan_kinds: ByteArray
    scan_directions: ByteArray
    retired_rows: NDArray[np.int32]  # rows of the parcels that retired
    alerts: NDArray[np.void]
    # Intern id of the location and code of each scan that starts or stops to count.
    delta_locations: NDArray[np.int32]
    delta_codes: NDArray[np.int64]
    counts: NDArray[np.int64]


# Indexes into `BatchChanges.counts`.
(
    UPDATED_COUNT,
    MILESTONE_COUNT,
    SCAN_COUNT,
    DUPLICATE_COUNT,
    RETIREMENT_COUNT,
    ALERT_COUNT,
    DELTA_COUNT,
    CHANGE_COUNTERS,
) = range(8)


def allocate_batch_changes(records: int, rows: int) -> BatchChanges:
    """Room for the changes of a batch of `records` to a table with room for `rows`."""
    return BatchChanges(
        updated_rows=np.empty(records + rows, np.int32),
        milestones=np.empty(records + 64, MILESTONE),
        scan_locations=np.empty(records, np.int32),
        scan_kinds=np.empty(records, np.uint8),
        scan_directions=np.empty(records, np.uint8),
        retired_rows=np.empty(records + rows, np.int32),
        alerts=np.empty(min(1024, records + 64), ALERT),
        delta_locations=np.empty(2 * records + 64, np.int32),
        delta_codes=np.empty(2 * records + 64, np.int64),
        counts=np.zeros(CHANGE_COUNTERS, np.int64),
    )


def grow_batch_changes(changes: BatchChanges, alerts: int, deltas: int, milestones: int) -> BatchChanges:
    """The same changes with room for so many more alerts, deltas and milestones."""
    alerts += int(changes.counts[ALERT_COUNT])
    if alerts > len(changes.alerts):
        changes = changes._replace(alerts=np.resize(changes.alerts, max(alerts, 2 * len(changes.alerts))))
    deltas += int(changes.counts[DELTA_COUNT])
    if deltas > len(changes.delta_locations):
        size = max(deltas, 2 * len(changes.delta_locations))
        changes = changes._replace(
            delta_locations=np.resize(changes.delta_locations, size), delta_codes=np.resize(changes.delta_codes, size)
        )
    milestones += int(changes.counts[MILESTONE_COUNT])
    if milestones > len(changes.milestones):
        changes = changes._replace(
            milestones=np.resize(changes.milestones, max(milestones, 2 * len(changes.milestones)))
        )
    return changes


@jit_inline
def mark_updated(a: TableArrays, row: int, batch_number: int, changes: BatchChanges) -> None:
    """Note that the row changed in batch `batch_number`, so that its state is published."""
    if a.rows[row]["last_batch"] != batch_number:
        a.rows[row]["last_batch"] = batch_number
        changes.updated_rows[changes.counts[UPDATED_COUNT]] = row
        changes.counts[UPDATED_COUNT] += 1


@jit_inline
def append_delta(changes: BatchChanges, increment: int, location: int, kind: int, time: int, direction: int) -> None:
    """Append that one scan more (`increment` is 1) or less (-1) counts."""
    n = changes.counts[DELTA_COUNT]
    changes.delta_locations[n] = location
    changes.delta_codes[n] = (
        ((time // _MINUTE_MS) << MINUTE_SHIFT)
        | (kind << KIND_SHIFT)
        | (direction << DIRECTION_SHIFT)
        | (1 if increment < 0 else 0)
    )
    changes.counts[DELTA_COUNT] = n + 1


@jit_inline
def append_milestone(
    a: TableArrays,
    row: int,
    milestone_type: int,
    stage: int,
    time: int,
    previous_time: int,
    location: int,
    high: np.uint64,
    low: np.uint64,
    changes: BatchChanges,
) -> None:
    """Append a milestone; `location`, `high` and `low`: intern id of the location and record hash of its evidence."""
    n = changes.counts[MILESTONE_COUNT]
    changes.milestones[n]["row"] = row
    changes.milestones[n]["version"] = a.rows[row]["records"]
    changes.milestones[n]["event_time"] = time
    changes.milestones[n]["previous_time"] = previous_time
    changes.milestones[n]["high"] = high
    changes.milestones[n]["low"] = low
    changes.milestones[n]["location"] = location
    changes.milestones[n]["type"] = milestone_type
    changes.milestones[n]["stage"] = stage
    changes.milestones[n]["direction"] = a.rows[row]["direction"]
    changes.counts[MILESTONE_COUNT] = n + 1
