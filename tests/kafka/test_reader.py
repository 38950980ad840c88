"""The poll loop of all readers, with a consumer that gives what a test says."""

import math
import time

import pytest
from confluent_kafka import KafkaError

from streams.errors import Retry
from streams.kafka.clients import ALL_BROKERS_DOWN, PARTITION_EOF
from streams.kafka.reader import NO_END, OffsetRange, is_broker_unreachable, read_ranges


class Message:
    """A record, or an event such as the end of a partition."""

    def __init__(self, partition, offset, code=None):
        self._partition, self._offset = partition, offset
        self._error = None if code is None else KafkaError(code)

    def error(self):
        return self._error

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset


def eof(partition, offset):
    return Message(partition, offset, PARTITION_EOF)


class Consumer:
    """Hands over one list of messages a poll, and nothing when all lists were taken."""

    def __init__(self, *batches):
        self._batches = list(batches)
        self._waiting = []
        self.assigned = None

    def assign(self, partitions):
        self.assigned = {each.partition: each.offset for each in partitions}

    def poll(self, _):
        if not self._batches:
            return None
        first, *self._waiting = self._batches.pop(0)
        return first

    def consume(self, count, seconds):
        assert seconds == 0
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


def read(consumer, ranges, **options):
    ranges = {partition: OffsetRange(*offsets) for partition, offsets in ranges.items()}
    batches = read_ranges(consumer, "topic", ranges, **{"idle_timeout_seconds": 0.5, **options})
    return [(record.partition(), record.offset()) for records in batches for record in records]


def test_a_range_ends_with_its_last_record():
    assert read(Consumer([Message(0, 4), Message(0, 5)], [Message(0, 6)]), {0: (4, 7)}) == [(0, 4), (0, 5), (0, 6)]


def test_records_from_the_end_on_are_left_out():
    assert read(Consumer([Message(0, 0), Message(0, 3), Message(0, 4)]), {0: (0, 3)}) == [(0, 0)]


def test_a_range_that_ends_in_a_transaction_marker_ends_with_the_partition():
    assert read(Consumer([Message(0, 0), eof(0, 2)]), {0: (0, 2)}) == [(0, 0)]


def test_an_older_end_than_the_one_asked_for_is_no_end():
    assert read(Consumer([eof(0, 0)], [Message(0, 0), eof(0, 2)]), {0: (0, 2)}) == [(0, 0)]


def test_each_partition_has_its_own_end():
    consumer = Consumer(
        [Message(0, 0), Message(1, 0), Message(0, 1), eof(0, 2)],
        [Message(0, 2), Message(1, 1), Message(0, 3)],
        [eof(1, 2)],
        [Message(1, 3)],
    )
    assert read(consumer, {0: (0, 2), 1: (0, 3)}) == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_partitions_that_have_nothing_are_not_assigned():
    consumer = Consumer([Message(1, 0)])
    assert read(consumer, {0: (7, 7), 1: (-2, 1), 2: (-2, 0)}) == [(1, 0)]
    assert consumer.assigned == {1: -2}


def test_a_batch_has_no_more_records_than_asked_for():
    consumer = Consumer([Message(0, 0), Message(0, 1)], [Message(0, 2)])
    ranges = {0: OffsetRange(0, NO_END)}
    assert len(next(read_ranges(consumer, "topic", ranges, batch_size=1))) == 1


def test_an_error_ends_the_reading_unless_it_is_ignored():
    down = Message(-1, -1, ALL_BROKERS_DOWN)
    with pytest.raises(Retry, match="reading topic: "):
        read(Consumer([down], [Message(0, 0)]), {0: (0, 1)})
    assert read(Consumer([down], [Message(0, 0)]), {0: (0, 1)}, is_ignored=is_broker_unreachable) == [(0, 0)]


def test_a_deadline_ends_the_reading_whatever_comes():
    endless = Consumer(*([Message(0, offset)] for offset in range(1_000)))
    with pytest.raises(Retry, match=r"topic \[0\]: the end was not reached in time"):
        read(endless, {0: (0, NO_END)}, idle_timeout_seconds=math.inf, deadline=time.monotonic() - 1)


class SlowConsumer(Consumer):
    """A consumer whose polls take the given seconds and return the record of the given offset, or None."""

    def __init__(self, *polls):
        super().__init__()
        self._polls = iter(polls)

    def poll(self, seconds):
        took, offset = next(self._polls, (seconds, None))
        time.sleep(took)
        return None if offset is None else Message(0, offset)


def test_silence_ends_the_reading():
    with pytest.raises(Retry, match=r"nothing came for 0\.5 s"):
        read(SlowConsumer((0, 0)), {0: (0, 2)})


def test_a_stop_of_the_process_is_no_silence():
    """A poll takes longer than the limit where the process was stopped meanwhile (Ctrl-Z, a paused machine)."""
    consumer = SlowConsumer((1.0, None), (0, 0), (1.0, None), (0, 1))
    assert read(consumer, {0: (0, 2)}) == [(0, 0), (0, 1)]
