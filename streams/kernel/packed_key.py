"""The packed key of a slot: time, kind, UTC offset and flags of a record in one number that sorts by (time, kind).

From the most significant bit: the sign bit, always 0; 44 bits of milliseconds since 1900 (streams/domain/limits.py
keeps times within this range); 5 bits of kind; 11 bits of UTC offset in minutes plus 1024; 3 bits of flags.
"""

from typing import Final

from streams.domain.jit import int64, jit_inline
from streams.domain.kinds import KINDS
from streams.domain.limits import EARLIEST_MS, LATEST_MS

INFERRED: Final = 1
ADVICE: Final = 2
VOIDED: Final = 4

_KIND_BITS: Final = 5
_SORT_KEY_SHIFT: Final = 14
if len(KINDS) > 1 << _KIND_BITS or LATEST_MS - EARLIEST_MS > 1 << 44:
    message = "the packed key has five bits for the kind and 44 for the time"
    raise AssertionError(message)


@jit_inline
def pack_key(time: int, kind: int, utc_offset_minutes: int, flags: int) -> int:
    """Packed key of a record: `time` in ms since 1970, `utc_offset_minutes` within 14 hours."""
    sort_key = ((time - EARLIEST_MS) << _KIND_BITS) | kind
    return (sort_key << _SORT_KEY_SHIFT) | ((utc_offset_minutes + 1024) << 3) | flags


@jit_inline
def sort_key_of(packed_key: int) -> int:
    """The part of the key that sorts the records of a parcel, before their record hash."""
    return int64(packed_key) >> _SORT_KEY_SHIFT


@jit_inline
def time_of(packed_key: int) -> int:
    """Milliseconds since 1970."""
    return (int64(packed_key) >> (_SORT_KEY_SHIFT + _KIND_BITS)) + EARLIEST_MS


@jit_inline
def kind_of(packed_key: int) -> int:
    """Number of the kind."""
    return (int64(packed_key) >> _SORT_KEY_SHIFT) & ((1 << _KIND_BITS) - 1)


@jit_inline
def utc_offset_of(packed_key: int) -> int:
    """UTC offset in minutes."""
    return ((int64(packed_key) >> 3) & 2047) - 1024
