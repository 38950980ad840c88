"""Hostile bytes and schemas: each gets its status or is refused, at once and without using memory."""

import subprocess
import sys
import time
import tracemalloc

import pytest

from streams.domain.reject_reasons import RejectReason
from streams.errors import Misconfigured
from streams.kernel.avro.decoder import ColumnDecoder
from streams.kernel.avro.layout import Layout
from tests.kernel.avro.avro_values import number

HEAD = b"\0\0\0\0\1"


def record(*fields, name="R"):
    members = [{"name": f"f{index}", "type": type_} for index, type_ in enumerate(fields)]
    return {"type": "record", "name": name, "fields": members}


def array(items):
    return {"type": "array", "items": items}


EMPTY = {"type": "record", "name": "Empty", "fields": []}


def status(schema, *bodies, reader=None, limit=1 << 20):
    reader = reader or schema
    decoder = ColumnDecoder(Layout.of(reader), [reader], {1: (schema, 0)}, max_value_bytes=limit)
    return [RejectReason(number) for number in decoder.decode([HEAD + body for body in bodies]).status]


class TestFraming:
    DECODER = ColumnDecoder(Layout.of(record("long")), [record("long")], {1: (record("long"), 0)}, max_value_bytes=20)

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (None, RejectReason.NO_VALUE),
            (b"", RejectReason.BAD_FRAMING),
            (b"\0\0\0\0", RejectReason.BAD_FRAMING),
            (b"\1\0\0\0\1\2", RejectReason.BAD_FRAMING),
            (b"{}", RejectReason.BAD_FRAMING),
            (b"\0\0\0\0\2\2", RejectReason.UNKNOWN_SCHEMA),
            (b"\0\xff\xff\xff\xff\2", RejectReason.UNKNOWN_SCHEMA),
            (b"\0\0\0\0\1", RejectReason.TRUNCATED),
            (b"\0\0\0\0\1\2", RejectReason.OK),
            (b"\0\0\0\0\1\2\0", RejectReason.TRAILING_BYTES),
            (b"\0\0\0\0\1" + bytes(15), RejectReason.TRAILING_BYTES),
            (b"\0\0\0\0\1" + bytes(16), RejectReason.TOO_LARGE),
            (b"\1" + bytes(20), RejectReason.TOO_LARGE),
        ],
    )
    def test_status(self, payload, reason):
        columns = self.DECODER.decode([payload])
        assert RejectReason(columns.status[0]) == reason
        known = reason in (RejectReason.OK, RejectReason.TRUNCATED, RejectReason.TRAILING_BYTES)
        assert columns.reader_index[0] == (0 if known else -1)
        assert columns.frames[0].lengths[0, 0] == (0 if reason == RejectReason.OK else -1)

    def test_an_empty_batch_has_no_rows(self):
        columns = self.DECODER.decode([])
        assert columns.rows == 0
        assert columns.frames[0].values.shape == (1, 0)

    def test_no_schema_at_all(self):
        columns = ColumnDecoder(Layout.of(record("long")), [record("long")], {}).decode([b"\0\0\0\0\1\2"])
        assert RejectReason(columns.status[0]) == RejectReason.UNKNOWN_SCHEMA


class TestNumbers:
    @pytest.mark.parametrize("schema", ["long", "int"])
    def test_a_number_of_more_than_ten_bytes(self, schema):
        assert status(record(schema), b"\x80" * 10 + b"\0", b"\x80" * 199 + b"\0") == [RejectReason.VARINT_OVERFLOW] * 2

    def test_a_number_of_more_than_64_bits(self):
        assert status(record("long"), b"\xff" * 9 + b"\2", b"\xff" * 9 + b"\x7f") == [RejectReason.VARINT_OVERFLOW] * 2
        assert status(record("long"), b"\xff" * 9 + b"\1", b"\xff" * 8 + b"\x7f") == [RejectReason.OK] * 2

    def test_an_int_of_more_than_32_bits(self):
        for schema, reader in (("int", "int"), ("int", "long"), ("int", "double")):
            bodies = [number(2**31), number(-(2**31) - 1), number(2**31 - 1), number(-(2**31))]
            expected = [RejectReason.VARINT_OVERFLOW] * 2 + [RejectReason.OK] * 2
            assert status(record(schema), *bodies, reader=record(reader)) == expected
            assert status(record(["null", schema]), *(b"\2" + body for body in bodies)) == expected

    def test_a_number_that_ends_early(self):
        bodies = [b"\xff" * n for n in range(10)]
        assert status(record("long"), *bodies) == [RejectReason.TRUNCATED] * 10
        # The bytes of a valid record behind it are not read as its end.
        decoder = ColumnDecoder(Layout.of(record("long")), [record("long")], {1: (record("long"), 0)})
        columns = decoder.decode([HEAD + b"\x80", HEAD + b"\2"])
        assert columns.status.tolist() == [RejectReason.TRUNCATED, RejectReason.OK]


ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}


