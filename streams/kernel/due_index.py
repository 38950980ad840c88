"""The due index: which parcels have to be looked at when a Tick moves the hub's time on.

A parcel is due when it changed since the last Tick, or when the instant came after which one of its clocks stands
otherwise. Each row keeps the smallest such instant, each block of 1,024 rows the smallest of its rows: a Tick at which
nothing is due costs one comparison a block.
"""

from streams.domain.jit import jit_inline
from streams.kernel.parcel_table import CHANGED_COUNT, NEVER, ROWS_PER_BLOCK, TableArrays


@jit_inline
def mark_changed(a: TableArrays, row: int) -> None:
    """The parcel is due at the next Tick, whatever its time."""
    if a.due[row] != NEVER:
        a.due[row] = NEVER
        a.changed[a.counts[CHANGED_COUNT]] = row
        a.counts[CHANGED_COUNT] += 1


@jit_inline
def set_due_time(a: TableArrays, row: int, instant: int) -> None:
    """The parcel is due at the first Tick after `instant`."""
    a.due[row] = instant
    block = row // ROWS_PER_BLOCK
    a.block_due_times[block] = min(a.block_due_times[block], instant)
