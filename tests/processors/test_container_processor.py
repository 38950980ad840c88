"""The container stage by itself: rubbish is refused with its reason, and keeps nobody waiting; the old retires."""

from itertools import pairwise

import pytest

from streams.domain.limits import MAX_CHILDREN_PER_CONTAINER, MAX_EVENTS_PER_CONTAINER, MAX_NAMED_CHILDREN_PER_CONTAINER
from streams.domain.reject_reasons import RejectReason
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from streams.formats.topics import CONTAINER_STATE_TOPIC, SCANS_TOPIC, partition_of
from streams.processors.container_processor import MAX_TRANSACTION_RECORDS, ContainerProcessor
from streams.simulate.malformed_records import MALFORMED_CONTAINER_EVENT_CASES, malformed_container_event
from tests.processors.alone import DAY, START, Alone, event, tick


def reason(value, partitions=1):
    made = ContainerProcessor(0, partitions).run([value])
    assert not any(topic == CONTAINER_STATE_TOPIC for topic, *_ in made.blocks) or not made.refused
    return made.refused[0][1] if made.refused else RejectReason.OK


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
def test_what_cannot_be_is_refused(value, expected):
    assert reason(value) is expected


@pytest.mark.parametrize("case", range(len(MALFORMED_CONTAINER_EVENT_CASES)))
def test_what_the_simulator_spoils_is_refused_with_the_reason_that_it_says(case):
    assert reason(malformed_container_event(case, 7, "BAG", START)) is MALFORMED_CONTAINER_EVENT_CASES[case][0]


def test_an_event_in_the_wrong_partition_is_refused():
    lost = next(name for name in ("A", "B", "C", "D") if partition_of(name.encode(), 2) == 1)
    assert reason(event(lost, "ARRIVED"), partitions=2) is RejectReason.WRONG_PARTITION


def test_containers_inside_each_other_end_in_a_dead_letter():
    hub = Alone().run([
        event("A", "PACKED", containers=["B"]), event("B", "PACKED", containers=["C"]),
        event("C", "PACKED", containers=["A"], parcels=["P"]), event("A", "ARRIVED", 5),
    ])  # fmt: skip
    assert RejectReason.CYCLE in hub.refused
    assert len(hub.refused) < 5
    assert {key for key, _ in hub.scans} == {"P"}


def test_ten_levels_end_after_eight():
    names = [f"C{n}" for n in range(10)]
    packings = [event(outer, "PACKED", containers=[inner]) for outer, inner in pairwise(names)]
    hub = Alone().run([*packings, event("C9", "PACKED", parcels=["P"]), event("C0", "ARRIVED", 5)])
    assert hub.refused == [RejectReason.TOO_DEEP]
    assert len(hub.scans) == 1


def test_a_child_in_two_containers_hears_from_both():
    hub = Alone().run([
        event("A", "PACKED", parcels=["P"]), event("B", "PACKED", 1, parcels=["P"]),
        event("A", "ARRIVED", 2), event("B", "ARRIVED", 2),
    ])  # fmt: skip
    said = [RecordDecoder("Scan")(value) for _, value in hub.scans]
    assert sorted((each["container_id"], each["kind"]) for each in said) == [
        ("A", "ARRIVED"), ("A", "PACKED"), ("B", "ARRIVED"), ("B", "PACKED"),
    ]  # fmt: skip


def test_of_a_million_children_those_beyond_the_limit_are_refused_and_nobody_else_notices():
    hub = Alone().run([event("B", "PACKED", parcels=["Q"])])
    hub.scans.clear()
    waiting = []
    for n in range(25):
        waiting += [event("A", "PACKED", n, parcels=[f"P{n}-{m:05d}" for m in range(40_000)]), event("B", "LOADED", n)]
    hub.run([*waiting, event("A", "ARRIVED", 30)])
    held = MAX_CHILDREN_PER_CONTAINER // 40_000
    assert hub.refused == [RejectReason.CONTAINER_LIMIT_EXCEEDED] * (25 - held)
    assert sum(key == "Q" for key, _ in hub.scans) == 25
    assert len(hub.scans) == 25 + 2 * held * 40_000
    assert hub.largest <= MAX_TRANSACTION_RECORDS


