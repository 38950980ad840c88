"""Both processors of one partition over a simulated log, in process; each reads the records that the other writes."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.domain.promises import Promises
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kafka.bulk_producer import RecordColumnsEncoder
from streams.processors.container_processor import ContainerProcessor
from streams.processors.parcel_processor import ParcelProcessor
from streams.simulate.day import Scenario, Simulation
from streams.simulate.truth import TruthFile
from tests.kernel.records import framed, tick

# Key and value.
Keyed = tuple[bytes | None, bytes | None]


@dataclass
class Logs:
    """Both logs as the simulator writes them."""

    scans: list[Keyed] = field(default_factory=list)
    containers: list[Keyed] = field(default_factory=list)


def simulated(scenario: Scenario, truth: Path | None = None, promises: Promises | None = None) -> Logs:
    """The logs of a scenario, and its truth in a file."""
    logs, encoder = Logs(), RecordColumnsEncoder()

    def collect(simulation: Simulation) -> None:
        for columns in simulation.batches():
            encoded = encoder.encode(columns)
            ticks, containers = set(encoded.broadcast_indexes), set(encoded.container_indexes)
            for index, record in enumerate(zip(encoded.keys, encoded.values, strict=True)):
                if index not in containers:
                    logs.scans.append(record)
                if index in containers or index in ticks:
                    logs.containers.append(record)

    if truth is None:
        collect(Simulation(scenario))
    else:
        with TruthFile(truth, scenario, promises) as file:
            simulation = Simulation(scenario, file)
            collect(simulation)
            file.complete(simulation.counts)
    return logs


@dataclass
class ProcessorRun:
    """The output of both processors."""

    # The whole logs, with the records that the container processor wrote.
    scans: list[Keyed]
    containers: list[Keyed]
    states: dict[bytes, bytes]
    milestones: list[tuple[bytes, bytes]]
    alerts: list[tuple[bytes, bytes]]
    deltas: list[tuple[bytes, bytes]]
    # Rejected records of hub.containers by reason.
    refused: Counter[str] = field(default_factory=Counter)


def run(
    logs: Logs, final_hub_time: int, batch_sizes: Sequence[int], seed: int, promises: Promises | None = None
) -> ProcessorRun:
    """Run both processors in a random order, each with a batch of random size.

    Args:
        logs: the records that were sent.
        final_hub_time: hub time of a tick after all records.
        batch_sizes: numbers of records to draw from.
        seed: of the random numbers.
        promises: those of the truth.
    """
    rng = random.Random(seed)
    parcels, containers = ParcelProcessor(0, 1, promises), ContainerProcessor(0, 1)
    result = ProcessorRun([], list(logs.containers), {}, [], [], [])
    # Inferred records enter the log of scans while other records are still being sent.
    scans, inferred, next_event, next_scan = list(logs.scans), list[Keyed](), 0, 0
    while scans[next_scan:] or inferred or next_event < len(result.containers) or containers.has_pending_output:
        if rng.random() < 0.5:
            events = result.containers[next_event : next_event + rng.choice(batch_sizes)]
            output = containers.run([value for _, value in events])
            result.refused.update(reason.name for _, reason in output.rejects)
            next_event += output.processed_count
            for topic, _, block in output.blocks:
                (result.containers if topic == CONTAINERS_TOPIC else inferred if topic == SCANS_TOPIC else []).extend(
                    block
                )
            continue
        first, end = next_scan, next_scan + rng.choice(batch_sizes)
        batch, next_scan = [*inferred, *scans[first:end]], min(end, len(scans))
        inferred.clear()
        _fold(parcels, batch, result)
    _fold(parcels, [(None, framed(tick(final_hub_time)))], result)
    return result


def _fold(processor: ParcelProcessor, batch: list[Keyed], result: ProcessorRun) -> None:
    result.scans += batch
    output = processor.run([value for _, value in batch])
    result.states.update(output.tombstones)
    result.states.update(output.states)
    result.milestones += output.milestones
    result.alerts += output.alerts
    result.deltas += output.throughput
