"""Forwards the spool to Kafka: in order, and again from the last acknowledged position after any failure.

A record may be sent twice, but never not at all. The workers know a repeat by its event_id.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.capture.spool.segment_files import SpoolPosition, Target
from streams.capture.spool.spool import Spool
from streams.errors import StreamsError
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kafka import clients
from streams.kafka.settings import KafkaSettings
from streams.telemetry.gateway_events import GatewayEventListener, KafkaRecovered, KafkaUnavailable

_TOPICS: Final = {int(Target.SCANS): SCANS_TOPIC, int(Target.CONTAINERS): CONTAINERS_TOPIC}
# A batch ends with the frame that reaches this number of records.
_BATCH_RECORDS: Final = 10_000
_FLUSH_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 0.5
# A record that Kafka has not acknowledged by then is sent again from the spool.
_DELIVERY_TIMEOUT_MS: Final = 30_000


class SpoolForwarder:
    """A thread that sends the records of the spool while Kafka is available."""

    def __init__(
        self,
        spool: Spool,
        settings: KafkaSettings,
        emit: GatewayEventListener,
        topics: Mapping[int, str] | None = None,
        producer_factory: Callable[..., Producer] = clients.new_producer,
    ) -> None:
        """topics: target -> name of its topic in the catalogue. Entries of other targets stay in the spool only."""
        self._spool, self._settings, self._emit = spool, settings, emit
        self._topics = {target: settings.prefix + name for target, name in (topics or _TOPICS).items()}
        spool.set_targets(self._topics)
        self._producer_factory = producer_factory
        self._stopping = threading.Event()
        self._failure: str = ""
        self._unavailable_since: float | None = None
        self.sent_records = 0
        self._thread = threading.Thread(target=self._run, name="spool-forwarder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Forward what is on disk, if Kafka accepts it within the timeout, then stop the thread."""
        deadline = time.monotonic() + timeout_seconds
        while (
            self._thread.is_alive()
            and self._spool.sent_position < self._spool.durable_position
            and time.monotonic() < deadline
        ):
            if self._unavailable_since is not None:
                break
            time.sleep(0.02)
        self._stopping.set()
        self._spool.data_available.set()
        self._thread.join(timeout=15)

    @property
    def kafka_unavailable(self) -> bool:
        """Is Kafka unavailable?"""
        return self._unavailable_since is not None

    def _run(self) -> None:
        while not self._stopping.is_set():
            # Delivery reports of success would cost more than the sending. An empty queue without an error tells the
            # same.
            producer = self._producer_factory(
                self._settings,
                message_timeout_ms=_DELIVERY_TIMEOUT_MS,
                delivery_report_only_error=True,
                error_cb=self._on_error,
            )
            try:
                self._send_all(producer)
            except (KafkaException, BufferError, StreamsError) as error:
                self._failure = str(error)
            finally:
                _abandon(producer)
            if not self._stopping.is_set():
                self._mark_unavailable(self._failure or "the producer gave up")
                self._stopping.wait(_RETRY_SECONDS)

    def _should_end(self) -> bool:
        return bool(self._failure) or self._stopping.is_set()

    def _send_all(self, producer: Producer) -> None:
        """Send batch by batch from the acknowledged position, until something fails."""
        self._failure = ""
        while not self._should_end():
            self._spool.data_available.clear()
            position, messages = self._next_batch()
            if position is None:
                producer.poll(0)
                self._probe_kafka(producer)
                self._spool.data_available.wait(_IDLE_SECONDS)
            elif self._deliver(producer, messages):
                self._spool.mark_sent(position)
                self.sent_records += sum(map(len, messages.values()))
                if messages:
                    self._mark_available()

    def _probe_kafka(self, producer: Producer) -> None:
        """While Kafka is unavailable and no record waits, ask for its metadata: no delivery would show its return."""
        if self.kafka_unavailable:
            with contextlib.suppress(KafkaException):
                producer.list_topics(timeout=_PROBE_SECONDS)
                self._mark_available()

    def _next_batch(self) -> tuple[SpoolPosition | None, dict[str, list[dict[str, Any]]]]:
        """The next frames to send: their end (None if there are none), and their records by topic."""
        position, count = None, 0
        messages: dict[str, list[dict[str, Any]]] = {}
        for frame in self._spool.read_unsent():
            position, already_sent = frame.end, self._spool.checkpoint.targets_already_sent(frame.end)
            for entry in frame.entries:
                topic = self._topics.get(entry.target)
                # Before container events had a topic, the spool kept them as JSON, which no worker reads.
                if topic is not None and entry.target not in already_sent and entry.value[:1] != b"{":
                    messages.setdefault(topic, []).append({"key": entry.key, "value": entry.value})
                    count += 1
            if count >= _BATCH_RECORDS:
                break
        return position, messages

    def _deliver(self, producer: Producer, messages: Mapping[str, list[dict[str, Any]]]) -> bool:
        """Send a batch; True when all of it is acknowledged."""
        for topic, batch in messages.items():
            begin, partitions = 0, 0
            # A record without a key is a tick. It goes to every partition, behind the records before it.
            for tick in [index for index, message in enumerate(batch) if message["key"] is None]:
                self._produce_batch(producer, topic, batch[begin:tick])
                partitions = partitions or clients.partition_count(producer, topic)
                for partition in range(partitions):
                    producer.produce(topic, batch[tick]["value"], partition=partition, on_delivery=self._on_delivery)
                begin = tick + 1
            self._produce_batch(producer, topic, batch[begin:])
            if self._failure:
                return False
        deadline = None
        while producer.flush(_FLUSH_SECONDS) and not self._failure:
            if self._stopping.is_set():
                deadline = deadline or time.monotonic() + _STOP_SECONDS
                if self.kafka_unavailable or time.monotonic() > deadline:
                    return False
        return not self._failure

    def _produce_batch(self, producer: Producer, topic: str, batch: list[dict[str, Any]]) -> None:
        if producer.produce_batch(topic, batch, on_delivery=self._on_delivery) != len(batch):
            self._failure = next(str(message["_error"]) for message in batch if "_error" in message)

    def _on_delivery(self, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._failure = self._failure or error.str()

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == clients.ALL_BROKERS_DOWN:
            self._mark_unavailable(error.str())
        elif clients.is_fatal(error):
            self._failure = error.str()

    def _mark_unavailable(self, error: str) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = time.monotonic()
            self._emit(KafkaUnavailable(error))

    def _mark_available(self) -> None:
        if self._unavailable_since is not None:
            seconds, self._unavailable_since = time.monotonic() - self._unavailable_since, None
            self._emit(KafkaRecovered(seconds))


def _abandon(producer: Producer) -> None:
    # Without a purge, because an assertion of librdkafka once ended the process. The next producer sends the queued
    # records again from the spool.
    threading.Thread(target=_flush, args=(producer,), name="producer-close", daemon=True).start()


def _flush(producer: Producer) -> None:
    producer.flush(2)
