"""The container stage by itself: rubbish is refused with its reason, and keeps nobody waiting; the old retires."""

from itertools import pairwise

import pytest

from streams.domain.limits import CHILDREN_PER_CONTAINER, EVENTS_PER_CONTAINER
from streams.domain.reasons import Reason
from streams.pipeline.container_stage import LARGEST_TRANSACTION, ContainerStage
from streams.pipeline.plain_decoder import Decoder
from streams.pipeline.record_lines import Reader
from streams.pipeline.topics import CONTAINER_STATE, SCANS, partition_of
from tests.pipeline.alone import DAY, START, Alone, event, tick


def reason(value, partitions=1):
    made = ContainerStage(0, partitions).run([value])
    assert not any(topic == CONTAINER_STATE for topic, *_ in made.blocks) or not made.refused
    return made.refused[0][1] if made.refused else Reason.OK


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (event("", "ARRIVED"), Reason.BAD_CONTAINER),
        (event("B" * 129, "ARRIVED"), Reason.BAD_CONTAINER),
        (event("B\n", "ARRIVED"), Reason.BAD_CONTAINER),
        (event("B", "PACKED"), Reason.BAD_CONTAINER),
        (event("B", "ARRIVED", parcels=["P"]), Reason.BAD_CONTAINER),
        (event("B", "UNPACKED", parcels=["P"], parent_id="U"), Reason.BAD_CONTAINER),
        (event("B", "PACKED", containers=[""]), Reason.BAD_CONTAINER),
        (event("B", "PACKED", parcels=["P\0"]), Reason.BAD_PARCEL_ID),
        (event("B", "PACKED", containers=["A", "B"]), Reason.CYCLE),
        (event("B", "PACKED", parent_id="B"), Reason.CYCLE),
        (event("B", "ARRIVED", parent_id="A", path=["A", "B", "C"]), Reason.CYCLE),
        (event("B", "ARRIVED", path=[f"C{n}" for n in range(9)]), Reason.TOO_DEEP),
        (event("B", "VOID"), Reason.BAD_VOID),
        (event("B", "ARRIVED", voids="x"), Reason.BAD_VOID),
        (event("B", "ARRIVED", site="S" * 256), Reason.OUT_OF_BOUNDS),
        (event("B", "ARRIVED", event_time=1 << 60), Reason.OUT_OF_BOUNDS),
        (event("B", "PACKED", parcels=[f"LP{n:014d}" for n in range(70_000)]), Reason.TOO_LARGE),
        (event("B", "PACKED", parcels=["P"])[:-3], Reason.TRUNCATED),
        (event("B", "ARRIVED"), Reason.OK),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(value, expected):
    assert reason(value) is expected


def test_an_event_in_the_wrong_partition_is_refused():
    lost = next(name for name in ("A", "B", "C", "D") if partition_of(name.encode(), 2) == 1)
    assert reason(event(lost, "ARRIVED"), partitions=2) is Reason.WRONG_PARTITION


def test_containers_inside_each_other_end_in_a_dead_letter():
    hub = Alone().run([
        event("A", "PACKED", containers=["B"]), event("B", "PACKED", containers=["C"]),
        event("C", "PACKED", containers=["A"], parcels=["P"]), event("A", "ARRIVED", 5),
    ])  # fmt: skip
    assert Reason.CYCLE in hub.refused
    assert len(hub.refused) < 5
    assert {key for key, _ in hub.scans} == {"P"}


def test_ten_levels_end_after_eight():
    names = [f"C{n}" for n in range(10)]
    packings = [event(outer, "PACKED", containers=[inner]) for outer, inner in pairwise(names)]
    hub = Alone().run([*packings, event("C9", "PACKED", parcels=["P"]), event("C0", "ARRIVED", 5)])
    assert hub.refused == [Reason.TOO_DEEP]
    assert len(hub.scans) == 1


def test_a_child_in_two_containers_hears_from_both():
    hub = Alone().run([
        event("A", "PACKED", parcels=["P"]), event("B", "PACKED", 1, parcels=["P"]),
        event("A", "ARRIVED", 2), event("B", "ARRIVED", 2),
    ])  # fmt: skip
    said = [Decoder("Scan")(value) for _, value in hub.scans]
    assert sorted((each["container_id"], each["kind"]) for each in said) == [
        ("A", "ARRIVED"), ("A", "PACKED"), ("B", "ARRIVED"), ("B", "PACKED"),
    ]  # fmt: skip


def test_a_million_children_are_not_taken_and_transactions_stay_bounded():
    packings = [event("A", "PACKED", n, parcels=[f"P{n}-{m:05d}" for m in range(40_000)]) for n in range(25)]
    hub = Alone().run([*packings, event("A", "ARRIVED", 30)])
    held = CHILDREN_PER_CONTAINER // 40_000
    assert hub.refused == [Reason.CONTAINER_FULL] * (25 - held)
    assert len(hub.scans) == 2 * held * 40_000
    # Of one event the children are written at once, what follows for them is not.
    assert hub.largest <= 40_000 + LARGEST_TRANSACTION


def test_a_small_container_does_not_wait_for_a_large_one():
    hub = Alone()
    large = [f"P{n:06d}" for n in range(40_000)]
    hub.run([event("A", "PACKED", parcels=large), event("B", "PACKED", parcels=["Q"])])
    first = hub.stage.run([event("A", "ARRIVED", 2), event("B", "ARRIVED", 2)])
    assert hub.stage.pending
    assert b"Q" in {key for topic, _, block in first.blocks if topic == SCANS for key, _ in block}
    second = hub.stage.run([event("B", "LOADED", 3)])
    assert hub.stage.pending
    assert b"Q" in {key for topic, _, block in second.blocks if topic == SCANS for key, _ in block}
    for made in (first, second):
        assert sum(len(block) for *_, block in made.blocks) <= LARGEST_TRANSACTION


def test_a_container_has_ten_thousand_events_at_most():
    hub = Alone().run([event("A", "ARRIVED", n) for n in range(EVENTS_PER_CONTAINER + 3)])
    assert hub.refused == [Reason.CONTAINER_FULL] * 3


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


def test_lines_of_files_are_events():
    line = Reader()({"type": "container", "event_id": "e", "container_id": "A", "kind": "PACKED", "parcels": ["P"],
                     "event_time": START, "site": "LGG", "station": "X"})  # fmt: skip
    assert [key for key, _ in Alone().run([line.value]).scans] == ["P"]
