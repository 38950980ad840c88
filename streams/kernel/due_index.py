"""The due index: the parcels that a Tick must evaluate.

A parcel is due if it changed since the last Tick, or if the hub time has passed a time after which the status of one of
its clocks differs. Each row keeps the smallest such time, and each block of 1,024 rows the smallest of its rows: a Tick
at which nothing is due costs one comparison a block.
"""

from streams.domain.jit import jit_inline
from streams.kernel.parcel_table import CHANGED_COUNT, DUE_AT_NEXT_TICK, ROWS_PER_BLOCK, TableArrays


@jit_inline
def mark_changed(a: TableArrays, row: int) -> None:
    """Make the parcel due at the next Tick."""
    if a.due_times[row] != DUE_AT_NEXT_TICK:
        a.due_times[row] = DUE_AT_NEXT_TICK
        a.changed_rows[a.counts[CHANGED_COUNT]] = row
        a.counts[CHANGED_COUNT] += 1


@jit_inline
def set_due_time(a: TableArrays, row: int, due_time: int) -> None:
    """Make the parcel due at the first Tick after `due_time`, in ms since 1970."""
    a.due_times[row] = due_time
    block = row // ROWS_PER_BLOCK
    a.block_due_times[block] = min(a.block_due_times[block], due_time)
