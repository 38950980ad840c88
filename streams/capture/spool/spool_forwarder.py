"""From the spool into Kafka: in order, acknowledged, and again from the last acknowledged place when anything fails.

A record may be sent twice, and never not at all: what follows knows a repeat by its event_id.
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
# So many records are on their way at once.
_CHUNK: Final = 10_000
_FLUSH_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 0.5
# A record that Kafka did not take by then is sent again, from the spool.
_DELIVERY_MS: Final = 30_000


class SpoolForwarder:
    """A thread that empties the spool as long as Kafka takes it."""

    def __init__(
        self,
        spool: Spool,
        settings: KafkaSettings,
        watch: GatewayEventListener,
        topics: Mapping[int, str] | None = None,
        producer: Callable[..., Producer] = clients.new_producer,
    ) -> None:
        """topics: where each target goes, by its name in the catalogue; targets without one stay in the spool only."""
        self._spool, self._settings, self._watch = spool, settings, watch
        self._topics = {target: settings.prefix + name for target, name in (topics or _TOPICS).items()}
        spool.send(self._topics)
        self._make_producer = producer
        self._stopping = threading.Event()
        self._failure: str = ""
        self._away_since: float | None = None
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Send what is on disk if Kafka takes it within this time, and stop."""
        deadline = time.monotonic() + seconds
        while (
            self._thread.is_alive() and self._spool.sent < self._spool.durable_position and time.monotonic() < deadline
        ):
            if self._away_since is not None:
                break
            time.sleep(0.02)
        self._stopping.set()
        self._spool.data_available.set()
        self._thread.join(timeout=15)

    @property
    def kafka_unavailable(self) -> bool:
        """Is Kafka away?"""
        return self._away_since is not None

    def _run(self) -> None:
        while not self._stopping.is_set():
            # Reports of success would cost more than the sending: an empty queue without an error says the same.
            client = self._make_producer(
                self._settings,
                message_timeout_ms=_DELIVERY_MS,
                delivery_report_only_error=True,
                error_cb=self._heard,
            )
            try:
                self._send_all(client)
            except (KafkaException, BufferError, StreamsError) as error:
                self._failure = str(error)
            finally:
                _let_go(client)
            if not self._stopping.is_set():
                self._went_away(self._why())
                self._stopping.wait(_RETRY_SECONDS)

    def _why(self) -> str:
        return self._failure or "the client gave up"

    def _ended(self) -> bool:
        return bool(self._failure) or self._stopping.is_set()

    def _send_all(self, client: Producer) -> None:
        """Send from the acknowledged place on, chunk by chunk, until something fails."""
        self._failure = ""
        while not self._ended():
            self._spool.data_available.clear()
            position, messages = self._next()
            if position is None:
                client.poll(0)
                self._look_for_kafka(client)
                self._spool.data_available.wait(_IDLE_SECONDS)
            elif self._delivered(client, messages):
                self._spool.mark_sent(position)
                self.sent += sum(map(len, messages.values()))
                if messages:
                    self._came_back()

    def _look_for_kafka(self, client: Producer) -> None:
        """Ask whether it is back: where nothing waits, no record that arrives says so."""
        if self.kafka_unavailable:
            with contextlib.suppress(KafkaException):
                client.list_topics(timeout=_ANSWER_SECONDS)
                self._came_back()

    def _next(self) -> tuple[SpoolPosition | None, dict[str, list[dict[str, Any]]]]:
        """The next frames that Kafka does not have: where they end, and their records by topic."""
        position, count = None, 0
        messages: dict[str, list[dict[str, Any]]] = {}
        for frame in self._spool.read_unsent():
            position, sent = frame.end, self._spool.progress.targets_already_sent(frame.end)
            for entry in frame.entries:
                topic = self._topics.get(entry.target)
                # Before they had a log, events of containers were kept in a form that nobody reads.
                if topic is not None and entry.target not in sent and entry.value[:1] != b"{":
                    messages.setdefault(topic, []).append({"key": entry.key, "value": entry.value})
                    count += 1
            if count >= _CHUNK:
                break
        return position, messages

    def _delivered(self, client: Producer, messages: Mapping[str, list[dict[str, Any]]]) -> bool:
        """Are all of these acknowledged?"""
        for topic, batch in messages.items():
            begin, partitions = 0, 0
            # A record without a key is a tick: it goes to every partition, behind what came before it.
            for tick in [place for place, message in enumerate(batch) if message["key"] is None]:
                self._hand_over(client, topic, batch[begin:tick])
                partitions = partitions or clients.partition_count(client, topic)
                for partition in range(partitions):
                    client.produce(topic, batch[tick]["value"], partition=partition, on_delivery=self._not_delivered)
                begin = tick + 1
            self._hand_over(client, topic, batch[begin:])
            if self._failure:
                return False
        deadline = None
        while client.flush(_FLUSH_SECONDS) and not self._failure:
            if self._stopping.is_set():
                deadline = deadline or time.monotonic() + _STOP_SECONDS
                if self.kafka_unavailable or time.monotonic() > deadline:
                    return False
        return not self._failure

    def _hand_over(self, client: Producer, topic: str, batch: list[dict[str, Any]]) -> None:
        if client.produce_batch(topic, batch, on_delivery=self._not_delivered) != len(batch):
            self._failure = next(str(message["_error"]) for message in batch if "_error" in message)

    def _not_delivered(self, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._failure = self._failure or error.str()

    def _heard(self, error: KafkaError) -> None:
        if error.code() == clients.ALL_BROKERS_DOWN:
            self._went_away(error.str())
        elif clients.is_fatal(error):
            self._failure = error.str()

    def _went_away(self, error: str) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._watch(KafkaUnavailable(error))

    def _came_back(self) -> None:
        if self._away_since is not None:
            away, self._away_since = time.monotonic() - self._away_since, None
            self._watch(KafkaRecovered(away))


def _let_go(client: Producer) -> None:
    # No purge: an assertion of librdkafka ended the process once. What waits is sent again from the spool.
    threading.Thread(target=_close, args=(client,), name="producer-close", daemon=True).start()


def _close(client: Producer) -> None:
    client.flush(2)
