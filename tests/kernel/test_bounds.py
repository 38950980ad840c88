"""An invalid record is rejected with its reason, at the exact bound, and has no effect on other records."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain import limits
from streams.domain.reject_reasons import RejectReason
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle
from tests.kernel.records import LONG_TEXTS, MORNING, advice, framed, histories, read, scan, tick, void
from tests.kernel.test_record_hash import murmur2

FRAMING = 5  # bytes before the body
YEAR_1, YEAR_9999 = -62_135_596_800_000, 253_402_300_799_000
GOOD = [scan("g1", "GOOD", "ARRIVED"), advice("g2", "GOOD"), scan("g3", "GOOD", "SORTED", MORNING + 5, lane="N")]


def reject_reason_of(record):
    """Reject reason of a new processor for the record (or raw value); OK if it is accepted."""
    value = record if isinstance(record, bytes) else framed(record)
    refused = ParcelProcessor(partition=0, partitions=1).run([value]).rejects
    assert len(refused) <= 1
    return refused[0][1] if refused else RejectReason.OK


def check_reasons(make, good, bad, reason):
    for value in good:
        assert reject_reason_of(make(value)) == RejectReason.OK, value
    for value in bad:
        assert reject_reason_of(make(value)) == reason, value


def any_scan(**fields):
    return scan(**{"event_id": "e", "parcel_id": "P"} | fields)


def any_advice(**fields):
    return advice(**{"event_id": "e", "parcel_id": "P"} | fields)


both = pytest.mark.parametrize("make", [any_scan, any_advice])


class TestIds:
    @both
    def test_a_parcel_id_has_1_to_128_bytes(self, make):
        check_reasons(
            lambda parcel_id: make(parcel_id=parcel_id),
            ["P", "P" * 128, "é" * 64, "🛩" * 32],
            ["", "P" * 129, "é" * 64 + "P", "🛩" * 32 + "é", "P" * 10_000],
            RejectReason.BAD_PARCEL_ID,
        )

    @both
    def test_a_parcel_id_has_no_control_characters(self, make):
        check_reasons(
            lambda parcel_id: make(parcel_id=parcel_id),
            [" ", "~", "a b", "\xa0", "P\xa0", "P\xbf", "\xc2\xa0", "\u0100", "\u2080", "\u0480"],
            ["\0", "\0position", "P\n", "\tP", "P\x1fQ", "P\x7f", "\r", "\x80", "\x9bP", "P\x9f", "é\x85"],
            RejectReason.BAD_PARCEL_ID,
        )

    @both
    def test_an_event_id_has_1_to_1024_bytes(self, make):
        check_reasons(
            lambda event_id: make(event_id=event_id),
            ["e", "e" * 1024, "é" * 512, "\0", "\n"],
            ["", "e" * 1025, "é" * 512 + "e", "e" * 20_000],
            RejectReason.OUT_OF_BOUNDS,
        )

    def test_the_target_of_a_void_has_1_to_1024_bytes(self):
        check_reasons(
            lambda voids: void("v", "P", voids), ["e", "e" * 1024, "é" * 512], ["e" * 1025], RejectReason.OUT_OF_BOUNDS
        )

    @both
    def test_the_parcel_id_is_checked_before_the_rest(self, make):
        assert reject_reason_of(make(parcel_id="", event_id="", event_time=YEAR_1)) == RejectReason.BAD_PARCEL_ID


class TestTimes:
    GOOD = (limits.EARLIEST_MS, limits.LATEST_MS - 1, -1, 0, MORNING)
    BAD = (limits.EARLIEST_MS - 1, limits.LATEST_MS, YEAR_1, YEAR_9999, -(2**63), 2**63 - 1)

    @both
    def test_an_event_happens_from_1900_to_2199(self, make):
        check_reasons(lambda time: make(event_time=time), self.GOOD, self.BAD, RejectReason.OUT_OF_BOUNDS)

    def test_promised_at_is_null_or_from_1900_to_2199(self):
        check_reasons(
            lambda time: advice("a", "P", promised_at=time), (*self.GOOD, None), self.BAD, RejectReason.OUT_OF_BOUNDS
        )

    def test_the_hub_time_is_from_1900_to_2199(self):
        check_reasons(tick, self.GOOD, self.BAD, RejectReason.OUT_OF_BOUNDS)

    def test_a_tick_out_of_bounds_does_not_change_the_hub_time(self):
        processor = ParcelProcessor(partition=0, partitions=1)
        output = processor.run([framed(tick(MORNING)), framed(tick(limits.LATEST_MS)), framed(tick(YEAR_1))])
        assert output.rejects == [(1, RejectReason.OUT_OF_BOUNDS), (2, RejectReason.OUT_OF_BOUNDS)]
        assert output.hub_time == MORNING

    @both
    def test_the_record_time_is_from_1900_to_2199(self, make):
        check_reasons(lambda time: make(record_time=time), self.GOOD, self.BAD, RejectReason.OUT_OF_BOUNDS)

    def test_a_utc_offset_is_at_most_14_hours(self):
        check_reasons(
            lambda minutes: scan("e", "P", utc_offset_minutes=minutes),
            [-840, 840, 0],
            [-841, 841, -(2**31), 2**31 - 1],
            RejectReason.OUT_OF_BOUNDS,
        )


class TestTexts:
    @pytest.mark.parametrize("field", ["site", "station", "lane", "reason", "container_id"])
    @pytest.mark.parametrize("kind", ["SORTED", "CUSTOMS_HELD", "OTHER"])
    def test_of_a_scan(self, field, kind):
        check_reasons(
            lambda text: scan("e", "P", kind, **{field: text}),
            ["", *LONG_TEXTS],
            ["x" * 256, "é" * 128, "x" * 20_000],
            RejectReason.OUT_OF_BOUNDS,
        )

    @pytest.mark.parametrize("field", ["service", "origin", "destination", "planned_lane", "owner"])
    def test_of_an_advice(self, field):
        check_reasons(
            lambda text: advice("e", "P", **{field: text}),
            ["", *LONG_TEXTS],
            ["x" * 256, "é" * 128],
            RejectReason.OUT_OF_BOUNDS,
        )

    def test_all_at_their_bounds_at_once(self):
        longest = "x" * limits.MAX_TEXT_BYTES
        records = [
            scan(
                "e" * 1024,
                "P" * 128,
                "SORTED",
                **dict.fromkeys(("site", "station", "lane", "reason", "container_id"), longest),
            ),
            advice(
                "a" * 1024,
                "P" * 128,
                **dict.fromkeys(("service", "origin", "destination", "planned_lane", "owner"), longest),
            ),
            void("v" * 1024, "P" * 128, "e" * 1024, site=longest, station=longest, lane=longest, reason=longest),
        ]
        output = ParcelProcessor(partition=0, partitions=1).run([framed(record) for record in records])
        assert output.rejects == []
        [(_, state)] = output.states
        assert read("ParcelState", state) == Oracle(records).states()["P" * 128]


class TestVoids:
    def test_a_void_names_its_target(self):
        assert reject_reason_of(scan("v", "P", "VOID")) == RejectReason.BAD_VOID
        assert reject_reason_of(scan("v", "P", "VOID", voids="")) == RejectReason.BAD_VOID
        assert reject_reason_of(void("v", "P", "e")) == RejectReason.OK

    def test_only_a_void_names_a_target(self):
        for kind in ("OTHER", "ADVISED", "LOST"):
            assert reject_reason_of(scan("e", "P", kind, voids="other")) == RejectReason.BAD_VOID
        # An empty name names nothing.
        assert reject_reason_of(scan("e", "P", voids="")) == RejectReason.OK


class TestPartitions:
    def test_every_parcel_belongs_to_one_partition(self):
        records = [scan("e", f"LP{number}") for number in range(64)] + [advice("a", f"LP{n}") for n in range(64)]
        for partition in range(4):
            refused = dict(ParcelProcessor(partition, 4).run([framed(record) for record in records]).rejects)
            for index, record in enumerate(records):
                belongs_here = (murmur2(record["parcel_id"].encode()) & 0x7FFFFFFF) % 4 == partition
                assert refused.get(index) == (None if belongs_here else RejectReason.WRONG_PARTITION)

    def test_a_tick_belongs_to_every_partition(self):
        assert [ParcelProcessor(number, 3).run([framed(tick(MORNING))]).hub_time for number in range(3)] == [
            MORNING
        ] * 3


class TestFullParcels:
    def test_the_10001st_record(self):
        values = [framed(scan(f"e{number}", "FULL", "SORTED", MORNING + number)) for number in range(10_000)]
        processor = ParcelProcessor(partition=0, partitions=1)
        # In time order, so that each is inserted after the last one: the longest search.
        assert processor.run(values).rejects == []
        for record in (scan("one more", "FULL"), advice("a", "FULL"), void("v", "FULL", "e1")):
            output = processor.run([framed(record), framed(scan("e", "OTHER"))])
            assert output.rejects == [(0, RejectReason.PARCEL_LIMIT_EXCEEDED)]
            assert b"FULL" not in dict(output.states)
        # A record that the full parcel already has is still a duplicate.
        output = processor.run([values[0], values[-1], values[5_000]])
        assert (output.rejects, output.duplicates, len(output.states)) == ([], 3, 0)
        assert read("ParcelState", processor.run([framed(scan("f", "OTHER"))]).states[0][1])["version"] == 2

    def test_the_1001st_void(self):
        values = [framed(void(f"v{number}", "FULL", f"e{number}")) for number in range(1_001)]
        processor = ParcelProcessor(partition=0, partitions=1)
        output = processor.run(values)
        assert output.rejects == [(1_000, RejectReason.PARCEL_LIMIT_EXCEEDED)]
        again = processor.run([values[0], values[999], values[1_000]])
        assert (again.rejects, again.duplicates) == ([(2, RejectReason.PARCEL_LIMIT_EXCEEDED)], 2)
        restored = ParcelProcessor(partition=0, partitions=1)
        restored.restore_states([value for _, value in output.states])
        for each in (processor, restored):
            output = each.run([framed(void("more", "FULL", "e")), framed(scan("e3", "FULL", "LOADED"))])
            assert output.rejects == [(0, RejectReason.PARCEL_LIMIT_EXCEEDED)]
            state = read("ParcelState", output.states[0][1])
            assert (state["version"], state["kinds"]) == (1_001, [])

    def test_the_largest_state_is_one_record_that_is_read_back(self):
        longest = "x" * limits.MAX_TEXT_BYTES
        texts = dict.fromkeys(("site", "station", "lane", "reason", "container_id"), longest)
        records = [
            scan(f"e{number}", "P" * 128, "SORTED", limits.LATEST_MS - 1 - number, utc_offset_minutes=840, **texts)
            for number in range(9_999)
        ]
        plan = dict.fromkeys(("service", "origin", "destination", "planned_lane", "owner"), longest)
        records.append(advice("a", "P" * 128, limits.LATEST_MS - 1, promised_at=limits.LATEST_MS - 1, **plan))
        processor = ParcelProcessor(partition=0, partitions=1)
        [(key, state)] = processor.run([framed(record) for record in records]).states
        # Room for the key and the framing of a batch of records.
        assert len(key) + len(state) + 1024 < 16 << 20
        restored = ParcelProcessor(partition=0, partitions=1)
        restored.restore_states([state])
        one_more = [framed(scan("one more", "P" * 128))]
        assert (
            restored.run(one_more).rejects
            == processor.run(one_more).rejects
            == [(0, RejectReason.PARCEL_LIMIT_EXCEEDED)]
        )


HUGE = 5 << 20
UNUSABLE_VALUES = (
    None,
    b"",
    bytes(HUGE),
    framed(GOOD[0])[:FRAMING] + b"\xfe" * HUGE,
    framed(scan("bad", "GOOD", site="LGG")).replace(b"LGG", b"L\xffG"),
    *(
        framed(record)
        for record in (
            scan("bad", ""),
            scan("bad", "P" * 10_000),
            scan("bad", "GOOD", event_time=YEAR_1),
            scan("bad", "GOOD", event_time=YEAR_9999),
            scan("bad", "GOOD", "VOID"),
            scan("bad", "GOOD", site="x" * 256),
            advice("bad", "NEVER SEEN", promised_at=YEAR_9999),
            tick(YEAR_9999),
        )
    ),
)


def unusable_value(seed):
    """An unusable value of some kind."""
    rng = random.Random(seed)
    good = framed(rng.choice(GOOD))
    return rng.choice(
        (
            *UNUSABLE_VALUES,
            rng.randbytes(rng.randrange(200)),
            good[:FRAMING] + rng.randbytes(rng.randrange(100)) + b"\xff" * 11,
            good[: rng.randrange(len(good))],
            good + b"\0",
            b"\0\0\0\0\x63" + good[FRAMING:],
            b"\0\xff\xff\xff\xff" + good[FRAMING:],
            b"\1" + good[1:],
        )
    )


class TestOtherRecordsAreNotAffected:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (bytes(HUGE), RejectReason.TOO_LARGE),
            (framed(GOOD[0])[:-1], RejectReason.TRUNCATED),
            (framed(GOOD[0]) + b"\0", RejectReason.TRAILING_BYTES),
            (b"\0\0\0\0\x63rest", RejectReason.UNKNOWN_SCHEMA),
            (b"\0\0\0\0\4" + framed(GOOD[0])[FRAMING:], RejectReason.UNKNOWN_SCHEMA),
            (b"{}", RejectReason.BAD_FRAMING),
            (b"", RejectReason.BAD_FRAMING),
        ],
        ids=["5 MB", "truncated", "trailing", "unknown id", "id of another topic", "no framing", "empty"],
    )
    def test_unreadable_values(self, value, reason):
        assert reject_reason_of(value) == reason

    @given(history=histories(15), seeds=st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 15)), max_size=8))
    def test_refused_records_change_nothing(self, history, seeds):
        clean = [framed(record) for record in history]
        dirty = list(enumerate(clean))
        for seed, position in seeds:
            dirty.insert(position, (None, unusable_value(seed)))
        undisturbed, disturbed = (
            ParcelProcessor(partition=0, partitions=1),
            ParcelProcessor(partition=0, partitions=1),
        )
        expected, output = undisturbed.run(clean), disturbed.run([value for _, value in dirty])
        assert (output.states, output.milestones) == (expected.states, expected.milestones)
        assert (output.scan_counts, output.duplicates, output.hub_time) == (
            expected.scan_counts,
            expected.duplicates,
            None,
        )
        assert [position for position, _ in output.rejects] == [
            position for position, (good, _) in enumerate(dirty) if good is None
        ]
        assert len(disturbed.table) == len(undisturbed.table)
        # Nor do they have an effect later.
        after = [framed(record) for record in GOOD]
        assert disturbed.run(after).states == undisturbed.run(after).states

    def test_large_values_that_are_refused_leave_no_memory_behind(self):
        processor = ParcelProcessor(partition=0, partitions=1)
        processor.run([framed(record) for record in GOOD])
        before = processor.table.nbytes
        assert len(processor.run([bytes(HUGE), None, framed(scan("e", "P" * 60_000))]).rejects) == 3
        assert processor.table.nbytes == before

    def test_an_empty_batch(self):
        output = ParcelProcessor(partition=0, partitions=1).run([])
        assert (output.states, output.milestones, output.rejects, output.duplicates) == ([], [], [], 0)
