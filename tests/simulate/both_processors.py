"""Both stages of one partition over a simulated log, in process: what they write for each other goes to and fro."""

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
    """The logs as the simulator writes them."""

    scans: list[Keyed] = field(default_factory=list)
    containers: list[Keyed] = field(default_factory=list)


def simulated(scenario: Scenario, truth: Path | None = None, promises: Promises | None = None) -> Logs:
    """The logs of a scenario, and its truth in a file."""
    logs, encoder = Logs(), RecordColumnsEncoder()

    def take(simulation: Simulation) -> None:
        for columns in simulation.batches():
            encoded = encoder.encode(columns)
            ticks, containers = set(encoded.broadcast_indexes), set(encoded.container_indexes)
            for place, pair in enumerate(zip(encoded.keys, encoded.values, strict=True)):
                if place not in containers:
                    logs.scans.append(pair)
                if place in containers or place in ticks:
                    logs.containers.append(pair)

    if truth is None:
        take(Simulation(scenario))
    else:
        with TruthFile(truth, scenario, promises) as file:
            simulation = Simulation(scenario, file)
            take(simulation)
            file.complete(simulation.counts)
    return logs


@dataclass
class Ran:
    """What both stages made of them."""

    # The whole logs, what the container stage wrote among the rest.
    scans: list[Keyed]
    containers: list[Keyed]
    states: dict[bytes, bytes]
    milestones: list[tuple[bytes, bytes]]
    alerts: list[tuple[bytes, bytes]]
    deltas: list[tuple[bytes, bytes]]
    # Of hub.containers, by reason.
    refused: Counter[str] = field(default_factory=Counter)


def run(logs: Logs, settled: int, portions: Sequence[int], seed: int, promises: Promises | None = None) -> Ran:
    """Run both stages in turn, now the one and now the other, as many records of their logs as `portions` has.

    Args:
        logs: what was sent.
        settled: hub time of a tick that comes after everything.
        portions: numbers of records, drawn by chance.
        seed: of that chance.
        promises: as the truth has them.
    """
    chance = random.Random(seed)
    parcels, containers = ParcelProcessor(0, 1, promises), ContainerProcessor(0, 1)
    ran = Ran([], list(logs.containers), {}, [], [], [])
    # What was inferred comes into the log of scans while the rest is still being sent.
    waiting, inferred, place, done = list(logs.scans), list[Keyed](), 0, 0
    while waiting[done:] or inferred or place < len(ran.containers) or containers.has_pending_output:
        if chance.random() < 0.5:
            part = ran.containers[place : place + chance.choice(portions)]
            made = containers.run([value for _, value in part])
            ran.refused.update(reason.name for _, reason in made.rejects)
            place += made.processed_count
            for topic, _, block in made.blocks:
                (ran.containers if topic == CONTAINERS_TOPIC else inferred if topic == SCANS_TOPIC else []).extend(
                    block
                )
            continue
        first, end = done, done + chance.choice(portions)
        batch, done = [*inferred, *waiting[first:end]], min(end, len(waiting))
        inferred.clear()
        _fold(parcels, batch, ran)
    _fold(parcels, [(None, framed(tick(settled)))], ran)
    return ran


def _fold(stage: ParcelProcessor, batch: list[Keyed], ran: Ran) -> None:
    ran.scans += batch
    made = stage.run([value for _, value in batch])
    ran.states.update(made.tombstones)
    ran.states.update(made.states)
    ran.milestones += made.milestones
    ran.alerts += made.alerts
    ran.deltas += made.throughput
