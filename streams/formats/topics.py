"""The topic catalogue: every topic of the system, what it holds and how the cluster must keep it.

All topics have the same number of partitions, and every client the Java partitioner, so that partition N of each topic
keyed by parcel holds the same parcels, and of each keyed by container the same containers: that is what lets one
transaction hold a batch and all that follows from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SCANS_TOPIC: Final = "hub.scans"
PARCEL_STATE_TOPIC: Final = "parcel.state"
MILESTONES_TOPIC: Final = "parcel.milestones"
ALERTS_TOPIC: Final = "parcel.alerts"
THROUGHPUT_TOPIC: Final = "hub.throughput"
CONTAINERS_TOPIC: Final = "hub.containers"
CONTAINER_STATE_TOPIC: Final = "container.state"
DEAD_LETTERS_TOPIC: Final = "hub.scans.dlq"

# The key of a partition's position record in a topic of states. No parcel_id and no container_id holds a NUL byte, so
# readers of states skip every key that begins with one.
POSITION_KEY: Final = b"\0position"

# One partition is one core's work at most; four leave room to add workers, and cost nothing while there is only one.
DEFAULT_PARTITIONS: Final = 4

_DAY_MS: Final = 24 * 3600 * 1000
# A parcel with 10,000 entries of the longest texts is a state of 14 MB, and a dead letter is as large as whatever came.
_LARGEST_RECORD: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, as it must be on the cluster."""

    name: str
    purpose: str
    key: str
    # Names of the schemas of its values (streams/formats/schemas.py).
    schemas: tuple[str, ...]
    # Kafka's cleanup.policy: "delete" or "compact".
    cleanup_policy: str
    # How long a record is kept; None where the newest record of each key is kept for ever.
    retention_ms: int | None
    # Further topic configuration, by Kafka's names; `reasons` says why, by the same names.
    config: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def full_config(self) -> dict[str, str]:
        """Every topic configuration that this catalogue decides; all others are the cluster's own affair."""
        retention = {} if self.retention_ms is None else {"retention.ms": str(self.retention_ms)}
        return {"cleanup.policy": self.cleanup_policy, **retention, **self.config}


_COMPACTED = {
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(3600 * 1000),
    "delete.retention.ms": str(_DAY_MS),
    "segment.bytes": str(64 << 20),
    "segment.ms": str(3600 * 1000),
}
_COMPACTED_REASONS = {
    "min.cleanable.dirty.ratio": "Restoring a partition reads all of it: compact while a tenth is outdated.",
    "max.compaction.lag.ms": "However slow the traffic, an outdated state is gone after about an hour.",
    "delete.retention.ms": "A reader that was away for less than a day still sees what was deleted.",
    "segment.bytes": "The segment being written is never compacted; 64 MiB keep that part small.",
    "segment.ms": "The same, when traffic is slow.",
}
_LARGE = {"max.message.bytes": str(_LARGEST_RECORD)}
_PRODUCER_TIME = {"message.timestamp.type": "CreateTime"}
_PRODUCER_TIME_REASON = (
    "A record's timestamp is when its producer sent it, so that scan-to-state time includes the way to the broker. "
    "Event times are inside the value: history sent today is kept from today on."
)

TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        name=SCANS_TOPIC,
        purpose="The log: every scan and advice as it came, and the ticks of the clock. It alone decides every state.",
        key="parcel_id; none for a Tick, which is written to every partition",
        schemas=("Scan", "Advice", "Tick"),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config={**_LARGE, **_PRODUCER_TIME},
        reasons={
            "retention.ms": "90 days: longer than a parcel lives, returns and claims included.",
            "max.message.bytes": "Larger than any valid record (64 KiB), so that what is too large is seen as a dead "
            "letter here instead of being lost at a sender.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=PARCEL_STATE_TOPIC,
        purpose="The newest state of every parcel until it retires, and in each partition how far hub.scans has been "
        "folded into it.",
        key="parcel_id; a NUL byte and the word position for the position record",
        schemas=("ParcelState", "InputPosition"),
        cleanup_policy="compact",
        retention_ms=None,
        config={**_LARGE, **_COMPACTED},
        reasons={
            "max.message.bytes": "A state with the most entries a parcel may have (10,000) is one record.",
            **_COMPACTED_REASONS,
        },
    ),
    Topic(
        name=CONTAINERS_TOPIC,
        purpose="The log of containers: what was put into them and taken out, where they were seen, what follows for "
        "the containers inside, and the ticks of the clock.",
        key="container_id; none for a Tick, which is written to every partition",
        schemas=("ContainerEvent", "Tick"),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config={**_LARGE, **_PRODUCER_TIME},
        reasons={
            "retention.ms": "As long as the log of scans, to which it belongs.",
            "max.message.bytes": "Larger than any valid record (1 MiB), so that what is too large is seen as a dead "
            "letter here instead of being lost at a sender.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=CONTAINER_STATE_TOPIC,
        purpose="The events of every container until it retires, its children one by one, and in each partition how "
        "far hub.containers has been folded into it.",
        key="container_id; with a NUL byte and child_id for a child, and one more behind it for a child that is "
        "a container; a NUL byte and the word position for the position record",
        schemas=("ContainerState", "ContainerChild", "InputPosition"),
        cleanup_policy="compact",
        retention_ms=None,
        config={**_LARGE, **_COMPACTED},
        reasons={
            "max.message.bytes": "A container with the most events it may have (10,000) is one record.",
            **_COMPACTED_REASONS,
        },
    ),
    Topic(
        name=MILESTONES_TOPIC,
        purpose="A parcel reached a stage, the time of it was corrected, or it lost the stage again.",
        key="parcel_id",
        schemas=("Milestone",),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config=_PRODUCER_TIME,
        reasons={
            "retention.ms": "As long as the log that proves them.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=ALERTS_TOPIC,
        purpose="A promise to a parcel is at risk or broken, something about it is odd, or one of these is withdrawn.",
        key="parcel_id",
        schemas=("Alert",),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config=_PRODUCER_TIME,
        reasons={
            "retention.ms": "As long as the log that proves them.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=THROUGHPUT_TOPIC,
        purpose="By how much the count of scans changed, of each station, kind, direction and minute.",
        key="site, a slash and station; in the partition of the scans",
        schemas=("ThroughputDelta",),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config=_PRODUCER_TIME,
        reasons={
            "retention.ms": "As long as the log that proves them: the sum of all is the count.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=DEAD_LETTERS_TOPIC,
        purpose="Records of hub.scans and hub.containers that could not be used: key, value and headers untouched, the "
        "reason and where they were in headers.",
        key="as it came",
        schemas=(),
        cleanup_policy="delete",
        retention_ms=30 * _DAY_MS,
        config={"max.message.bytes": str(_LARGEST_RECORD + (1 << 20)), **_PRODUCER_TIME},
        reasons={
            "retention.ms": "30 days to look at them and send them again.",
            "max.message.bytes": "The largest record of either log, and the headers that say why it is here.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
)


def find_topic(name: str) -> Topic:
    """The topic of the catalogue with this name (without the prefix)."""
    return next(topic for topic in TOPICS if topic.name == name)


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of `key` among `partitions`, as Kafka's Java clients compute it (murmur2, Utils.toPositive).

    Plain Python, for readers and tools; the worker has its compiled twin in streams/kernel/murmur2.py.
    """
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    word = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        part = int.from_bytes(key[at : at + 4], "little") * multiplier & mask
        part = (part ^ part >> 24) * multiplier & mask
        word = word * multiplier & mask ^ part
    if len(key) > whole:
        word = (word ^ int.from_bytes(key[whole:], "little")) * multiplier & mask
    word = (word ^ word >> 13) * multiplier & mask
    return ((word ^ word >> 15) & 0x7FFFFFFF) % partitions
