"""The catalogue of topics, without a broker."""

import pytest

from streams.domain.limits import RECORD_BYTES, RECORDS_PER_PARCEL, WORD_BYTES
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas
from streams.formats.topics import CATALOGUE, DEAD_LETTERS, SCANS, STATE, partition_of, topic_named
from streams.formats.topics_reference import PAGE, page
from streams.kafka.settings import Settings
from streams.kafka.topic_admin import check


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_go_to_the_partition_of_kafkas_java_clients(key, hashed):
    """The values are those of Kafka's own test, UtilsTest.testMurmur2."""
    assert partition_of(key, 1 << 31) == hashed & 0x7FFFFFFF
    assert partition_of(key, 4) == (hashed & 0x7FFFFFFF) % 4


def test_the_reference_page_is_the_one_of_the_catalogue():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m streams.formats.topics_reference"


def test_every_schema_has_a_topic_and_every_topic_known_schemas():
    named = {name for topic in CATALOGUE for name in topic.schemas}
    assert named == {version.name for version in load_schemas().versions()}


def test_every_setting_has_a_reason():
    for topic in CATALOGUE:
        assert topic.reasons.keys() == topic.full_config().keys() - {"cleanup.policy"}, topic.name


def test_the_largest_state_fits_into_a_record():
    words_of_an_entry = 5 * (WORD_BYTES + 3)
    numbers_of_an_entry = 64
    largest = RECORDS_PER_PARCEL * (words_of_an_entry + numbers_of_an_entry)
    assert largest < int(topic_named(STATE).config["max.message.bytes"])


def test_whatever_fits_into_the_log_fits_into_the_dead_letters():
    largest = int(topic_named(SCANS).config["max.message.bytes"])
    assert RECORD_BYTES < 5_000_000 < largest
    assert largest + 64 * 1024 <= int(topic_named(DEAD_LETTERS).config["max.message.bytes"])


def test_states_are_kept_for_ever():
    assert topic_named(STATE).full_config()["cleanup.policy"] == "compact"
    assert "retention.ms" not in topic_named(STATE).full_config()


def test_no_broker_is_said_with_its_address(monkeypatch):
    monkeypatch.setattr("streams.kafka.topic_admin._ANSWER_SECONDS", 0.5)
    with pytest.raises(StreamsError, match=r"no answer from Kafka at 127\.0\.0\.1:1 "):
        check(Settings(bootstrap="127.0.0.1:1"))
