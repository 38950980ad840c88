"""A container inside two others at once is reported once, with the evidence, and retracted when that was wrong."""

import dataclasses

import pytest

from streams.domain.double_containment import MAX_PER_BATCH, QUIET_MS, DoubleContainment
from tests.processors.single_partition import DAY, START, SinglePartition, event, tick

SECOND = 1_000
# In U1 from 1 s on; in U2 from 5 s on.
PACKED = event("U1", "PACKED", 1, containers=["BAG"]), event("U2", "PACKED", 5, containers=["BAG"])
FOUND = DoubleContainment("BAG", "U1", "U1/PACKED/1", "U2", "U2/PACKED/5", START + 5 * SECOND)


@pytest.mark.parametrize("packed", [PACKED, PACKED[::-1]])
def test_it_is_reported_after_a_while_without_events(packed):
    hub = SinglePartition().run([tick(START), *packed])
    assert hub.run([tick(START + QUIET_MS - 1)]).double_containments == []
    hub.run([tick(START + QUIET_MS), tick(START + QUIET_MS + SECOND)])
    assert hub.double_containments == [FOUND]


def test_another_event_of_the_container_delays_the_report():
    hub = SinglePartition().run([tick(START), *PACKED]).run([tick(START + 60 * SECOND), event("BAG", "ARRIVED", 60)])
    assert hub.run([tick(START + QUIET_MS)]).double_containments == []
    assert hub.run([tick(START + QUIET_MS + 60 * SECOND)]).double_containments == [FOUND]


def test_it_is_reported_once_through_restarts_and_repeats():
    hub = SinglePartition().run([tick(START), *PACKED]).restarted()
    assert hub.run([tick(START + QUIET_MS)]).double_containments == [FOUND]
    again = hub.restarted().run([*PACKED, tick(START + DAY), event("BAG", "ARRIVED", 9)])
    assert again.run([tick(START + 2 * DAY)]).double_containments == []


@pytest.mark.parametrize(
    "proof",
    [
        event("U1", "UNPACKED", 3, containers=["BAG"]),
        event("U1", "UNPACKED", 3),
        event("U1", "VOID", 9, voids="U1/PACKED/1"),
        event("U2", "VOID", 9, voids="U2/PACKED/5"),
        # An event of the bag itself.
        event("BAG", "UNPACKED", 3, parent_id="U1"),
    ],
)
def test_a_removal_or_a_void_retracts_it(proof):
    assert SinglePartition().run([tick(START), *PACKED, proof]).run([tick(START + DAY)]).double_containments == []
    hub = SinglePartition().run([tick(START), *PACKED]).run([tick(START + DAY)]).restarted()
    hub.run([proof]).run([tick(START + 2 * DAY)]).run([tick(START + 3 * DAY)])
    assert hub.double_containments == [dataclasses.replace(FOUND, withdrawn=True)]


def test_moved_between_two_and_seen_again_in_the_same_is_in_order():
    said = [
        PACKED[0], event("U1", "PACKED", 2, containers=["BAG"]), event("U1", "UNPACKED", 3, containers=["BAG"]),
        PACKED[1], event("U2", "DISPATCHED", 6), event("U3", "PACKED", 7, containers=["BAG"]),
    ]  # fmt: skip
    assert SinglePartition().run([tick(START), *said]).run([tick(START + DAY)]).double_containments == []


def test_thousands_of_them_are_reported_some_at_a_time():
    bags = [f"BAG{n:04d}" for n in range(MAX_PER_BATCH + 500)]
    said = [event("U1", "PACKED", 1, containers=bags), event("U2", "PACKED", 5, containers=bags)]
    hub = SinglePartition().run([tick(START), *said]).run([tick(START + DAY)])
    assert len(hub.double_containments) == MAX_PER_BATCH
    hub.run([tick(START + DAY + SECOND)])
    assert {found.container_id for found in hub.double_containments} == set(bags)
    assert len(hub.double_containments) == len(bags)
