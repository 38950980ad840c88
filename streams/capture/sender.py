"""From the spool into Kafka: in order, acknowledged, and again from the last acknowledged place when anything fails.

A record may be sent twice, and never not at all: what follows knows a repeat by its event_id.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.capture.spool import Spool
from streams.capture.spool_files import Entry, Frame, Position, Target
from streams.domain.capture_happenings import KafkaAway, KafkaBack, Watcher
from streams.pipeline import clients
from streams.pipeline.settings import Settings
from streams.pipeline.topics import SCANS

# So many records are on their way at most.
_UNDER_WAY: Final = 20_000
_IDLE_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0
# A record that Kafka did not take by then is sent again, from the spool.
_DELIVERY_MS: Final = 30_000


class Sender:
    """A thread that empties the spool as long as Kafka takes it."""

    def __init__(
        self,
        spool: Spool,
        settings: Settings,
        watch: Watcher,
        topics: Mapping[int, str] | None = None,
        producer: Callable[..., Producer] = clients.producer,
    ) -> None:
        """topics: where each target goes, by its name in the catalogue; targets without one stay in the spool only."""
        self._spool, self._settings, self._watch = spool, settings, watch
        self._topics = {
            target: settings.prefix + name for target, name in (topics or {int(Target.SCANS): SCANS}).items()
        }
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
        while self._thread.is_alive() and self._spool.sent < self._spool.durable and time.monotonic() < deadline:
            if self._away_since is not None:
                break
            time.sleep(0.02)
        self._stopping.set()
        self._spool.grown.set()
        self._thread.join(timeout=15)

    @property
    def away(self) -> bool:
        """Is Kafka away?"""
        return self._away_since is not None

    def _run(self) -> None:
        while not self._stopping.is_set():
            client = self._make_producer(
                self._settings, message_timeout_ms=_DELIVERY_MS, error_cb=self._heard, linger_ms=5
            )
            try:
                self._send_all(client)
            except (KafkaException, BufferError) as error:
                self._failure = str(error)
            finally:
                _let_go(client)
            if not self._stopping.is_set():
                self._went_away(self._why())
                self._stopping.wait(_RETRY_SECONDS)

    def _ended(self) -> bool:
        return bool(self._failure) or self._stopping.is_set()

    def _why(self) -> str:
        return self._failure or "the client gave up"

    def _send_all(self, client: Producer) -> None:
        """Send from the acknowledged place on, until something fails."""
        self._failure = ""
        under_way: deque[_Flight] = deque()
        position = self._spool.sent
        while not self._ended():
            self._spool.grown.clear()
            for frame in self._spool.unsent(position):
                position = frame.end
                self._hand_over(client, frame, under_way)
                self._land(under_way)
                if self._ended():
                    break
            else:
                client.poll(0)
                self._land(under_way)
                if not under_way:
                    if self._spool.sent < position:
                        self._spool.mark_sent(position)
                    self._spool.grown.wait(_IDLE_SECONDS)
                else:
                    client.poll(0.005)
        deadline = time.monotonic() + 5
        while under_way and not self._failure and time.monotonic() < deadline:
            client.poll(0.05)
            self._land(under_way)

    def _hand_over(self, client: Producer, frame: Frame, under_way: "deque[_Flight]") -> None:
        wanted = [entry for entry in frame.entries if entry.target in self._topics]
        flight = _Flight(frame.end, len(wanted))
        under_way.append(flight)
        report = self._report(flight)
        for topic, entries in self._by_topic(wanted).items():
            messages: list[dict[str, Any]] = [{"key": entry.key, "value": entry.value} for entry in entries]
            while len(client) > _UNDER_WAY and not self._failure and not self._stopping.is_set():
                client.poll(0.05)
                self._land(under_way)
            if client.produce_batch(topic, messages, on_delivery=report) != len(messages):
                self._failure = next(str(message["_error"]) for message in messages if "_error" in message)
        client.poll(0)

    def _by_topic(self, entries: list[Entry]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in entries:
            found.setdefault(self._topics[entry.target], []).append(entry)
        return found

    def _report(self, flight: "_Flight") -> Callable[[KafkaError | None, Any], None]:
        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                self._failure = self._failure or error.str()
                return
            flight.missing -= 1
            self.sent += 1
            if self._away_since is not None:
                self._came_back()

        return report

    def _land(self, under_way: "deque[_Flight]") -> None:
        """What is acknowledged up to the first frame that is not."""
        position = None
        while under_way and under_way[0].missing == 0:
            position = under_way.popleft().end
        if position is not None:
            self._spool.mark_sent(position)

    def _heard(self, error: KafkaError) -> None:
        if error.code() == clients.ALL_BROKERS_DOWN:
            self._went_away(error.str())
        elif clients.is_fatal(error):
            self._failure = error.str()

    def _went_away(self, error: str) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._watch(KafkaAway(error))

    def _came_back(self) -> None:
        if self._away_since is not None:
            away, self._away_since = time.monotonic() - self._away_since, None
            self._watch(KafkaBack(away))


class _Flight:
    """A frame on its way."""

    __slots__ = ("end", "missing")

    def __init__(self, end: Position, missing: int) -> None:
        self.end, self.missing = end, missing


def _let_go(client: Producer) -> None:
    # No purge: an assertion of librdkafka ended the process once. What waits is sent again from the spool.
    threading.Thread(target=_close, args=(client,), name="producer-close", daemon=True).start()


def _close(client: Producer) -> None:
    client.flush(2)
