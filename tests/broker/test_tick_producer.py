"""The clock on a real broker: every partition, time that fits, and a clean end."""

import io
import signal
import subprocess
import sys
import time

import fastavro

from streams.formats.schemas import load_schemas
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.kafka.reader import read_to_end
from streams.kafka.topic_admin import apply_topics, plan_topics
from tests.faults.harness import Chronicle, Crew, Installation, positions, wait_until


def ticks(settings, topic=SCANS_TOPIC):
    tick = load_schemas().current("Tick")
    found = {}
    for message in read_to_end(settings, settings.prefix + topic):
        assert message.key() is None
        read = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), tick, None)
        found.setdefault(message.partition(), []).append((read["hub_time"].timestamp(), read["producer"]))
    return found


def test_two_clocks_tick_into_every_partition_until_sigterm(settings):
    apply_topics(settings, plan_topics(settings))
    where = ["--bootstrap", settings.bootstrap, "--prefix", settings.prefix]
    begun = time.time()
    clocks = [
        subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "clock", "--every", "0.25", "--name", name, *where],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("east", "west")
    ]
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = ticks(settings)
            if all(len({clock for _, clock in found.get(p, [])}) == 2 and len(found[p]) >= 8 for p in range(4)):
                break
            time.sleep(0.5)
    finally:
        for process in clocks:
            process.send_signal(signal.SIGTERM)
        errors = [process.communicate(timeout=30)[1] for process in clocks]
    assert [process.returncode for process in clocks] == [0, 0], errors
    assert all("parcels.clock.started" in text and "parcels.clock.stopped" in text for text in errors)
    assert sorted(ticks(settings, CONTAINERS_TOPIC)) == [0, 1, 2, 3]
    found = ticks(settings)
    assert sorted(found) == [0, 1, 2, 3]
    for told in found.values():
        for name in ("east", "west"):
            times = [hub_time for hub_time, clock in told if clock == name]
            assert times == sorted(set(times))
            assert all(hub_time % 0.25 == 0 for hub_time in times)
            assert begun - 0.25 <= times[0] <= times[-1] <= time.time()


def test_a_worker_says_when_the_clock_stops_and_when_it_goes_on(settings, tmp_path):
    made = Installation(settings, tmp_path, Chronicle(1))
    made.create_topics(2)
    with Crew(made) as crew:
        worker = crew.start("worker")
        clock = made.start("clock", "--every", "0.2", name="first")
        crew.wait_for("worker", "parcels.worker.restored")
        wait_until(lambda: len(positions(settings)) == 2, "no tick was folded")
        clock.signal(signal.SIGTERM)
        assert clock.wait() == 0
        assert not worker.said("parcels.worker.ticks_stopped")
        crew.wait_for("worker", "parcels.worker.ticks_stopped")
        clock = made.start("clock", "--every", "0.2", name="second")
        crew.wait_for("worker", "parcels.worker.ticks_resumed")
        clock.signal(signal.SIGTERM)
        assert clock.wait() == 0
        crew.stop()
    # Both partitions, unless the last Tick of one was folded a moment before that of the other.
    assert worker.said("parcels.worker.ticks_stopped")[0]["partitions"] in ("0,1", "0", "1")
    assert len(worker.said("parcels.worker.ticks_stopped")) == 1


def test_a_worker_that_was_stopped_does_not_report_a_stopped_clock(settings, tmp_path):
    made = Installation(settings, tmp_path, Chronicle(1))
    made.create_topics(2)
    # With this protocol it gets Ticks before it learns that its partitions were revoked.
    with Crew(made, "--group-protocol", "consumer") as crew:
        worker = crew.start("worker")
        clock = made.start("clock", "--every", "0.2", name="clock")
        crew.wait_for("worker", "parcels.worker.restored")
        wait_until(lambda: len(positions(settings)) == 2, "no tick was folded")
        crew.freeze("worker")
        time.sleep(17)
        before = positions(settings)
        crew.thaw("worker")
        wait_until(lambda: all(positions(settings)[p] > before[p] for p in before), "no tick was folded any more")
        clock.signal(signal.SIGTERM)
        assert clock.wait() == 0
        crew.stop()
    assert not worker.said("parcels.worker.ticks_stopped")


def test_without_topics_it_says_what_to_do(settings, parcels):
    ended = parcels("clock")
    assert ended.returncode == 2
    assert 'run "parcels topics apply"' in ended.stderr
