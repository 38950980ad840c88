"""Transactions that Kafka noted as complete and never ended in a partition: found, so that the next one ends them.

A partition that has no leader at the moment when a transaction's end is to be written into it, as when the only broker
is stopped, is left out (Kafka 4.3.1; docs/decisions/recovery.md). Readers of committed records then wait in front of
it, for good, until the same transactional id commits something in that partition. Whoever has the id therefore looks
now and then whether a committed end stands still before the end.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from typing import Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.kafka.background import run_in_background
from streams.kafka.clients import new_admin_client
from streams.kafka.settings import KafkaSettings

# Topic (without the prefix) and partition.
PartitionId = tuple[str, int]

_LOOK_SECONDS: Final = 20.0
# The end of a transaction that was committed a moment ago may be on its way; one that stays away so long is not.
_AGAIN_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 2.0


class HangingTransactions:
    """Looks after the partitions that one transactional id writes to. Used by one thread at a time."""

    def __init__(self, settings: KafkaSettings, places: Sequence[PartitionId]) -> None:
        self._settings = settings
        self._places = [TopicPartition(settings.prefix + topic, partition) for topic, partition in places]
        self._next_look = 0.0
        self._looking: Future[dict[PartitionId, int]] | None = None
        # Where the committed end stood still and something was written because of that: once is enough, and where it
        # did not help the transaction is somebody else's.
        self._tried: dict[PartitionId, int] = {}

    def check_now(self) -> None:
        """The id was fenced: look now. What is being looked for already is of before."""
        self._next_look = 0.0
        self._looking = None
        self._tried.clear()

    def found(self) -> list[PartitionId]:
        """Partitions in which the next transaction must write something.

        Waits for nothing: every 20 s some questions go to the broker, and what it answers is found here later. A broker
        that does not answer is asked again. Transactions that last for longer than the time between two questions,
        whoever they are of, look alike: what is written because of them says nothing new.
        """
        now = time.monotonic()
        if self._looking is None:
            if now >= self._next_look:
                self._looking = run_in_background(self._look)
            return []
        if not self._looking.done():
            return []
        done, self._looking = self._looking, None
        try:
            standing = done.result()
        except KafkaException:
            # A client keeps for metadata.max.age.ms, a quarter of an hour, that nobody leads a partition.
            _client.cache_clear()
            self._next_look = now + _AGAIN_SECONDS
            return []
        self._next_look = now + _LOOK_SECONDS
        still = {place: end for place, end in standing.items() if self._tried.get(place) != end}
        self._tried |= still
        return list(still)

    def _look(self) -> dict[PartitionId, int]:
        """Partition -> committed end, of those of which it is not the end, and stands still."""
        before = self._open()
        if not before:
            return {}
        time.sleep(_AGAIN_SECONDS)
        return {place: end for place, end in self._open().items() if before.get(place) == end}

    def _open(self) -> dict[PartitionId, int]:
        """Partition -> committed end, of those of which it is not the end."""
        newest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = dict.fromkeys(self._places, newest)
        client = _client(self._settings)
        committed, every = (
            client.list_offsets(asked, isolation_level=level, request_timeout=_ANSWER_SECONDS)
            # An end that moves between the two questions looks like a transaction, and like another one the next time.
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        )
        found: dict[PartitionId, int] = {}
        for place, first in committed.items():
            end = first.result().offset
            if end < every[place].result().offset:
                found[place.topic.removeprefix(self._settings.prefix), place.partition] = end
        return found


@cache
def _client(settings: KafkaSettings) -> AdminClient:
    """One for all partitions of a worker: a new one costs a connection, and threads."""
    return new_admin_client(settings)
