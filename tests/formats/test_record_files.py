"""Files in: what is right is sent, what is wrong is named and kept."""

import gzip
import io
import json
import lzma
import re
import zlib
from pathlib import Path

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.kinds import KINDS
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_files import MAX_LINE_BYTES, RecordFile, RejectedLine
from streams.formats.record_parser import ProducerRecord, RecordParser
from streams.formats.schemas import load_schemas
from streams.kafka.bulk_producer import RecordColumnsEncoder
from streams.simulate.day import Scenario, Simulation
from streams.simulate.ndjson import ndjson_lines

DOCS = Path(__file__).parents[2] / "docs" / "files.md"
NINE = 1_772_355_600_000
SCAN = {
    "type": "scan",
    "event_id": "a1",
    "parcel_id": "LP1",
    "kind": "SORTED",
    "event_time": "2026-03-01T09:00:00Z",
    "site": "LGG",
    "station": "SRT-07",
}
ADVICE = {
    "type": "advice",
    "event_id": "v1",
    "parcel_id": "LP1",
    "event_time": NINE,
    "direction": "IMPORT",
    "service": "STANDARD",
    "origin": "CN",
    "destination": "DE",
}


def read(*lines, name="in.ndjson"):
    text = b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)
    return list(RecordFile(io.BytesIO(text), name))


def message(line) -> str:
    (bad,) = read(line)
    assert isinstance(bad, RejectedLine), bad
    return bad.message


def scan(**changes) -> dict:
    return {key: value for key, value in {**SCAN, **changes}.items() if value is not ...}


def decoded(line: ProducerRecord, schema: str = "Scan"):
    return RecordDecoder(schema)(line.value)


@pytest.mark.parametrize(("compress", "command"), [(gzip.compress, "gzip -dc"), (lzma.compress, "xz -dc")])
def test_a_compressed_file_is_named_as_such_and_not_read_as_lines(compress, command):
    (bad,) = read(compress(json.dumps(SCAN).encode() * 100), name="day.gz")
    assert bad.file_position == "day.gz"
    assert f"compressed: {command} FILE | parcels load -" in bad.message


