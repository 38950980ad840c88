"""The container processor alone: bad records are rejected with a reason and hold up no others; containers retire."""

from itertools import pairwise

import pytest

from streams.domain.limits import MAX_CHILDREN_PER_CONTAINER, MAX_EVENTS_PER_CONTAINER, MAX_NAMED_CHILDREN_PER_CONTAINER
from streams.domain.reject_reasons import RejectReason
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from streams.formats.topics import CONTAINER_STATE_TOPIC, SCANS_TOPIC, partition_of
from streams.processors.container_processor import MAX_TRANSACTION_RECORDS, ContainerProcessor
from streams.simulate.malformed_records import MALFORMED_CONTAINER_EVENT_CASES, malformed_container_event
from tests.processors.single_partition import DAY, START, SinglePartition, event, tick


def reason(value, partitions=1):
    output = ContainerProcessor(0, partitions).run([value])
    assert not any(topic == CONTAINER_STATE_TOPIC for topic, *_ in output.blocks) or not output.rejects
    return output.rejects[0][1] if output.rejects else RejectReason.OK


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (event("", "ARRIVED"), RejectReason.BAD_CONTAINER),
        (event("B" * 129, "ARRIVED"), RejectReason.BAD_CONTAINER),
        (event("B\n", "ARRIVED"), RejectReason.BAD_CONTAINER),
        (event("B", "PACKED"), RejectReason.BAD_CONTAINER),
        (event("B", "ARRIVED", parcels=["P"]), RejectReason.BAD_CONTAINER),
        (event("B", "UNPACKED", parcels=["P"], parent_id="U"), RejectReason.BAD_CONTAINER),
        (event("B", "PACKED", containers=[""]), RejectReason.BAD_CONTAINER),
        (event("B", "PACKED", parcels=["P\0"]), RejectReason.BAD_PARCEL_ID),
        (event("B", "PACKED", containers=["A", "B"]), RejectReason.CYCLE),
        (event("B", "PACKED", parent_id="B"), RejectReason.CYCLE),
        (event("B", "ARRIVED", parent_id="A", path=["A", "B", "C"]), RejectReason.CYCLE),
        (event("B", "ARRIVED", path=[f"C{n}" for n in range(9)]), RejectReason.TOO_DEEP),
        (event("B", "VOID"), RejectReason.BAD_VOID),
        (event("B", "ARRIVED", voids="x"), RejectReason.BAD_VOID),
        (event("B", "ARRIVED", site="S" * 256), RejectReason.OUT_OF_BOUNDS),
        (event("B", "ARRIVED", event_time=1 << 60), RejectReason.OUT_OF_BOUNDS),
        (event("B", "PACKED", parcels=[f"LP{n:014d}" for n in range(70_000)]), RejectReason.TOO_LARGE),
        (event("B", "PACKED", parcels=["P"])[:-3], RejectReason.TRUNCATED),
        (event("B", "ARRIVED"), RejectReason.OK),
    ],
)  # fmt: skip
def test_an_impossible_event_is_rejected(value, expected):
    assert reason(value) is expected


@pytest.mark.parametrize("case", range(len(MALFORMED_CONTAINER_EVENT_CASES)))
def test_a_malformed_event_of_the_simulator_is_rejected_with_the_expected_reason(case):
    assert reason(malformed_container_event(case, 7, "BAG", START)) is MALFORMED_CONTAINER_EVENT_CASES[case][0]


def test_an_event_in_the_wrong_partition_is_rejected():
    name = next(name for name in ("A", "B", "C", "D") if partition_of(name.encode(), 2) == 1)
    assert reason(event(name, "ARRIVED"), partitions=2) is RejectReason.WRONG_PARTITION


def test_containers_inside_each_other_end_in_a_dead_letter():
    hub = SinglePartition().run([
        event("A", "PACKED", containers=["B"]), event("B", "PACKED", containers=["C"]),
        event("C", "PACKED", containers=["A"], parcels=["P"]), event("A", "ARRIVED", 5),
    ])  # fmt: skip
    assert RejectReason.CYCLE in hub.reasons
    assert len(hub.reasons) < 5
    assert {key for key, _ in hub.scans} == {"P"}


