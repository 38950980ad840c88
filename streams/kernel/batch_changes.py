"""What a batch did: filled by `fold`, read by the encoders of the outputs."""

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
        ("at", np.int32),
        ("type", np.uint8),
        ("stage", np.uint8),
        ("direction", np.uint8),
    ],
    align=True,
)
ALERT: Final = np.dtype(
    [
        ("high", np.uint64),  # its id
        ("low", np.uint64),
        ("hub_time", np.int64),
        ("since", np.int64),
        ("deadline", np.int64),
        ("limit", np.int64),
        ("stopped_at", np.int64),
        ("one_high", np.uint64),  # evidence
        ("one_low", np.uint64),
        ("other_high", np.uint64),
        ("other_low", np.uint64),
        ("taken_high", np.uint64),  # id of what is withdrawn
        ("taken_low", np.uint64),
        ("row", np.int32),
        ("version", np.int32),
        ("at", np.int32),  # word of the place of the evidence
        ("subject", np.int32),  # place in `Arrays.subjects`
        ("type", np.uint8),
        ("evidence", np.uint8),  # how many
        ("direction", np.uint8),
    ],
    align=True,
)
# Bits of a delta's code: minutes since 1970, kind, direction, and 1 where the number falls.
MINUTE_SHIFT, KIND_SHIFT, DIRECTION_SHIFT = 8, 3, 1
_MINUTE_MS: Final = 60_000


class BatchChanges(NamedTuple):
    """What a batch did: room for one entry a record, and for more where Ticks and advices bring more."""

    touched: NDArray[np.int32]  # rows that changed, in the order of their first change
    milestones: NDArray[np.void]
    # Of each distinct scan: its place, kind and direction, for the counters.
    scan_locations: NDArray[np.int32]
    scan_kinds: ByteArray
    scan_directions: ByteArray
    retired: NDArray[np.int32]  # rows whose parcel left
    alerts: NDArray[np.void]
    # Of each scan that is counted or not counted any more: its place, and a code.
    delta_locations: NDArray[np.int32]
    delta_codes: NDArray[np.int64]
    counts: NDArray[np.int64]


# Positions in Folded.counts.
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
    """Room for what a batch of `records` does to a table with room for `rows`."""
    return BatchChanges(
        touched=np.empty(records + rows, np.int32),
        milestones=np.empty(records + 64, MILESTONE),
        scan_locations=np.empty(records, np.int32),
        scan_kinds=np.empty(records, np.uint8),
        scan_directions=np.empty(records, np.uint8),
        retired=np.empty(records + rows, np.int32),
        alerts=np.empty(min(1024, records + 64), ALERT),
        delta_locations=np.empty(2 * records + 64, np.int32),
        delta_codes=np.empty(2 * records + 64, np.int64),
        counts=np.zeros(CHANGE_COUNTERS, np.int64),
    )


def grow_batch_changes(out: BatchChanges, alerts: int, deltas: int, milestones: int) -> BatchChanges:
    """The same with room for so many more alerts, deltas and milestones."""
    alerts += int(out.counts[ALERT_COUNT])
    if alerts > len(out.alerts):
        out = out._replace(alerts=np.resize(out.alerts, max(alerts, 2 * len(out.alerts))))
    deltas += int(out.counts[DELTA_COUNT])
    if deltas > len(out.delta_locations):
        size = max(deltas, 2 * len(out.delta_locations))
        out = out._replace(
            delta_locations=np.resize(out.delta_locations, size), delta_codes=np.resize(out.delta_codes, size)
        )
    milestones += int(out.counts[MILESTONE_COUNT])
    if milestones > len(out.milestones):
        out = out._replace(milestones=np.resize(out.milestones, max(milestones, 2 * len(out.milestones))))
    return out


@jit_inline
def mark_updated(a: TableArrays, row: int, number: int, out: BatchChanges) -> None:
    """The row changed in batch `number`: its state has to be told."""
    if a.rows[row]["batch"] != number:
        a.rows[row]["batch"] = number
        out.touched[out.counts[UPDATED_COUNT]] = row
        out.counts[UPDATED_COUNT] += 1


@jit_inline
def append_delta(out: BatchChanges, by: int, at: int, kind: int, time: int, direction: int) -> None:
    """One scan more (`by` is 1) or less (-1)."""
    n = out.counts[DELTA_COUNT]
    out.delta_locations[n] = at
    out.delta_codes[n] = (
        ((time // _MINUTE_MS) << MINUTE_SHIFT)
        | (kind << KIND_SHIFT)
        | (direction << DIRECTION_SHIFT)
        | (1 if by < 0 else 0)
    )
    out.counts[DELTA_COUNT] = n + 1


@jit_inline
def append_milestone(
    a: TableArrays,
    row: int,
    what: int,
    stage: int,
    time: int,
    previous: int,
    at: int,
    high: np.uint64,
    low: np.uint64,
    out: BatchChanges,
) -> None:
    """One milestone more: type, stage and times, word of the evidence's place and the evidence's identity."""
    n = out.counts[MILESTONE_COUNT]
    out.milestones[n]["row"] = row
    out.milestones[n]["version"] = a.rows[row]["records"]
    out.milestones[n]["event_time"] = time
    out.milestones[n]["previous_time"] = previous
    out.milestones[n]["high"] = high
    out.milestones[n]["low"] = low
    out.milestones[n]["at"] = at
    out.milestones[n]["type"] = what
    out.milestones[n]["stage"] = stage
    out.milestones[n]["direction"] = a.rows[row]["direction"]
    out.counts[MILESTONE_COUNT] = n + 1
