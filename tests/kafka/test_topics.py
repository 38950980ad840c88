"""The catalogue of topics, without a broker."""

import pytest

from streams.domain.limits import MAX_RECORD_BYTES, MAX_RECORDS_PER_PARCEL, MAX_TEXT_BYTES
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas
from streams.formats.topics import DEAD_LETTERS_TOPIC, PARCEL_STATE_TOPIC, SCANS_TOPIC, TOPICS, find_topic, partition_of
from streams.formats.topics_reference import PAGE, render_page
from streams.kafka.settings import KafkaSettings
from streams.kafka.topic_admin import check_topics


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
    assert PAGE.read_text(encoding="utf-8") == render_page(), "run: python -m streams.formats.topics_reference"


def test_every_schema_has_a_topic_and_every_topic_known_schemas():
    named = {name for topic in TOPICS for name in topic.schemas}
    assert named == {version.name for version in load_schemas().versions()}


def test_every_setting_has_a_reason():
    for topic in TOPICS:
        assert topic.config_reasons.keys() == topic.full_config().keys() - {"cleanup.policy"}, topic.name


def test_the_largest_state_fits_into_a_record():
    words_of_an_entry = 5 * (MAX_TEXT_BYTES + 3)
    numbers_of_an_entry = 64
    largest = MAX_RECORDS_PER_PARCEL * (words_of_an_entry + numbers_of_an_entry)
    assert largest < int(find_topic(PARCEL_STATE_TOPIC).config["max.message.bytes"])


def test_every_record_of_the_log_fits_into_the_dead_letters():
    largest = int(find_topic(SCANS_TOPIC).config["max.message.bytes"])
    assert MAX_RECORD_BYTES < 5_000_000 < largest
    assert largest + 64 * 1024 <= int(find_topic(DEAD_LETTERS_TOPIC).config["max.message.bytes"])


def test_states_are_kept_for_ever():
    assert find_topic(PARCEL_STATE_TOPIC).full_config()["cleanup.policy"] == "compact"
    assert "retention.ms" not in find_topic(PARCEL_STATE_TOPIC).full_config()


def test_an_unreachable_broker_is_named_by_its_address(monkeypatch):
    monkeypatch.setattr("streams.kafka.topic_admin._ANSWER_SECONDS", 0.5)
    with pytest.raises(StreamsError, match=r"no answer from Kafka at 127\.0\.0\.1:1 "):
        check_topics(KafkaSettings(bootstrap="127.0.0.1:1"))
