"""Workers and brokers are killed at any point of their work: nothing is lost, duplicated or wrong."""

import time
from pathlib import Path
from typing import cast

import pytest

from streams.audit.refold import RecordSetDigest, Refold
from streams.formats import topics
from streams.kafka.local_broker import free_port
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from streams.worker.failpoints import FAILPOINT_NAMES
from tests.faults.harness import (
    BATCH_POINTS,
    SESSION_SECONDS,
    Broker,
    Chronicle,
    Crew,
    Installation,
    assert_exact,
    compact_often,
    ends_of,
    held_below,
    wait_until,
)
from tests.faults.load_generator import Day, Pump

SEED = 20_260_301


def crash_everywhere(crew: Crew, name: str, pump: Pump) -> None:
    """Kill one worker once at every failpoint, at a random pass."""
    random = crew.installation.chronicle.random
    for point in (*BATCH_POINTS, *(point for point in FAILPOINT_NAMES if point not in BATCH_POINTS)):
        crew.crash(name, point, random.randint(1, 5) if point in BATCH_POINTS else 1, pump=pump)
        pump.close()


def kill_at_random(crew: Crew, kills: int, pump: Pump) -> None:
    """Kill random workers: every other time at any moment, else while the worker processes records."""
    random = crew.installation.chronicle.random
    for number in range(kills):
        victim = random.choice(sorted(crew.members))
        if number % 2:
            crew.wait_for(victim, "parcels.worker.restored")
        pump.open()
        crew.keep_up(random.uniform(0.1, 2.0))
        crew.kill(victim)
        pump.close()
        crew.keep_up()


