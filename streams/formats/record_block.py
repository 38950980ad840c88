"""Many records in four buffers: the outputs of a batch reach Kafka without a Python object for each record."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

# A record's key and value.
KeyValue = tuple[bytes, bytes]


class RecordBlock(Sequence[KeyValue]):
    """Keys and values back to back, uint8; `key_ends` and `value_ends` are int64[records + 1] and begin with 0.

    An empty value is a tombstone: no Avro value is empty. An empty key is no key, as a Tick has none.

    >>> block = RecordBlock.from_records([(b"P1", b"one"), (b"P2", b"")])
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
    def from_records(cls, records: Sequence[KeyValue]) -> "RecordBlock":
        """A block with copies of these records."""
        key_bytes, key_ends = _join([key for key, _ in records])
        value_bytes, value_ends = _join([value for _, value in records])
        return cls(key_bytes, key_ends, value_bytes, value_ends)

    @classmethod
    def concatenate(cls, blocks: "Sequence[RecordBlock]") -> "RecordBlock":
        """The records of all these blocks, one block after the other."""
        if len(blocks) == 1:
            return blocks[0]
        return cls(
            *_concatenate([block.key_bytes for block in blocks], [block.key_ends for block in blocks]),
            *_concatenate([block.value_bytes for block in blocks], [block.value_ends for block in blocks]),
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


def _join(parts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    return np.frombuffer(b"".join(parts), np.uint8), ends


def _concatenate(
    octets: list[NDArray[np.uint8]], ends: list[NDArray[np.int64]]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    starts = np.cumsum([0, *(len(part) for part in octets)])
    shifted = [each[1:] + start for each, start in zip(ends, starts.tolist(), strict=False)]
    return np.concatenate([_NO_BYTES, *octets]), np.concatenate([_FIRST_START, *shifted])


# Without them a block of no blocks would have no array to concatenate.
_NO_BYTES = np.empty(0, np.uint8)
_FIRST_START = np.zeros(1, np.int64)