class TestALine:
    def test_of_a_scan_becomes_its_record_under_the_key_of_the_parcel(self):
        (line,) = read(scan(lane="R-DE", weight_g=350, device_seq=7))
        record = decoded(line)
        assert line.key == b"LP1"
        assert (record["kind"], record["event_time"], record["lane"], record["weight_g"]) == (
            "SORTED",
            NINE,
            "R-DE",
            350,
        )
        assert (record["container_id"], record["device_id"], record["device_seq"]) == (None, "", 7)
        assert record["record_time"] > NINE

    def test_may_write_its_time_in_small_letters(self):
        (line,) = read(scan(event_time="2026-03-01t09:00:00z"))
        assert (decoded(line)["event_time"], decoded(line)["utc_offset_minutes"]) == (NINE, 0)

    def test_with_a_number_of_thousands_of_digits_is_refused(self):
        line = json.dumps(scan(weight_g=0)).replace('"weight_g": 0', '"weight_g": ' + "1" * 5_000).encode() + b"\n"
        (bad,) = read(line)
        assert bad.message == "a number has thousands of digits"

    def test_of_a_container_becomes_its_record_under_the_key_of_the_container(self):
        (line,) = read(scan(type="container", kind="PACKED", container_id="B1", parcel_id=..., parcels=["LP1", "LP2"]))
        record = decoded(line, "ContainerEvent")
        assert (line.key, line.to_containers_topic, line.broadcast) == (b"B1", True, False)
        assert (record["kind"], record["parcels"], record["containers"], record["path"]) == (
            "PACKED",
            ["LP1", "LP2"],
            [],
            [],
        )

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"kind": "ARRIVED", "parcels": ["LP1"]}, "are for kinds PACKED and UNPACKED"),
            ({"kind": "UNPACKED", "containers": ["B2"], "parent_id": "U1"}, 'without "parent_id"'),
            ({"kind": "ARRIVED", "parent_id": "U1"}, '"parent_id" is for kinds PACKED and UNPACKED'),
            ({"kind": "PACKED"}, "kind PACKED needs children"),
            ({"kind": "PACKED", "parcels": "LP1"}, "it must be a list of texts"),
            ({"kind": "PACKED", "parcels": ["LP1", "L\n2"]}, "parcels, item 2 is"),
            ({"kind": "LOADED", "path": ["A"] * 9}, "path has 9 items; it must have 8 at most"),
        ],
    )
    def test_of_a_container_is_checked(self, changes, expected):
        assert expected in message(scan(type="container", container_id="B1", parcel_id=..., **changes))

    def test_of_an_advice_becomes_its_record(self):
        (line,) = read(ADVICE | {"promised_at": "2026-03-01T10:00:00+01:00"})
        record = decoded(line, "Advice")
        assert (record["event_time"], record["promised_at"], record["planned_lane"]) == (NINE, NINE, None)

    def test_of_a_tick_goes_to_every_partition(self):
        (line,) = read({"type": "tick", "hub_time": NINE})
        assert line.broadcast
        assert line.key is None
        assert decoded(line, "Tick")["hub_time"] == NINE

    def test_of_raw_bytes_is_sent_as_it_is(self):
        lines = read({"type": "raw", "key": "LP1", "value_base64": "AAE="}, {"type": "raw", "value_base64": None})
        assert lines == [ProducerRecord(b"LP1", b"\0\1"), ProducerRecord(None, None)]

    @pytest.mark.parametrize(
        ("time", "offset"),
        [
            ("2026-03-01T09:00:00Z", 0),
            ("2026-03-01T10:00:00+01:00", 60),
            ("2026-03-01T04:30:00.000-04:30", -270),
            (NINE, 0),
        ],
    )
    def test_has_its_time_and_the_offset_it_is_written_with(self, time, offset):
        (line,) = read(scan(event_time=time))
        assert (decoded(line)["event_time"], decoded(line)["utc_offset_minutes"]) == (NINE, offset)

    def test_null_is_the_same_as_left_out(self):
        (line,) = read(scan(lane=None, voids=None))
        assert decoded(line)["lane"] is None

    def test_blank_lines_and_a_byte_order_mark_do_no_harm(self):
        found = read(b"\xef\xbb\xbf" + json.dumps(SCAN).encode() + b"\r\n", b"\n", b"  \n", SCAN)
        assert len(found) == 2
        assert all(isinstance(line, ProducerRecord) for line in found)