def test_a_dirty_week_with_kills_is_as_the_truth_says_and_folds_again_to_the_same_digest(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    chronicle = Chronicle(SEED)
    installation = Installation(settings, tmp_path, chronicle)
    installation.create_topics(partitions=3)
    day = Day.simulated(2_500, tmp_path / "truth.json", SEED, days=7)
    with Pump(settings, day, rate=1_000) as pump, Crew(installation) as crew:
        crash_everywhere(crew, "a", pump)
        crew.start("a")
        crew.crash("b", "before_commit", pump=pump)
        crew.keep_up()
        kill_at_random(crew, 4, pump)
        assert pump.left, "the scans ran out before the kills did"
        pump.finish()
        crew.keep_up()
        crew.stop()
    installation.fold_the_rest()
    assert_exact(installation.verify(day.truth))
    # The log, folded again in one go, leads to the same records as between the kills.
    again = installation.parcels("reconcile", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    told = digest_of_topics(settings)
    for batch in (1, 7, 1_000, 100_000):
        assert digest_of_fold(day.values, batch) == told, batch


def digest_of_topics(settings: KafkaSettings) -> str:
    """The digest of the states and alerts that the workers wrote."""
    digest, states = RecordSetDigest(), dict[bytes, bytes]()
    for record in read_to_end(settings, settings.prefix + topics.PARCEL_STATE_TOPIC):
        if record.key() != topics.POSITION_KEY:
            states[cast(bytes, record.key())] = record.value() or b""
    for key, value in states.items():
        if value:
            digest.add(topics.PARCEL_STATE_TOPIC, key, value)
    for record in read_to_end(settings, settings.prefix + topics.ALERTS_TOPIC):
        digest.add(topics.ALERTS_TOPIC, cast(bytes, record.key()), cast(bytes, record.value()))
    return digest.hexdigest()


def digest_of_fold(values: list[bytes | None], batch: int) -> str:
    """The digest of the same log, folded as one partition in batches of this size."""
    digest, refold = RecordSetDigest(), Refold(batch=batch)
    for made in refold.fold(values):
        for key, value in made.alerts:
            digest.add(topics.ALERTS_TOPIC, key, value)
    for key, value in refold.states():
        digest.add(topics.PARCEL_STATE_TOPIC, key, value)
    return digest.hexdigest()


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("protocol", "partitions"), [("classic", 6), ("consumer", 4), ("classic", 2)])
def test_a_long_run_with_every_fault(protocol: str, partitions: int, tmp_path: Path) -> None:
    """100,000 scans; one worker with all partitions, then two that share them."""
    chronicle = Chronicle(SEED + partitions)
    broker = Broker(tmp_path / "broker", free_port(), chronicle)
    try:
        _long_run(
            Installation(KafkaSettings(bootstrap=broker.bootstrap), tmp_path, chronicle), broker, protocol, partitions
        )
    finally:
        broker.close()


def _long_run(installation: Installation, broker: Broker, protocol: str, partitions: int) -> None:
    chronicle, settings = installation.chronicle, installation.settings
    installation.create_topics(partitions)
    compact_often(settings)
    day = Day.simulated(9_200, installation.folder / "truth.json", SEED)
    with Pump(settings, day, rate=600) as pump, Crew(installation, "--group-protocol", protocol) as crew:
        crash_everywhere(crew, "a", pump)
        crew.start("a")
        kill_at_random(crew, 5, pump)
        _freeze_alone(crew, "a", pump)
        held_at = ends_of(settings, topics.PARCEL_STATE_TOPIC)
        held_before = held_below(settings, held_at)

        crew.start("b")
        for point in (
            "before_commit",
            "while_producing",
            "after_commit",
            "after_fence",
            "after_begin",
            "after_restore",
        ):
            crew.keep_up()
            if point not in BATCH_POINTS:
                # With two workers, only newly assigned partitions are fenced and restored: when a worker comes back.
                pump.close()
            victim = chronicle.random.choice("ab")
            crew.crash(victim, point, chronicle.random.randint(1, 3) if point in BATCH_POINTS else 1, pump=pump)
        crew.keep_up()
        kill_at_random(crew, 10, pump)
        for name in "ab":
            _freeze_while_another_takes_over(crew, name, pump)
        for _ in range(5):
            _kill_broker(crew, broker, pump)
        kill_at_random(crew, 2, pump)
        assert pump.left, "the scans ran out before the kills did"
        pump.finish()
        crew.keep_up()
        crew.stop()
    installation.fold_the_rest()
    held_after = held_below(settings, held_at)
    chronicle.tell("compacted", f"{held_before} records became {held_after}")
    report = installation.verify(day.truth)
    print(f"{len(day.values)} records; {dict(chronicle.counts)}")
    assert held_after < held_before, "the cleaner never ran"
    assert chronicle.counts["kill"] + chronicle.counts["crash"] >= 30
    assert chronicle.counts["broker killed"] == 5
    assert_exact(report, broker_crashed=True)


def _freeze_alone(crew: Crew, name: str, pump: Pump) -> None:
    """Stop a worker for longer than its session, without another one to take over: it goes on by itself."""
    crew.wait_for(name, "parcels.worker.restored")
    pump.open()
    crew.keep_up(0.5)
    crew.freeze(name)
    time.sleep(SESSION_SECONDS * 1.4)
    pump.close()
    crew.thaw(name)
    crew.keep_up(3)


def _freeze_while_another_takes_over(crew: Crew, name: str, pump: Pump) -> None:
    """Stop a worker for longer than its session, and continue it when another one has restored its partitions."""
    other = "b" if name == "a" else "a"
    crew.keep_up()
    pump.close()
    for each in (name, other):
        crew.wait_for(each, "parcels.worker.restored")
    pump.open()
    crew.keep_up(0.5)
    heir = crew.members[other]
    restored = len(heir.said("parcels.worker.restored"))
    crew.freeze(name)
    wait_until(lambda: len(heir.said("parcels.worker.restored")) > restored, f"{other} did not take over from {name}")
    time.sleep(1)
    crew.thaw(name)
    crew.keep_up(3)
    pump.close()


def _kill_broker(crew: Crew, broker: Broker, pump: Pump) -> None:
    """Kill the broker while records arrive and restart it after a while: every worker goes on."""
    random = crew.installation.chronicle.random
    for name in crew.members:
        crew.wait_for(name, "parcels.worker.started")
    pump.open()
    crew.keep_up(random.uniform(0.2, 2))
    broker.kill()
    time.sleep(random.uniform(0, 3))
    pump.close()
    broker.up()
    pump.open()
    crew.keep_up(random.uniform(2, 5))
    pump.close()
