"""Dead letters on a real broker: list, show, redrive, purge."""

import json

import pytest

from streams.domain.reject_reasons import RejectReason
from streams.errors import Misconfigured
from streams.formats.topics import DEAD_LETTERS_TOPIC, SCANS_TOPIC, partition_of
from streams.kafka.clients import new_producer
from streams.kafka.dead_letters import (
    dead_letter_headers,
    purge,
    read_dead_letter,
    read_dead_letters,
    redrive,
)
from streams.kafka.reader import read_to_end
from streams.kafka.topic_admin import apply_topics, plan_topics
from tests.formats.avro import framed, scan

WHOLE = framed("Scan", scan("e1", "P1"))


@pytest.fixture
def topics(settings):
    apply_topics(settings, plan_topics(settings))
    return settings


def write_dead_letters(settings, *letters):
    """Write dead letters as the worker does: (partition, reason, key, value, headers)."""
    sender = new_producer(settings)
    for offset, (partition, reason, key, value, own) in enumerate(letters):
        headers = dead_letter_headers(settings.prefix + SCANS_TOPIC, partition, offset, reason, own)
        sender.produce(settings.prefix + DEAD_LETTERS_TOPIC, value, key, partition, headers=headers)
    assert sender.flush(10) == 0


def test_dead_letters_are_listed_and_shown_as_they_were_written(topics, parcels):
    write_dead_letters(
        topics,
        (1, RejectReason.TRUNCATED, b"P1", WHOLE[:-3], [("trace", b"1")]),
        (1, RejectReason.TRUNCATED, b"P1", WHOLE[:20], []),
        (2, RejectReason.NO_VALUE, b"P2", None, []),
    )
    listed = parcels("dlq", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert {reason: each["count"] for reason, each in rows["by_reason"].items()} == {"NO_VALUE": 1, "TRUNCATED": 2}
    assert [each["partition_offset"] for each in rows["by_reason"]["TRUNCATED"]["records"]] == ["1:0", "1:1"]
    only = json.loads(parcels("dlq", "list", "--json", "--reason", "NO_VALUE").stdout)
    assert list(only["by_reason"]) == ["NO_VALUE"]

    shown = json.loads(parcels("dlq", "show", "1:0", "--json").stdout)
    assert shown["reason"] == "TRUNCATED"
    assert shown["headers"] == {"trace": "1"}
    assert shown["decoded"]["fields"]["parcel_id"] == "P1"
    text = parcels("dlq", "show", "2:0")
    assert text.returncode == 0, text.stderr
    assert "(no value)" in text.stdout


@pytest.mark.parametrize(
    ("partition_offset", "code", "message"),
    [("1:99", 1, "no dead letter at 1:99"), ("9:0", 2, "partitions 0 to 3"), ("x", 2, "PARTITION:OFFSET")],
)
def test_an_offset_without_a_dead_letter(topics, parcels, partition_offset, code, message):
    shown = parcels("dlq", "show", partition_offset)
    assert shown.returncode == code
    assert message in shown.stderr


def test_redrive_sends_key_value_and_headers_of_the_original(topics):
    write_dead_letters(
        topics,
        (3, RejectReason.UNKNOWN_SCHEMA, b"P1", b"\0\0\0\0\x09abc", [("trace", b"1"), ("empty", None)]),
        (0, RejectReason.TRUNCATED, b"P2", b"left alone", []),
    )
    assert redrive(topics, {(3, 0)}) == []
    (sent,) = read_to_end(topics, topics.prefix + SCANS_TOPIC)
    assert (sent.key(), sent.value()) == (b"P1", b"\0\0\0\0\x09abc")
    assert sent.headers() == [("trace", b"1"), ("empty", None)]
    assert sent.partition() == partition_of(b"P1", 4)
    assert len(list(read_dead_letters(topics))) == 2, "redriven dead letters stay"


def test_a_record_from_a_wrong_partition_is_sent_to_the_right_one(topics):
    write_dead_letters(
        topics,
        (0, RejectReason.WRONG_PARTITION, b"another key", WHOLE, []),
        (0, RejectReason.WRONG_PARTITION, b"k", b"junk", []),
    )
    assert redrive(topics, {(0, 0), (0, 1)}) == [(0, 1)], "its parcel is unknown"
    (sent,) = read_to_end(topics, topics.prefix + SCANS_TOPIC)
    assert (sent.key(), sent.value(), sent.partition()) == (b"P1", WHOLE, partition_of(b"P1", 4))


def test_the_command_line_asks_before_it_writes(topics, parcels):
    write_dead_letters(topics, *[(0, RejectReason.TRUNCATED, b"P1", WHOLE, [])] * 2)
    dry = parcels("dlq", "redrive", "--reason", "TRUNCATED", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, f"would send 2 records to {topics.prefix}hub.scans\n")
    asked = parcels("dlq", "redrive", "--reason", "TRUNCATED", stdin=-3)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert not list(read_to_end(topics, topics.prefix + SCANS_TOPIC))
    sent = parcels("dlq", "redrive", "0:0", "0:7", "--yes", "--json")
    assert sent.returncode == 1, "0:7 is not there"
    assert "0:7" in sent.stderr
    names = [f"{topics.prefix}hub.scans"]
    assert json.loads(sent.stdout) == {"topics": names, "sent": ["0:0"], "not_sent": [], "not_found": ["0:7"]}
    assert len(list(read_to_end(topics, topics.prefix + SCANS_TOPIC))) == 1
    assert parcels("dlq", "redrive", "--yes").returncode == 2, "all must be chosen by a reason"
    purged = parcels("dlq", "purge", "--until", "0:0", "--yes")
    assert (purged.returncode, purged.stdout) == (0, "deleted 1 dead letters\n")
    assert [letter.partition_offset for letter in read_dead_letters(topics)] == [(0, 1)]


def test_purge_keeps_later_dead_letters(topics):
    write_dead_letters(topics, *[(partition, RejectReason.TRUNCATED, b"k", b"v", []) for partition in (0, 0, 1)])
    purge(topics, {0: 1})
    assert {letter.partition_offset for letter in read_dead_letters(topics)} == {(0, 1), (1, 0)}
    assert read_dead_letter(topics, (0, 0)) is None


def test_missing_topics_are_reported(settings):
    with pytest.raises(Misconfigured, match="parcels topics apply"):
        list(read_dead_letters(settings))