class TestAWrongLine:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (scan(type="scam"), "type is 'scam'; did you mean scan?"),
            (scan(type=...), "type is missing"),
            (scan(type=[]), "type is []"),
            (scan(kind="sorted"), "kind is 'sorted'; did you mean SORTED?"),
            (scan(kind=6), "kind is 6; it must be one of OTHER, ADVISED"),
            (scan(site=...), "site is missing"),
            (scan(site=..., event_id=...), "event_id, site are missing"),
            (scan(site=None), "site is missing"),
            (scan(parcel="LP1"), "no field 'parcel'; did you mean parcel_id?"),
            (scan(site=3), "site is 3; it must be a text"),
            (scan(event_id=""), "event_id has 0 bytes; it must have 1 to 1,024"),
            (scan(parcel_id="9" * 129), "parcel_id has 129 bytes; it must have 1 to 128"),
            (scan(parcel_id="a\x07"), "control characters"),
            (scan(parcel_id="a\x9b1m"), "control characters"),
            (scan(parcel_id="\ud800"), "surrogate"),
            (scan(event_time="2026-03-01T09:00:00"), "event_time does not say its offset from UTC; write it like 2026"),
            (scan(event_time="yesterday"), "event_time is 'yesterday'; write it like 2026-03-01T04:00:00Z"),
            (scan(event_time=1.5), "event_time is 1.5; write it like"),
            (scan(event_time=True), "event_time is True; write it like"),
            (scan(event_time="0001-01-01T00:00:00Z"), "it must be from 1900 to 2199"),
            (scan(event_time="9999-12-31T00:00:00Z"), "it must be from 1900 to 2199"),
            (scan(utc_offset_minutes=841), "utc_offset_minutes is 841; it must be a whole number from -840 to 840"),
            (scan(event_time="2026-03-01T09:00:00+23:00"), "the offset of event_time is 1380"),
            (scan(weight_g=1 << 31), "weight_g is 2147483648"),
            (scan(kind="VOID"), '"voids" names the event_id'),
            (scan(voids="a0"), '"voids" names the event_id'),
            ({"type": "tick"}, "hub_time is missing"),
            ({"type": "raw", "value_base64": "!"}, "a record of type raw"),
            (b'{"type": "scan", "event_id": }\n', "this is not JSON: Expecting value at character 30"),
            (b'{"type": NaN}\n', "NaN is no number of JSON"),
            (b"\xff\xfe{}\n", "this is not UTF-8"),
            (b"[" * 100_000 + b"\n", "nested too deep"),
            (b"[1]\n", "this is [1]; a line is a record"),
        ],
    )  # fmt: skip
    def test_says_what_is_wrong_and_what_would_be_right(self, line, expected):
        assert expected in message(line)

    def test_is_named_by_its_number_and_kept_while_the_rest_goes_on(self):
        found = read(SCAN, b"nonsense\n", b"\n", SCAN, b'{"type": "tick"}')
        assert [type(each) for each in found] == [ProducerRecord, RejectedLine, ProducerRecord, RejectedLine]
        assert (str(found[1]).split(":")[:2], found[1].line) == (["in.ndjson", "2"], b"nonsense\n")
        assert (str(found[3]).split(":")[:2], found[3].line) == (["in.ndjson", "5"], b'{"type": "tick"}')

    def test_without_an_end_is_kept_in_pieces(self):
        endless = b"x" * (2 * MAX_LINE_BYTES + 10) + b"\n"
        found = read(SCAN, endless, SCAN)
        bad = found[1:-1]
        assert b"".join(each.line for each in bad) == endless
        assert [each.file_position for each in bad] == ["in.ndjson:2", "", ""]
        assert isinstance(found[-1], ProducerRecord)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([json.dumps(SCAN).encode(), b"{}", b"null"]), max_size=8))
