"""The state of a parcel is a function of the set of its records; its milestones depend on their order in the log."""

import random
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from streams.domain.kinds import DIRECTIONS, KINDS
from streams.kernel.parcel_table import CHUNK_COUNT
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle, record_hash_of
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


class ProcessorRun:
    """The outputs of a processor over several batches."""

    def __init__(self, processor=None):
        self.processor = processor or ParcelProcessor(partition=0, partitions=1)
        self.log = []  # all states and tombstones, as in the topic
        self.milestones = []
        self.alerts = []
        self.throughput = Counter()
        self.scans = Counter()
        self.duplicates = 0
        self.last = None

    def run_batch(self, values):
        self.last = self.processor.run(values)
        assert self.last.rejects == []
        self.log += [*self.last.tombstones, *self.last.states]
        self.milestones += self.last.milestones
        self.alerts += self.last.alerts
        for _, value in self.last.throughput:
            delta = read("ThroughputDelta", value)
            assert delta["count"] != 0
            self.throughput[tuple(delta[name] for name in ("site", "station", "kind", "direction", "minute"))] += delta[
                "count"
            ]
        self.scans.update(self.last.scan_counts)
        self.duplicates += self.last.duplicates
        return self.last

    @property
    def states(self):
        """parcel_id -> bytes of the latest state, as in a compacted topic."""
        return {key: value for key, value in dict(self.log).items() if value}

    def read_states(self):
        return {key.decode(): read("ParcelState", value) for key, value in self.states.items()}

    def read_milestones(self):
        milestones = [read("Milestone", value) for _, value in self.milestones]
        assert [key.decode() for key, _ in self.milestones] == [milestone["parcel_id"] for milestone in milestones]
        return milestones

    def read_alerts(self):
        alerts = [read("Alert", value) for _, value in self.alerts]
        assert [key.decode() for key, _ in self.alerts] == [alert["parcel_id"] for alert in alerts]
        return alerts


def fold_records(records, cuts=(), promises=None):
    run = ProcessorRun(ParcelProcessor(0, 1, promises))
    for batch in batches_of([framed(record) for record in records], cuts):
        run.run_batch(batch)
    return run


def distinct(history):
    """The first record with each record hash."""
    return list({(record["parcel_id"], record_hash_of(record)): record for record in reversed(history)}.values())


