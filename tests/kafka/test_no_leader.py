"""A client whose first question fell into a moment in which nobody led the topic gets its answer soon after.

A broker that stood still for longer than its own session leads nothing for a tenth of a second when it comes back. That
cannot be had at will; of the broker that librdkafka has for tests it can be ordered, and which answer a client keeps
does not depend on who gave it.
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
NOBODY = -1
AWAY_SECONDS = 0.5


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

    def led_by(self, broker: int) -> None:
        assert self._library.rd_kafka_mock_partition_set_leader(self._cluster, TOPIC.encode(), 0, broker) == 0

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._host)


@pytest.fixture
def reader() -> Iterator[Consumer]:
    """Of a cluster in which nobody leads the topic for a moment."""
    broker = MockBroker()
    broker.led_by(NOBODY)
    back = threading.Timer(AWAY_SECONDS, broker.led_by, (1,))
    back.start()
    made = clients.new_consumer(broker.settings, "test")
    yield made
    made.close()
    back.join()
    broker.close()


def test_the_end_of_a_partition(reader: Consumer) -> None:
    asked = time.monotonic()
    assert watermark_offsets(reader, TopicPartition(TOPIC, 0), asked + 10) == (0, 0)
    assert AWAY_SECONDS < time.monotonic() - asked < 5


def test_where_the_records_of_a_time_begin(reader: Consumer) -> None:
    asked = time.monotonic()
    found = _offsets_for_times(reader, [TopicPartition(TOPIC, 0, 1_000)])
    assert [each.error for each in found] == [None]
    assert AWAY_SECONDS < time.monotonic() - asked < 5


def test_a_look_for_transactions_without_an_end() -> None:
    broker = MockBroker()
    looks = hanging_transactions.HangingTransactions(broker.settings, [(TOPIC, 0)])

    def look() -> bool:
        """Was it answered?"""
        looks._next_check = 0.0
        assert looks.find_partitions() == []
        assert looks._running_check is not None
        failed = looks._running_check.exception(timeout=30) is not None
        assert looks.find_partitions() == []
        return not failed

    assert look()
    broker.led_by(NOBODY)
    assert not look()
    broker.led_by(1)
    deadline = time.monotonic() + 5
    while not look():
        assert time.monotonic() < deadline
    hanging_transactions._client.cache_clear()
    broker.close()
