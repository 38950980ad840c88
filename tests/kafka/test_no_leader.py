"""A client that asked while the topic had no leader gets its answer soon after the leader is back.

A broker that was stopped for longer than its own session leads nothing for a tenth of a second when it comes back. The
tests cannot cause that moment with a real broker. The mock broker of librdkafka can be told to have no leader, and a
client keeps an answer in the same way, whichever broker gave it.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_int32, c_void_p

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.kafka import clients, hanging_transactions
from streams.kafka.reader import _offsets_for_times, watermark_offsets
from streams.kafka.settings import KafkaSettings
from streams.kafka.transactional_producer import _library

TOPIC = "parcel.state"
NO_LEADER = -1
NO_LEADER_SECONDS = 0.5


class MockBroker:
    """One broker in this process, with one topic of one partition."""

    def __init__(self) -> None:
        self._library = library = _library()
        for name, result, arguments in (
            ("cluster_new", c_void_p, (c_void_p, c_int)),
            ("cluster_bootstraps", c_char_p, (c_void_p,)),
            ("cluster_destroy", None, (c_void_p,)),
            ("topic_create", c_int, (c_void_p, c_char_p, c_int, c_int)),
            ("partition_set_leader", c_int, (c_void_p, c_char_p, c_int32, c_int32)),
        ):
            function = getattr(library, f"rd_kafka_mock_{name}")
            function.restype, function.argtypes = result, arguments
        conf = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set_log_cb(conf, None)
        self._host = library.rd_kafka_new(0, conf, ctypes.create_string_buffer(512), 512)
        self._cluster = library.rd_kafka_mock_cluster_new(self._host, 1)
        assert library.rd_kafka_mock_topic_create(self._cluster, TOPIC.encode(), 1, 1) == 0

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(bootstrap=self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def set_leader(self, broker: int) -> None:
        assert self._library.rd_kafka_mock_partition_set_leader(self._cluster, TOPIC.encode(), 0, broker) == 0

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._host)


@pytest.fixture
def reader() -> Iterator[Consumer]:
    """A consumer of a cluster in which the topic has no leader for a moment."""
    broker = MockBroker()
    broker.set_leader(NO_LEADER)
    back = threading.Timer(NO_LEADER_SECONDS, broker.set_leader, (1,))
    back.start()
    consumer = clients.new_consumer(broker.settings, "test")
    yield consumer
    consumer.close()
    back.join()
    broker.close()


def test_the_end_of_a_partition(reader: Consumer) -> None:
    asked = time.monotonic()
    assert watermark_offsets(reader, TopicPartition(TOPIC, 0), asked + 10) == (0, 0)
    assert NO_LEADER_SECONDS < time.monotonic() - asked < 5


def test_the_offsets_of_a_time(reader: Consumer) -> None:
    asked = time.monotonic()
    found = _offsets_for_times(reader, [TopicPartition(TOPIC, 0, 1_000)])
    assert [each.error for each in found] == [None]
    assert NO_LEADER_SECONDS < time.monotonic() - asked < 5


def test_a_check_for_hanging_transactions() -> None:
    broker = MockBroker()
    transactions = hanging_transactions.HangingTransactions(broker.settings, [(TOPIC, 0)])

    def is_check_answered() -> bool:
        """Run a check; was it answered?"""
        transactions._next_check = 0.0
        assert transactions.find_partitions() == []
        assert transactions._running_check is not None
        failed = transactions._running_check.exception(timeout=30) is not None
        assert transactions.find_partitions() == []
        return not failed

    assert is_check_answered()
    broker.set_leader(NO_LEADER)
    assert not is_check_answered()
    broker.set_leader(1)
    deadline = time.monotonic() + 5
    while not is_check_answered():
        assert time.monotonic() < deadline
    hanging_transactions._client.cache_clear()
    broker.close()
