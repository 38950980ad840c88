"""Hanging transactions: Kafka notes them as complete, and one of their partitions never gets the end marker (KIP-664).

Kafka leaves out a partition that has no leader at the moment when the marker is to be written, as when the only broker
is stopped (Kafka 4.3.1; docs/decisions/recovery.md). Readers of committed records then wait before the transaction for
good, until the same transactional id commits something in that partition. So the owner of the id looks now and then
for partitions whose last stable offset (the committed end) stands still below the high watermark.
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

_CHECK_INTERVAL_SECONDS: Final = 20.0
# The marker of a transaction that was committed a moment ago may be on its way. After so long it is not.
_CONFIRM_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 2.0


class HangingTransactions:
    """Watches the partitions that one transactional id writes to. Used by one thread at a time."""

    def __init__(self, settings: KafkaSettings, partitions: Sequence[PartitionId]) -> None:
        self._settings = settings
        self._partitions = [TopicPartition(settings.prefix + topic, partition) for topic, partition in partitions]
        self._next_check = 0.0
        self._running_check: Future[dict[PartitionId, int]] | None = None
        # Last stable offsets that `find_partitions` returned. Once is enough: where the write did not help, the
        # transaction has another id.
        self._reported: dict[PartitionId, int] = {}

    def check_now(self) -> None:
        """Check again at once, because the id was fenced; a check that runs already has seen the time before."""
        self._next_check = 0.0
        self._running_check = None
        self._reported.clear()

    def find_partitions(self) -> list[PartitionId]:
        """Partitions in which the next transaction must write something.

        Never waits: every 20 s a check asks the broker in the background, and a later call returns its result. A
        broker that does not answer is asked again. A transaction, of any id, that lasts for longer than the time
        between two questions looks like a hanging one. What is written because of it says nothing new.
        """
        now = time.monotonic()
        if self._running_check is None:
            if now >= self._next_check:
                self._running_check = run_in_background(self._check)
            return []
        if not self._running_check.done():
            return []
        check, self._running_check = self._running_check, None
        try:
            hanging = check.result()
        except KafkaException:
            # A client keeps the answer that a partition has no leader for metadata.max.age.ms, a quarter of an hour.
            _client.cache_clear()
            self._next_check = now + _CONFIRM_SECONDS
            return []
        self._next_check = now + _CHECK_INTERVAL_SECONDS
        new = {partition: offset for partition, offset in hanging.items() if self._reported.get(partition) != offset}
        self._reported |= new
        return list(new)

    def _check(self) -> dict[PartitionId, int]:
        """Partition -> last stable offset, where it is below the high watermark and stands still."""
        before = self._last_stable_offsets()
        if not before:
            return {}
        time.sleep(_CONFIRM_SECONDS)
        after = self._last_stable_offsets()
        return {partition: offset for partition, offset in after.items() if before.get(partition) == offset}

    def _last_stable_offsets(self) -> dict[PartitionId, int]:
        """Partition -> last stable offset, where it is below the high watermark."""
        newest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = dict.fromkeys(self._partitions, newest)
        client = _client(self._settings)
        stable, high = (
            client.list_offsets(asked, isolation_level=level, request_timeout=_ANSWER_SECONDS)
            # An end that moves between the two questions looks like a transaction, and like another one the next time.
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        )
        offsets: dict[PartitionId, int] = {}
        for partition, answer in stable.items():
            offset = answer.result().offset
            if offset < high[partition].result().offset:
                offsets[partition.topic.removeprefix(self._settings.prefix), partition.partition] = offset
        return offsets


@cache
def _client(settings: KafkaSettings) -> AdminClient:
    """One client for all partitions of a worker: each client costs a connection and threads."""
    return new_admin_client(settings)