def long_history(seed, size, parcels=("P", "Q")):
    """Hundreds of records of one or two parcels, so that a timeline fills many chunks."""
    rng = random.Random(seed)
    history = []
    for number in range(size):
        ids = f"event {rng.randrange(size)}", rng.choice(parcels)
        time = MORNING + rng.randrange(size // 4)
        match rng.randrange(12):
            case 0:
                record = advice(*ids, time, direction=rng.choice(DIRECTIONS), promised_at=rng.choice((None, number)))
            case 1 | 2:
                record = void(*ids, f"event {rng.randrange(size)}", time)
            case _:
                details = {
                    "site": rng.choice(("LGG", "LUX", "", *LONG_TEXTS)),
                    "station": f"S-{rng.randrange(5)}",
                    "lane": rng.choice((None, "N", "S")),
                    "reason": rng.choice((None, "why")),
                    "container_id": rng.choice((None, "BAG", f"BAG{number}")),
                }
                record = scan(*ids, rng.choice(KINDS[:-1]), time, **details)
        history.append(record)
    return history


class TestAgainstTheOracle:
    @given(history=histories(), cuts=CUTS)
    def test_states_milestones_and_figures(self, history, cuts):
        run, oracle = ProcessorRun(), Oracle()
        first = 0
        for batch in batches_of([framed(record) for record in history], cuts):
            oracle.changed.clear()
            for record in history[first : first + len(batch)]:
                oracle.add(record)
            first += len(batch)
            output = run.run_batch(batch)
            # A batch has the states of the parcels that it changed, once each.
            changed = oracle.changed
            assert sorted(key.decode() for key, _ in output.states) == sorted(changed)
            states = oracle.states()
            assert {key.decode(): read("ParcelState", value) for key, value in output.states} == {
                name: states[name] for name in changed
            }
            # Every parcel is counted under its stage, except retired parcels.
            assert output.parcels_by_stage == oracle.parcels_by_stage()
        assert run.read_states() == oracle.states()
        assert run.read_milestones() == oracle.milestones
        assert run.scans == oracle.scans
        assert run.duplicates == oracle.duplicates

    @given(seed=SEEDS, size=st.integers(20, 260), cuts=CUTS)
    def test_long_timelines(self, seed, size, cuts):
        history = long_history(seed, size)
        run, oracle = fold_records(history, cuts), Oracle(history)
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
        run = fold_records(history, [100, 5_000])
        assert run.read_states() == Oracle(history).states()
        assert len(run.processor.table) == 3_000


class TestOrderOfArrival:
    @given(history=histories(), seed=SEEDS, cuts=CUTS)
    def test_any_order_with_duplicates_in_any_batches_gives_the_same_bytes(self, history, seed, cuts):
        records = distinct(history)
        rng = random.Random(seed)
        again = records + [record for record in records if rng.random() < 0.3]
        rng.shuffle(again)
        assert fold_records(again, cuts).states == fold_records(records).states

    @given(seed=SEEDS, size=st.integers(20, 200), cuts=CUTS)
    def test_long_timelines_too(self, seed, size, cuts):
        records = distinct(long_history(seed, size))
        again = random.Random(seed).sample(records * 2, len(records) * 2)
        assert fold_records(again, cuts).states == fold_records(records).states

    @given(history=histories(), cuts=CUTS)
    def test_milestones_do_not_depend_on_the_batches(self, history, cuts):
        split, whole = fold_records(history, cuts), fold_records(history)
        assert split.milestones == whole.milestones
        assert split.scans == whole.scans

    @given(history=histories())
    def test_each_milestone_has_an_id_of_its_own(self, history):
        ids = [milestone["milestone_id"] for milestone in fold_records(history).read_milestones()]
        assert len(set(ids)) == len(ids)

    @given(history=histories())
    def test_the_version_is_the_number_of_distinct_records(self, history):
        records = distinct(history)
        counted = Counter(record["parcel_id"] for record in records)
        states = fold_records(history).read_states()
        assert {name: state["version"] for name, state in states.items()} == counted
        assert {name: len(state["timeline"]) for name, state in states.items()} == counted

    def test_of_two_records_with_one_event_id_the_first_in_the_log_counts(self):
        first = scan("same", "P", "LOADED", site="LGG")
        second = advice("same", "P", MORNING + 5)
        assert fold_records([first, second]).states == fold_records([first]).states
        assert fold_records([second, first]).states == fold_records([second]).states
        assert fold_records([first, second]).milestones == fold_records([first]).milestones

    def test_a_record_of_another_parcel_is_no_duplicate(self):
        run = fold_records([scan("same", "P"), scan("same", "Q")])
        assert run.duplicates == 0
        assert sorted(run.states) == [b"P", b"Q"]


class TestRestore:
    @given(history=histories(), cuts=CUTS, cut=st.integers(0, 40))
    @example(history=[], cuts=[], cut=0)
    def test_a_restored_processor_continues_as_if_it_had_never_stopped(self, history, cuts, cut):
        values = [framed(record) for record in history]
        self.compare(values[:cut], values[cut:], cuts)

    @given(seed=SEEDS, size=st.integers(20, 200), cut=st.integers(0, 200), cuts=CUTS)
    def test_long_timelines_too(self, seed, size, cut, cuts):
        values = [framed(record) for record in long_history(seed, size)]
        self.compare(values[:cut], values[cut:], cuts)

    @staticmethod
    def compare(before, after, cuts):
        run = ProcessorRun()
        for batch in batches_of(before, cuts):
            run.run_batch(batch)
        compacted, whole, in_parts = ProcessorRun(), ProcessorRun(), ProcessorRun()
        # The topic holds one state a parcel after compaction, and every earlier state before it.
        compacted.processor.restore_states(list(run.states.values()))
        whole.processor.restore_states([value for _, value in run.log])
        for part in batches_of([value for _, value in run.log], cuts):
            in_parts.processor.restore_states(part)
        gauges = run.processor.run([]).parcels_by_stage
        for batch in batches_of(after, cuts):
            output = run.run_batch(batch)
            for restored in (compacted, whole, in_parts):
                same_output = restored.run_batch(batch)
                assert (same_output.states, same_output.milestones) == (output.states, output.milestones)
                assert (same_output.scan_counts, same_output.duplicates) == (output.scan_counts, output.duplicates)
                assert same_output.parcels_by_stage == output.parcels_by_stage
            gauges = output.parcels_by_stage
        for restored in (compacted, whole, in_parts):
            assert restored.processor.run([]).parcels_by_stage == gauges
            assert len(restored.processor.table) == len(run.processor.table)

    def test_a_voided_advice_stays_voided(self):
        history = [advice("a", "P"), advice("b", "P", MORNING + 9, direction="EXPORT"), void("v", "P", "b")]
        self.compare([framed(record) for record in history], [framed(scan("e", "P"))], [])

    def test_older_states_of_a_parcel_leave_nothing_behind(self):
        voids = [framed(void(f"v{number}", "P", f"e{number}")) for number in range(40)]
        run = fold_records([])
        for value in voids:
            run.run_batch([value])
        whole, compacted = ProcessorRun(), ProcessorRun()
        whole.processor.restore_states([value for _, value in run.log] * 30)
        compacted.processor.restore_states(list(run.states.values()))
        # 30 * (1 + … + 40) voids were read; the table has the slots of the last 40 only.
        assert whole.processor.table.arrays.counts[CHUNK_COUNT] == compacted.processor.table.arrays.counts[CHUNK_COUNT]
        assert whole.run_batch([framed(void("one more", "P", "e"))]).rejects == []

    def test_the_hub_time_comes_from_the_position_record(self):
        processor = ParcelProcessor(partition=0, partitions=1)
        processor.restore_hub_time(MORNING)
        assert processor.run([framed(tick(MORNING - 1))]).hub_time == MORNING
        assert processor.run([framed(tick(MORNING + 1))]).hub_time == MORNING + 1
        processor.restore_hub_time(None)
        assert processor.run([]).hub_time is None


class TestTicks:
    @given(times=st.lists(st.integers(MORNING - 9, MORNING + 9)), cuts=CUTS)
    def test_the_largest_is_the_hub_time_and_has_no_effect_without_parcels(self, times, cuts):
        ticks = [tick(time) for time in times]
        run = fold_records(ticks, cuts)
        assert run.last.hub_time == Oracle(ticks).hub_time
        assert run.log == run.milestones == []


class TestExamples:
    """A few histories that illustrate the properties above."""

    def test_a_void_before_its_target(self):
        late, wrong = scan("e1", "P", "LOADED"), void("v", "P", "e1", MORNING + 9)
        run = fold_records([wrong, late])
        assert run.milestones == []
        state = run.read_states()["P"]
        assert (state["version"], state["stage"], state["kinds"]) == (2, None, [])

    def test_a_void_of_the_first_scan_corrects_or_retracts_the_milestone(self):
        first, second = scan("e1", "P", "LOADED"), scan("e2", "P", "LOADED", MORNING + 5, site="LUX", station="L-2")
        run = fold_records([first, second, void("v1", "P", "e1"), void("v2", "P", "e2")])
        milestones = [
            (milestone["type"], milestone["event_time"] - MORNING, milestone["previous_time"], milestone["site"])
            for milestone in run.read_milestones()
        ]
        assert milestones == [("REACHED", 0, None, "LGG"), ("CORRECTED", 5, MORNING, "LUX"), ("RETRACTED", 5, None, "")]

    def test_other_evidence_for_the_same_time_is_no_milestone(self):
        """In both orders of arrival, and when a void removes either of them."""
        first, second = (scan(name, "P", "LOADED") for name in ("e1", "e2"))
        for history in ([first, second], [second, first]):
            for target in ("e1", "e2"):
                run = fold_records([*history, void("v", "P", target)])
                assert [milestone["type"] for milestone in run.read_milestones()] == ["REACHED"]

    def test_voids_of_voids_and_second_voids_have_no_effect(self):
        history = [scan("e", "P"), void("v", "P", "e"), void("w", "P", "e"), void("x", "P", "v"), void("y", "P", "?")]
        run = fold_records(history)
        state = run.read_states()["P"]
        assert [entry["voided"] for entry in state["timeline"] if entry["kind"] != "VOID"] == [True]
        assert not any(entry["voided"] for entry in state["timeline"] if entry["kind"] == "VOID")
        assert [milestone["type"] for milestone in run.read_milestones()] == ["REACHED", "RETRACTED"]

    def test_a_void_with_the_event_id_of_its_target_is_a_record_of_its_own(self):
        run = fold_records([scan("e", "P"), void("e", "P", "e", MORNING + 1), void("e", "P", "e", MORNING + 1)])
        assert run.read_states()["P"]["version"] == 2
        assert run.duplicates == 1

    def test_an_advice_corrected_after_arrival_does_not_move_the_parcel_back(self):
        history = [advice("a", "P"), scan("e", "P", "SORTED"), advice("b", "P", MORNING + 9, direction="TRANSIT")]
        run = fold_records(history)
        state = run.read_states()["P"]
        assert (state["stage"], state["plan"]["direction"]) == ("SORTED", "TRANSIT")
        assert run.last.parcels_by_stage["SORTED"] == 1

    def test_a_later_advice_without_a_promise_removes_the_promise(self):
        run = fold_records([advice("a", "P", promised_at=7), advice("b", "P", MORNING + 9)])
        assert run.read_states()["P"]["promised_at"] is None

    def test_a_later_scan_without_a_lane_keeps_the_lane(self):
        run = fold_records([scan("e", "P", "SORTED", lane="N"), scan("f", "P", "LOADED", MORNING + 9)])
        assert run.read_states()["P"]["lane"] == "N"

    def test_after_a_voided_advice_the_plan_is_that_of_the_one_before(self):
        history = [advice("a", "P", promised_at=7), advice("b", "P", MORNING + 9, direction="EXPORT")]
        run = fold_records([*history, void("v", "P", "b"), scan("e", "P")])
        state = run.read_states()["P"]
        assert (state["plan"]["direction"], state["promised_at"]) == ("IMPORT", 7)
        assert run.read_milestones()[-1]["direction"] == "IMPORT"