class TestChoices:
    @pytest.mark.parametrize("index", [-1, 2, 3, -(2**31), 2**40, -(2**63)])
    def test_enum_and_union_positions_outside_the_schema(self, index):
        assert status(record(ENUM), number(index)) == [RejectReason.BAD_INDEX]
        for union in (
            ["null", "string"],
            ["string", "null"],
            ["null", "long"],
            ["null", ENUM],
            ["long", "string"],
        ):
            reader = record("long") if union == ["long", "string"] else None
            assert status(record(union), number(index), reader=reader) == [RejectReason.BAD_INDEX]

    def test_a_boolean_is_0_or_1(self):
        assert status(record("boolean"), b"\0", b"\1", b"\2", b"\xff", b"") == [
            RejectReason.OK,
            RejectReason.OK,
            RejectReason.BAD_INDEX,
            RejectReason.BAD_INDEX,
            RejectReason.TRUNCATED,
        ]

    def test_skipped_values_are_checked_too(self):
        writer, reader = record("long", ENUM, "boolean", "string"), record("long")
        good = b"\2\0\1\2x"
        for body, reason in [
            (good, RejectReason.OK),
            (b"\2\4\1\2x", RejectReason.BAD_INDEX),
            (b"\2\0\2\2x", RejectReason.BAD_INDEX),
            (b"\2\0\1\2\xff", RejectReason.INVALID_UTF8),
            (b"\2\0\1\4x", RejectReason.BAD_LENGTH),
        ]:
            assert status(writer, body, reader=reader) == [reason]


class TestLengths:
    @pytest.mark.parametrize("length", [-1, 2, 2**31, 2**40, 2**63 - 1, -(2**63)])
    @pytest.mark.parametrize("schema", ["string", "bytes"])
    def test_of_strings_and_bytes_beyond_the_record(self, schema, length):
        assert status(record(schema), number(length) + b"x") == [RejectReason.BAD_LENGTH]

    def test_a_fixed_or_a_float_that_ends_early(self):
        for schema in ({"type": "fixed", "name": "F", "size": 4}, "float"):
            assert status(record(schema), b"abc", b"abcd") == [RejectReason.TRUNCATED, RejectReason.OK]
        assert status(record("double"), b"abcdefg", b"abcdefgh") == [RejectReason.TRUNCATED, RejectReason.OK]

    @pytest.mark.parametrize("count", [3, 2**31, 2**40, 2**63 - 1, -3, -(2**40), -(2**63)])
    def test_of_arrays_and_maps_beyond_the_record(self, count):
        for schema in (array("boolean"), {"type": "map", "values": "boolean"}):
            body = number(count) + (number(2) if count < 0 else b"") + b"\0\0"
            [found] = status(record(schema), body)
            assert found == RejectReason.BAD_LENGTH

    def test_a_block_must_be_as_long_as_it_says(self):
        schema = record(array("long"))
        good = number(-2) + number(2) + b"\2\4" + b"\0"
        assert status(schema, good) == [RejectReason.OK]
        for size in (-1, 0, 1, 3, 4, 2**40):
            assert status(schema, number(-2) + number(size) + b"\2\4\0") == [RejectReason.BAD_LENGTH]

    def test_items_of_a_broken_record_leave_no_rows(self):
        schema = record(array(array("string")), "boolean")
        decoder = ColumnDecoder(Layout.of(schema), [schema], {1: (schema, 0)})
        good = HEAD + b"\2\4\2a\2b\0\0\1"
        columns = decoder.decode([good, good[:-1] + b"\2", good[:-3], good])
        assert columns.status.tolist() == [0, RejectReason.BAD_INDEX, RejectReason.TRUNCATED, 0]
        assert [frame.rows for frame in columns.frames] == [4, 2, 4]
        assert columns.frames[0].values[0].tolist() == [0, 0, 0, 1]
        assert columns.frames[0].lengths[0].tolist() == [1, -1, -1, 1]
        assert columns.frames[1].values[0].tolist() == [0, 2]


class TestText:
    @pytest.mark.parametrize(
        "octets",
        [
            b"\x80",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xc2",
            b"\xe0\x80\x80",
            b"\xe0\x9f\xbf",
            b"\xe2\x82",
            b"\xed\xa0\x80",
            b"\xf0\x80\x80\x80",
            b"\xf0\x9f\x98",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xff",
            b"abcdefgh\xff",
            b"abcdefghi\xffj",
            b"\xc2" + b"a" * 20,
        ],
    )
    def test_invalid_utf8_is_refused(self, octets):
        with pytest.raises(UnicodeDecodeError):
            octets.decode()
        body = number(len(octets)) + octets
        # The bytes that follow may not complete it.
        assert status(record("string", "bytes"), body + number(2) + b"\xbf\xbf") == [RejectReason.INVALID_UTF8]
        assert status(record(["null", "string"]), b"\2" + body) == [RejectReason.INVALID_UTF8]
        assert status(record({"type": "map", "values": "long"}), b"\2" + body) == [RejectReason.INVALID_UTF8]

    @pytest.mark.parametrize(
        "text", ["", "é", "€", "😀", "\ud7ff\ue000", "\U0010ffff", "a" * 7, "a" * 8, "aé" * 9, "\0"]
    )
    def test_valid_utf8_is_accepted(self, text):
        octets = text.encode()
        assert status(record("string"), number(len(octets)) + octets) == [RejectReason.OK]


