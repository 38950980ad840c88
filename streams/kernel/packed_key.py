"""A slot's stamp: when, what kind, which local clock and a few flags in one number that sorts by (time, kind).

From the top: 44 bits of milliseconds since 1900 (streams/domain/limits.py keeps times within them), 5 bits of kind,
11 bits of UTC offset in minutes plus 1024, 3 bits of flags. The sign bit stays clear.
"""

from typing import Final

from streams.domain.jit import int64, jit_inline
from streams.domain.kinds import KINDS
from streams.domain.limits import EARLIEST_MS, LATEST_MS

INFERRED: Final = 1
ADVICE: Final = 2
VOIDED: Final = 4

_KIND_BITS: Final = 5
_ORDER_SHIFT: Final = 14
if len(KINDS) > 1 << _KIND_BITS or LATEST_MS - EARLIEST_MS > 1 << 44:
    message = "the stamp has five bits for the kind and 44 for the time"
    raise AssertionError(message)


@jit_inline
def pack_key(time: int, kind: int, offset_minutes: int, flags: int) -> int:
    """Stamp of a record: `time` in ms since 1970, `offset_minutes` within 14 hours."""
    order = ((time - EARLIEST_MS) << _KIND_BITS) | kind
    return (order << _ORDER_SHIFT) | ((offset_minutes + 1024) << 3) | flags


@jit_inline
def sort_key_of(stamp: int) -> int:
    """What records of a parcel are sorted by, before their identity."""
    return int64(stamp) >> _ORDER_SHIFT


@jit_inline
def time_of(stamp: int) -> int:
    """Milliseconds since 1970."""
    return (int64(stamp) >> (_ORDER_SHIFT + _KIND_BITS)) + EARLIEST_MS


@jit_inline
def kind_of(stamp: int) -> int:
    """Number of the kind."""
    return (int64(stamp) >> _ORDER_SHIFT) & ((1 << _KIND_BITS) - 1)


@jit_inline
def utc_offset_of(stamp: int) -> int:
    """UTC offset in minutes."""
    return ((int64(stamp) >> 3) & 2047) - 1024
