"""The position record: how far a partition of a stage's input has been folded into its topic of states.

It is written in the transaction of the batch that it ends, so state and position cannot part, and no offset that a
consumer group committed has to be trusted.
"""

import io
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

import fastavro

from streams.domain.containers import Container, FanOut, FanOutKind
from streams.formats.record_decoder import RecordDecoder, without_logical_types
from streams.formats.schemas import load_schemas

# Words of the schema's FanOutStep.
FAN_OUT_STEP_SYMBOLS: Final = ("OTHER", *(what.name for what in FanOutKind))


@dataclass(frozen=True, slots=True)
class PendingFanOut:
    """A part of a container's fan-out that is not written yet (`streams.domain.containers.FanOut`)."""

    container_id: str
    what: int
    cause: bytes
    generation: int
    void_time: int | None
    reached: bytes | None
    containers: bool
    after: str | None

    @classmethod
    def of(cls, container_id: str, step: FanOut) -> "PendingFanOut":
        """What is left of `step`."""
        return cls(
            container_id,
            int(step.what),
            step.cause.identity,
            step.generation,
            step.void_time,
            None if step.reached is None else step.reached.identity,
            step.containers,
            None if step.after is None else step.after.decode(),
        )

    def step(self, container: Container) -> FanOut:
        """The step, to go on with."""
        return FanOut(
            FanOutKind(self.what),
            container.event(self.cause),
            self.generation,
            self.void_time,
            None if self.reached is None else container.event(self.reached),
            self.containers,
            None if self.after is None else self.after.encode(),
        )


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """Where to go on: offset of the input, and the largest Tick folded (ms since 1970; None before the first)."""

    next_offset: int
    hub_time: int | None
    # Digest of the promises that were in force; None in records of a time without any.
    promises: str | None = None
    # Number of the transaction, for a stage that also writes when nothing came.
    step: int = 0
    left: tuple[PendingFanOut, ...] = ()

    @property
    def place(self) -> tuple[int, int]:
        """What tells it from the positions before and after it."""
        return self.next_offset, self.step

    def encode(self) -> bytes:
        """The value of the position record."""
        said = {
            "next_offset": self.next_offset,
            "hub_time": self.hub_time,
            "promises": self.promises,
            "step": self.step,
            "fan_outs": [{**asdict(each), "what": FAN_OUT_STEP_SYMBOLS[each.what]} for each in self.left],
        }
        body = io.BytesIO()
        fastavro.schemaless_writer(body, _writer(), said)
        return load_schemas().to_wire_format("Position", body.getvalue())

    @classmethod
    def decoded(cls, value: bytes) -> "PartitionPosition":
        """Position of a record's value.

        Raises:
            StreamsError: the value is not one that any version of this program wrote.
        """
        read = _decoder()(value)
        left = (
            PendingFanOut(**{**each, "what": FAN_OUT_STEP_SYMBOLS.index(each["what"])}) for each in read["fan_outs"]
        )
        return cls(read["next_offset"], read["hub_time"], read["promises"], read["step"], tuple(left))


@cache
def _decoder() -> RecordDecoder:
    return RecordDecoder("Position")


@cache
def _writer() -> Any:
    return fastavro.parse_schema(without_logical_types(load_schemas().current("Position")))
