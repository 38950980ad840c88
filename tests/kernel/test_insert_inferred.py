"""Records inferred from a container count only while the parcel is in it, by its own records, in any order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.containment import ContainmentRecord, evaluate_containment
from streams.domain.promises import Promises
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle, record_hash_of
from tests.kernel.records import CUTS, MORNING, advice, batches_of, framed, scan, tick, void
from tests.kernel.test_fold import ProcessorRun, fold_records
from tests.kernel.test_promise_clock_cases import AlertCase, hour, time_at

SEEDS = st.integers(0, 2**32)
MINUTE = 60_000
KINDS = (
    "PACKED", "PACKED", "UNPACKED", "UNPACKED", "ARRIVED", "UNLOADED", "LOADED", "DISPATCHED", "INDUCTED", "SORTED",
    "CUSTOMS_HELD", "CUSTOMS_RELEASED", "DAMAGED", "DELIVERED", "LOST",
)  # fmt: skip


def journey(seed, size, parcels=("P", "Q"), ticks=True):
    """Packings, container scans and own scans with few different values, so that they often contradict each other."""
    rng = random.Random(seed)
    log, ids = [], []
    for number in range(size):
        parcel = rng.choice(parcels)
        time = MORNING + rng.randrange(size // 2 + 1) * rng.choice((MINUTE, MINUTE, 60 * MINUTE))
        if ticks and rng.random() < 0.1:
            log.append(tick(time))
            continue
        if rng.random() < 0.15 and ids:
            log.append(void(f"v{number}", parcel, rng.choice(ids), time))
            continue
        if rng.random() < 0.03:
            log.append(advice(f"a{number}", parcel, time, direction=rng.choice(("IMPORT", "EXPORT"))))
            continue
        ids.append(f"e{number}")
        kind = rng.choice(KINDS)
        inferred = rng.random() < 0.6
        log.append(
            scan(
                ids[-1],
                parcel,
                kind,
                time,
                site=rng.choice(("LGG", "LGG", "LUX")),
                reason=rng.choice((None, "EMPTIED")) if kind == "UNPACKED" else None,
                container_id=rng.choice(("BAG1", "BAG2", "BAG1", None)),
                inferred_from=f"c{number}" if inferred else None,
            )
        )
    rng.shuffle(log)
    return log


def compare(log, cuts=(), promises=None):
    run, oracle = ProcessorRun(ParcelProcessor(0, 1, promises)), Oracle(promises=promises)
    first = 0
    for batch in batches_of([framed(record) for record in log], cuts):
        for record in log[first : first + len(batch)]:
            oracle.add(record)
        first += len(batch)
        run.run_batch(batch)
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
    def test_the_order_of_arrival_has_no_effect(self, seed, size, shuffled):
        log = journey(seed, size, ticks=False)
        reordered = list(log)
        random.Random(shuffled).shuffle(reordered)
        promises = Promises.empty()
        run, reordered_run = fold_records(log, promises=promises), fold_records(reordered, promises=promises)
        assert run.read_states() == reordered_run.read_states()

    @given(seed=SEEDS, size=st.integers(4, 60), share=st.floats(0, 1))
    def test_a_restored_processor_continues_as_if_it_had_never_stopped(self, seed, size, share):
        log = journey(seed, size, ticks=False)
        cut = round(share * size)
        whole, first_part = fold_records(log), fold_records(log[:cut])
        processor = ParcelProcessor(0, 1)
        processor.restore_states([value for _, value in first_part.log if value])
        rest = ProcessorRun(processor)
        rest.run_batch([framed(record) for record in log[cut:]])
        assert first_part.states | rest.states == whole.states
        assert first_part.milestones + rest.milestones == whole.milestones


def fold_story(*records):
    log = [scan(f"e{number}", "P", kind, MORNING + number * MINUTE, **more) for number, (kind, more) in records]
    return fold_records([*log, tick(MORNING + 10**9)])


def packed(container="BAG", site="HGH", **more):
    return "PACKED", {"container_id": container, "inferred_from": "m", "site": site, **more}


def container_scan(kind, container="BAG", site="LGG", **more):
    return kind, {"container_id": container, "inferred_from": "c", "site": site, **more}


def own_scan(kind, site="LGG", **more):
    return kind, {"site": site, **more}


def state_of(*records):
    return fold_story(*enumerate(records)).read_states()["P"]


class TestStories:
    def test_scans_of_its_bag_apply_to_the_parcel(self):
        state = state_of(packed(), container_scan("ARRIVED"), container_scan("UNLOADED"))
        assert (state["stage"], state["site"], state["container_id"]) == ("UNLOADED", "LGG", "BAG")

    def test_a_late_removal_supersedes_the_later_scans_of_the_bag(self):
        state = fold_story(
            (0, packed()),
            (2, container_scan("ARRIVED")),
            (3, container_scan("UNLOADED")),
            (1, container_scan("UNPACKED", site="HGH")),
        ).read_states()["P"]
        assert (state["stage"], state["site"], state["container_id"]) == ("UNPACKED", "HGH", None)
        assert [entry["voided"] for entry in state["timeline"]] == [False, False, True, True]

    def test_a_voided_removal_restores_the_later_scans_of_the_bag(self):
        log = [
            scan("e0", "P", "PACKED", MORNING, container_id="BAG", inferred_from="m"),
            scan("e2", "P", "ARRIVED", MORNING + 2, container_id="BAG", inferred_from="c"),
            scan("e1", "P", "UNPACKED", MORNING + 1, container_id="BAG", inferred_from="r"),
            void("v", "P", "e1", MORNING + 3),
        ]
        run = fold_records(log)
        assert run.read_states()["P"]["stage"] == "ARRIVED"
        milestones = [(milestone["type"], milestone["stage"]) for milestone in run.read_milestones()]
        assert milestones == [
            ("REACHED", "PACKED"),
            ("REACHED", "ARRIVED"),
            ("RETRACTED", "ARRIVED"),
            ("REACHED", "UNPACKED"),
            ("REACHED", "ARRIVED"),
            ("RETRACTED", "UNPACKED"),
        ]

    def test_after_moving_to_another_bag_scans_of_the_first_bag_do_not_count(self):
        state = state_of(
            packed("BAG1"), packed("BAG2"), container_scan("ARRIVED", "BAG1", "LUX"), container_scan("ARRIVED", "BAG2")
        )
        assert (state["site"], state["container_id"]) == ("LGG", "BAG2")

    def test_an_own_scan_overrides_inferred_scans(self):
        state = state_of(
            packed(),
            container_scan("ARRIVED", site="LGG"),
            own_scan("DAMAGED", "LUX"),
            container_scan("UNLOADED", site="LGG"),
        )
        assert (state["stage"], state["site"], state["container_id"]) == ("ARRIVED", "LUX", None)

    def test_an_own_scan_while_the_container_is_in_transit_contradicts_nothing(self):
        state = state_of(
            packed(site="LGG"),
            container_scan("DISPATCHED"),
            own_scan("DAMAGED", "LUX"),
            container_scan("ARRIVED", site="LUX"),
        )
        assert (state["stage"], state["container_id"]) == ("ARRIVED", "BAG")

    def test_after_a_voided_packing_the_parcel_is_in_no_container(self):
        log = [
            scan("e0", "P", "PACKED", MORNING, container_id="BAG", inferred_from="m"),
            scan("e1", "P", "ARRIVED", MORNING + 1, container_id="BAG", inferred_from="c"),
            void("v", "P", "e0", MORNING + 2),
        ]
        assert fold_records(log).read_states()["P"]["stage"] is None

    def test_without_any_packing_inferred_scans_count(self):
        assert state_of(container_scan("ARRIVED"), container_scan("UNLOADED"))["stage"] == "UNLOADED"

    def test_a_superseded_scan_that_is_voided_is_not_restored(self):
        log = [
            scan("e0", "P", "PACKED", MORNING, container_id="BAG", inferred_from="m"),
            scan("e1", "P", "UNPACKED", MORNING + 1, container_id="BAG", inferred_from="r"),
            scan("e2", "P", "ARRIVED", MORNING + 2, container_id="BAG", inferred_from="c"),
            void("v2", "P", "e2", MORNING + 3),
            void("v1", "P", "e1", MORNING + 4),
        ]
        assert fold_records(log).read_states()["P"]["stage"] == "PACKED"


class TestReferenceContainment:
    def test_a_voided_record_is_not_superseded(self):
        records = (
            ContainmentRecord("PACKED", "LGG", "BAG", True),
            ContainmentRecord("SORTED", "LGG", None, False),
            ContainmentRecord("LOADED", "LGG", "BAG", True, voided=True),
        )
        assert evaluate_containment(records).superseded == [False, False, False]


class TestPackedByItsOwnScan:
    """The container may not know of the packing."""

    OWN = ContainmentRecord("PACKED", "LGG", "BAG", False)
    DECLARED = ContainmentRecord("PACKED", "HGH", "BAG", True)
    REMOVED = ContainmentRecord("UNPACKED", "LGG", "BAG", True)
    EMPTIED = ContainmentRecord("UNPACKED", "LGG", "BAG", True, reason="EMPTIED")
    LOADED = ContainmentRecord("LOADED", "LGG", "BAG", True)

    def test_an_inferred_record_counts_only_if_the_container_declares_the_packing_too(self):
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

    def test_so_does_an_emptying_but_a_removal_that_names_the_parcel_always_counts(self):
        assert evaluate_containment([self.OWN, self.EMPTIED]).superseded == [False, True]
        assert evaluate_containment([self.OWN, self.DECLARED, self.EMPTIED]).containers_after[-1] is None
        assert evaluate_containment([self.OWN, self.REMOVED]).containers_after == ["BAG", None]

    def test_a_removal_counts_that_was_declared_while_the_parcel_was_in_another_container(self):
        other = ContainmentRecord("PACKED", "LGG", "OTHER", False)
        records = [self.DECLARED, other, self.REMOVED, self.OWN, self.LOADED]
        assert evaluate_containment(records).superseded == [False, False, True, False, True]


class TestAnomalies:
    ALL = Promises.parse({})

    def alerts_of(self, *log):
        return AlertCase(*log, promises=self.ALL).summary

    @staticmethod
    def in_bag(kind, hours, event_id=None, **more):
        more = {"container_id": "BAG", "inferred_from": "c", **more}
        return scan(event_id or f"{kind}{hours}", "P", kind, time_at(hours), **more)

    def test_a_scan_of_its_own_while_its_bag_is_closed(self):
        packed, found = self.in_bag("PACKED", 0), scan("own", "P", "SORTED", time_at(2))
        case = AlertCase(packed, found, hour(3), promises=self.ALL)
        assert case.summary == [("ANOMALY", "FOUND_OUTSIDE", 3)]
        assert case.alerts[0]["evidence"] == [record_hash_of(packed), record_hash_of(found)]
        opened = self.in_bag("UNPACKED", 1)
        assert self.alerts_of(packed, opened, found, hour(3)) == []
        assert self.alerts_of(packed, found, hour(3), opened, hour(4))[-1] == ("WITHDRAWN", "FOUND_OUTSIDE", 4)

    def test_declared_in_two_bags_at_once(self):
        first, second = self.in_bag("PACKED", 0), self.in_bag("PACKED", 1, container_id="BAG2")
        case = AlertCase(first, second, hour(2), promises=self.ALL)
        assert case.summary == [("ANOMALY", "FOUND_OUTSIDE", 2)]
        assert case.alerts[0]["evidence"] == [record_hash_of(first), record_hash_of(second)]
        removed = self.in_bag("UNPACKED", 0.5)
        assert self.alerts_of(first, removed, second, hour(2)) == []
        assert self.alerts_of(first, second, hour(2), removed, hour(3))[-1] == ("WITHDRAWN", "FOUND_OUTSIDE", 3)

    def test_a_scan_at_another_site_than_its_bag(self):
        log = (self.in_bag("PACKED", 0), self.in_bag("ARRIVED", 1, site="LGG"))
        assert self.alerts_of(*log, scan("own", "P", "DAMAGED", time_at(2), site="LUX"), hour(3)) == [
            ("ANOMALY", "FOUND_OUTSIDE", 3)
        ]
        assert self.alerts_of(*log, scan("own", "P", "DAMAGED", time_at(2), site="LGG"), hour(3)) == []

    def test_a_scan_after_its_bag_was_dispatched_is_no_anomaly(self):
        log = (self.in_bag("PACKED", 0), self.in_bag("CUSTOMS_RELEASED", 0), self.in_bag("DISPATCHED", 1))
        assert self.alerts_of(*log, scan("own", "P", "SORTED", time_at(9), site="LUX"), hour(10)) == []

    def test_not_seen_when_its_bag_was_emptied(self):
        log = (self.in_bag("PACKED", 0), self.in_bag("UNPACKED", 1, reason="EMPTIED"))
        assert self.alerts_of(*log, hour(3)) == []
        assert self.alerts_of(*log, hour(4)) == [("ANOMALY", "MISSING", 4)]
        assert self.alerts_of(*log, scan("own", "P", "SORTED", time_at(2)), hour(4)) == []
        case = AlertCase(*log, hour(4), own := scan("own", "P", "SORTED", time_at(5)), hour(6), promises=self.ALL)
        assert case.summary[-1] == ("WITHDRAWN", "MISSING", 6)
        assert case.alerts[-1]["evidence"] == [record_hash_of(own)]

    def test_a_removal_from_a_bag_that_it_was_never_packed_into(self):
        extra = self.in_bag("UNPACKED", 1)
        assert self.alerts_of(extra, hour(2)) == [("ANOMALY", "FOUND_EXTRA", 2)]
        assert self.alerts_of(extra, hour(2), self.in_bag("PACKED", 0), hour(3))[-1] == ("WITHDRAWN", "FOUND_EXTRA", 3)

    def test_an_own_scan_may_name_any_bag_of_a_parcel_that_was_never_packed(self):
        assert self.alerts_of(scan("own", "P", "UNPACKED", time_at(1), container_id="BAG"), hour(2)) == []
