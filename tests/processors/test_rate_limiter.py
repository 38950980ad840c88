"""While little waits children are told at a pace; nobody waits for long because of it, and nothing is left out."""

import pytest

from streams.formats.topics import SCANS_TOPIC
from streams.processors.container_processor import ContainerProcessor
from streams.processors.rate_limiter import RateLimiter
from tests.processors.alone import event

ULD = [f"P{n:05d}" for n in range(15_000)]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return RateLimiter(clock)


def packed(pace, container, children, partition=0):
    """A stage that has told that they were packed."""
    stage = ContainerProcessor(partition, 1, pace)
    stage.run([event(container, "PACKED", parcels=children)])
    while stage.pending:
        pace.clock.now += 10
        stage.run([])
    pace.clock.now += 10
    return stage


def told(made):
    return sum(len(block) for topic, _, block in made.blocks if topic == SCANS_TOPIC)


class TestTheAllowance:
    def test_is_what_goes_at_once_and_comes_back_with_time(self, pace, clock):
        assert pace.can_acquire
        assert pace.take(5_000, 0) == 1_000
        assert not pace.can_acquire
        assert pace.take(5_000, 0) == 0
        clock.now += 0.02
        assert pace.take(5_000, 0) == 0
        clock.now += 3600
        assert pace.take(5_000, 0) == 1_000

    def test_what_was_not_needed_is_given_back(self, pace, clock):
        taken = pace.take(5_000, 0)
        pace.return_unused(taken - 10)
        clock.now += 0.001
        assert pace.take(5_000, 0) == 1_000

    def test_a_little_is_always_granted_and_missing_later(self, pace, clock):
        assert [pace.take(5_000, 250) for _ in range(3)] == [1_000, 250, 250]
        clock.now += 0.074
        assert not pace.can_acquire
        clock.now += 0.002
        assert pace.can_acquire

    def test_a_debt_ends(self, pace, clock):
        for _ in range(1_000):
            pace.take(5_000, 250)
        clock.now += 0.11
        assert pace.can_acquire


class TestAUld:
    def test_is_told_within_a_second_and_never_much_at_once(self, pace, clock):
        stage = packed(pace, "ULD", ULD)
        made = stage.run([event("ULD", "ARRIVED", 5)])
        began, parts = clock.now, [told(made)]
        while stage.pending:
            clock.now += 0.02
            if stage.due:
                parts.append(told(stage.run([])))
        assert sum(parts) == len(ULD)
        assert max(parts) <= 1_000
        assert 0.5 < clock.now - began < 1

    def test_is_told_as_fast_as_can_be_once_it_has_waited_for_a_second(self, pace, clock):
        stage = packed(pace, "ULD", ULD)
        stage.run([event("ULD", "ARRIVED", 5)])
        # Others take all that is allowed.
        pace.take(1_000, 1_000)
        assert not stage.due
        clock.now += 1.1
        assert stage.due
        assert told(stage.run([])) > 1_000

    def test_keeps_no_bag_waiting(self, pace):
        stage = packed(pace, "ULD", ULD)
        stage.run([event("BAG", "PACKED", parcels=["Q"])])
        stage.run([event("ULD", "ARRIVED", 5)])
        made = stage.run([event("BAG", "ARRIVED", 5)])
        assert b"Q" in {key for topic, _, block in made.blocks if topic == SCANS_TOPIC for key, _ in block}

    def test_goes_on_after_a_restart_however_much_others_tell(self, pace, clock):
        stage = packed(pace, "ULD", ULD)
        kept = {key: value for *_, block in stage.run([event("ULD", "ARRIVED", 5)]).blocks for key, value in block}
        again = ContainerProcessor(0, 1, pace)
        again.restore({b"ULD": kept[b"ULD"]})
        again.restored(stage.position(1))
        assert again.pending
        pace.take(1_000, 1_000)
        for _ in range(80):
            assert not again.due
            clock.now += 0.0125
            pace.take(1_000, 250)
        clock.now += 0.02
        pace.take(1_000, 1_000)
        assert again.due

    def test_gives_back_what_it_did_not_need(self, pace, clock):
        stage = packed(pace, "BAG", ["Q"])
        stage.run([event("BAG", "ARRIVED", 5)])
        clock.now += 0.001
        assert pace.can_acquire

    def test_is_not_told_without_a_record_while_others_have_the_allowance(self, pace):
        stage = packed(pace, "ULD", ULD)
        stage.run([event("ULD", "ARRIVED", 5)])
        assert told(stage.run([])) == 0

    def test_of_another_partition_counts_too(self, pace):
        first, second = packed(pace, "ULD1", ULD), packed(pace, "ULD2", ULD)
        assert told(first.run([event("ULD1", "ARRIVED", 5)])) > 900
        assert told(second.run([event("ULD2", "ARRIVED", 5)])) <= 250
        assert not first.due
        assert not second.due

    def test_is_told_without_pause_when_much_waits(self, pace):
        stage = packed(pace, "ULD", ULD)
        many = [event(f"BAG{n}", "ARRIVED") for n in range(300)]
        assert told(stage.run([event("ULD", "ARRIVED", 5), *many])) > 10_000
