"""While few records wait, fan-outs are rate limited; no fan-out waits for long because of it, and all are complete."""

import pytest

from streams.formats.topics import SCANS_TOPIC
from streams.processors.container_processor import ContainerProcessor
from streams.processors.rate_limiter import RateLimiter
from tests.processors.single_partition import event

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
def rate_limiter(clock):
    return RateLimiter(clock)


def packed(rate_limiter, container, children, partition=0):
    """A processor that has written the fan-out of their packing."""
    processor = ContainerProcessor(partition, 1, rate_limiter)
    processor.run([event(container, "PACKED", parcels=children)])
    while processor.has_pending_output:
        rate_limiter.clock.now += 10
        processor.run([])
    rate_limiter.clock.now += 10
    return processor


def scan_count(output):
    return sum(len(block) for topic, _, block in output.blocks if topic == SCANS_TOPIC)


class TestTheLimit:
    def test_a_burst_is_available_at_once_and_again_with_time(self, rate_limiter, clock):
        assert rate_limiter.can_acquire
        assert rate_limiter.acquire(5_000, 0) == 1_000
        assert not rate_limiter.can_acquire
        assert rate_limiter.acquire(5_000, 0) == 0
        clock.now += 0.02
        assert rate_limiter.acquire(5_000, 0) == 0
        clock.now += 3600
        assert rate_limiter.acquire(5_000, 0) == 1_000

    def test_unused_records_are_returned(self, rate_limiter, clock):
        taken = rate_limiter.acquire(5_000, 0)
        rate_limiter.return_unused(taken - 10)
        clock.now += 0.001
        assert rate_limiter.acquire(5_000, 0) == 1_000

    def test_the_minimum_is_always_granted_and_missing_later(self, rate_limiter, clock):
        assert [rate_limiter.acquire(5_000, 250) for _ in range(3)] == [1_000, 250, 250]
        clock.now += 0.074
        assert not rate_limiter.can_acquire
        clock.now += 0.002
        assert rate_limiter.can_acquire

    def test_a_debt_is_bounded(self, rate_limiter, clock):
        for _ in range(1_000):
            rate_limiter.acquire(5_000, 250)
        clock.now += 0.11
        assert rate_limiter.can_acquire


class TestAUldsFanOut:
    def test_is_written_within_a_second_and_in_small_transactions(self, rate_limiter, clock):
        processor = packed(rate_limiter, "ULD", ULD)
        output = processor.run([event("ULD", "ARRIVED", 5)])
        began, parts = clock.now, [scan_count(output)]
        while processor.has_pending_output:
            clock.now += 0.02
            if processor.has_due_output:
                parts.append(scan_count(processor.run([])))
        assert sum(parts) == len(ULD)
        assert max(parts) <= 1_000
        assert 0.5 < clock.now - began < 1

    def test_is_not_limited_once_it_has_waited_for_a_second(self, rate_limiter, clock):
        processor = packed(rate_limiter, "ULD", ULD)
        processor.run([event("ULD", "ARRIVED", 5)])
        # Other partitions take all that is available.
        rate_limiter.acquire(1_000, 1_000)
        assert not processor.has_due_output
        clock.now += 1.1
        assert processor.has_due_output
        assert scan_count(processor.run([])) > 1_000

    def test_holds_up_no_bag(self, rate_limiter):
        processor = packed(rate_limiter, "ULD", ULD)
        processor.run([event("BAG", "PACKED", parcels=["Q"])])
        processor.run([event("ULD", "ARRIVED", 5)])
        output = processor.run([event("BAG", "ARRIVED", 5)])
        assert b"Q" in {key for topic, _, block in output.blocks if topic == SCANS_TOPIC for key, _ in block}

    def test_goes_on_after_a_restart_whatever_other_partitions_write(self, rate_limiter, clock):
        processor = packed(rate_limiter, "ULD", ULD)
        kept = {key: value for *_, block in processor.run([event("ULD", "ARRIVED", 5)]).blocks for key, value in block}
        again = ContainerProcessor(0, 1, rate_limiter)
        again.restore({b"ULD": kept[b"ULD"]})
        again.finish_restore(processor.position(1))
        assert again.has_pending_output
        rate_limiter.acquire(1_000, 1_000)
        for _ in range(80):
            assert not again.has_due_output
            clock.now += 0.0125
            rate_limiter.acquire(1_000, 250)
        clock.now += 0.02
        rate_limiter.acquire(1_000, 1_000)
        assert again.has_due_output

    def test_returns_what_it_did_not_use(self, rate_limiter, clock):
        processor = packed(rate_limiter, "BAG", ["Q"])
        processor.run([event("BAG", "ARRIVED", 5)])
        clock.now += 0.001
        assert rate_limiter.can_acquire

    def test_waits_without_new_records_while_nothing_is_available(self, rate_limiter):
        processor = packed(rate_limiter, "ULD", ULD)
        processor.run([event("ULD", "ARRIVED", 5)])
        assert scan_count(processor.run([])) == 0

    def test_shares_the_limit_with_other_partitions(self, rate_limiter):
        first, second = packed(rate_limiter, "ULD1", ULD), packed(rate_limiter, "ULD2", ULD)
        assert scan_count(first.run([event("ULD1", "ARRIVED", 5)])) > 900
        assert scan_count(second.run([event("ULD2", "ARRIVED", 5)])) <= 250
        assert not first.has_due_output
        assert not second.has_due_output

    def test_is_not_limited_while_many_records_wait(self, rate_limiter):
        processor = packed(rate_limiter, "ULD", ULD)
        many = [event(f"BAG{n}", "ARRIVED") for n in range(300)]
        assert scan_count(processor.run([event("ULD", "ARRIVED", 5), *many])) > 10_000