def test_no_bytes_stop_the_reading_and_none_are_lost(chunks):
    text = b"\n".join(chunks)
    found = list(RecordFile(io.BytesIO(text), "in"))
    kept = b"".join(each.line for each in found if isinstance(each, RejectedLine))
    sent = sum(isinstance(each, ProducerRecord) for each in found)
    # Neither Avro nor compressed.
    if not text.startswith((b"Obj\x01", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zX")):
        assert len(kept) + sent * len(json.dumps(SCAN)) <= len(text)
        assert sent == sum(line.strip() == json.dumps(SCAN).encode() for line in text.split(b"\n"))


def test_a_simulated_file_gives_the_same_records_as_the_simulation_itself():
    encoder, reader = RecordColumnsEncoder(), RecordParser()
    for columns in Simulation(Scenario(200, seed=4)).batches():
        encoded = encoder.encode(columns)
        text = "".join(line + "\n" for line in ndjson_lines(columns)).encode()
        found = list(RecordFile(io.BytesIO(text), "sim", reader))
        assert [line.value for line in found] == list(encoded.values)
        assert [line.key for line in found] == list(encoded.keys)
        assert [at for at, line in enumerate(found) if line.broadcast] == list(encoded.broadcast_indexes)


def container(records, schema, codec="deflate") -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, records, codec=codec, sync_interval=2_000)
    return out.getvalue()


class TestAnAvroContainer:
    SCHEMA = load_schemas().current("Scan")

    def records(self, count=100):
        plain = {key: value for key, value in SCAN.items() if key != "type"}
        return [
            plain | {"event_id": f"e{n}", "event_time": NINE + n, "record_time": NINE + n, "lane": None}
            for n in range(count)
        ]

    @pytest.mark.parametrize("codec", ["null", "deflate"])
    def test_of_scans_is_read(self, codec):
        found = list(RecordFile(io.BytesIO(container(self.records(), self.SCHEMA, codec)), "in.avro"))
        assert [decoded(line)["event_id"] for line in found] == [f"e{n}" for n in range(100)]
        assert decoded(found[7])["event_time"] == NINE + 7

    def test_of_a_union_is_read(self):
        schemas = [load_schemas().current(name) for name in ("Scan", "Tick")]
        records = [("parcels.hub.Scan", self.records(1)[0]), ("parcels.hub.Tick", {"hub_time": NINE, "producer": "x"})]
        found = list(RecordFile(io.BytesIO(container(records, schemas)), "in.avro"))
        assert [line.broadcast for line in found] == [False, True]

    def test_with_fewer_fields_and_times_in_microseconds_is_read(self):
        fields = [{"name": name, "type": "string"} for name in ("event_id", "parcel_id", "kind", "site", "station")]
        time = {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}}
        schema = {"type": "record", "name": "Scan", "fields": [*fields, time]}
        record = {key: SCAN[key] for key in ("event_id", "parcel_id", "kind", "site", "station")}
        written = container([record | {"event_time": NINE * 1_000 + 999}], schema)
        (line,) = RecordFile(io.BytesIO(written), "in.avro")
        assert decoded(line)["event_time"] == NINE

    def test_keeps_a_record_that_says_something_wrong_as_json_to_be_mended(self):
        records = self.records(3)
        records[1]["parcel_id"] = "a\x07"
        found = list(RecordFile(io.BytesIO(container(records, self.SCHEMA)), "in.avro"))
        assert str(found[1]).startswith("in.avro: record 2: parcel_id is")
        mended = json.loads(found[1].line) | {"parcel_id": "LP1"}
        assert isinstance(read(mended)[0], ProducerRecord)

    def test_with_a_damaged_record_loses_no_more_than_its_block(self):
        written = bytearray(container(self.records(), self.SCHEMA, "null"))
        # The length of an event_id in the middle, now longer than the block.
        written[written.index(b"e50") - 1] = 0x7F
        found = list(RecordFile(io.BytesIO(bytes(written)), "in.avro"))
        bad = [each for each in found if isinstance(each, RejectedLine)]
        assert len(bad) == 1
        assert "e50" not in {decoded(each)["event_id"] for each in found if isinstance(each, ProducerRecord)}
        assert decoded(found[-1])["event_id"] == "e99"

    @pytest.mark.parametrize("cut", [2, 30, 400, -20, -1])
    def test_that_is_cut_says_so(self, cut):
        found = list(RecordFile(io.BytesIO(container(self.records(), self.SCHEMA)[:cut]), "in.avro"))
        assert isinstance(found[-1], RejectedLine)

    @pytest.mark.parametrize(
        ("schema", "expected"),
        [
            ({"type": "record", "name": "Order", "fields": []}, "a record Order; it must be Scan, Advice or Tick"),
            ("string", "it must be a record Scan, Advice or Tick"),
            (
                {
                    "type": "record",
                    "name": "Scan",
                    "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}],
                },
                "only flat fields are read",
            ),
        ],
    )
    def test_of_something_else_is_refused(self, schema, expected):
        records = ["x"] if schema == "string" else []
        (bad,) = RecordFile(io.BytesIO(container(records, schema)), "in.avro")
        assert expected in str(bad)

    def test_that_inflates_without_end_is_refused(self):
        head = container([], self.SCHEMA)
        sync = head[-16:]
        squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(80)) + squeezer.flush()
        written = head + b"\x02" + _number(len(bomb)) + bomb + sync
        (bad,) = RecordFile(io.BytesIO(written), "in.avro")
        assert "larger than" in str(bad)


def _number(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


class TestTheDocumentedExamples:
    EXAMPLES = re.findall(r"^```json\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

    def test_are_good_lines(self):
        text = "".join(self.EXAMPLES)
        found = read(text.encode())
        assert len(found) == text.count("\n") >= 7
        assert not [each for each in found if isinstance(each, RejectedLine)]

    def test_name_every_field_and_kind(self):
        text = DOCS.read_text(encoding="utf-8")
        for name in ("Scan", "Advice", "Tick"):
            for field in load_schemas().current(name)["fields"]:
                assert f"`{field['name']}`" in text, field["name"]
        for kind in KINDS:
            assert f"`{kind}`" in text
