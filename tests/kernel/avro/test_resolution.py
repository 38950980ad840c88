"""A reader resolves the records of another writer: names, defaults, promotions (Avro 1.12, "Schema Resolution")."""

import numpy as np
import pytest

from streams.domain.reject_reasons import RejectReason
from streams.errors import Misconfigured
from streams.kernel.avro.decoder import ColumnDecoder
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.avro.layout import Layout
from tests.kernel.avro.avro_values import number, rebuild

HEAD = b"\0\0\0\0\1"


def record(*fields, name="R", **more):
    return {"type": "record", "name": name, **more, "fields": list(fields)}


def field(name, type_, **more):
    return {"name": name, "type": type_, **more}


def decode_one(writer, reader, body):
    """(status, the reader's value) of one record; `reader` must hold no references for `rebuild`."""
    layout = Layout.of(reader)
    columns = ColumnDecoder(layout, [reader], {1: (writer, 0)}).decode([HEAD + body])
    status = RejectReason(columns.status[0])
    return status, rebuild(expanded(reader, {}), columns, layout, 0) if status == RejectReason.OK else None


def expanded(schema, names):
    if isinstance(schema, str):
        return names.get(schema.rpartition(".")[2], {"type": schema})
    if isinstance(schema, list):
        return [expanded(branch, names) for branch in schema]
    result = dict(schema)
    for key in ("items", "values"):
        if key in result:
            result[key] = expanded(result[key], names)
    if "fields" in result:
        result["fields"] = [{**part, "type": expanded(part["type"], names)} for part in result["fields"]]
    if isinstance(result["type"], list | dict):
        return expanded(result["type"], names)
    if "name" in result:
        names[result["name"].rpartition(".")[2]] = result
    return result


class TestNames:
    def test_fields_are_found_by_name_whatever_their_order(self):
        writer = record(field("b", "long"), field("x", "string"), field("a", "string"))
        reader = record(field("a", "string"), field("b", "long"))
        assert decode_one(writer, reader, number(5) + number(1) + b"?" + number(2) + b"hi") == (
            RejectReason.OK,
            {"a": "hi", "b": 5},
        )

    def test_aliases_of_fields_and_types_are_the_readers(self):
        writer = record(field("old", {"type": "enum", "name": "Old", "symbols": ["A"]}), name="Before")
        kind = {"type": "enum", "name": "New", "aliases": ["Old"], "symbols": ["A"]}
        reader = record(field("new", kind, aliases=["old"]), name="After", aliases=["hub.Before"])
        assert decode_one(writer, reader, number(0)) == (RejectReason.OK, {"new": "A"})

    def test_the_namespace_does_not_matter_to_resolution(self):
        writer = record(field("k", {"type": "fixed", "name": "K", "size": 1}), namespace="one")
        reader = record(field("k", {"type": "fixed", "name": "two.K", "size": 1}), namespace="two")
        assert decode_one(writer, reader, b"x") == (RejectReason.OK, {"k": b"x"})

    def test_a_reference_means_the_namespace_it_stands_in(self):
        def schema(reference):
            inner = record(
                field("a", {"type": "fixed", "name": "K", "size": 2}), field("b", "K"), name="I", namespace="n2"
            )
            fields = [field("k", {"type": "fixed", "name": "K", "size": 1}), field("i", inner), field("l", reference)]
            return record(*fields, namespace="n1")

        for reference, size in (("K", 1), ("n1.K", 1), ("n2.K", 2)):
            layout = Layout.of(schema(reference))
            frame, column = layout.frame_and_column_index("l")
            assert layout.frames[frame].columns[column].size == size

    def test_a_name_without_a_definition(self):
        with pytest.raises(Misconfigured, match="a: no type is called 'Kind'"):
            Layout.of(record(field("a", "Kind")))

    def test_a_record_of_another_name(self):
        with pytest.raises(Misconfigured, match=r"schema id 1: .*called S, the reader's R"):
            decode_one(record(name="S"), record(), b"")

    def test_two_fields_may_not_take_the_same(self):
        reader = record(field("a", "long"), field("b", "long", aliases=["a"]))
        with pytest.raises(Misconfigured, match="both take the writer's field a"):
            decode_one(record(field("a", "long")), reader, b"")


