"""The due index: which parcels have to be looked at when a Tick moves the hub's time on.

A parcel is due when it changed since the last Tick, or when the instant came after which one of its clocks stands
otherwise. Each row keeps the smallest such instant, each block of 1,024 rows the smallest of its rows: a Tick at which
nothing is due costs one comparison a block.
"""

from streams.domain.jit import inlined
from streams.kernel.parcel_table import BLOCK, CHANGED, NEVER, Arrays


@inlined
def mark_changed(a: Arrays, row: int) -> None:
    """The parcel is due at the next Tick, whatever its time."""
    if a.due[row] != NEVER:
        a.due[row] = NEVER
        a.changed[a.counts[CHANGED]] = row
        a.counts[CHANGED] += 1


@inlined
def set_due(a: Arrays, row: int, instant: int) -> None:
    """The parcel is due at the first Tick after `instant`."""
    a.due[row] = instant
    block = row // BLOCK
    a.due_blocks[block] = min(a.due_blocks[block], instant)
