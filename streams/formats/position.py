"""The position record: the offset up to which a partition of an input topic has been folded into its state topic.

It is written to the state topic in the transaction of its batch. So states and position always agree, and no offset
that a consumer group committed has to be trusted.
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
    """The part of a container's fan-out that is not written yet (`streams.domain.containers.FanOut`)."""

    container_id: str
    kind: int
    cause: bytes
    generation: int
    void_time: int | None
    backfill_event: bytes | None
    containers_next: bool
    last_child: str | None

    @classmethod
    def from_fan_out(cls, container_id: str, fan_out: FanOut) -> "PendingFanOut":
        """The rest of `fan_out`, with events as their record hashes."""
        return cls(
            container_id,
            int(fan_out.kind),
            fan_out.cause.record_hash,
            fan_out.generation,
            fan_out.void_time,
            None if fan_out.backfill_event is None else fan_out.backfill_event.record_hash,
            fan_out.containers_next,
            None if fan_out.last_child is None else fan_out.last_child.decode(),
        )

    def to_fan_out(self, container: Container) -> FanOut:
        """The fan-out, with the events of `container`, to go on with."""
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
    """Where a worker goes on in a partition of an input topic."""

    # The first offset that is not folded.
    next_offset: int
    # The largest Tick that was folded, ms since 1970; None before the first.
    hub_time: int | None
    # Digest of the promises that were in force; None where none were.
    promises_digest: str | None = None
    # Counts the transactions of a processor that also writes when no input came.
    transaction_number: int = 0
    pending_fan_outs: tuple[PendingFanOut, ...] = ()

    @property
    def sequence_key(self) -> tuple[int, int]:
        """Grows with every position of a partition."""
        return self.next_offset, self.transaction_number

    def encode(self) -> bytes:
        """The value of the position record."""
        fields = {
            "next_offset": self.next_offset,
            "hub_time": self.hub_time,
            "promises_digest": self.promises_digest,
            "transaction_number": self.transaction_number,
            "pending_fan_outs": [each.to_avro() for each in self.pending_fan_outs],
        }
        body = io.BytesIO()
        fastavro.schemaless_writer(body, _writer_schema(), fields)
        return load_schemas().to_wire_format("InputPosition", body.getvalue())

    @classmethod
    def decode(cls, value: bytes) -> "PartitionPosition":
        """The position in the value of a record.

        Raises:
            StreamsError: no version of this program wrote the value.
        """
        fields = _decoder()(value)
        fan_outs = tuple(PendingFanOut.from_avro(each) for each in fields["pending_fan_outs"])
        return cls(
            fields["next_offset"],
            fields["hub_time"],
            fields["promises_digest"],
            fields["transaction_number"],
            fan_outs,
        )


@cache
def _decoder() -> RecordDecoder:
    return RecordDecoder("InputPosition")


@cache
def _writer_schema() -> Any:
    return fastavro.parse_schema(without_logical_types(load_schemas().current("InputPosition")))
