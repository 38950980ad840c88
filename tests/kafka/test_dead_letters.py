"""Dead letters without a broker: headers written and parsed, and partial decoding of a broken value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.reject_reasons import REJECT_REASON_TEXTS, RejectReason
from streams.kafka.dead_letters import dead_letter_headers, decode_partially, parse_dead_letter
from tests.formats.avro import framed, scan

CONNECT = "__connect.errors."


class Message:
    """A message of the client, with the parts that a dead letter needs."""

    def __init__(self, headers, key=b"P1", value=b"v"):
        self._headers, self._key, self._value = headers, key, value

    def headers(self):
        return self._headers

    def key(self):
        return self._key

    def value(self):
        return self._value

    def partition(self):
        return 2

    def offset(self):
        return 17

    def timestamp(self):
        return (1, 1_772_355_600_000)


headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=4)
bad_reasons = st.sampled_from([reason for reason in RejectReason if reason is not RejectReason.OK])


@given(own=headers, reason=bad_reasons, key=st.none() | st.binary(), value=st.none() | st.binary())
def test_a_dead_letter_gives_the_record_back_untouched(own, reason, key, value):
    letter = parse_dead_letter(Message(dead_letter_headers("x.hub.scans", 3, 41, reason, own), key, value))
    assert (letter.key, letter.value, letter.headers) == (key, value, own)
    assert (letter.source, letter.reason, letter.message) == (
        ("x.hub.scans", 3, 41),
        reason.name,
        REJECT_REASON_TEXTS[reason],
    )
    assert letter.partition_offset == (2, 17)


def test_a_record_that_was_a_dead_letter_before_keeps_those_headers():
    own = dead_letter_headers("other", 0, 1, RejectReason.INVALID_UTF8, [("trace", b"1")])
    letter = parse_dead_letter(Message(dead_letter_headers("hub.scans", 3, 41, RejectReason.TRUNCATED, own)))
    assert letter.headers == own
    assert (letter.source, letter.reason) == (("hub.scans", 3, 41), "TRUNCATED")


def test_headers_are_named_as_kafka_connect_names_them():
    assert dead_letter_headers("hub.scans", 3, 41, RejectReason.TRUNCATED, None) == [
        (CONNECT + "topic", b"hub.scans"),
        (CONNECT + "partition", b"3"),
        (CONNECT + "offset", b"41"),
        (CONNECT + "stage", b"VALUE_CONVERTER"),
        (CONNECT + "exception.class.name", b"streams.errors.BadRecord"),
        (CONNECT + "exception.message", REJECT_REASON_TEXTS[RejectReason.TRUNCATED].encode()),
        ("parcels.reason", b"TRUNCATED"),
    ]


@pytest.mark.parametrize(
    "reason",
    [
        RejectReason.BAD_PARCEL_ID,
        RejectReason.BAD_VOID,
        RejectReason.WRONG_PARTITION,
        RejectReason.PARCEL_LIMIT_EXCEEDED,
    ],
)
def test_rules_of_the_domain_have_a_stage_of_their_own(reason):
    assert (CONNECT + "stage", b"TRANSFORMATION") in dead_letter_headers("hub.scans", 0, 0, reason, None)


@pytest.mark.parametrize(
    "headers_of_another_program",
    [
        None,
        [],
        [("parcels.reason", None)],
        [(CONNECT + "partition", b"x"), (CONNECT + "offset", b"1")],
        [(CONNECT + "offset", b"\xff\xfe")],
    ],
)
def test_a_record_of_another_program_has_no_source(headers_of_another_program):
    letter = parse_dead_letter(Message(headers_of_another_program))
    assert letter.source is None
    assert letter.headers == []


class TestDecoding:
    value = framed("Scan", scan("e1", "P1", site="LGG"))

    def test_a_whole_value(self):
        decoded = decode_partially(self.value)
        assert (decoded.schema, decoded.failed_field, decoded.remaining_bytes) == ("Scan", None, 0)
        assert decoded.fields["site"] == "LGG"

    def test_a_value_that_ends_in_the_middle(self):
        decoded = decode_partially(self.value[: self.value.index(b"LGG") + 1])
        assert decoded.failed_field == "site"
        assert decoded.fields["parcel_id"] == "P1"
        assert "site" not in decoded.fields

    def test_bytes_after_the_last_field(self):
        assert decode_partially(self.value + b"more").remaining_bytes == 4

    @pytest.mark.parametrize(
        "value",
        [
            None,
            b"",
            b"\0\0\0",
            b"\1\0\0\0\1x",
            b"\0\0\0\0\x63x",
            framed("Tick", {"hub_time": 1, "producer": ""})[:5] + b"",
        ],
    )
    def test_nothing_can_be_read(self, value):
        decoded = decode_partially(value)
        assert decoded is None or not decoded.fields

    @given(body=st.binary(max_size=200), schema_id=st.integers(0, 8))
    def test_no_bytes_make_it_raise(self, body, schema_id):
        decode_partially(b"\0" + schema_id.to_bytes(4, "big") + body)
