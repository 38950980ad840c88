"""The encoder writes whole records, or raises an error that names the fault."""

import io
import json
from itertools import pairwise
from pathlib import Path

import fastavro
import numpy as np
import pytest

from streams.errors import Misconfigured
from streams.kernel.avro.decoder import ColumnDecoder
from streams.kernel.avro.encoder import ColumnEncoder

FIXED = {"type": "fixed", "name": "F", "size": 2}
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
SOURCE = b"abcdefgh\xff"


def record(*fields, name="R"):
    members = [{"name": f"f{index}", "type": type_} for index, type_ in enumerate(fields)]
    return {"type": "record", "name": name, "fields": members}


def table(*columns):
    """A frame of columns, given as (value, length) pairs."""
    values = [[value for value, _ in column] for column in columns]
    lengths = [[length for _, length in column] for column in columns]
    return np.array(values, np.int64), np.array(lengths, np.int32)


def encode(schema, *frames, sources=(SOURCE,), rows=None, **more):
    joined, offsets = written(ColumnEncoder(schema, None, **more), rows or frames[0][0].shape[1], frames, sources)
    assert offsets[-1] == len(joined)
    return joined


def written(encoder, *arguments):
    joined, offsets = encoder.encode(*arguments)
    return joined.tobytes(), offsets.tolist()


class TestFaultsNameColumnAndRow:
    @pytest.mark.parametrize(
        ("type_", "cell", "fault"),
        [
            ("long", (0, -1), "is null"),
            ("long", (0, -2), "negative length"),
            (["null", "long"], (0, -7), "negative length"),
            ("int", (2**31, 0), "32 bits"),
            ("int", (-(2**31) - 1, 0), "32 bits"),
            ("boolean", (2, 0), "boolean"),
            ("boolean", (-1, 0), "boolean"),
            (ENUM, (2, 0), "enum"),
            (ENUM, (-1, 0), "enum"),
            (FIXED, (0, 3), "length"),
            (FIXED, (8, 2), "outside its source"),
            ("bytes", (0, 10), "outside its source"),
            ("bytes", (-1, 1), "outside its source"),
            ("bytes", (2**62, 1), "outside its source"),
            ("string", (7, 2), "UTF-8"),
            (["null", "string"], (8, 1), "UTF-8"),
            ("float", (np.float64(1e300).view(np.int64), 0), "float"),
        ],
    )
    def test_of_a_value(self, type_, cell, fault):
        good = (0, 2) if type_ in (FIXED, "bytes", "string", ["null", "string"]) else (0, 0)
        with pytest.raises(ValueError, match=f"^f1, row 2: the value .*{fault}"):
            encode(record("long", type_), table([(0, 0)] * 4, [good, good, cell, good]))

    @pytest.mark.parametrize("cell", [(0, 3), (-1, 1), (2, 1), (3, 0), (2**62, 2)])
    def test_of_items(self, cell):
        schema = record({"type": "array", "items": "long"})
        frames = [table([(0, 2), cell]), table([(1, 0), (2, 0)])]
        if cell == (3, 0):
            # An empty array has no rows, so its first row does not matter.
            assert encode(schema, *frames) == b"\4\2\4\0\0"
            return
        with pytest.raises(ValueError, match=r"^f0, row 1: the value points outside the frame of its items"):
            encode(schema, *frames)

    def test_within_items(self):
        schema = record({"type": "array", "items": record("long", ENUM, name="I")})
        frames = [table([(0, 2), (2, 1)]), table([(1, 0)] * 3, [(0, 0), (1, 0), (2, 0)])]
        with pytest.raises(ValueError, match=r"^f0\[\]\.f1, row 2: .*enum"):
            encode(schema, *frames)

    def test_of_the_call(self):
        encoder = ColumnEncoder(record("long"), None)
        good = table([(1, 0)])
        for frames, rows, message in [
            ([], 1, "1 frames, not 0"),
            ([table([(1, 0)], [(2, 0)])], 1, "expected"),
            ([good], 2, "2 rows are wanted"),
        ]:
            with pytest.raises(ValueError, match=message):
                encoder.encode(rows, frames, ())
        with pytest.raises(ValueError, match="sources"):
            encoder.encode(1, [good], (b"",) * 5)
        for more in ({"raw": {"f9"}}, {"raw": {"f0"}}, {"sources": {"f9": 0}}, {"sources": {"f0": 4}}):
            with pytest.raises(Misconfigured):
                ColumnEncoder(record("long"), None, **more)


def test_each_path_has_its_source():
    schema = record("string", FIXED, "bytes", {"type": "map", "values": "string"})
    sources = {"f1": 1, "f2": 2, "f3{key}": 3, "f3{}": 1}
    frames = [table([(1, 2)], [(0, 2)], [(0, 3)], [(0, 1)]), table([(0, 1)], [(1, 1)])]
    buffers = (b"abc", b"de", np.frombuffer(b"fgh", np.uint8), b"i")
    joined, _ = written(ColumnEncoder(schema, None, sources=sources), 1, frames, buffers)
    assert joined == b"\4bc" + b"de" + b"\6fgh" + b"\2\2i\2e\0"