class TestSchemasAreRefused:
    @pytest.mark.parametrize(
        "items", ["null", EMPTY, {"type": "fixed", "name": "F", "size": 0}, record("null", EMPTY, name="I")]
    )
    def test_when_nine_bytes_could_claim_2_to_the_40_items(self, items):
        for schema in (record(array(items)), record({"type": "map", "values": items})):
            with pytest.raises(Misconfigured, match="at least one byte"):
                Layout.of(schema)
            with pytest.raises(Misconfigured, match="at least one byte"):
                ColumnDecoder(Layout.of(record()), [record()], {1: (schema, 0)})

    def test_when_they_contain_themselves(self):
        schema = record(["null", "R"])
        with pytest.raises(Misconfigured, match="contains itself"):
            Layout.of(schema)
        with pytest.raises(Misconfigured, match=r"schema id 1: .*contains itself"):
            ColumnDecoder(Layout.of(record()), [record()], {1: (schema, 0)})

    def test_when_a_reader_has_a_choice_of_types(self):
        with pytest.raises(Misconfigured, match="f0: a reader's union may have one type beside null, this one has 2"):
            Layout.of(record(["null", "long", "string"]))

    def test_when_they_repeat_themselves_ever_deeper(self):
        inner = record("long", name="R0")
        for level in range(1, 30):
            inner = record(inner, *[f"R{level - 1}"] * 9, name=f"R{level}")
        started = time.perf_counter()
        for make in (Layout.of, lambda schema: ColumnDecoder(Layout.of(record()), [record()], {1: (schema, 0)})):
            with pytest.raises(Misconfigured, match="repeat"):
                make(inner)
        assert time.perf_counter() - started < 10

    def test_when_they_are_nested_too_deep(self):
        schema = "long"
        for _ in range(200):
            schema = array(schema)
        with pytest.raises(Misconfigured, match="nested deeper"):
            Layout.of(record(schema))


def test_a_bomb_costs_neither_time_nor_memory():
    schema = record(array("boolean"))
    decoder = ColumnDecoder(Layout.of(schema), [schema], {1: (schema, 0)})
    decoder.decode([HEAD + b"\0"])
    bombs = [HEAD + number(2**40) + bytes(4), HEAD + number(-(2**62)) + number(2**62) + b"\0"] * 500
    tracemalloc.start()
    started = time.perf_counter()
    columns = decoder.decode(bombs)
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(columns.status.tolist()) == {RejectReason.BAD_LENGTH}
    assert seconds < 10
    assert peak < 2_000_000


def test_each_bit_of_a_record_may_be_wrong():
    schema = record("string", ["null", "long"], array(record(["string", "null"], name="I")), "double", "boolean")
    decoder = ColumnDecoder(Layout.of(schema), [schema], {1: (schema, 0)})
    good = HEAD + b"\6abc" + b"\2\x90\x4e" + b"\4\0\2x\2\0" + bytes(8) + b"\1"
    assert decoder.decode([good]).status[0] == RejectReason.OK
    wrong = [
        bytes(b ^ (1 << bit) * (k == position) for k, b in enumerate(good))
        for position in range(len(good))
        for bit in range(8)
    ]
    wrong += [good[:end] for end in range(len(good))]
    columns = decoder.decode([*wrong, good])
    assert columns.status[-1] == RejectReason.OK
    assert all(RejectReason(found) <= RejectReason.UNRESOLVABLE for found in columns.status.tolist())
    assert (columns.status[-1 - len(good) : -1] != RejectReason.OK).all()


@pytest.mark.parametrize(
    "mode", [{"NUMBA_BOUNDSCHECK": "1"}, {"NUMBA_DISABLE_JIT": "1"}], ids=["bounds", "interpreted"]
)
def test_the_tests_of_the_kernel_pass_in_other_modes(mode, monkeypatch):
    """The tests of the kernel again, with fewer examples: with every index checked, and without compilation."""
    for name, value in {**mode, "PARCELS_EXAMPLES": "12"}.items():
        monkeypatch.setenv(name, value)
    tests = ["tests/kernel/avro/test_against_fastavro.py", "tests/kernel/avro/test_attacks.py", "-k", "not other_modes"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
