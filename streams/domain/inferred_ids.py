"""Ids of inferred records: hashes of the cause and the child, so that the same inference always has the same id.

The cause is the event of the container around the child. A repeated record is recognised whatever process wrote it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import jit, jit_inline
from streams.domain.record_hash import record_hash

_PREFIX: Final = "urn:parcels:inferred:"
_PREFIX_OCTETS = np.frombuffer(_PREFIX.encode(), np.uint8).copy()
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8).copy()
# Length of every inferred id.
INFERRED_ID_BYTES: Final = len(_PREFIX) + 32

Octets = NDArray[np.uint8]
Positions = NDArray[np.int64]
Sizes = NDArray[np.int32]


def inferred_id(cause_event_id: str, child_id: str, generation: int = 0) -> str:
    """The event_id of the record that is inferred for a child from an event of its container.

    Args:
        cause_event_id: event_id of the event.
        child_id: parcel_id or container_id of the child.
        generation: how often the same record was propagated and retracted before.

    >>> inferred_id("a1", "LP00000000000017")
    'urn:parcels:inferred:df9d93df0704c9ce6daa52d7d697b52a'
    """
    child = child_id.encode()
    ids = inferred_ids(
        cause_event_id.encode(),
        np.frombuffer(child, np.uint8),
        np.zeros(1, np.int64),
        np.array([len(child)], np.int32),
        generation,
    )
    return ids.tobytes().decode()


def inferred_ids(cause: bytes, children: Octets, offsets: Positions, sizes: Sizes, generation: int = 0) -> Octets:
    """The ids of many children of one cause, back to back, INFERRED_ID_BYTES each.

    Args:
        cause: event_id of the event.
        children: texts of the children.
        offsets: offset of each in `children`.
        sizes: bytes of each.
        generation: as in `inferred_id`.
    """
    count = len(offsets)
    suffix = generation_suffix(generation)
    out = np.empty(count * INFERRED_ID_BYTES, np.uint8)
    write_inferred_ids(
        np.frombuffer(cause + suffix + b"\0", np.uint8),
        np.zeros(count, np.int64),
        np.full(count, len(cause), np.int32),
        np.full(count, len(cause), np.int64),
        np.full(count, len(suffix), np.int32),
        children,
        offsets,
        sizes,
        np.empty(len(cause) + len(suffix) + int(sizes.max(initial=0)) + 1, np.uint8),
        out,
    )
    return out


def generation_suffix(generation: int) -> bytes:
    """The part of the hashed text that follows the child."""
    return b"\0%d" % generation if generation else b""


@jit
def write_inferred_ids(
    text: Octets,
    cause_offset: Positions,
    cause_size: Sizes,
    suffix_offset: Positions,
    suffix_size: Sizes,
    children: Octets,
    child_offset: Positions,
    child_size: Sizes,
    scratch: Octets,
    out: Octets,
) -> None:
    """Write the ids of pairs of a cause and a child to `out`, INFERRED_ID_BYTES each.

    Args:
        text: holds the causes and the suffixes (`generation_suffix`).
        cause_offset, cause_size, suffix_offset, suffix_size: of each pair, in `text`.
        children: holds the children.
        child_offset, child_size: of each pair, in `children`.
        scratch: room for the longest cause, child and suffix together, and one more byte.
        out: filled.
    """
    for i in range(len(child_offset)):
        size = _append(scratch, 0, text, cause_offset[i], cause_size[i])
        scratch[size] = 0
        size = _append(scratch, size + 1, children, child_offset[i], child_size[i])
        size = _append(scratch, size, text, suffix_offset[i], suffix_size[i])
        high, low = record_hash(scratch, 0, size)
        start = i * INFERRED_ID_BYTES
        for k in range(len(_PREFIX_OCTETS)):
            out[start + k] = _PREFIX_OCTETS[k]
        start += len(_PREFIX_OCTETS)
        for k in range(16):
            shift = np.uint64(60 - 4 * k)
            out[start + k] = _HEX[(high >> shift) & np.uint64(15)]
            out[start + 16 + k] = _HEX[(low >> shift) & np.uint64(15)]


@jit_inline
def _append(target: Octets, length: int, source: Octets, start: int, size: int) -> int:
    for k in range(size):
        target[length + k] = source[start + k]
    return length + size
