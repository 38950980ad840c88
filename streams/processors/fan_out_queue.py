"""The fan-outs that are pending, and which container's turn it is.

Most containers are bags: their fan-out fits into one chunk and is written at once. A longer fan-out goes on beside
those, a chunk of each container in turn. So a freighter keeps no bag waiting, and bags do not hold up the freighter.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from streams.domain.containers import Container, FanOut
from streams.processors.fan_out_records import ContainerFanOutChunk

# Children of one container before the next container has its turn.
FAN_OUT_CHUNK_SIZE: Final = 1_000
# Records of a transaction that are for longer fan-outs, however much is new.
_LONG_FAN_OUT_RECORDS: Final = 2_000
# A fan-out that has nothing to write costs as much as so many records.
_EMPTY_FAN_OUT_COST: Final = 20
# Estimate of a fan-out's records before its children are counted.
_TYPICAL_RECORDS: Final = 60


class FanOutQueue:
    """Fan-outs of many containers; those of one container go on in their order."""

    def __init__(self) -> None:
        # Container -> its fan-outs; the container whose turn is next comes first.
        self._new: dict[str, deque[FanOut]] = {}
        self._long: dict[str, deque[FanOut]] = {}

    def __bool__(self) -> bool:
        return bool(self._new or self._long)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._new or container_id in self._long

    def __iter__(self) -> Iterator[tuple[str, FanOut]]:
        """Every fan-out with its container, those of one container in their order."""
        for queue in (self._new, self._long):
            for name, fan_outs in queue.items():
                for fan_out in fan_outs:
                    yield name, fan_out

    def __len__(self) -> int:
        return sum(map(len, (*self._new.values(), *self._long.values())))

    @property
    def reserved_records(self) -> int:
        """Estimate of the records that the next transaction must have room for already."""
        return _TYPICAL_RECORDS * len(self._new) + (_LONG_FAN_OUT_RECORDS if self._long else 0)

    def add(self, container_id: str, fan_outs: list[FanOut]) -> None:
        """Append fan-outs to those that the container has already."""
        if fan_outs:
            queue = self._long if container_id in self._long else self._new
            queue.setdefault(container_id, deque()).extend(fan_outs)

    def next_chunks(self, containers: Mapping[str, Container], max_children: int) -> Iterator[ContainerFanOutChunk]:
        """The chunks that are written now, for so many children in all."""
        room = max_children
        reserved = min(room // 2, _LONG_FAN_OUT_RECORDS) if self._long else 0
        room -= reserved
        for queue in (self._new, self._long):
            while queue and room > 0:
                name = next(iter(queue))
                fan_outs = queue.pop(name)
                chunk, done = containers[name].next_chunk(fan_outs[0], min(FAN_OUT_CHUNK_SIZE, room))
                if chunk is not None:
                    yield ContainerFanOutChunk(name, chunk)
                room -= _EMPTY_FAN_OUT_COST if chunk is None else len(chunk.children)
                if done:
                    fan_outs.popleft()
                if fan_outs:
                    # A bag has no containers inside, and the chunk of its parcels is still to come.
                    (queue if done or chunk is None else self._long)[name] = fan_outs
            room = max(room, 0) + reserved
            reserved = 0
