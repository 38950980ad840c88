"""A simulated day that is sent to hub.scans at the rate of the test, with pauses."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.kafka.bulk_producer import BulkProducer, ProducerBatch, RecordColumnsEncoder
from streams.kafka.settings import KafkaSettings
from streams.simulate.day import Scenario, Simulation
from streams.simulate.truth import TruthFile

_PORTION_SECONDS = 0.05


@dataclass
class Day:
    """The records of a simulated day, and its truth in a file."""

    truth: Path
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)

    @classmethod
    def simulated(cls, parcels: int, truth: Path, seed: int, days: int = 1) -> Self:
        """A day with the usual data faults of the simulator, and a tick an hour."""
        day = cls(truth)
        encoder = RecordColumnsEncoder()
        scenario = Scenario(parcels, seed, days=days, tick_seconds=3_600, scans_only=True)
        with TruthFile(truth, scenario) as file:
            simulation = Simulation(scenario, file)
            for columns in simulation.batches():
                encoded = encoder.encode(columns)
                day.ticks += [index + len(day.values) for index in encoded.broadcast_indexes]
                day.keys += encoded.keys
                day.values += encoded.values
            file.complete(simulation.counts)
        return day

    def part(self, start: int, end: int) -> ProducerBatch:
        """The records of these indexes."""
        ticks = [index - start for index in self.ticks if start <= index < end]
        return ProducerBatch(self.keys[start:end], self.values[start:end], ticks)


class Pump:
    """Sends a day at a rate while it is open; a context manager that sends the rest at its end."""

    def __init__(self, settings: KafkaSettings, day: Day, rate: float) -> None:
        self._settings, self._day, self._rate = settings, day, rate
        self._open, self._hurry = threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._send, name="pump", daemon=True)
        self.sent = 0

    def open(self) -> None:
        """Send."""
        self._open.set()

    def close(self) -> None:
        """Pause."""
        self._open.clear()

    @property
    def left(self) -> int:
        """Number of records that are not sent yet."""
        return len(self._day.values) - self.sent

    def finish(self) -> None:
        """Send the rest at once and wait until it is in the log."""
        self._hurry.set()
        self._open.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._open.set()
        self._thread.join(60)

    def _send(self) -> None:
        try:
            with BulkProducer(self._settings) as feed:
                while self.left and not self._ended.is_set():
                    self._open.wait()
                    portion = 20_000 if self._hurry.is_set() else max(1, round(self._rate * _PORTION_SECONDS))
                    feed.send(self._day.part(self.sent, self.sent + portion))
                    self.sent = min(self.sent + portion, len(self._day.values))
                    if not self._hurry.is_set():
                        time.sleep(_PORTION_SECONDS)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the pump gets it
            self._failure = error
