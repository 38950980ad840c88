"""The transactional producer on a real broker: the records that arrive, their order, and the errors of a failure."""

import contextlib
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.errors import Misconfigured
from streams.formats.record_block import RecordBlock
from streams.formats.topics import MILESTONES_TOPIC
from streams.kafka.reader import read_to_end
from streams.kafka.topic_admin import apply_topics, plan_topics
from streams.kafka.transactional_producer import TransactionalProducer
from streams.worker.partition_writer import split_block

HEADERS = [("why", "text \u00e9"), ("raw", b"\0\1"), ("none", None), ("empty", b"")]


@pytest.fixture
def topic(settings):
    apply_topics(settings, plan_topics(settings))
    return settings.prefix + MILESTONES_TOPIC


@pytest.fixture
def sender(settings):
    producer = TransactionalProducer(settings, transactional_id=f"{settings.prefix}a", transaction_timeout_ms=10_000)
    producer.init_transactions(30)
    yield producer
    producer.close()


def records(settings, topic):
    return [(m.partition(), m.key(), m.value(), m.headers()) for m in read_to_end(settings, topic)]


def test_blocks_and_single_records_arrive_in_their_order(settings, topic, sender):
    sent = [(b"k%d" % number, b"v" * (number % 97 + 1)) for number in range(20_000)]
    block = RecordBlock.from_records(sent)
    sender.begin_transaction()
    sender.produce_block(topic, 2, block, 0, 12_345)
    sender.produce_block(topic, 2, block, 12_345, len(block))
    sender.produce(
        topic, 2, b"last", b"one", [("why", "text \u00e9"), ("raw", b"\0\1"), ("none", None), ("empty", b"")]
    )
    sender.commit_transaction(30)
    found = records(settings, topic)
    assert [(key, value) for _, key, value, _ in found] == [*sent, (b"last", b"one")]
    assert {partition for partition, *_ in found} == {2}
    assert found[-1][3] == [("why", "text \u00e9".encode()), ("raw", b"\0\1"), ("none", None), ("empty", b"")]


def test_a_value_of_no_bytes_in_a_block_is_a_tombstone(settings, topic, sender):
    sender.begin_transaction()
    sender.produce_block(topic, 0, RecordBlock.from_records([(b"gone", b""), (b"", b"no key but empty")]), 0, 2)
    sender.produce(topic, 0, None, None, [])
    sender.produce(topic, 0, b"", b"", [])
    sender.commit_transaction(30)
    found = [(key, value) for _, key, value, _ in records(settings, topic)]
    assert found[0] == (b"gone", None)
    assert found[1][1] == b"no key but empty"
    assert found[2:] == [(None, None), (b"", b"")]


def test_uncommitted_records_are_not_read_and_the_next_producer_of_the_id_fences(settings, topic, sender):
    sender.begin_transaction()
    sender.produce_block(topic, 0, RecordBlock.from_records([(b"a", b"never")]), 0, 1)
    while sender.wait_for_deliveries(0.05):
        pass
    heir = TransactionalProducer(settings, transactional_id=f"{settings.prefix}a", transaction_timeout_ms=10_000)
    heir.init_transactions(30)
    with pytest.raises(KafkaException):
        sender.commit_transaction(10)
    heir.begin_transaction()
    heir.produce_block(topic, 0, RecordBlock.from_records([(b"a", b"once")]), 0, 1)
    heir.commit_transaction(30)
    heir.close()
    assert [value for _, _, value, _ in records(settings, topic)] == [b"once"]


def test_a_record_that_is_too_large_fails_the_block(topic, sender):
    large = RecordBlock.from_records([(b"a", b"x" * (21 << 20)), (b"b", b"small")])
    sender.begin_transaction()
    with pytest.raises(KafkaException) as raised:
        sender.produce_block(topic, 0, large, 0, 2)
    assert raised.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_closed_while_a_call_runs_and_used_afterwards(settings, topic):
    sender = TransactionalProducer(settings, transactional_id=f"{settings.prefix}b")

    def call_it() -> None:
        with contextlib.suppress(KafkaException):
            sender.init_transactions(30)

    calling = threading.Thread(target=call_it)
    calling.start()
    sender.close()
    sender.close()
    calling.join()
    for call in (sender.begin_transaction, lambda: sender.commit_transaction(1), lambda: sender.wait_for_deliveries(0)):
        with pytest.raises(KafkaException, match="closed"):
            call()


def test_an_option_that_librdkafka_lacks_is_named(settings):
    with pytest.raises(Misconfigured, match=r"no\.such\.option"):
        TransactionalProducer(settings, transactional_id="x", no_such_option=1)


def test_a_block_is_cut_by_its_bytes_and_a_large_record_stands_alone():
    block = RecordBlock.from_records([(b"k", b"x" * size) for size in (5 << 20, 2 << 20, 2 << 20, 9 << 20, 1, 1)])
    assert list(split_block(block)) == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert list(split_block(RecordBlock.from_records([]))) == []
