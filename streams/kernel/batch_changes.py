"""What a batch did: filled by `fold`, read by the encoders of the outputs."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import inlined
from streams.kernel.parcel_table import Arrays, Bytes

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
        ("stopped", np.int64),
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


class Folded(NamedTuple):
    """What a batch did: room for one entry a record, and for more where Ticks and advices bring more."""

    touched: NDArray[np.int32]  # rows that changed, in the order of their first change
    milestones: NDArray[np.void]
    # Of each distinct scan: its place, kind and direction, for the counters.
    scan_at: NDArray[np.int32]
    scan_kind: Bytes
    scan_direction: Bytes
    retired: NDArray[np.int32]  # rows whose parcel left
    alerts: NDArray[np.void]
    # Of each scan that is counted or not counted any more: its place, and a code.
    delta_at: NDArray[np.int32]
    delta_code: NDArray[np.int64]
    counts: NDArray[np.int64]


# Positions in Folded.counts.
TOUCHED, MILESTONES, SCANS, DUPLICATES, LEFT, ALERTS, DELTAS, FOLD_COUNTERS = range(8)


def blank_folded(records: int, rows: int) -> Folded:
    """Room for what a batch of `records` does to a table with room for `rows`."""
    return Folded(
        touched=np.empty(records + rows, np.int32),
        milestones=np.empty(records + 64, MILESTONE),
        scan_at=np.empty(records, np.int32),
        scan_kind=np.empty(records, np.uint8),
        scan_direction=np.empty(records, np.uint8),
        retired=np.empty(records + rows, np.int32),
        alerts=np.empty(min(1024, records + 64), ALERT),
        delta_at=np.empty(2 * records + 64, np.int32),
        delta_code=np.empty(2 * records + 64, np.int64),
        counts=np.zeros(FOLD_COUNTERS, np.int64),
    )


def with_room(out: Folded, alerts: int, deltas: int, milestones: int) -> Folded:
    """The same with room for so many more alerts, deltas and milestones."""
    alerts += int(out.counts[ALERTS])
    if alerts > len(out.alerts):
        out = out._replace(alerts=np.resize(out.alerts, max(alerts, 2 * len(out.alerts))))
    deltas += int(out.counts[DELTAS])
    if deltas > len(out.delta_at):
        size = max(deltas, 2 * len(out.delta_at))
        out = out._replace(delta_at=np.resize(out.delta_at, size), delta_code=np.resize(out.delta_code, size))
    milestones += int(out.counts[MILESTONES])
    if milestones > len(out.milestones):
        out = out._replace(milestones=np.resize(out.milestones, max(milestones, 2 * len(out.milestones))))
    return out


@inlined
def touch(a: Arrays, row: int, number: int, out: Folded) -> None:
    """The row changed in batch `number`: its state has to be told."""
    if a.rows[row]["batch"] != number:
        a.rows[row]["batch"] = number
        out.touched[out.counts[TOUCHED]] = row
        out.counts[TOUCHED] += 1


@inlined
def put_delta(out: Folded, by: int, at: int, kind: int, time: int, direction: int) -> None:
    """One scan more (`by` is 1) or less (-1)."""
    n = out.counts[DELTAS]
    out.delta_at[n] = at
    out.delta_code[n] = (
        ((time // _MINUTE_MS) << MINUTE_SHIFT)
        | (kind << KIND_SHIFT)
        | (direction << DIRECTION_SHIFT)
        | (1 if by < 0 else 0)
    )
    out.counts[DELTAS] = n + 1


@inlined
def put_milestone(
    a: Arrays,
    row: int,
    what: int,
    stage: int,
    time: int,
    previous: int,
    at: int,
    high: np.uint64,
    low: np.uint64,
    out: Folded,
) -> None:
    """One milestone more: type, stage and times, word of the evidence's place and the evidence's identity."""
    n = out.counts[MILESTONES]
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
    out.counts[MILESTONES] = n + 1
