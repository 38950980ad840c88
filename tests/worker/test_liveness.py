"""A read up to an end offset gives up when no record arrives, but not because the process stood still."""

import time

import pytest

from streams.errors import StreamsError
from streams.kafka.reader import OffsetRange, read_ranges

SILENCE_SECONDS = 0.5


class Record:
    """A record of partition 0."""

    def __init__(self, offset):
        self._offset = offset

    def error(self):
        return None

    def partition(self):
        return 0

    def offset(self):
        return self._offset


class Reader:
    """A consumer; each poll takes so long and returns the record of this offset, or None."""

    def __init__(self, *polls):
        self._polls = iter(polls)

    def assign(self, _):
        pass

    def poll(self, seconds):
        took, offset = next(self._polls, (seconds, None))
        time.sleep(took)
        return None if offset is None else Record(offset)

    def consume(self, *_):
        return []


def read(reader):
    batches = read_ranges(reader, "topic", {0: OffsetRange(0, 2)}, idle_timeout_seconds=SILENCE_SECONDS)
    return [record.offset() for records in batches for record in records]


def test_it_gives_up_when_nothing_comes():
    with pytest.raises(StreamsError, match=r"nothing came for 0\.5 s"):
        read(Reader((0, 0)))


def test_a_stop_amid_waiting_does_not_count():
    assert read(Reader((2 * SILENCE_SECONDS, None), (0, 0), (2 * SILENCE_SECONDS, None), (0, 1), (0, 2))) == [0, 1]