def test_raw_records_are_copied():
    inner = record("long", "string", name="I")
    schema = record(["null", inner], "I")
    frames = [table([(1, 4), (0, -1)], [(0, 2), (2, 3)])]
    assert encode(schema, *frames, raw={"f0", "f1"}) == b"\2bcde" + b"ab" + b"\0" + b"cde"


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 5_000, 1_000_000])
def test_the_buffer_grows_with_the_records(length):
    source = bytes(97 + k % 26 for k in range(length))
    encoder = ColumnEncoder(record("bytes", "long"), 3)
    frames = [table([(0, length)] * 5, [(k, 0) for k in range(5)])]
    for _ in range(2):
        joined, offsets = written(encoder, 5, frames, (source,))
        for row in range(5):
            body = joined[offsets[row] + 5 : offsets[row + 1]]
            value = fastavro.schemaless_reader(io.BytesIO(body), record("bytes", "long"))
            assert value == {"f0": source, "f1": row}


@pytest.mark.parametrize("bits", range(64))
def test_numbers_of_each_length(bits):
    values = [
        value for value in (2**bits - 1, 2**bits, 2**bits + 1, -(2**bits), -(2**bits) - 1) if -(2**63) <= value < 2**63
    ]
    joined = encode(record("long"), table([(value, 0) for value in values]), sources=())
    buffer = io.BytesIO()
    for value in values:
        fastavro.schemaless_writer(buffer, record("long"), {"f0": value})
    assert joined == buffer.getvalue()
    decoder = ColumnDecoder(ColumnEncoder(record("long"), 1).layout, [record("long")], {1: (record("long"), 0)})
    joined, offsets = written(
        ColumnEncoder(record("long"), 1), len(values), [table([(value, 0) for value in values])], ()
    )
    columns = decoder.decode([joined[a:b] for a, b in pairwise(offsets)])
    assert columns.frames[0].values[0].tolist() == values


def test_columns_of_any_memory_layout_are_accepted():
    values, lengths = table([(1, 0), (2, 0), (3, 0)], [(4, 0), (5, 0), (6, 0)])
    expected = encode(record("long", "long"), (values, lengths))
    wide = np.repeat(values, 2, axis=1), np.repeat(lengths, 2, axis=1)
    frozen = values.copy(), lengths.copy()
    frozen[0].flags.writeable = False
    for frame in ((wide[0][:, ::2], wide[1][:, ::2]), frozen, (np.asfortranarray(values), lengths)):
        assert encode(record("long", "long"), frame) == expected


def test_many_arrays():
    schema = record(*[{"type": "array", "items": "long"}] * 5)
    body = b"\4\2\4\0" * 5
    encoder = ColumnEncoder(schema, 1)
    columns = ColumnDecoder(encoder.layout, [schema], {1: (schema, 0)}).decode([b"\0\0\0\0\1" + body])
    frames = [(frame.values, frame.lengths) for frame in columns.frames]
    assert written(encoder, 1, frames, (columns.buffer,))[0] == b"\0\0\0\0\1" + body


def test_the_state_of_a_parcel_survives_decoding_and_encoding():
    schema = json.loads((Path(__file__).parents[3] / "schemas" / "ParcelState.avsc").read_text())
    raw = {"plan", "timeline[].details", "timeline[].plan"}
    plan = {
        "direction": "IMPORT",
        "service": "S",
        "origin": "CN",
        "destination": "DE",
        "planned_lane": None,
        "owner": "o",
    }
    at = {"site": "LGG", "station": "SRT-07", "lane": "L", "reason": None}
    entry = {"record_hash": bytes(16), "kind": "SORTED", "event_time": 1, "utc_offset_minutes": 60, "voided": False}
    entry |= {
        "inferred": True,
        "details": at,
        "container_id": None,
        "voids": bytes(16),
        "plan": None,
        "promised_at": None,
    }
    state = dict.fromkeys(("stage", "stage_time", "customs", "hold_reason", "site", "station", "container_id"))
    state |= {
        "parcel_id": "LP1",
        "version": 2,
        "held": True,
        "lane": "L",
        "damaged": False,
        "no_reads": 0,
        "plan": plan,
    }
    state |= {"recirculations": 1, "promised_at": 5, "kinds": [{"kind": "SORTED", "first": 1, "last": 2, "count": 3}]}
    state |= {"timeline": [entry, entry | {"details": None, "plan": plan, "promised_at": 9}]}
    buffer = io.BytesIO()
    plain = json.loads(json.dumps(schema).replace('"logicalType": "timestamp-millis"', '"x": 0'))
    fastavro.schemaless_writer(buffer, plain, state)
    value = b"\0\0\0\0\4" + buffer.getvalue()
    for encoder in (ColumnEncoder(schema, 4), ColumnEncoder(schema, 4, raw=raw)):
        columns = ColumnDecoder(encoder.layout, [schema], {4: (schema, 0)}).decode([value] * 3)
        assert not columns.status.any()
        frames = [(frame.values, frame.lengths) for frame in columns.frames]
        assert written(encoder, 3, frames, (columns.buffer,)) == (value * 3, [len(value) * k for k in range(4)])
