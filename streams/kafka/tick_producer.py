"""The clock of the logs: a Tick every so often to every partition of both, also to those where nothing happens.

Deadlines fire when a Tick passes them, so this is the only place where the wall clock enters. Several clocks may run,
on several machines: the largest Tick of a partition counts, so one that lags or stops changes nothing.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from streams.errors import StreamsError
from streams.formats.tick import encode_tick
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kafka.clients import is_fatal, new_producer, partition_count
from streams.kafka.settings import KafkaSettings

# A Tick that did not arrive by then is let go: a later one says more.
_DELIVERY_MS: Final = 5_000
_MINUTE: Final = 60.0

# What a clock tells: a word (started, ticking, behind, on_time, stopped) and its figures.
TickEventListener = Callable[[str, dict[str, object]], None]


class TickProducer:
    """Appends ticks until told to stop."""

    def __init__(self, settings: KafkaSettings, name: str, interval_seconds: float, tell: TickEventListener) -> None:
        """`name`: written into each Tick, so that a clock that goes wrong can be found.

        Raises:
            Misconfigured: hub.scans or hub.containers does not exist.
            StreamsError: no broker answers.
        """
        topics = [settings.prefix + name for name in (SCANS_TOPIC, CONTAINERS_TOPIC)]
        self._name = name
        self._every = interval_seconds
        self._tell = tell
        self._stop = threading.Event()
        self._dead: KafkaError | None = None
        self._behind_since: float | None = None
        self._arrived = 0
        self._producer = new_producer(
            settings, error_cb=self._on_error, linger_ms=0, message_timeout_ms=_DELIVERY_MS, compression_type="none"
        )
        # Name of each log, and how many partitions it has.
        self._partitions = {topic: partition_count(self._producer, topic) for topic in topics}

    def stop(self) -> None:
        """Stop after the Tick on its way. Safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Tick until told to stop.

        Raises:
            StreamsError: the producer is broken beyond repair.
        """
        self._tell(
            "started",
            {
                "topics": ",".join(self._partitions),
                "partitions": sum(self._partitions.values()),
                "every_seconds": self._every,
            },
        )
        told = time.monotonic()
        while not self._stop.is_set():
            if self._dead is not None:
                raise StreamsError(f"the producer of ticks is broken: {self._dead.str()}")
            self._tick()
            if time.monotonic() - told > _MINUTE:
                told = time.monotonic()
                self._tell("ticking", {"ticks_arrived": self._arrived})
            # On the whole multiples of the interval, so that several clocks say the same.
            rest = self._every - time.time() % self._every
            until = time.monotonic() + rest
            while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
                self._producer.poll(min(left, 0.1))
        self._producer.flush(_DELIVERY_MS / 1000)
        self._tell("stopped", {"ticks_arrived": self._arrived})

    def _tick(self) -> None:
        hub_time = round(time.time() // self._every * self._every * 1000)
        value = encode_tick(hub_time, self._name)
        places = ((topic, number) for topic, partitions in self._partitions.items() for number in range(partitions))
        for topic, partition in places:
            try:
                self._producer.produce(topic, value, partition=partition, on_delivery=self._delivered)
            except KafkaException as error:
                self._on_error(error.args[0])
                return

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is None:
            self._arrived += 1
            if self._behind_since is not None:
                self._tell("kafka_available", {"seconds": time.monotonic() - self._behind_since})
                self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.monotonic()
            self._tell("kafka_unavailable", {"error": error.str()})

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._dead = error