def test_ten_levels_end_after_eight():
    names = [f"C{n}" for n in range(10)]
    packings = [event(outer, "PACKED", containers=[inner]) for outer, inner in pairwise(names)]
    hub = SinglePartition().run([*packings, event("C9", "PACKED", parcels=["P"]), event("C0", "ARRIVED", 5)])
    assert hub.reasons == [RejectReason.TOO_DEEP]
    assert len(hub.scans) == 1


def test_a_child_in_two_containers_gets_the_scans_of_both():
    hub = SinglePartition().run([
        event("A", "PACKED", parcels=["P"]), event("B", "PACKED", 1, parcels=["P"]),
        event("A", "ARRIVED", 2), event("B", "ARRIVED", 2),
    ])  # fmt: skip
    said = [RecordDecoder("Scan")(value) for _, value in hub.scans]
    assert sorted((each["container_id"], each["kind"]) for each in said) == [
        ("A", "ARRIVED"), ("A", "PACKED"), ("B", "ARRIVED"), ("B", "PACKED"),
    ]  # fmt: skip


def test_of_a_million_children_those_beyond_the_limit_are_rejected_and_other_containers_go_on():
    hub = SinglePartition().run([event("B", "PACKED", parcels=["Q"])])
    hub.scans.clear()
    waiting = []
    for n in range(25):
        waiting += [event("A", "PACKED", n, parcels=[f"P{n}-{m:05d}" for m in range(40_000)]), event("B", "LOADED", n)]
    hub.run([*waiting, event("A", "ARRIVED", 30)])
    held = MAX_CHILDREN_PER_CONTAINER // 40_000
    assert hub.reasons == [RejectReason.CONTAINER_LIMIT_EXCEEDED] * (25 - held)
    assert sum(key == "Q" for key, _ in hub.scans) == 25
    assert len(hub.scans) == 25 + 2 * held * 40_000
    assert hub.largest <= MAX_TRANSACTION_RECORDS


def test_a_container_that_is_filled_and_emptied_again_and_again_ends_at_a_million_names():
    # Removed again by name, so that there are never more than 50,000 inside.
    said = []
    for n in range(0, 24, 2):
        children = [f"P{n}-{m:05d}" for m in range(50_000)]
        said += [event("A", "PACKED", n, parcels=children), event("A", "UNPACKED", n + 1, parcels=children)]
    hub = SinglePartition().run(said)
    assert hub.reasons == [RejectReason.CONTAINER_LIMIT_EXCEEDED] * (
        len(said) - MAX_NAMED_CHILDREN_PER_CONTAINER // 50_000
    )
    assert len(hub.scans) == MAX_NAMED_CHILDREN_PER_CONTAINER
    assert hub.largest <= MAX_TRANSACTION_RECORDS
    # Its own events are still accepted.
    assert hub.run([event("A", "ARRIVED", 30)]).reasons == hub.reasons


