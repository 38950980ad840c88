"""Records inferred from a container count only while the parcel is in it, by its own records, in any order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.containment import ContainmentRecord, evaluate_containment
from streams.domain.promises import Promises
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle, identity_of
from tests.kernel.records import CUTS, MORNING, advice, batches_of, framed, scan, tick, void
from tests.kernel.test_fold import Run, folded
from tests.kernel.test_promise_clock_cases import Told as Happened
from tests.kernel.test_promise_clock_cases import at, hour

SEEDS = st.integers(0, 2**32)
MINUTE = 60_000
KINDS = (
    "PACKED", "PACKED", "UNPACKED", "UNPACKED", "ARRIVED", "UNLOADED", "LOADED", "DISPATCHED", "INDUCTED", "SORTED",
    "CUSTOMS_HELD", "CUSTOMS_RELEASED", "DAMAGED", "DELIVERED", "LOST",
)  # fmt: skip


def journey(seed, size, parcels=("P", "Q"), ticks=True):
    """Packings, scans of containers and own scans, few of each, so that they contradict each other again and again."""
    dice = random.Random(seed)
    log, ids = [], []
    for number in range(size):
        parcel = dice.choice(parcels)
        time = MORNING + dice.randrange(size // 2 + 1) * dice.choice((MINUTE, MINUTE, 60 * MINUTE))
        if ticks and dice.random() < 0.1:
            log.append(tick(time))
            continue
        if dice.random() < 0.15 and ids:
            log.append(void(f"v{number}", parcel, dice.choice(ids), time))
            continue
        if dice.random() < 0.03:
            log.append(advice(f"a{number}", parcel, time, direction=dice.choice(("IMPORT", "EXPORT"))))
            continue
        ids.append(f"e{number}")
        kind = dice.choice(KINDS)
        inferred = dice.random() < 0.6
        log.append(
            scan(
                ids[-1],
                parcel,
                kind,
                time,
                site=dice.choice(("LGG", "LGG", "LUX")),
                reason=dice.choice((None, "EMPTIED")) if kind == "UNPACKED" else None,
                container_id=dice.choice(("BAG1", "BAG2", "BAG1", None)),
                inferred_from=f"c{number}" if inferred else None,
            )
        )
    dice.shuffle(log)
    return log


def compare(log, cuts=(), promises=None):
    run, oracle = Run(ParcelProcessor(0, 1, promises)), Oracle(promises=promises)
    first = 0
    for batch in batches_of([framed(record) for record in log], cuts):
        for record in log[first : first + len(batch)]:
            oracle.add(record)
        first += len(batch)
        run.batch(batch)
    assert run.read_states() == oracle.states()
    assert run.read_milestones() == oracle.milestones
    assert {key: count for key, count in run.throughput.items() if count} == oracle.counted()
    return run, oracle


def read_alerts_in_order(alerts):
    return sorted(alerts, key=lambda alert: (alert["hub_time"], alert["parcel_id"], alert["alert_id"]))


class TestAgainstTheOracle:
    @given(seed=SEEDS, size=st.integers(2, 60), cuts=CUTS)
    def test_states_milestones_and_counts(self, seed, size, cuts):
        compare(journey(seed, size), cuts)

    @given(seed=SEEDS, size=st.integers(2, 80), cuts=CUTS)
    def test_alerts(self, seed, size, cuts):
        run, oracle = compare(journey(seed, size), cuts)
        assert read_alerts_in_order(run.read_alerts()) == read_alerts_in_order(oracle.alerts)

    @given(seed=SEEDS, size=st.integers(2, 60), shuffled=SEEDS)
    def test_the_order_of_arrival_means_nothing(self, seed, size, shuffled):
        log = journey(seed, size, ticks=False)
        other = list(log)
        random.Random(shuffled).shuffle(other)
        promises = Promises.empty()
        one, two = folded(log, promises=promises), folded(other, promises=promises)
        assert one.read_states() == two.read_states()

    @given(seed=SEEDS, size=st.integers(4, 60), share=st.floats(0, 1))
    def test_a_restored_stage_goes_on_as_if_nothing_had_been(self, seed, size, share):
        log = journey(seed, size, ticks=False)
        cut = round(share * size)
        whole, begun = folded(log), folded(log[:cut])
        stage = ParcelProcessor(0, 1)
        stage.restore_states([value for _, value in begun.log if value])
        rest = Run(stage)
        rest.batch([framed(record) for record in log[cut:]])
        assert begun.states | rest.states == whole.states
        assert begun.milestones + rest.milestones == whole.milestones


def story(*records):
    log = [scan(f"e{number}", "P", kind, MORNING + number * MINUTE, **more) for number, (kind, more) in records]
    return folded([*log, tick(MORNING + 10**9)])


def packed(container="BAG", site="HGH", **more):
    return "PACKED", {"container_id": container, "inferred_from": "m", "site": site, **more}


def moved(kind, container="BAG", site="LGG", **more):
    return kind, {"container_id": container, "inferred_from": "c", "site": site, **more}


def own(kind, site="LGG", **more):
    return kind, {"site": site, **more}


def state_of(*records):
    return story(*enumerate(records)).read_states()["P"]


class TestStories:
    def test_what_its_bag_goes_through_it_goes_through(self):
        state = state_of(packed(), moved("ARRIVED"), moved("UNLOADED"))
        assert (state["stage"], state["site"], state["container_id"]) == ("UNLOADED", "LGG", "BAG")

    def test_taken_out_late_it_was_not_there(self):
        state = story(
            (0, packed()), (2, moved("ARRIVED")), (3, moved("UNLOADED")), (1, moved("UNPACKED", site="HGH"))
        ).read_states()["P"]
        assert (state["stage"], state["site"], state["container_id"]) == ("UNPACKED", "HGH", None)
        assert [entry["voided"] for entry in state["scans"]] == [False, False, True, True]

    def test_and_it_was_there_after_all_when_the_removal_was_wrong(self):
        log = [
            scan("e0", "P", "PACKED", MORNING, container_id="BAG", inferred_from="m"),
            scan("e2", "P", "ARRIVED", MORNING + 2, container_id="BAG", inferred_from="c"),
            scan("e1", "P", "UNPACKED", MORNING + 1, container_id="BAG", inferred_from="r"),
            void("v", "P", "e1", MORNING + 3),
        ]
        run = folded(log)
        assert run.read_states()["P"]["stage"] == "ARRIVED"
        told = [(milestone["type"], milestone["stage"]) for milestone in run.read_milestones()]
        assert told == [
            ("REACHED", "PACKED"),
            ("REACHED", "ARRIVED"),
            ("LOST", "ARRIVED"),
            ("REACHED", "UNPACKED"),
            ("REACHED", "ARRIVED"),
            ("LOST", "UNPACKED"),
        ]

    def test_moved_to_another_bag_the_first_one_means_nothing_to_it(self):
        state = state_of(packed("BAG1"), packed("BAG2"), moved("ARRIVED", "BAG1", "LUX"), moved("ARRIVED", "BAG2"))
        assert (state["site"], state["container_id"]) == ("LGG", "BAG2")

    def test_what_was_seen_beats_what_was_inferred(self):
        state = state_of(packed(), moved("ARRIVED", site="LGG"), own("DAMAGED", "LUX"), moved("UNLOADED", site="LGG"))
        assert (state["stage"], state["site"], state["container_id"]) == ("ARRIVED", "LUX", None)

    def test_where_a_container_is_on_its_way_is_not_known(self):
        state = state_of(packed(site="LGG"), moved("DISPATCHED"), own("DAMAGED", "LUX"), moved("ARRIVED", site="LUX"))
        assert (state["stage"], state["container_id"]) == ("ARRIVED", "BAG")

    def test_a_packing_that_was_declared_wrong_leaves_it_in_nothing(self):
        log = [
            scan("e0", "P", "PACKED", MORNING, container_id="BAG", inferred_from="m"),
            scan("e1", "P", "ARRIVED", MORNING + 1, container_id="BAG", inferred_from="c"),
            void("v", "P", "e0", MORNING + 2),
        ]
        assert folded(log).read_states()["P"]["stage"] is None

    def test_without_any_packing_what_is_inferred_is_believed(self):
        assert state_of(moved("ARRIVED"), moved("UNLOADED"))["stage"] == "UNLOADED"

    def test_declared_wrong_while_set_aside_it_stays_away(self):
        log = [
            scan("e0", "P", "PACKED", MORNING, container_id="BAG", inferred_from="m"),
            scan("e1", "P", "UNPACKED", MORNING + 1, container_id="BAG", inferred_from="r"),
            scan("e2", "P", "ARRIVED", MORNING + 2, container_id="BAG", inferred_from="c"),
            void("v2", "P", "e2", MORNING + 3),
            void("v1", "P", "e1", MORNING + 4),
        ]
        assert folded(log).read_states()["P"]["stage"] == "PACKED"


class TestThePlainJudge:
    def test_what_is_declared_wrong_is_not_set_aside(self):
        records = (
            ContainmentRecord("PACKED", "LGG", "BAG", True),
            ContainmentRecord("SORTED", "LGG", None, False),
            ContainmentRecord("LOADED", "LGG", "BAG", True, voided=True),
        )
        assert evaluate_containment(records).superseded == [False, False, False]


class TestPackedByItsOwnScan:
    """A container that may not know of it."""

    OWN = ContainmentRecord("PACKED", "LGG", "BAG", False)
    DECLARED = ContainmentRecord("PACKED", "HGH", "BAG", True)
    REMOVED = ContainmentRecord("UNPACKED", "LGG", "BAG", True)
    EMPTIED = ContainmentRecord("UNPACKED", "LGG", "BAG", True, reason="EMPTIED")
    LOADED = ContainmentRecord("LOADED", "LGG", "BAG", True)

    def test_what_is_inferred_counts_where_the_container_declares_it_too(self):
        assert evaluate_containment([self.OWN, self.LOADED]).superseded == [False, True]
        assert evaluate_containment([self.DECLARED, self.OWN, self.LOADED]).superseded == [False, False, False]
        assert evaluate_containment([self.OWN, self.DECLARED, self.LOADED]).superseded == [False, False, False]
        assert evaluate_containment([self.DECLARED, self.REMOVED, self.OWN, self.LOADED]).superseded == [
            False,
            False,
            False,
            True,
        ]
        assert evaluate_containment([self.DECLARED._replace(voided=True), self.OWN, self.LOADED]).superseded == [
            False,
            False,
            True,
        ]

    def test_an_emptying_counts_likewise_and_a_removal_that_names_it_always(self):
        assert evaluate_containment([self.OWN, self.EMPTIED]).superseded == [False, True]
        assert evaluate_containment([self.OWN, self.DECLARED, self.EMPTIED]).inside[-1] is None
        assert evaluate_containment([self.OWN, self.REMOVED]).inside == ["BAG", None]

    def test_what_the_container_said_while_it_was_in_another_is_heard(self):
        other = ContainmentRecord("PACKED", "LGG", "OTHER", False)
        records = [self.DECLARED, other, self.REMOVED, self.OWN, self.LOADED]
        assert evaluate_containment(records).superseded == [False, False, True, False, True]


class TestAnomalies:
    ALL = Promises.parse({})

    def told(self, *log):
        return Happened(*log, promises=self.ALL).said

    @staticmethod
    def in_bag(kind, hours, event_id=None, **more):
        more = {"container_id": "BAG", "inferred_from": "c", **more}
        return scan(event_id or f"{kind}{hours}", "P", kind, at(hours), **more)

    def test_seen_on_its_own_while_its_bag_is_closed(self):
        packed, found = self.in_bag("PACKED", 0), scan("own", "P", "SORTED", at(2))
        told = Happened(packed, found, hour(3), promises=self.ALL)
        assert told.said == [("ANOMALY", "FOUND_OUTSIDE", 3)]
        assert told.alerts[0]["evidence"] == [identity_of(packed), identity_of(found)]
        opened = self.in_bag("UNPACKED", 1)
        assert self.told(packed, opened, found, hour(3)) == []
        assert self.told(packed, found, hour(3), opened, hour(4))[-1] == ("WITHDRAWN", "FOUND_OUTSIDE", 4)

    def test_declared_in_two_bags_at_once(self):
        first, second = self.in_bag("PACKED", 0), self.in_bag("PACKED", 1, container_id="BAG2")
        told = Happened(first, second, hour(2), promises=self.ALL)
        assert told.said == [("ANOMALY", "FOUND_OUTSIDE", 2)]
        assert told.alerts[0]["evidence"] == [identity_of(first), identity_of(second)]
        removed = self.in_bag("UNPACKED", 0.5)
        assert self.told(first, removed, second, hour(2)) == []
        assert self.told(first, second, hour(2), removed, hour(3))[-1] == ("WITHDRAWN", "FOUND_OUTSIDE", 3)

    def test_seen_at_another_site_than_its_bag(self):
        log = (self.in_bag("PACKED", 0), self.in_bag("ARRIVED", 1, site="LGG"))
        assert self.told(*log, scan("own", "P", "DAMAGED", at(2), site="LUX"), hour(3)) == [
            ("ANOMALY", "FOUND_OUTSIDE", 3)
        ]
        assert self.told(*log, scan("own", "P", "DAMAGED", at(2), site="LGG"), hour(3)) == []

    def test_what_happens_to_it_after_its_bag_has_left_is_nobodys_wonder(self):
        log = (self.in_bag("PACKED", 0), self.in_bag("CUSTOMS_RELEASED", 0), self.in_bag("DISPATCHED", 1))
        assert self.told(*log, scan("own", "P", "SORTED", at(9), site="LUX"), hour(10)) == []

    def test_not_seen_when_its_bag_was_emptied(self):
        log = (self.in_bag("PACKED", 0), self.in_bag("UNPACKED", 1, reason="EMPTIED"))
        assert self.told(*log, hour(3)) == []
        assert self.told(*log, hour(4)) == [("ANOMALY", "MISSING", 4)]
        assert self.told(*log, scan("own", "P", "SORTED", at(2)), hour(4)) == []
        found = Happened(*log, hour(4), own_scan := scan("own", "P", "SORTED", at(5)), hour(6), promises=self.ALL)
        assert found.said[-1] == ("WITHDRAWN", "MISSING", 6)
        assert found.alerts[-1]["evidence"] == [identity_of(own_scan)]

    def test_taken_out_of_a_bag_that_it_was_never_put_into(self):
        extra = self.in_bag("UNPACKED", 1)
        assert self.told(extra, hour(2)) == [("ANOMALY", "FOUND_EXTRA", 2)]
        assert self.told(extra, hour(2), self.in_bag("PACKED", 0), hour(3))[-1] == ("WITHDRAWN", "FOUND_EXTRA", 3)

    def test_a_scan_by_hand_names_any_bag_where_nothing_is_known_of_bags(self):
        assert self.told(scan("own", "P", "UNPACKED", at(1), container_id="BAG"), hour(2)) == []
