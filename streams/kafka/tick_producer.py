"""The producer of Ticks (`parcels clock`): at a fixed interval, one Tick to every partition of both logs.

Partitions without other records get Ticks as well. Deadlines fire when a Tick passes them, so this is the only place
where the wall clock enters. Several clocks may run, on several machines: the largest Tick of a partition counts, so a
clock that lags or stops changes nothing.
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

# A Tick that was not delivered by then is dropped: a later one replaces it.
_DELIVERY_TIMEOUT_MS: Final = 5_000
_REPORT_INTERVAL_SECONDS: Final = 60.0

# Called with the name of an event (started, ticking, behind, on_time, stopped) and its figures.
TickEventListener = Callable[[str, dict[str, object]], None]


class TickProducer:
    """Appends Ticks until it is stopped."""

    def __init__(
        self, settings: KafkaSettings, name: str, interval_seconds: float, on_event: TickEventListener
    ) -> None:
        """`name`: written into each Tick, so that a clock that goes wrong can be found.

        Raises:
            Misconfigured: hub.scans or hub.containers does not exist.
            StreamsError: no broker answers.
        """
        topics = [settings.prefix + name for name in (SCANS_TOPIC, CONTAINERS_TOPIC)]
        self._name = name
        self._interval_seconds = interval_seconds
        self._on_event = on_event
        self._stop = threading.Event()
        self._fatal_error: KafkaError | None = None
        self._behind_since: float | None = None
        self._ticks_arrived = 0
        self._producer = new_producer(
            settings,
            error_cb=self._on_error,
            linger_ms=0,
            message_timeout_ms=_DELIVERY_TIMEOUT_MS,
            compression_type="none",
        )
        # Topic of each log -> its number of partitions.
        self._partition_counts = {topic: partition_count(self._producer, topic) for topic in topics}

    def stop(self) -> None:
        """End `run` after the Tick that is being sent. Safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Send Ticks until `stop` is called.

        Raises:
            StreamsError: the producer is broken beyond repair.
        """
        self._on_event(
            "started",
            {
                "topics": ",".join(self._partition_counts),
                "partitions": sum(self._partition_counts.values()),
                "every_seconds": self._interval_seconds,
            },
        )
        reported = time.monotonic()
        while not self._stop.is_set():
            if self._fatal_error is not None:
                raise StreamsError(f"the producer of ticks is broken: {self._fatal_error.str()}")
            self._send_tick()
            if time.monotonic() - reported > _REPORT_INTERVAL_SECONDS:
                reported = time.monotonic()
                self._on_event("ticking", {"ticks_arrived": self._ticks_arrived})
            # On whole multiples of the interval, so that several clocks send the same times.
            wait_seconds = self._interval_seconds - time.time() % self._interval_seconds
            deadline = time.monotonic() + wait_seconds
            while (left := deadline - time.monotonic()) > 0 and not self._stop.is_set():
                self._producer.poll(min(left, 0.1))
        self._producer.flush(_DELIVERY_TIMEOUT_MS / 1000)
        self._on_event("stopped", {"ticks_arrived": self._ticks_arrived})

    def _send_tick(self) -> None:
        hub_time = round(time.time() // self._interval_seconds * self._interval_seconds * 1000)
        value = encode_tick(hub_time, self._name)
        partitions = ((topic, number) for topic, count in self._partition_counts.items() for number in range(count))
        for topic, partition in partitions:
            try:
                self._producer.produce(topic, value, partition=partition, on_delivery=self._delivered)
            except KafkaException as error:
                self._on_error(error.args[0])
                return

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is None:
            self._ticks_arrived += 1
            if self._behind_since is not None:
                self._on_event("kafka_available", {"seconds": time.monotonic() - self._behind_since})
                self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.monotonic()
            self._on_event("kafka_unavailable", {"error": error.str()})

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._fatal_error = error