def test_a_container_that_is_filled_and_emptied_again_and_again_ends_at_a_million_names():
    # Removed again by name, so that there are never more than 50,000 inside.
    said = []
    for n in range(0, 24, 2):
        children = [f"P{n}-{m:05d}" for m in range(50_000)]
        said += [event("A", "PACKED", n, parcels=children), event("A", "UNPACKED", n + 1, parcels=children)]
    hub = Alone().run(said)
    assert hub.refused == [RejectReason.CONTAINER_LIMIT_EXCEEDED] * (
        len(said) - MAX_NAMED_CHILDREN_PER_CONTAINER // 50_000
    )
    assert len(hub.scans) == MAX_NAMED_CHILDREN_PER_CONTAINER
    assert hub.largest <= MAX_TRANSACTION_RECORDS
    # It is still followed itself.
    assert hub.run([event("A", "ARRIVED", 30)]).refused == hub.refused


class TestTheLargestEvent:
    """As many children as a container may have, in one record."""

    MANY = tuple(f"P{n:05d}" for n in range(MAX_CHILDREN_PER_CONTAINER))

    assert len(MANY) >= 5 * MAX_TRANSACTION_RECORDS

    @pytest.fixture
    def largest(self):
        return event("A", "PACKED", parcels=self.MANY)

    def test_is_written_in_transactions_within_the_limit(self, largest):
        hub = Alone().run([largest, largest, event("A", "ARRIVED", 1)])
        assert hub.refused == []
        assert hub.largest <= MAX_TRANSACTION_RECORDS
        assert sorted(key for key, _ in hub.scans) == sorted(self.MANY * 2)
        assert hub.kept.keys() == {b"A", *(f"A\0{each}".encode() for each in self.MANY)}
        [container] = hub.restarted().stage.containers.values()
        assert len(container.contents_before((START + 2_000, 0, b""), containers=False)) == len(self.MANY)

    def test_is_written_again_by_a_worker_that_starts_in_between(self, largest):
        hub = Alone()
        for turn in range(3):
            made = hub.stage.run([largest])
            assert (made.taken, hub.stage.position(turn).next_offset) == (0, turn)
            for topic, _, block in made.blocks:
                assert topic == CONTAINER_STATE_TOPIC
                hub.kept.update(block)
        assert b"A" not in hub.kept
        again = hub.restarted()
        again.run([largest])
        assert len(again.scans) == len(self.MANY)
        assert len(again.kept) == len(self.MANY) + 1
        assert all(again.kept.values())

    def test_waits_for_nobody_and_keeps_a_container_that_is_told_already_moving(self, largest):
        hub = Alone().run([event("B", "PACKED", parcels=[f"Q{n:05d}" for n in range(30_000)])])
        hub.stage.run([event("B", "ARRIVED", 1)])
        made = hub.stage.run([largest])
        assert made.taken == 0
        assert {topic for topic, *_ in made.blocks} == {CONTAINER_STATE_TOPIC, SCANS_TOPIC}

    def test_retires_in_transactions_within_the_limit(self, largest):
        hub = Alone().run([tick(START), largest])
        hub.largest = 0
        hub.run([tick(START + 30 * DAY)])
        assert (len(hub.kept), any(hub.kept.values())) == (len(self.MANY) + 1, False)
        assert 0 < hub.largest <= MAX_TRANSACTION_RECORDS

    def test_retires_to_its_end_when_the_worker_starts_again_in_between(self, largest):
        hub = Alone().run([tick(START), largest])
        for _, _, block in hub.stage.run([tick(START + 30 * DAY)]).blocks:
            hub.kept.update(block)
        assert hub.kept[b"A"] == b""
        assert sum(map(bool, hub.kept.values())) > len(self.MANY) // 2
        again = hub.restarted()
        # One of that name waits until the last trace of the old one is gone.
        again.run([event("A", "PACKED", 9, parcels=[self.MANY[-1]])])
        assert {key for key, value in again.kept.items() if value} == {b"A", f"A\0{self.MANY[-1]}".encode()}


def test_a_small_container_does_not_wait_for_a_large_one():
    hub = Alone()
    large = [f"P{n:06d}" for n in range(40_000)]
    hub.run([event("A", "PACKED", parcels=large), event("B", "PACKED", parcels=["Q"])])
    first = hub.stage.run([event("A", "ARRIVED", 2), event("B", "ARRIVED", 2)])
    assert hub.stage.pending
    assert b"Q" in {key for topic, _, block in first.blocks if topic == SCANS_TOPIC for key, _ in block}
    second = hub.stage.run([event("B", "LOADED", 3)])
    assert hub.stage.pending
    assert b"Q" in {key for topic, _, block in second.blocks if topic == SCANS_TOPIC for key, _ in block}
    for made in (first, second):
        assert sum(len(block) for *_, block in made.blocks) <= MAX_TRANSACTION_RECORDS


