"""The topic catalogue: every topic of the system, its content and its configuration.

All topics have the same number of partitions, and every client uses the partitioner of the Java clients. So partition N
holds the same parcels in each topic keyed by parcel, and the same containers in each topic keyed by container. That is
why one transaction can hold a batch and all of its outputs.
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
DEAD_LETTERS_TOPIC: Final = "hub.dlq"

# The key of a partition's position record in a state topic. No parcel_id and no container_id holds a NUL byte, so
# readers of states skip every key that begins with one.
POSITION_KEY: Final = b"\0position"

# One core can process one partition. Four leave room to add workers, and cost nothing with a single worker.
DEFAULT_PARTITIONS: Final = 4

_DAY_MS: Final = 24 * 3600 * 1000
# The state of a parcel with 10,000 entries of the longest texts has 14 MB. A dead letter is as large as its record.
_LARGEST_RECORD_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, as the cluster must have it."""

    name: str
    purpose: str
    key: str
    # Names of the schemas of its values (streams/formats/schemas.py).
    schemas: tuple[str, ...]
    # Kafka's cleanup.policy: "delete" or "compact".
    cleanup_policy: str
    # How long a record is kept; None where the newest record of each key is kept for ever.
    retention_ms: int | None
    # Further topic configuration, Kafka's names -> values, and the reasons for the values by the same names.
    config: Mapping[str, str] = field(default_factory=dict)
    config_reasons: Mapping[str, str] = field(default_factory=dict)

    def full_config(self) -> dict[str, str]:
        """The whole topic configuration that this catalogue decides; the cluster decides the other settings."""
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
    "min.cleanable.dirty.ratio": "A restore reads the whole partition: compact when a tenth is outdated.",
    "max.compaction.lag.ms": "An outdated state is gone after about an hour, also with slow traffic.",
    "delete.retention.ms": "A reader that was away for less than a day still sees the tombstones.",
    "segment.bytes": "The segment that is being written is never compacted; 64 MiB keep that part small.",
    "segment.ms": "The same, with slow traffic.",
}
_LARGE = {"max.message.bytes": str(_LARGEST_RECORD_BYTES)}
_PRODUCER_TIME = {"message.timestamp.type": "CreateTime"}
_PRODUCER_TIME_REASON = (
    "The timestamp of a record is the time when its producer sent it, so that scan-to-state time includes the way to "
    "the broker. Event times are in the value: history that is sent today is kept from today on."
)

TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        name=SCANS_TOPIC,
        purpose="The log: every scan and advice as it came, and the Ticks of the clock. It alone decides every state.",
        key="parcel_id; none for a Tick, which is written to every partition",
        schemas=("Scan", "Advice", "Tick"),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config={**_LARGE, **_PRODUCER_TIME},
        config_reasons={
            "retention.ms": "90 days: longer than the life of a parcel, returns and claims included.",
            "max.message.bytes": "Larger than any valid record (64 KiB), so that a record that is too large becomes a "
            "dead letter here instead of being lost at its sender.",
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
        config_reasons={
            "max.message.bytes": "A state with the most entries a parcel may have (10,000) is one record.",
            **_COMPACTED_REASONS,
        },
    ),
    Topic(
        name=CONTAINERS_TOPIC,
        purpose="The log of containers: packing, unpacking and scans of containers, the events that follow from them "
        "for the containers inside, and the Ticks of the clock.",
        key="container_id; none for a Tick, which is written to every partition",
        schemas=("ContainerEvent", "Tick"),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config={**_LARGE, **_PRODUCER_TIME},
        config_reasons={
            "retention.ms": "As long as the log of scans, to which it belongs.",
            "max.message.bytes": "Larger than any valid record (1 MiB), so that a record that is too large becomes a "
            "dead letter here instead of being lost at its sender.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=CONTAINER_STATE_TOPIC,
        purpose="The events of every container until it retires, its children one by one, and in each partition how "
        "far hub.containers has been folded into it.",
        key="container_id; for a child, followed by a NUL byte and child_id, and by one more NUL byte if the child is "
        "a container; a NUL byte and the word position for the position record",
        schemas=("ContainerState", "ContainerChild", "InputPosition"),
        cleanup_policy="compact",
        retention_ms=None,
        config={**_LARGE, **_COMPACTED},
        config_reasons={
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
        config_reasons={
            "retention.ms": "As long as the log that proves them.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=ALERTS_TOPIC,
        purpose="A promise to a parcel is at risk or breached, it shows an anomaly, or one of these is withdrawn.",
        key="parcel_id",
        schemas=("Alert",),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config=_PRODUCER_TIME,
        config_reasons={
            "retention.ms": "As long as the log that proves them.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=THROUGHPUT_TOPIC,
        purpose="Changes of the number of scans of each station, kind, direction and minute.",
        key="site, a slash and station; in the partition of the scans",
        schemas=("ThroughputDelta",),
        cleanup_policy="delete",
        retention_ms=90 * _DAY_MS,
        config=_PRODUCER_TIME,
        config_reasons={
            "retention.ms": "As long as the log that proves them: the sum of all is the count.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
    Topic(
        name=DEAD_LETTERS_TOPIC,
        purpose="Records of hub.scans and hub.containers that could not be used, with key, value and headers "
        "unchanged; the reason and the source are in further headers.",
        key="as it came",
        schemas=(),
        cleanup_policy="delete",
        retention_ms=30 * _DAY_MS,
        config={"max.message.bytes": str(_LARGEST_RECORD_BYTES + (1 << 20)), **_PRODUCER_TIME},
        config_reasons={
            "retention.ms": "30 days to look at them and send them again.",
            "max.message.bytes": "The largest record of either log, and its headers with the reason.",
            "message.timestamp.type": _PRODUCER_TIME_REASON,
        },
    ),
)


def find_topic(name: str) -> Topic:
    """The topic of the catalogue with this name (without the prefix)."""
    return next(topic for topic in TOPICS if topic.name == name)


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of `key` among `partitions`, as Kafka's Java clients compute it (murmur2, Utils.toPositive).

    Plain Python, for readers and tools; the worker's compiled version is in streams/kernel/murmur2.py.
    """
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    digest = 0x9747B28C ^ len(key)
    whole_words_end = len(key) & ~3
    for start in range(0, whole_words_end, 4):
        word = int.from_bytes(key[start : start + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        digest = digest * multiplier & mask ^ word
    if len(key) > whole_words_end:
        digest = (digest ^ int.from_bytes(key[whole_words_end:], "little")) * multiplier & mask
    digest = (digest ^ digest >> 13) * multiplier & mask
    return ((digest ^ digest >> 15) & 0x7FFFFFFF) % partitions
