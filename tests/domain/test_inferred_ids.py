"""Ids of inferred records, against another implementation of the hash."""

import struct

import mmh3
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.inferred_ids import INFERRED_ID_BYTES, inferred_id, inferred_ids


def expected(cause, child, generation):
    text = cause.encode() + b"\0" + child.encode() + (b"\0" + str(generation).encode() if generation else b"")
    return "urn:parcels:inferred:" + struct.pack(">QQ", *mmh3.hash64(text, 0, x64arch=True, signed=False)).hex()


@settings(deadline=None)  # the first one compiles
@given(st.text(max_size=80), st.text(max_size=40), st.integers(0, 120))
def test_an_id_is_the_hash_of_its_cause_its_child_and_its_generation(cause, child, generation):
    assert inferred_id(cause, child, generation) == expected(cause, child, generation)


def test_many_children_of_one_cause_have_the_ids_of_each():
    children = [f"LP{number}" for number in range(300)]
    text = np.frombuffer("".join(children).encode(), np.uint8)
    sizes = np.array([len(child) for child in children], np.int32)
    offsets = np.cumsum(sizes) - sizes
    ids = inferred_ids(b"urn:uuid:1", text, offsets.astype(np.int64), sizes, 2).tobytes().decode()
    assert [ids[first : first + INFERRED_ID_BYTES] for first in range(0, len(ids), INFERRED_ID_BYTES)] == [
        inferred_id("urn:uuid:1", child, 2) for child in children
    ]
