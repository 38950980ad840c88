"""The state of a parcel is a function of the set of its records; its milestones, of their order in the log."""

import random
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.kernel.parcel_table import CHUNK_COUNT
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle, identity_of
from tests.kernel.records import (
    CUTS,
    LONG_TEXTS,
    MORNING,
    advice,
    batches_of,
    framed,
    histories,
    read,
    scan,
    tick,
    void,
)

SEEDS = st.integers(0, 2**32)


class Run:
    """What a stage said in the course of several batches."""

    def __init__(self, stage=None):
        self.stage = stage or ParcelProcessor(partition=0, partitions=1)
        self.log = []  # all states and tombstones, as the topic holds them
        self.milestones = []
        self.alerts = []
        self.throughput = Counter()
        self.scans = Counter()
        self.duplicates = 0
        self.last = None

    def batch(self, values):
        self.last = self.stage.run(values)
        assert self.last.refused == []
        self.log += [*self.last.tombstones, *self.last.states]
        self.milestones += self.last.milestones
        self.alerts += self.last.alerts
        for _, value in self.last.throughput:
            told = read("ThroughputDelta", value)
            assert told["count"] != 0
            self.throughput[tuple(told[name] for name in ("site", "station", "kind", "direction", "minute"))] += told[
                "count"
            ]
        self.scans.update(self.last.scan_counts)
        self.duplicates += self.last.duplicates
        return self.last

    @property
    def states(self):
        """parcel_id -> bytes of the latest state: what a compacted topic holds."""
        return {key: value for key, value in dict(self.log).items() if value}

    def read_states(self):
        return {key.decode(): read("ParcelState", value) for key, value in self.states.items()}

    def read_milestones(self):
        told = [read("Milestone", value) for _, value in self.milestones]
        assert [key.decode() for key, _ in self.milestones] == [milestone["parcel_id"] for milestone in told]
        return told

    def read_alerts(self):
        told = [read("Alert", value) for _, value in self.alerts]
        assert [key.decode() for key, _ in self.alerts] == [alert["parcel_id"] for alert in told]
        return told


def folded(records, cuts=(), promises=None):
    run = Run(ParcelProcessor(0, 1, promises))
    for batch in batches_of([framed(record) for record in records], cuts):
        run.batch(batch)
    return run


def distinct(history):
    """One record for each identity: the first."""
    return list({(record["parcel_id"], identity_of(record)): record for record in reversed(history)}.values())