class TestTheLargestEvent:
    """As many children as a container may have, in one record."""

    MANY = tuple(f"P{n:05d}" for n in range(MAX_CHILDREN_PER_CONTAINER))

    assert len(MANY) >= 5 * MAX_TRANSACTION_RECORDS

    @pytest.fixture
    def largest(self):
        return event("A", "PACKED", parcels=self.MANY)

    def test_is_written_in_transactions_within_the_limit(self, largest):
        hub = SinglePartition().run([largest, largest, event("A", "ARRIVED", 1)])
        assert hub.reasons == []
        assert hub.largest <= MAX_TRANSACTION_RECORDS
        assert sorted(key for key, _ in hub.scans) == sorted(self.MANY * 2)
        assert hub.state_records.keys() == {b"A", *(f"A\0{each}".encode() for each in self.MANY)}
        [container] = hub.restarted().processor.containers.values()
        assert len(container.contents_before((START + 2_000, 0, b""), containers=False)) == len(self.MANY)

    def test_is_written_again_by_a_worker_that_starts_in_between(self, largest):
        hub = SinglePartition()
        for turn in range(3):
            output = hub.processor.run([largest])
            assert (output.processed_count, hub.processor.position(turn).next_offset) == (0, turn)
            for topic, _, block in output.blocks:
                assert topic == CONTAINER_STATE_TOPIC
                hub.state_records.update(block)
        assert b"A" not in hub.state_records
        again = hub.restarted()
        again.run([largest])
        assert len(again.scans) == len(self.MANY)
        assert len(again.state_records) == len(self.MANY) + 1
        assert all(again.state_records.values())

    def test_does_not_wait_for_a_pending_fan_out_and_does_not_stop_it(self, largest):
        hub = SinglePartition().run([event("B", "PACKED", parcels=[f"Q{n:05d}" for n in range(30_000)])])
        hub.processor.run([event("B", "ARRIVED", 1)])
        output = hub.processor.run([largest])
        assert output.processed_count == 0
        assert {topic for topic, *_ in output.blocks} == {CONTAINER_STATE_TOPIC, SCANS_TOPIC}

    def test_retires_in_transactions_within_the_limit(self, largest):
        hub = SinglePartition().run([tick(START), largest])
        hub.largest = 0
        hub.run([tick(START + 30 * DAY)])
        assert (len(hub.state_records), any(hub.state_records.values())) == (len(self.MANY) + 1, False)
        assert 0 < hub.largest <= MAX_TRANSACTION_RECORDS

    def test_retires_to_its_end_when_the_worker_starts_again_in_between(self, largest):
        hub = SinglePartition().run([tick(START), largest])
        for _, _, block in hub.processor.run([tick(START + 30 * DAY)]).blocks:
            hub.state_records.update(block)
        assert hub.state_records[b"A"] == b""
        assert sum(map(bool, hub.state_records.values())) > len(self.MANY) // 2
        again = hub.restarted()
        # A new container of that name waits until the last record of the old one is removed.
        again.run([event("A", "PACKED", 9, parcels=[self.MANY[-1]])])
        assert {key for key, value in again.state_records.items() if value} == {b"A", f"A\0{self.MANY[-1]}".encode()}


def test_a_small_container_does_not_wait_for_a_large_one():
    hub = SinglePartition()
    large = [f"P{n:06d}" for n in range(40_000)]
    hub.run([event("A", "PACKED", parcels=large), event("B", "PACKED", parcels=["Q"])])
    first = hub.processor.run([event("A", "ARRIVED", 2), event("B", "ARRIVED", 2)])
    assert hub.processor.has_pending_output
    assert b"Q" in {key for topic, _, block in first.blocks if topic == SCANS_TOPIC for key, _ in block}
    second = hub.processor.run([event("B", "LOADED", 3)])
    assert hub.processor.has_pending_output
    assert b"Q" in {key for topic, _, block in second.blocks if topic == SCANS_TOPIC for key, _ in block}
    for output in (first, second):
        assert sum(len(block) for *_, block in output.blocks) <= MAX_TRANSACTION_RECORDS


def test_a_container_has_ten_thousand_events_at_most():
    hub = SinglePartition().run([event("A", "ARRIVED", n) for n in range(MAX_EVENTS_PER_CONTAINER + 3)])
    assert hub.reasons == [RejectReason.CONTAINER_LIMIT_EXCEEDED] * 3


def test_a_repeat_changes_nothing():
    hub = SinglePartition().run([event("A", "PACKED", parcels=["P"]), event("A", "ARRIVED", 1)])
    before = list(hub.scans)
    output = hub.processor.run([event("A", "ARRIVED", 1)])
    assert (output.blocks, output.rejects, output.duplicates) == ([], [], 1)
    assert hub.scans == before


