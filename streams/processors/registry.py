"""The registry of processors: it maps the name of a processor to the factory of its spec.

A new processor is a class of the protocol `Processor` and a factory of its `ProcessorSpec`, registered here. Nothing in
`streams/worker` names a processor.
"""

from collections.abc import Callable
from typing import Final

from streams.domain.promises import Promises
from streams.formats.topics import (
    ALERTS_TOPIC,
    CONTAINER_STATE_TOPIC,
    CONTAINERS_TOPIC,
    MILESTONES_TOPIC,
    PARCEL_STATE_TOPIC,
    SCANS_TOPIC,
    THROUGHPUT_TOPIC,
)
from streams.processors.container_processor import ContainerProcessor
from streams.processors.parcel_processor import ParcelProcessor
from streams.processors.processor import ProcessorSpec
from streams.processors.rate_limiter import RateLimiter

# Consumer groups: one for each processor, so that its partitions are spread over the workers that run it.
PARCELS_GROUP: Final = "parcels.parcel-processor"
CONTAINERS_GROUP: Final = "parcels.container-processor"

# Creates the spec of a processor from the promises.
SpecFactory = Callable[[Promises], ProcessorSpec]


def parcel_processor_spec(promises: Promises) -> ProcessorSpec:
    """Scans in; states, milestones, alerts and counts of parcels out."""
    return ProcessorSpec(
        name="parcels",
        input_topic=SCANS_TOPIC,
        state_topic=PARCEL_STATE_TOPIC,
        copartitioned_topics=(MILESTONES_TOPIC, ALERTS_TOPIC, THROUGHPUT_TOPIC),
        repartition_topics=(),
        group_id=PARCELS_GROUP,
        transactional_id_prefix="parcels.parcel-processor",
        create_processor=lambda partition, partitions: ParcelProcessor(partition, partitions, promises),
        max_batch_records=50_000,
        max_backlog_records=200_000,
    )


def container_processor_spec(_: Promises) -> ProcessorSpec:
    """Container events in; inferred scans and inferred container events out."""
    # Shared by all partitions of a worker.
    rate_limiter = RateLimiter()
    return ProcessorSpec(
        name="containers",
        input_topic=CONTAINERS_TOPIC,
        state_topic=CONTAINER_STATE_TOPIC,
        copartitioned_topics=(),
        repartition_topics=(SCANS_TOPIC, CONTAINERS_TOPIC),
        group_id=CONTAINERS_GROUP,
        transactional_id_prefix="parcels.container-processor",
        create_processor=lambda partition, partitions: ContainerProcessor(partition, partitions, rate_limiter),
        max_batch_records=512,
        max_backlog_records=2_000,
    )


_FACTORIES: Final[dict[str, SpecFactory]] = {"parcels": parcel_processor_spec, "containers": container_processor_spec}


def processor_names() -> tuple[str, ...]:
    """Names of all processors, in the order in which a process runs them."""
    return tuple(_FACTORIES)


def processor_spec(name: str, promises: Promises) -> ProcessorSpec:
    """The spec of a processor.

    Args:
        name: one of `processor_names()`.
        promises: the promises to watch.

    Raises:
        KeyError: no processor has this name.
    """
    return _FACTORIES[name](promises)


def register_processor(name: str, factory: SpecFactory) -> None:
    """Add a processor to those that a worker process can run."""
    if name in _FACTORIES:
        raise ValueError(f"there is a processor {name!r} already")
    _FACTORIES[name] = factory