class TestDefaults:
    @pytest.mark.parametrize(
        ("type_", "default", "value"),
        [
            ("int", -5, -5),
            ("long", 2**62, 2**62),
            ("boolean", True, True),
            ("double", 1, 1.0),
            ("float", 0.1, float(np.float32(0.1))),
            ("string", "päck", "päck"),
            ("bytes", "\xff\0", b"\xff\0"),
            ({"type": "fixed", "name": "F", "size": 2}, "\x01\xfe", b"\x01\xfe"),
            ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
            (["null", "string"], None, None),
            (["null", "string"], "x", "x"),
            (["string", "null"], "x", "x"),
            ({"type": "array", "items": "string"}, [], []),
            ({"type": "array", "items": ["null", "long"]}, [1, None], [1, None]),
            ({"type": "array", "items": {"type": "array", "items": "long"}}, [[1, 2], [], [3]], [[1, 2], [], [3]]),
            ({"type": "map", "values": "long"}, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
            ({"type": "long", "logicalType": "timestamp-millis"}, 7, 7),
            (record(field("p", "long"), field("q", "string", default="d"), name="I"), {"p": 1}, {"p": 1, "q": "d"}),
            (["null", record(field("p", "long"), name="I")], {"p": 1}, {"p": 1}),
            (["null", record(field("p", "long"), name="I")], None, None),
        ],
    )
    def test_a_field_the_writer_lacks(self, type_, default, value):
        reader = record(field("a", "long"), field("d", type_, default=default))
        assert decode_one(record(field("a", "long")), reader, number(3)) == (RejectReason.OK, {"a": 3, "d": value})
        # Also within the items of an array, for many items.
        writer = record(field("s", {"type": "array", "items": record(field("a", "long"), name="Item")}))
        reader = record(field("s", {"type": "array", "items": {**reader, "name": "Item"}}))
        body = number(40) + number(3) * 40 + b"\0"
        assert decode_one(writer, reader, body) == (RejectReason.OK, {"s": [{"a": 3, "d": value}] * 40})

    def test_a_missing_default(self):
        with pytest.raises(Misconfigured, match="no field d, and the reader gives no default"):
            decode_one(record(), record(field("d", "long")), b"")

    @pytest.mark.parametrize(
        ("type_", "default"),
        [
            ("int", 2**31),
            ("long", 2**63),
            ("long", "1"),
            ("long", True),
            ("long", 1.5),
            ("boolean", 1),
            ("string", None),
            ("bytes", "€"),
            ({"type": "fixed", "name": "F", "size": 2}, "x"),
            ({"type": "enum", "name": "E", "symbols": ["A"]}, "B"),
            ({"type": "array", "items": "long"}, {}),
            ({"type": "array", "items": "long"}, [None]),
            (record(field("p", "long"), name="I"), {}),
        ],
    )
    def test_a_default_of_another_type(self, type_, default):
        with pytest.raises(Misconfigured, match="default"):
            decode_one(record(), record(field("d", type_, default=default)), b"")


class TestPromotions:
    @pytest.mark.parametrize("value", [0, -1, 2**24 + 1, 2**31 - 1, -(2**31)])
    @pytest.mark.parametrize("wrote", ["int", "long"])
    def test_numbers(self, wrote, value):
        for wanted, expected in (("long", value), ("float", float(np.float32(value))), ("double", float(value))):
            assert decode_one(record(field("a", wrote)), record(field("a", wanted)), number(value)) == (
                RejectReason.OK,
                {"a": expected},
            )

    def test_a_long_is_rounded_once(self):
        # If it were rounded to a double first, it would become 2^60.
        value = 2**60 + 2**36 + 1
        status, found = decode_one(record(field("a", "long")), record(field("a", "float")), number(value))
        assert (status, found["a"]) == (RejectReason.OK, float(2**60 + 2**37))

    @pytest.mark.parametrize(
        ("wrote", "wanted"),
        [
            ("long", "int"),
            ("double", "float"),
            ("float", "long"),
            ("string", "long"),
            ("boolean", "int"),
            ("null", "long"),
        ],
    )
    def test_a_promotion_that_would_lose_digits_is_refused(self, wrote, wanted):
        with pytest.raises(Misconfigured, match="schema id 1"):
            decode_one(record(field("a", wrote)), record(field("a", wanted)), b"")

    def test_text_and_bytes(self):
        body = number(2) + "é".encode()
        assert decode_one(record(field("a", "bytes")), record(field("a", "string")), body) == (
            RejectReason.OK,
            {"a": "é"},
        )
        assert decode_one(record(field("a", "string")), record(field("a", "bytes")), body) == (
            RejectReason.OK,
            {"a": "é".encode()},
        )
        for wrote, wanted in (("bytes", "string"), ("string", "bytes")):
            status, _ = decode_one(record(field("a", wrote)), record(field("a", wanted)), number(1) + b"\xff")
            assert status == RejectReason.INVALID_UTF8


class TestChoices:
    def test_symbols_are_matched_by_name_with_the_readers_default(self):
        writer = record(field("k", {"type": "enum", "name": "K", "symbols": ["NEW", "B", "A"]}))
        with_default = record(
            field("k", {"type": "enum", "name": "K", "symbols": ["OTHER", "A", "B"], "default": "OTHER"})
        )
        without = record(field("k", {"type": "enum", "name": "K", "symbols": ["A", "B"]}))
        for index, word in enumerate(["OTHER", "B", "A"]):
            assert decode_one(writer, with_default, number(index)) == (RejectReason.OK, {"k": word})
        assert decode_one(writer, without, number(0))[0] == RejectReason.UNRESOLVABLE
        assert decode_one(writer, without, number(1)) == (RejectReason.OK, {"k": "B"})

    def test_each_branch_of_a_writers_union_on_its_own(self):
        inner = record(field("p", "long"), name="I")
        writer = record(field("a", ["string", "null", "int", inner]), field("z", "long"))
        reader = record(field("a", ["null", "double"]), field("z", "long"))
        assert decode_one(writer, reader, number(0) + number(1) + b"x" + number(9))[0] == RejectReason.UNRESOLVABLE
        assert decode_one(writer, reader, number(1) + number(9)) == (RejectReason.OK, {"a": None, "z": 9})
        assert decode_one(writer, reader, number(2) + number(4) + number(9)) == (RejectReason.OK, {"a": 4.0, "z": 9})
        assert decode_one(writer, reader, number(3) + number(4) + number(9))[0] == RejectReason.UNRESOLVABLE
        reader = record(field("a", [inner, "null"]), field("z", "long"))
        assert decode_one(writer, reader, number(3) + number(4) + number(9)) == (
            RejectReason.OK,
            {"a": {"p": 4}, "z": 9},
        )

    def test_null_where_the_reader_has_none(self):
        writer, reader = record(field("a", ["null", "string"])), record(field("a", "string"))
        assert decode_one(writer, reader, number(0))[0] == RejectReason.UNRESOLVABLE
        assert decode_one(writer, reader, number(1) + number(1) + b"x") == (RejectReason.OK, {"a": "x"})
        # A record without fields has no columns; it still is not null.
        empty = record(name="I")
        assert (
            decode_one(record(field("a", ["null", empty])), record(field("a", empty)), number(0))[0]
            == RejectReason.UNRESOLVABLE
        )


class TestSeveralReaders:
    BAG = record(field("id", "string"), field("weight", ["null", "int"]), name="Bag")
    TICK = record(field("time", "long"), name="Tick")

    def test_share_columns_of_the_same_path_and_type(self):
        other = record(field("id", ["null", "string"]), field("items", {"type": "array", "items": "long"}), name="Box")
        layout = Layout.of(self.BAG, self.TICK, other)
        assert [column.path for column in layout.frames[0].columns] == ["id", "weight", "time", "items"]
        schemas = {1: (self.BAG, 0), 2: (self.TICK, 1), 3: (other, 2), 9: (record(field("old", "long"), name="Bag"), 0)}
        with pytest.raises(Misconfigured, match="schema id 9"):
            ColumnDecoder(layout, [self.BAG, self.TICK, other], schemas)
        del schemas[9]
        decoder = ColumnDecoder(layout, [self.BAG, self.TICK, other], schemas)
        columns = decoder.decode([b"\0\0\0\0\2\x0a", b"\0\0\0\0\1\2a\0", b"\0\0\0\0\3\2\2b\4\2\4\0"])
        assert columns.status.tolist() == [RejectReason.OK] * 3
        assert columns.reader_index.tolist() == [1, 0, 2]
        root = columns.frames[0]
        assert root.values[layout.column_index("time")].tolist() == [5, 0, 0]
        assert root.lengths[layout.column_index("time")].tolist() == [0, -1, -1]
        assert root.lengths[layout.column_index("id")].tolist() == [-1, 1, 1]
        assert root.lengths[layout.column_index("weight")].tolist() == [-1, -1, -1]
        assert root.lengths[layout.column_index("items")].tolist() == [-1, -1, 2]

    def test_a_layout_of_other_readers(self):
        with pytest.raises(Misconfigured, match="time: the layout was made of other reader schemas"):
            ColumnDecoder(Layout.of(self.BAG, self.TICK), [self.BAG], {})

    def test_may_not_disagree_about_a_path(self):
        other = record(field("id", "long"), name="Other")
        with pytest.raises(Misconfigured, match="id: one reader schema has string, another long"):
            Layout.of(self.BAG, other)


class TestOnlyAndRaw:
    PLACE = record(field("site", "string"), field("lane", ["null", "string"]), name="Place")
    ITEM = record(field("n", "long"), field("at", ["null", PLACE]), name="Item")
    SCHEMA = record(field("id", "string"), field("items", {"type": "array", "items": ITEM}), field("at", "Place"))
    BODY = b"\2a" + b"\4" + b"\2\2\2x\0" + b"\4\0" + b"\0" + b"\2y\2\2z"

    def test_only_the_named_paths_and_those_that_lead_to_them(self):
        layout = Layout.of(self.SCHEMA, only={"items[].at.site", "at.lane"})
        assert [[column.path for column in frame.columns] for frame in layout.frames] == [
            ["items", "at.lane"],
            ["items[].at", "items[].at.site"],
        ]
        decoder = ColumnDecoder(layout, [self.SCHEMA], {1: (self.SCHEMA, 0)})
        columns = decoder.decode([HEAD + self.BODY, HEAD + self.BODY[:-1] + b"\xff"])
        assert columns.status.tolist() == [RejectReason.OK, RejectReason.INVALID_UTF8]
        assert columns.frames[0].lengths[:, 0].tolist() == [2, 1]
        assert columns.frames[1].lengths.tolist() == [[0, -1], [1, -1]]

    def test_unknown_paths(self):
        for more in ({"only": {"at.sight"}}, {"raw": {"sight"}}):
            with pytest.raises(Misconfigured, match="no reader schema has the path"):
                Layout.of(self.SCHEMA, **more)
        with pytest.raises(Misconfigured, match="only a record"):
            Layout.of(self.SCHEMA, raw={"id"})

    def test_a_raw_record_is_its_bytes(self):
        layout = Layout.of(self.SCHEMA, raw={"items[].at", "at"})
        assert [[column.path for column in frame.columns] for frame in layout.frames] == [
            ["id", "items", "at"],
            ["items[].n", "items[].at"],
        ]
        columns = ColumnDecoder(layout, [self.SCHEMA], {1: (self.SCHEMA, 0)}).decode([HEAD + self.BODY])

        def octets(path, row):
            frame, column = layout.frame_and_column_index(path)
            start = columns.frames[frame].values[column, row]
            return columns.buffer[start : start + columns.frames[frame].lengths[column, row]].tobytes()

        assert octets("at", 0) == b"\2y\2\2z"
        assert octets("items[].at", 0) == b"\2x\0"
        assert columns.frames[1].lengths[1].tolist() == [3, -1]

    def test_raw_bytes_of_a_writer_with_another_encoding_are_refused(self):
        place = record(field("lane", ["null", "string"]), field("site", "string"), name="Place")
        writer = record(field("id", "string"), field("at", place))
        reader = record(field("id", "string"), field("at", self.PLACE))
        with pytest.raises(Misconfigured, match="cannot be raw"):
            ColumnDecoder(Layout.of(reader, raw={"at"}), [reader], {1: (writer, 0)})


class TestItemsWithoutColumns:
    """Records without fields have no column, and where they are items the frame of the items has none either."""

    EMPTY = record(name="Empty")
    NESTED = record(field("inner", [record(name="Inner")]), name="Outer")
    # Schema of the items, encoding of one item, the value of one item.
    ITEMS = pytest.mark.parametrize(
        ("items", "body", "value"),
        [
            ([EMPTY], b"\0", {}),
            (NESTED, b"\0", {"inner": {}}),
            ([NESTED], b"\0\0", {"inner": {}}),
            (["null"], b"\0", None),
            ([{"type": "fixed", "name": "Nothing", "size": 0}], b"\0", b""),
        ],
        ids=["empty record", "record of an empty record", "union of that", "null", "fixed of 0 bytes"],
    )

    @ITEMS
    def test_an_array_has_as_many_as_were_written(self, items, body, value):
        schema = record(field("a", {"type": "array", "items": items}), field("last", "long"))
        encoded = number(3) + body * 3 + b"\0" + number(7)
        assert decode_one(schema, schema, encoded) == (RejectReason.OK, {"a": [value] * 3, "last": 7})

    @ITEMS
    def test_a_map_has_its_keys(self, items, body, value):
        schema = record(field("m", {"type": "map", "values": items}), field("last", "long"))
        encoded = number(2) + b"\2x" + body + b"\2y" + body + b"\0" + number(7)
        assert decode_one(schema, schema, encoded) == (RejectReason.OK, {"m": {"x": value, "y": value}, "last": 7})

    def test_a_default_has_its_items(self):
        reader = record(field("a", {"type": "array", "items": [self.EMPTY]}, default=[{}, {}]), field("last", "long"))
        assert decode_one(record(field("last", "long")), reader, number(7)) == (
            RejectReason.OK,
            {"a": [{}, {}], "last": 7},
        )

    def test_they_are_checked_where_they_are_left_out(self):
        schema = record(field("a", {"type": "array", "items": [self.EMPTY]}), field("last", "long"))
        layout = Layout.of(schema, only={"last"})
        assert [frame.path for frame in layout.frames] == [""]
        decoder = ColumnDecoder(layout, [schema], {1: (schema, 0)})
        good, bad = (HEAD + number(1) + branch + b"\0" + number(7) for branch in (b"\0", b"\2"))
        assert decoder.decode([good, bad]).status.tolist() == [RejectReason.OK, RejectReason.BAD_INDEX]

    def test_they_are_written_as_they_were_read(self):
        schema = record(field("a", {"type": "array", "items": [self.EMPTY]}), field("last", "long"))
        value = HEAD + number(2) + b"\0\0\0" + number(7)
        columns = ColumnDecoder(Layout.of(schema), [schema], {1: (schema, 0)}).decode([value] * 2)
        frames = [(frame.values, frame.lengths) for frame in columns.frames]
        octets, ends = ColumnEncoder(schema, 1).encode(2, frames, (columns.buffer,))
        assert (octets.tobytes(), ends.tolist()) == (value * 2, [0, len(value), 2 * len(value)])