def test_containers_retire_thirty_days_after_their_last_event():
    hub = SinglePartition().run([tick(START), event("A", "PACKED", parcels=["P", "Q"])])
    assert set(hub.state_records) == {b"A", b"A\0P", b"A\0Q"}
    hub.run([tick(START + 30 * DAY - 1)])
    assert all(hub.state_records.values())
    hub.run([tick(START + 30 * DAY)])
    assert not any(hub.state_records.values())
    assert hub.processor.containers == {}
    # It may come back, as a new one.
    hub.run([event("A", "ARRIVED", 1)])
    assert hub.state_records[b"A"]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_container_that_never_held_anything_retires_after_three_days(restarts):
    arrivals = event("A", "ARRIVED"), event("B", "ARRIVED")
    hub = SinglePartition().run([tick(START), *arrivals, event("B", "PACKED", parcels=["P"])])
    hub = hub.restarted() if restarts else hub
    hub.run([tick(START + 3 * DAY - 1)])
    assert all(hub.state_records.values())
    # A has another event, and its three days begin anew.
    hub.run([event("C", "ARRIVED"), event("A", "LOADED", 1), tick(START + 3 * DAY)])
    assert all(hub.state_records.values())
    hub.run([tick(START + 6 * DAY - 1)])
    assert {key for key, value in hub.state_records.items() if not value} == {b"A", b"C"}
    assert set(hub.processor.containers) == {"B"}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("wrong_clock", [event("A", "ARRIVED", 10**9), event("A", "ARRIVED", -(10**9))])
def test_an_event_time_years_off_neither_keeps_nor_retires_a_container(wrong_clock, restarts):
    # Before the first tick there is no hub time.
    hub = SinglePartition().run([event("A", "PACKED", parcels=["P"]), wrong_clock, event("B", "PACKED", parcels=["Q"])])
    hub.run([tick(START + DAY)])
    assert all(hub.state_records.values())
    hub.run([event("C", "ARRIVED")])
    hub = hub.restarted() if restarts else hub
    hub.run([tick(START + 30 * DAY)])
    assert not hub.state_records[b"B"]
    hub.run([tick(START + 31 * DAY)])
    assert hub.processor.containers == {} and not any(hub.state_records.values())


def test_lines_of_files_are_events():
    ids = {"event_id": "e", "container_id": "A", "event_time": START, "site": "LGG", "station": "X"}
    record = RecordParser()({"type": "container", "kind": "PACKED", "parcels": ["P"], **ids})
    assert [key for key, _ in SinglePartition().run([record.value]).scans] == ["P"]


def test_a_child_that_is_a_parcel_and_a_container_gets_the_records_of_both_also_after_a_restart():
    """A pallet with a number of its own, in a ULD: first named as a container only, then as a parcel as well."""
    hub = SinglePartition().run([
        event("S", "PACKED", parcels=["P"]), event("U", "PACKED", containers=["S"]),
        event("U", "PACKED", 1, parcels=["S", "Q"], containers=["S"]),
    ])  # fmt: skip
    for again in (hub, hub.restarted()):
        again.scans.clear()
        again.run([event("U", "ARRIVED", 2)])
        said = [(key, RecordDecoder("Scan")(value)["container_id"]) for key, value in again.scans]
        assert sorted(said) == [("P", "S"), ("Q", "U"), ("S", "U")]
    # When it retires, nothing of it is left.
    later = hub.restarted()
    later.run([tick(START), tick(START + 40 * DAY)])
    assert later.processor.containers == {}
    assert not any(later.state_records.values())


def test_a_parcel_that_is_named_as_a_container_too_costs_its_own_events_only():
    packed = event("U", "PACKED", parcels=["S"], containers=["S"])
    hub = SinglePartition().run([tick(START), packed, event("U", "ARRIVED", 1)])
    hub.run([event("S", "LOADED", 2), event("S", "DISPATCHED", 3)])
    assert [key for key, _ in hub.scans if key] == ["S", "S"]
    assert (hub.reasons, hub.double_containments) == ([], [])
    assert [each.kind for each in hub.processor.containers["S"].events] == ["PACKED", "ARRIVED", "LOADED", "DISPATCHED"]
    hub.run([tick(START + 40 * DAY)])
    assert hub.processor.containers == {}
    assert not any(hub.state_records.values())


def test_an_empty_container_holds_up_no_others_and_its_late_children_are_backfilled():
    hub = SinglePartition().run([event(f"S{n}", "ARRIVED", 1) for n in range(2_048)])
    assert hub.transactions == 4, "a transaction for each batch"
    hub.run([event("S7", "PACKED", 0, parcels=["P"])])
    said = [RecordDecoder("Scan")(value)["kind"] for key, value in hub.scans]
    assert sorted(said) == ["ARRIVED", "PACKED"]