def test_a_container_has_ten_thousand_events_at_most():
    hub = Alone().run([event("A", "ARRIVED", n) for n in range(MAX_EVENTS_PER_CONTAINER + 3)])
    assert hub.refused == [RejectReason.CONTAINER_LIMIT_EXCEEDED] * 3


def test_a_repeat_changes_nothing():
    hub = Alone().run([event("A", "PACKED", parcels=["P"]), event("A", "ARRIVED", 1)])
    before = list(hub.scans)
    made = hub.stage.run([event("A", "ARRIVED", 1)])
    assert (made.blocks, made.refused, made.figures.duplicates) == ([], [], 1)
    assert hub.scans == before


def test_containers_retire_thirty_days_after_their_last_event():
    hub = Alone().run([tick(START), event("A", "PACKED", parcels=["P", "Q"])])
    assert set(hub.kept) == {b"A", b"A\0P", b"A\0Q"}
    hub.run([tick(START + 30 * DAY - 1)])
    assert all(hub.kept.values())
    hub.run([tick(START + 30 * DAY)])
    assert not any(hub.kept.values())
    assert hub.stage.containers == {}
    # It may come again, as a new one.
    hub.run([event("A", "ARRIVED", 1)])
    assert hub.kept[b"A"]


@pytest.mark.parametrize("restarts", [False, True])
def test_one_that_never_held_anything_retires_after_three_days(restarts):
    hub = Alone().run([tick(START), event("A", "ARRIVED"), event("B", "ARRIVED"), event("B", "PACKED", parcels=["P"])])
    hub = hub.restarted() if restarts else hub
    hub.run([tick(START + 3 * DAY - 1)])
    assert all(hub.kept.values())
    # It was seen again, and waits anew.
    hub.run([event("C", "ARRIVED"), event("A", "LOADED", 1), tick(START + 3 * DAY)])
    assert all(hub.kept.values())
    hub.run([tick(START + 6 * DAY - 1)])
    assert {key for key, value in hub.kept.items() if not value} == {b"A", b"C"}
    assert set(hub.stage.containers) == {"B"}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("nonsense", [event("A", "ARRIVED", 10**9), event("A", "ARRIVED", -(10**9))])
def test_a_clock_that_is_years_wrong_keeps_no_container_and_takes_none_away(nonsense, restarts):
    # Nobody knows the time yet.
    hub = Alone().run([event("A", "PACKED", parcels=["P"]), nonsense, event("B", "PACKED", parcels=["Q"])])
    hub.run([tick(START + DAY)])
    assert all(hub.kept.values())
    hub.run([event("C", "ARRIVED")])
    hub = hub.restarted() if restarts else hub
    hub.run([tick(START + 30 * DAY)])
    assert not hub.kept[b"B"]
    hub.run([tick(START + 31 * DAY)])
    assert hub.stage.containers == {} and not any(hub.kept.values())


def test_lines_of_files_are_events():
    line = RecordParser()({"type": "container", "event_id": "e", "container_id": "A", "kind": "PACKED", "parcels": ["P"],
                     "event_time": START, "site": "LGG", "station": "X"})  # fmt: skip
    assert [key for key, _ in Alone().run([line.value]).scans] == ["P"]


def test_a_child_that_is_a_parcel_and_a_container_hears_as_both_after_a_restart_too():
    """A pallet with a number of its own, in a ULD: first named as a container only, then as a parcel as well."""
    hub = Alone().run([
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
    assert later.stage.containers == {}
    assert not any(later.kept.values())


def test_a_parcel_that_might_be_a_container_and_never_is_costs_its_own_events_only():
    hub = Alone().run([tick(START), event("U", "PACKED", parcels=["S"], containers=["S"]), event("U", "ARRIVED", 1)])
    hub.run([event("S", "LOADED", 2), event("S", "DISPATCHED", 3)])
    assert [key for key, _ in hub.scans if key] == ["S", "S"]
    assert (hub.refused, hub.in_two) == ([], [])
    assert [each.kind for each in hub.stage.containers["S"].events] == ["PACKED", "ARRIVED", "LOADED", "DISPATCHED"]
    hub.run([tick(START + 40 * DAY)])
    assert hub.stage.containers == {}
    assert not any(hub.kept.values())


def test_what_holds_nothing_keeps_nobody_waiting_and_what_it_turns_out_to_hold_is_caught_up():
    hub = Alone().run([event(f"S{n}", "ARRIVED", 1) for n in range(2_048)])
    assert hub.turns == 4, "a transaction for each batch"
    hub.run([event("S7", "PACKED", 0, parcels=["P"])])
    said = [RecordDecoder("Scan")(value)["kind"] for key, value in hub.scans]
    assert sorted(said) == ["ARRIVED", "PACKED"]