def long_history(seed, size, parcels=("P", "Q")):
    """Hundreds of records of one or two parcels, so that a timeline fills many chunks."""
    dice = random.Random(seed)
    history = []
    for number in range(size):
        ids = f"event {dice.randrange(size)}", dice.choice(parcels)
        time = MORNING + dice.randrange(size // 4)
        match dice.randrange(12):
            case 0:
                made = advice(*ids, time, direction=dice.choice(DIRECTIONS), promised_at=dice.choice((None, number)))
            case 1 | 2:
                made = void(*ids, f"event {dice.randrange(size)}", time)
            case _:
                details = {
                    "site": dice.choice(("LGG", "LUX", "", *LONG_TEXTS)),
                    "station": f"S-{dice.randrange(5)}",
                    "lane": dice.choice((None, "N", "S")),
                    "reason": dice.choice((None, "why")),
                    "container_id": dice.choice((None, "BAG", f"BAG{number}")),
                }
                made = scan(*ids, dice.choice(KINDS[:-1]), time, **details)
        history.append(made)
    return history


class TestAgainstTheOracle:
    @given(history=histories(), cuts=CUTS)
    def test_states_milestones_and_figures(self, history, cuts):
        run, oracle = Run(), Oracle()
        first = 0
        for batch in batches_of([framed(record) for record in history], cuts):
            oracle.changed.clear()
            for record in history[first : first + len(batch)]:
                oracle.add(record)
            first += len(batch)
            said = run.batch(batch)
            # A batch tells the state of just those parcels that it changed, once each.
            changed = oracle.changed
            assert sorted(key.decode() for key, _ in said.states) == sorted(changed)
            states = oracle.states()
            assert {key.decode(): read("ParcelState", value) for key, value in said.states} == {
                name: states[name] for name in changed
            }
            # A parcel that retired is not counted any more, and every other one under its stage.
            assert said.parcels_by_stage == oracle.parcels_by_stage()
        assert run.read_states() == oracle.states()
        assert run.read_milestones() == oracle.milestones
        assert run.scans == oracle.scans
        assert run.duplicates == oracle.duplicates

    @given(seed=SEEDS, size=st.integers(20, 260), cuts=CUTS)
    def test_long_timelines(self, seed, size, cuts):
        history = long_history(seed, size)
        run, oracle = folded(history, cuts), Oracle(history)
        assert run.read_states() == oracle.states()
        assert run.read_milestones() == oracle.milestones
        assert run.duplicates == oracle.duplicates

    def test_many_parcels_outgrow_the_first_arrays(self):
        history = [
            record
            for number in range(3_000)
            for record in (
                advice(f"a{number}", f"P{number}", promised_at=number, owner=f"owner {number}"),
                scan("s", f"P{number}", container_id=f"BAG{number}"),
            )
        ]
        random.Random(5).shuffle(history)
        run = folded(history, [100, 5_000])
        assert run.read_states() == Oracle(history).states()
        assert len(run.stage.table) == 3_000


class TestOrderOfArrival:
    @given(history=histories(), seed=SEEDS, cuts=CUTS)
    def test_any_order_any_repeats_any_batches_give_the_same_bytes(self, history, seed, cuts):
        records = distinct(history)
        dice = random.Random(seed)
        again = records + [record for record in records if dice.random() < 0.3]
        dice.shuffle(again)
        assert folded(again, cuts).states == folded(records).states

    @given(seed=SEEDS, size=st.integers(20, 200), cuts=CUTS)
    def test_long_timelines_too(self, seed, size, cuts):
        records = distinct(long_history(seed, size))
        again = random.Random(seed).sample(records * 2, len(records) * 2)
        assert folded(again, cuts).states == folded(records).states

    @given(history=histories(), cuts=CUTS)
    def test_milestones_do_not_depend_on_the_batches(self, history, cuts):
        split, whole = folded(history, cuts), folded(history)
        assert split.milestones == whole.milestones
        assert split.scans == whole.scans

    @given(history=histories())
    def test_each_milestone_has_an_id_of_its_own(self, history):
        ids = [milestone["milestone_id"] for milestone in folded(history).read_milestones()]
        assert len(set(ids)) == len(ids)

    @given(history=histories())
    def test_the_version_is_the_number_of_distinct_records(self, history):
        records = distinct(history)
        counted = Counter(record["parcel_id"] for record in records)
        states = folded(history).read_states()
        assert {name: state["version"] for name, state in states.items()} == counted
        assert {name: len(state["scans"]) for name, state in states.items()} == counted

    def test_of_contradicting_records_the_first_in_the_log_holds(self):
        one = scan("same", "P", "LOADED", site="LGG")
        other = advice("same", "P", MORNING + 5)
        assert folded([one, other]).states == folded([one]).states
        assert folded([other, one]).states == folded([other]).states
        assert folded([one, other]).milestones == folded([one]).milestones

    def test_a_record_of_another_parcel_is_no_duplicate(self):
        run = folded([scan("same", "P"), scan("same", "Q")])
        assert run.duplicates == 0
        assert sorted(run.states) == [b"P", b"Q"]


class TestRestore:
    @given(history=histories(), cuts=CUTS, at=st.integers(0, 40))
    @example(history=[], cuts=[], at=0)
    def test_a_restored_stage_goes_on_as_if_it_had_never_stopped(self, history, cuts, at):
        values = [framed(record) for record in history]
        self.compare(values[:at], values[at:], cuts)

    @given(seed=SEEDS, size=st.integers(20, 200), at=st.integers(0, 200), cuts=CUTS)
    def test_long_timelines_too(self, seed, size, at, cuts):
        values = [framed(record) for record in long_history(seed, size)]
        self.compare(values[:at], values[at:], cuts)

    @staticmethod
    def compare(before, after, cuts):
        run = Run()
        for batch in batches_of(before, cuts):
            run.batch(batch)
        compacted, whole, in_parts = Run(), Run(), Run()
        # The topic after compaction holds one state a parcel; before it, every state there ever was.
        compacted.stage.restore_states(list(run.states.values()))
        whole.stage.restore_states([value for _, value in run.log])
        for part in batches_of([value for _, value in run.log], cuts):
            in_parts.stage.restore_states(part)
        gauges = run.stage.run([]).parcels_by_stage
        for batch in batches_of(after, cuts):
            said = run.batch(batch)
            for restored in (compacted, whole, in_parts):
                same = restored.batch(batch)
                assert (same.states, same.milestones) == (said.states, said.milestones)
                assert (same.scan_counts, same.duplicates) == (said.scan_counts, said.duplicates)
                assert same.parcels_by_stage == said.parcels_by_stage
            gauges = said.parcels_by_stage
        for restored in (compacted, whole, in_parts):
            assert restored.stage.run([]).parcels_by_stage == gauges
            assert len(restored.stage.table) == len(run.stage.table)

    def test_a_voided_advice_stays_voided(self):
        history = [advice("a", "P"), advice("b", "P", MORNING + 9, direction="EXPORT"), void("v", "P", "b")]
        self.compare([framed(record) for record in history], [framed(scan("e", "P"))], [])

    def test_older_states_of_a_parcel_leave_nothing_behind(self):
        voids = [framed(void(f"v{number}", "P", f"e{number}")) for number in range(40)]
        run = folded([])
        for value in voids:
            run.batch([value])
        whole, compacted = Run(), Run()
        whole.stage.restore_states([value for _, value in run.log] * 30)
        compacted.stage.restore_states(list(run.states.values()))
        # 30 * (1 + … + 40) voids were read: 40 of them count, and their slots are those of 40.
        assert whole.stage.table.arrays.counts[CHUNK_COUNT] == compacted.stage.table.arrays.counts[CHUNK_COUNT]
        assert whole.batch([framed(void("one more", "P", "e"))]).refused == []

    def test_the_hub_time_comes_from_the_position_record(self):
        stage = ParcelProcessor(partition=0, partitions=1)
        stage.restore_hub_time(MORNING)
        assert stage.run([framed(tick(MORNING - 1))]).hub_time == MORNING
        assert stage.run([framed(tick(MORNING + 1))]).hub_time == MORNING + 1
        stage.restore_hub_time(None)
        assert stage.run([]).hub_time is None


class TestTicks:
    @given(times=st.lists(st.integers(MORNING - 9, MORNING + 9)), cuts=CUTS)
    def test_the_largest_one_holds_and_parcels_know_nothing_of_it(self, times, cuts):
        ticks = [tick(time) for time in times]
        run = folded(ticks, cuts)
        assert run.last.hub_time == Oracle(ticks).hub_time
        assert run.log == run.milestones == []


class TestExamples:
    """A few histories told in words, for whoever reads the properties and wonders what they mean."""

    def test_a_void_before_what_it_voids(self):
        late, wrong = scan("e1", "P", "LOADED"), void("v", "P", "e1", MORNING + 9)
        run = folded([wrong, late])
        assert run.milestones == []
        state = run.read_states()["P"]
        assert (state["version"], state["stage"], state["kinds"]) == (2, None, [])

    def test_a_void_of_the_first_scan_passes_the_stage_on_or_takes_it_away(self):
        first, second = scan("e1", "P", "LOADED"), scan("e2", "P", "LOADED", MORNING + 5, site="LUX", station="L-2")
        run = folded([first, second, void("v1", "P", "e1"), void("v2", "P", "e2")])
        told = [
            (said["type"], said["event_time"] - MORNING, said["previous_time"], said["site"])
            for said in run.read_milestones()
        ]
        assert told == [("REACHED", 0, None, "LGG"), ("CORRECTED", 5, MORNING, "LUX"), ("LOST", 5, None, "")]

    def test_other_evidence_for_the_same_time_is_no_milestone(self):
        """Whichever of the two comes first, and when the void takes the first of them away."""
        one, other = (scan(name, "P", "LOADED") for name in ("e1", "e2"))
        for history in ([one, other], [other, one]):
            for target in ("e1", "e2"):
                run = folded([*history, void("v", "P", target)])
                assert [said["type"] for said in run.read_milestones()] == ["REACHED"]

    def test_voids_of_voids_and_second_voids_change_nothing_more(self):
        history = [scan("e", "P"), void("v", "P", "e"), void("w", "P", "e"), void("x", "P", "v"), void("y", "P", "?")]
        run = folded(history)
        state = run.read_states()["P"]
        assert [entry["voided"] for entry in state["scans"] if entry["kind"] != "VOID"] == [True]
        assert not any(entry["voided"] for entry in state["scans"] if entry["kind"] == "VOID")
        assert [said["type"] for said in run.read_milestones()] == ["REACHED", "LOST"]

    def test_a_void_that_repeats_the_event_id_of_its_target_is_a_record_of_its_own(self):
        run = folded([scan("e", "P"), void("e", "P", "e", MORNING + 1), void("e", "P", "e", MORNING + 1)])
        assert run.read_states()["P"]["version"] == 2
        assert run.duplicates == 1

    def test_an_advice_corrected_after_arrival_does_not_move_the_parcel_back(self):
        history = [advice("a", "P"), scan("e", "P", "SORTED"), advice("b", "P", MORNING + 9, direction="TRANSIT")]
        run = folded(history)
        state = run.read_states()["P"]
        assert (state["stage"], state["plan"]["direction"]) == ("SORTED", "TRANSIT")
        assert run.last.parcels_by_stage["SORTED"] == 1

    def test_a_later_advice_without_a_promise_takes_the_promise_back(self):
        run = folded([advice("a", "P", promised_at=7), advice("b", "P", MORNING + 9)])
        assert run.read_states()["P"]["promised_at"] is None

    def test_a_later_scan_without_a_lane_keeps_the_lane(self):
        run = folded([scan("e", "P", "SORTED", lane="N"), scan("f", "P", "LOADED", MORNING + 9)])
        assert run.read_states()["P"]["lane"] == "N"

    def test_a_voided_advice_gives_the_plan_back_to_the_one_before(self):
        history = [advice("a", "P", promised_at=7), advice("b", "P", MORNING + 9, direction="EXPORT")]
        run = folded([*history, void("v", "P", "b"), scan("e", "P")])
        state = run.read_states()["P"]
        assert (state["plan"]["direction"], state["promised_at"]) == ("IMPORT", 7)
        assert run.read_milestones()[-1]["direction"] == "IMPORT"
