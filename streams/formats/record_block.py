"""Many records as a few buffers: how a batch's outputs travel from the encoder to Kafka without an object a record."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

# A record's key and value.
KeyValue = tuple[bytes, bytes]


class RecordBlock(Sequence[KeyValue]):
    """Keys and values back to back; `key_ends` and `value_ends` (int64, one more than there are records) cut them.

    A value of no bytes is a tombstone: no Avro value is empty. A key of no bytes is none, as a Tick has.

    >>> block = RecordBlock.of([(b"P1", b"one"), (b"P2", b"")])
    >>> len(block), block[1]
    (2, (b'P2', b''))
    """

    __slots__ = ("key_bytes", "key_ends", "value_bytes", "value_ends")

    def __init__(
        self,
        key_bytes: NDArray[np.uint8],
        key_ends: NDArray[np.int64],
        value_bytes: NDArray[np.uint8],
        value_ends: NDArray[np.int64],
    ) -> None:
        self.key_bytes = key_bytes
        self.key_ends = key_ends
        self.value_bytes = value_bytes
        self.value_ends = value_ends

    @classmethod
    def of(cls, records: Sequence[KeyValue]) -> "RecordBlock":
        """A block of these records, copied."""
        keys, key_ends = _joined([key for key, _ in records])
        values, value_ends = _joined([value for _, value in records])
        return cls(keys, key_ends, values, value_ends)

    @classmethod
    def joined(cls, blocks: "Sequence[RecordBlock]") -> "RecordBlock":
        """The records of all these blocks, one block after the other."""
        if len(blocks) == 1:
            return blocks[0]
        return cls(
            *_end_to_end([block.key_bytes for block in blocks], [block.key_ends for block in blocks]),
            *_end_to_end([block.value_bytes for block in blocks], [block.value_ends for block in blocks]),
        )

    def __len__(self) -> int:
        return len(self.key_ends) - 1

    @overload
    def __getitem__(self, index: int) -> KeyValue: ...
    @overload
    def __getitem__(self, index: slice) -> list[KeyValue]: ...
    def __getitem__(self, index: int | slice) -> KeyValue | list[KeyValue]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        return (
            self.key_bytes[self.key_ends[i] : self.key_ends[i + 1]].tobytes(),
            self.value_bytes[self.value_ends[i] : self.value_ends[i + 1]].tobytes(),
        )

    def __iter__(self) -> Iterator[KeyValue]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RecordBlock of {len(self)} records, {len(self.key_bytes)} + {len(self.value_bytes)} bytes"


def _joined(parts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    return np.frombuffer(b"".join(parts), np.uint8), ends


def _end_to_end(
    octets: list[NDArray[np.uint8]], ends: list[NDArray[np.int64]]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    starts = np.cumsum([0, *(len(part) for part in octets)])
    moved = [each[1:] + start for each, start in zip(ends, starts.tolist(), strict=False)]
    return np.concatenate([_NOTHING, *octets]), np.concatenate([_ZERO, *moved])


_NOTHING = np.empty(0, np.uint8)
_ZERO = np.zeros(1, np.int64)
