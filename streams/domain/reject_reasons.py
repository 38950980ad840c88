"""Reject reasons: why a record became a dead letter; a closed set.

The compiled code writes the numbers as the status of each record. People, headers and metrics see the names.
"""

from enum import IntEnum


class RejectReason(IntEnum):
    """Status of one record of a batch; a record with any status but OK goes to the dead-letter topic."""

    OK = 0
    NO_VALUE = 1
    BAD_FRAMING = 2
    UNKNOWN_SCHEMA = 3
    TOO_LARGE = 4
    TRUNCATED = 5
    VARINT_OVERFLOW = 6
    BAD_LENGTH = 7
    BAD_INDEX = 8
    INVALID_UTF8 = 9
    TRAILING_BYTES = 10
    UNRESOLVABLE = 11
    BAD_PARCEL_ID = 12
    OUT_OF_BOUNDS = 13
    BAD_VOID = 14
    WRONG_PARTITION = 15
    PARCEL_LIMIT_EXCEEDED = 16
    BAD_CONTAINER = 17
    CONTAINER_LIMIT_EXCEEDED = 18
    CYCLE = 19
    TOO_DEEP = 20


REJECT_REASON_TEXTS: dict[RejectReason, str] = {
    RejectReason.OK: "the record was used",
    RejectReason.NO_VALUE: "the record has no value (a tombstone); hub.scans takes only scans, advices and ticks, "
    "hub.containers only events and ticks",
    RejectReason.BAD_FRAMING: "the value does not begin with a zero byte and a four-byte schema id",
    RejectReason.UNKNOWN_SCHEMA: "the schema id is not in schemas/ids.json, or not one of this topic",
    RejectReason.TOO_LARGE: "the value is larger than 64 KiB (in hub.containers 1 MiB)",
    RejectReason.TRUNCATED: "the value ends in the middle of a field",
    RejectReason.VARINT_OVERFLOW: "a number is longer than its type allows",
    RejectReason.BAD_LENGTH: "a length or a count is negative or beyond the value",
    RejectReason.BAD_INDEX: "an enum, union or boolean has an index that the schema does not have",
    RejectReason.INVALID_UTF8: "a string is not UTF-8",
    RejectReason.TRAILING_BYTES: "bytes follow the last field",
    RejectReason.UNRESOLVABLE: "the writer's value has no counterpart in the reader's schema",
    RejectReason.BAD_PARCEL_ID: "the parcel_id is empty, longer than 128 bytes or holds control characters",
    RejectReason.OUT_OF_BOUNDS: "a time, an offset or a text is outside the bounds of streams/domain/limits.py",
    RejectReason.BAD_VOID: "a VOID names no event_id to void, or another kind names one",
    RejectReason.WRONG_PARTITION: "the parcel_id or container_id belongs to another partition (murmur2): send it with "
    "that key",
    RejectReason.PARCEL_LIMIT_EXCEEDED: "the parcel already has 10,000 records or 1,000 voids",
    RejectReason.BAD_CONTAINER: "a container_id is empty, longer than 128 bytes or holds control characters, or the "
    "event names children or a parent where its kind has none",
    RejectReason.CONTAINER_LIMIT_EXCEEDED: "the container already has 10,000 events, or would hold more than 100,000 "
    "children, or name a million in all",
    RejectReason.CYCLE: "the container is inside itself: it is its own child or parent, or the event came through it "
    "before",
    RejectReason.TOO_DEEP: "the event came through more than 8 containers",
}
