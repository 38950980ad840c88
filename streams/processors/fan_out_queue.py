"""What is left to be told to children of containers, and whose turn it is.

Most containers are bags: what happened to them is told at once. What takes longer than a portion goes on beside that,
a portion of each container in turn, so that a freighter keeps no bag waiting, and bags do not keep the freighter.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from streams.domain.containers import Container, FanOut
from streams.processors.fan_out_records import ContainerFanOutChunk

# Of one container's children so many are told before others have their turn.
FAN_OUT_CHUNK_SIZE: Final = 1_000
# Of a transaction so many records are for what takes longer, however much is new.
_FOR_LONG_ONES: Final = 2_000
# A step that has nothing to write costs as much as these.
_STEP: Final = 20
# What a step is taken to need before its children are counted.
_TYPICAL: Final = 60


class FanOutQueue:
    """Steps of many containers; those of one container go on in their order."""

    def __init__(self) -> None:
        # Container -> its steps; whose turn is next comes first.
        self._new: dict[str, deque[FanOut]] = {}
        self._long: dict[str, deque[FanOut]] = {}

    def __bool__(self) -> bool:
        return bool(self._new or self._long)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._new or container_id in self._long

    def __iter__(self) -> Iterator[tuple[str, FanOut]]:
        """Every step with its container, those of one container in their order."""
        for queue in (self._new, self._long):
            for name, steps in queue.items():
                for step in steps:
                    yield name, step

    def __len__(self) -> int:
        return sum(map(len, (*self._new.values(), *self._long.values())))

    @property
    def reserved_records(self) -> int:
        """How many records of the next transaction are spoken for already, about."""
        return _TYPICAL * len(self._new) + (_FOR_LONG_ONES if self._long else 0)

    def add(self, container_id: str, steps: list[FanOut]) -> None:
        """Steps that follow those that the container has already."""
        if steps:
            queue = self._long if container_id in self._long else self._new
            queue.setdefault(container_id, deque()).extend(steps)

    def next_chunks(self, containers: Mapping[str, Container], room: int) -> Iterator[ContainerFanOutChunk]:
        """What is told now, for so many children in all."""
        spared = min(room // 2, _FOR_LONG_ONES) if self._long else 0
        room -= spared
        for queue in (self._new, self._long):
            while queue and room > 0:
                name = next(iter(queue))
                steps = queue.pop(name)
                portion, done = containers[name].next_chunk(steps[0], min(FAN_OUT_CHUNK_SIZE, room))
                if portion is not None:
                    yield ContainerFanOutChunk(name, portion)
                room -= _STEP if portion is None else len(portion.children)
                if done:
                    steps.popleft()
                if steps:
                    # A bag has no bags inside, and its parcels' turn is still to come.
                    (queue if done or portion is None else self._long)[name] = steps
            room = max(room, 0) + spared
            spared = 0
