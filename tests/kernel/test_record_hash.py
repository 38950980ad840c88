"""Hashes and packed numbers that other systems must be able to compute."""

import struct

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.kinds import KINDS
from streams.domain.limits import EARLIEST_MS, LATEST_MS, MAX_UTC_OFFSET_MINUTES
from streams.domain.record_hash import get_big_endian, hash64, put_big_endian, record_hash
from streams.kernel.murmur2 import partition_of
from streams.kernel.packed_key import ADVICE, INFERRED, VOIDED, kind_of, pack_key, sort_key_of, time_of, utc_offset_of

TIMES = st.integers(EARLIEST_MS, LATEST_MS - 1)
OFFSETS = st.integers(-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES)
FLAGS = st.integers(0, INFERRED | ADVICE | VOIDED)
KIND_NUMBERS = st.integers(0, len(KINDS) - 1)


def array(*parts):
    return np.frombuffer(b"".join(parts) or b"\0", np.uint8)


class TestRecordHash:
    @given(text=st.binary(max_size=200), before=st.binary(max_size=20), after=st.binary(max_size=20))
    def test_it_is_the_standard_murmur3_x64_128(self, text, before, after):
        assert record_hash(array(before, text, after), len(before), len(text)) == mmh3.hash64(text, 0, signed=False)

    @pytest.mark.parametrize("size", range(65))
    def test_every_length_of_the_last_block(self, size):
        text = bytes(range(190, 190 + size))
        assert record_hash(array(text), 0, size) == mmh3.hash64(text, 0, signed=False)

    @given(number=st.integers(0, 2**64 - 1))
    def test_numbers_are_written_big_endian_and_read_back(self, number):
        buffer = np.full(10, 7, np.uint8)
        put_big_endian(buffer, 1, np.uint64(number))
        assert buffer.tobytes() == b"\7" + struct.pack(">Q", number) + b"\7"
        assert get_big_endian(buffer, 1) == number


class TestHashOfTheIndexes:
    @given(text=st.binary(max_size=50), seeds=st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=4))
    def test_each_seed_gives_another_hash(self, text, seeds):
        hashes = {int(hash64(array(text), 0, len(text), np.uint64(seed))) for seed in seeds}
        assert len(hashes) == len(seeds)

    @given(texts=st.sets(st.binary(max_size=12), min_size=2, max_size=50), seed=st.integers(0, 2**64 - 1))
    def test_different_texts_give_different_hashes(self, texts, seed):
        hashes = {int(hash64(array(text), 0, len(text), np.uint64(seed))) for text in texts}
        assert len(hashes) == len(texts)

    def test_numbered_texts_spread_over_the_low_bits_and_the_tag(self):
        hashes = [int(hash64(array(f"LP{number:014d}".encode()), 0, 16, np.uint64(1))) for number in range(1 << 12)]
        for bits in ({value & 1023 for value in hashes}, {value >> 54 for value in hashes}):
            # Of 1,024 slots, 4,096 random balls leave 19 empty on average.
            assert len(bits) > 1024 - 60


def murmur2(key):
    """org.apache.kafka.common.utils.Utils.murmur2, written from its definition."""
    digest = 0x9747B28C ^ len(key)
    whole_blocks_size = len(key) // 4 * 4
    for (block,) in struct.iter_unpack("<I", key[:whole_blocks_size]):
        block = block * 0x5BD1E995 & 0xFFFFFFFF
        block = (block ^ block >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        digest = (digest * 0x5BD1E995 & 0xFFFFFFFF) ^ block
    if remainder := key[whole_blocks_size:]:
        digest = (digest ^ int.from_bytes(remainder, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    digest = (digest ^ digest >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return digest ^ digest >> 15


# From the tests of Kafka's Java client (UtilsTest) and of librdkafka (rdmurmur2.c).
KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
    b"kafka": 0xD067CF64,
    b"giberish123456789": 0x8F552B0C,
    b"1234": 0x9FC97B14,
    b"234": 0xE7C009CA,
    b"34": 0x873930DA,
    b"4": 0x5A4B5CA1,
    b"PreAmbleWillBeRemoved,ThePrePartThatIs": 0x78424F1C,
    b"": 0x106E08D9,
}


class TestPartition:
    @pytest.mark.parametrize("key", KNOWN)
    def test_known_keys(self, key):
        assert murmur2(key) == KNOWN[key] & 0xFFFFFFFF
        assert partition_of(array(key), 0, len(key), 1 << 31) == KNOWN[key] & 0x7FFFFFFF

    @given(key=st.binary(max_size=130), before=st.binary(max_size=5), partitions=st.integers(1, 10_000))
    def test_any_key(self, key, before, partitions):
        expected = (murmur2(key) & 0x7FFFFFFF) % partitions
        assert partition_of(array(before, key, b"\xff"), len(before), len(key), partitions) == expected


def unpack(packed_key):
    return time_of(packed_key), kind_of(packed_key), utc_offset_of(packed_key), packed_key & 7


class TestPackedKey:
    @given(time=TIMES, kind=KIND_NUMBERS, offset=OFFSETS, flags=FLAGS)
    def test_every_field_is_read_back(self, time, kind, offset, flags):
        packed_key = pack_key(time, kind, offset, flags)
        assert 0 <= packed_key < 1 << 63
        assert unpack(packed_key) == (time, kind, offset, flags)

    @pytest.mark.parametrize("time", [EARLIEST_MS, LATEST_MS - 1])
    @pytest.mark.parametrize("kind", [0, len(KINDS) - 1])
    @pytest.mark.parametrize("offset", [-MAX_UTC_OFFSET_MINUTES, MAX_UTC_OFFSET_MINUTES])
    @pytest.mark.parametrize("flags", [0, 7])
    def test_extreme_values(self, time, kind, offset, flags):
        packed_key = pack_key(time, kind, offset, flags)
        assert unpack(packed_key) == (time, kind, offset, flags)

    @given(
        left_fields=st.tuples(TIMES, KIND_NUMBERS, OFFSETS, FLAGS),
        right_fields=st.tuples(TIMES, KIND_NUMBERS, OFFSETS, FLAGS),
        same_time=st.booleans(),
    )
    def test_it_sorts_by_time_and_kind_and_nothing_else(self, left_fields, right_fields, same_time):
        if same_time:
            right_fields = (left_fields[0], *right_fields[1:])
        left, right = sort_key_of(pack_key(*left_fields)), sort_key_of(pack_key(*right_fields))
        assert (left < right) == (left_fields[:2] < right_fields[:2])
        assert (left == right) == (left_fields[:2] == right_fields[:2])
