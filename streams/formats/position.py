"""The position record: how far a partition of a stage's input has been folded into its topic of states.

It is written in the transaction of the batch that it ends, so state and position cannot part, and no offset that a
consumer group committed has to be trusted.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

import fastavro

from streams.domain.containers import Container, FanOut, FanOutKind
from streams.formats.record_decoder import RecordDecoder, without_logical_types
from streams.formats.schemas import load_schemas

# Symbols of the schema's FanOutKind.
FAN_OUT_KIND_SYMBOLS: Final = ("OTHER", *(kind.name for kind in FanOutKind))


@dataclass(frozen=True, slots=True)
class PendingFanOut:
    """A part of a container's fan-out that is not written yet (`streams.domain.containers.FanOut`)."""

    container_id: str
    kind: int
    cause: bytes
    generation: int
    void_time: int | None
    backfill_event: bytes | None
    containers_next: bool
    last_child: str | None

    @classmethod
    def of(cls, container_id: str, step: FanOut) -> "PendingFanOut":
        """What is left of `step`."""
        return cls(
            container_id,
            int(step.kind),
            step.cause.record_hash,
            step.generation,
            step.void_time,
            None if step.backfill_event is None else step.backfill_event.record_hash,
            step.containers_next,
            None if step.last_child is None else step.last_child.decode(),
        )

    def step(self, container: Container) -> FanOut:
        """The step, to go on with."""
        return FanOut(
            FanOutKind(self.kind),
            container.event(self.cause),
            self.generation,
            self.void_time,
            None if self.backfill_event is None else container.event(self.backfill_event),
            self.containers_next,
            None if self.last_child is None else self.last_child.encode(),
        )

    @classmethod
    def from_avro(cls, fields: Mapping[str, Any]) -> "PendingFanOut":
        """From the fields of the Avro record PendingFanOut."""
        return cls(**{**fields, "kind": FAN_OUT_KIND_SYMBOLS.index(fields["kind"])})

    def to_avro(self) -> dict[str, Any]:
        """The fields of the Avro record PendingFanOut."""
        return asdict(self) | {"kind": FAN_OUT_KIND_SYMBOLS[self.kind]}


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """Where to go on: offset of the input, and the largest Tick folded (ms since 1970; None before the first)."""

    next_offset: int
    hub_time: int | None
    # Digest of the promises that were in force; None in records of a time without any.
    promises_digest: str | None = None
    # Number of the transaction, for a stage that also writes when nothing came.
    transaction_number: int = 0
    pending_fan_outs: tuple[PendingFanOut, ...] = ()

    @property
    def place(self) -> tuple[int, int]:
        """What tells it from the positions before and after it."""
        return self.next_offset, self.transaction_number

    def encode(self) -> bytes:
        """The value of the position record."""
        said = {
            "next_offset": self.next_offset,
            "hub_time": self.hub_time,
            "promises_digest": self.promises_digest,
            "transaction_number": self.transaction_number,
            "pending_fan_outs": [each.to_avro() for each in self.pending_fan_outs],
        }
        body = io.BytesIO()
        fastavro.schemaless_writer(body, _writer(), said)
        return load_schemas().frame("InputPosition", body.getvalue())

    @classmethod
    def decoded(cls, value: bytes) -> "PartitionPosition":
        """Position of a record's value.

        Raises:
            StreamsError: the value is not one that any version of this program wrote.
        """
        read = _decoder()(value)
        pending = tuple(PendingFanOut.from_avro(each) for each in read["pending_fan_outs"])
        return cls(read["next_offset"], read["hub_time"], read["promises_digest"], read["transaction_number"], pending)


@cache
def _decoder() -> RecordDecoder:
    return RecordDecoder("InputPosition")


@cache
def _writer() -> Any:
    return fastavro.parse_schema(without_logical_types(load_schemas().current("InputPosition")))
