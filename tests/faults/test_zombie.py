"""A worker that wrongly believes that it owns a partition: none of its writes become visible."""

from pathlib import Path

from streams.kafka.settings import KafkaSettings
from tests.faults.harness import (
    DEAD,
    Chronicle,
    Crew,
    Installation,
    assert_exact,
    behind,
    positions,
    wait_until,
)
from tests.faults.load_generator import Day, Pump

SEED = 20_260_302


def test_a_worker_that_stood_still_amid_a_transaction_while_another_took_over(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    """It continues after the other has processed more: it goes on with its new assignment, or ends by itself."""
    chronicle = Chronicle(SEED)
    installation = Installation(settings, tmp_path, chronicle)
    installation.create_topics(partitions=2)
    day = Day.simulated(1_500, tmp_path / "truth.json", SEED)
    with Pump(settings, day, rate=500) as pump, Crew(installation) as crew:
        heir = crew.start("heir")
        crew.wait_for("heir", "parcels.worker.restored")
        for point in ("while_producing", "before_commit"):
            zombie = crew.start("zombie", spoilt={"PARCELS_TEST_STOP_AT": f"{point}:3"})
            crew.wait_for("zombie", "parcels.worker.restored")
            pump.open()
            wait_until(lambda z=zombie: z.halted, f"the zombie does not come to {point}")
            chronicle.tell("halted", point)
            held = zombie.holds
            assert held
            wait_until(lambda h=held: h <= heir.holds, "the heir did not take over")
            taken = positions(settings)
            wait_until(
                lambda t=taken: all(positions(settings).get(p, 0) > t.get(p, 0) for p in range(2)),
                "the heir does not fold everything",
            )
            crew.thaw("zombie")
            wait_until(
                lambda z=zombie: z.said("parcels.worker.partitions_lost") or z.code is not None,
                "the zombie did not learn of it",
            )
            pump.close()
            if zombie.code is None:
                wait_until(lambda z=zombie: len(z.said("parcels.worker.restored")) > 1, "the zombie got nothing to do")
                crew.kill("zombie")
            else:
                assert zombie.code == DEAD, zombie.err
            del crew.members["zombie"]
        pump.finish()
        wait_until(lambda: not behind(settings), "the heir does not get to the end of the log")
        crew.stop()
    assert_exact(installation.verify(day.truth))


def test_two_workers_that_both_believe_to_own_everything_do_no_harm(settings: KafkaSettings, tmp_path: Path) -> None:
    """They fence each other again and again; the output of each record is committed once, by one of them."""
    chronicle = Chronicle(SEED)
    installation = Installation(settings, tmp_path, chronicle)
    installation.create_topics(partitions=2)
    day = Day.simulated(700, tmp_path / "truth.json", SEED + 1)
    with Pump(settings, day, rate=1_000) as pump, Crew(installation) as crew:
        rightful = crew.start("rightful")
        rogue = crew.start("rogue", spoilt={"PARCELS_TEST_GROUP": "parcels.parcel-processor.rogue"})
        for name in ("rightful", "rogue"):
            crew.wait_for(name, "parcels.worker.restored")
        pump.open()
        wait_until(lambda: rightful.said("parcels.worker.transaction_recovered"), "the rogue fenced nobody")
        wait_until(lambda: rogue.said("parcels.worker.transaction_recovered"), "nobody fenced the rogue")
        wait_until(lambda: not pump.left, "the scans are not sent")
        wait_until(lambda: not behind(settings), "together they do not get to the end of the log")
        for worker in (rightful, rogue):
            outcomes = [line["outcome"] for line in worker.said("parcels.worker.transaction_recovered")]
            chronicle.tell("transaction_recovered", str({each: outcomes.count(each) for each in sorted(set(outcomes))}))
        crew.stop()
    assert_exact(installation.verify(day.truth))
