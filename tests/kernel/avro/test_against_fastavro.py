"""The kernel reads and writes what fastavro reads and writes, for generated schemas, evolved schemas and records."""

import io
import random
from itertools import pairwise

import fastavro
import numpy as np
import pytest
from fastavro.read import SchemaResolutionError
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.domain.reject_reasons import RejectReason
from streams.kernel.avro.decoder import ColumnDecoder
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.avro.layout import Layout
from tests.kernel.avro.avro_cases import pairs, reader_records, schema_of, spelled_out, values
from tests.kernel.avro.avro_values import rebuild, same, settle, write

HEAD = b"\0\0\0\0\7"
STATUSES = {RejectReason(number) for number in range(RejectReason.UNRESOLVABLE + 1)}


def decoder_of(writer, reader):
    layout = Layout.of(schema_of(reader))
    return ColumnDecoder(layout, [schema_of(reader)], {7: (schema_of(writer), 0)})


def read(writer, reader, body):
    """fastavro's value of a body, or the reason why it cannot be read."""
    try:
        value = fastavro.schemaless_reader(io.BytesIO(body), spelled_out(writer), spelled_out(reader))
    except SchemaResolutionError:
        return RejectReason.UNRESOLVABLE
    except UnicodeDecodeError:
        # The writer's type is bytes, the reader's is string.
        return RejectReason.INVALID_UTF8
    return settle(reader, value)


@st.composite
def batches(draw):
    writer, reader = draw(pairs())
    style = random.Random(draw(st.integers(0, 99)))
    bodies = [write(writer, draw(values(writer)), style) for _ in range(draw(st.integers(1, 4)))]
    return writer, reader, bodies


@given(batches())
def test_every_record_is_read_as_fastavro_reads_it(batch):
    writer, reader, bodies = batch
    decoder = decoder_of(writer, reader)
    columns = decoder.decode([HEAD + body for body in bodies])
    for row, body in enumerate(bodies):
        expected = read(writer, reader, body)
        if isinstance(expected, RejectReason):
            assert columns.status[row] == expected
        else:
            assert columns.status[row] == RejectReason.OK
            assert same(rebuild(reader, columns, decoder.layout, row), expected)


@st.composite
def damaged(draw, body):
    body = bytearray(body)
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(body)))
        match draw(st.integers(0, 4)):
            case 0:
                del body[position:]
            case 1:
                del body[position : position + draw(st.integers(1, 4))]
            case 2:
                body[position:position] = draw(st.binary(min_size=1, max_size=12))
            case 3 if position < len(body):
                body[position] ^= 1 << draw(st.integers(0, 7))
            case _:
                body[position : position + 1] = draw(st.sampled_from([b"\xff" * 9 + b"\1", b"\x80\0", b"\1", b"\x7f"]))
    return bytes(body)


@given(batches(), st.data())
def test_damaged_bytes_get_a_status_and_never_a_wrong_value(batch, data):
    writer, reader, bodies = batch
    bodies = [data.draw(damaged(body)) if data.draw(st.booleans()) else body for body in bodies]
    decoder = decoder_of(writer, reader)
    columns = decoder.decode([HEAD + body for body in bodies])
    for row, body in enumerate(bodies):
        status = RejectReason(columns.status[row])
        assert status in STATUSES
        if status == RejectReason.OK:
            assert same(rebuild(reader, columns, decoder.layout, row), read(writer, reader, body))
        else:
            assert (columns.frames[0].lengths[:, row] == -1).all()
            assert (columns.frames[0].values[:, row] == 0).all()


@given(batches(), st.data())
def test_no_record_affects_another(batch, data):
    writer, reader, bodies = batch
    decoder = decoder_of(writer, reader)
    payloads = [HEAD + body for body in bodies]
    strange = st.sampled_from([None, b"", b"\1", b"\0\0\0\0\x08x", HEAD]) | st.binary(max_size=30).map(HEAD.__add__)
    mixed, positions = [], []
    for payload in payloads:
        mixed += data.draw(st.lists(strange | damaged(payload), max_size=2))
        positions.append(len(mixed))
        mixed.append(payload)
    together = decoder.decode(mixed)
    for position, payload in zip(positions, payloads, strict=True):
        alone = decoder.decode([payload])
        assert together.status[position] == alone.status[0]
        if alone.status[0] == RejectReason.OK:
            assert same(rebuild(reader, together, decoder.layout, position), rebuild(reader, alone, decoder.layout, 0))
    # Rows of items belong to good records only.
    items = sum(decoder.decode([payload]).frames[-1].rows for payload in mixed)
    assert together.frames[-1].rows == items


@given(reader_records(), st.data())
def test_what_is_written_is_what_fastavro_writes(node, data):
    schema = schema_of(node)
    # More frames would need another compilation; `test_many_arrays` has them.
    assume(len(Layout.of(schema).frames) <= 4)
    bodies = [write(node, value) for value in data.draw(st.lists(values(node), max_size=4))]
    decoder = decoder_of(node, node)
    columns = decoder.decode([HEAD + body for body in bodies])
    assert not columns.status.any()
    encoder = ColumnEncoder(schema, 7)
    frames = [(frame.values, frame.lengths) for frame in columns.frames]
    joined, offsets = encoder.encode(len(bodies), frames, (columns.buffer,))
    assert [joined[a:b].tobytes() for a, b in pairwise(offsets)] == [HEAD + body for body in bodies]
    for row, body in enumerate(bodies):
        record = fastavro.schemaless_reader(io.BytesIO(body), schema)
        assert same(record, rebuild(node, columns, decoder.layout, row))
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, record)
        assert buffer.getvalue() == body


@pytest.mark.parametrize("schema_id", [None, 0, 7, 2**32 - 1])
def test_framing_is_a_zero_byte_and_the_schema_id(schema_id):
    encoder = ColumnEncoder({"type": "record", "name": "R", "fields": []}, schema_id)
    joined, offsets = encoder.encode(2, [(np.empty((0, 2), np.int64), np.empty((0, 2), np.int32))], ())
    header = b"" if schema_id is None else b"\0" + schema_id.to_bytes(4, "big")
    assert joined.tobytes() == header + header
    assert offsets.tolist() == [0, len(header), 2 * len(header)]
