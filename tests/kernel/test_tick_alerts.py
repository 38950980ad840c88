"""Clocks, alerts, retirement and throughput are what the plain account says, whatever the batches and restarts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.promises import Promises
from streams.processors import parcel_processor
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle
from tests.kernel.records import CUTS, MORNING, advice, batches_of, framed, scan, tick, void
from tests.kernel.test_fold import Run, folded

SEEDS = st.integers(0, 2**32)
HOUR = 3_600_000
# Everything that a promise can have, with limits that a history of a few days meets.
PROMISES = Promises.parse(
    {
        "promises": [
            {"name": "unload", "starts": ["ARRIVED"], "stops": ["UNLOADED", "SORTED"], "limit": "3h"},
            {
                "name": "door",
                "directions": ["IMPORT", "TRANSIT"],
                "starts": ["ARRIVED", "UNLOADED"],
                "stops": ["DELIVERED"],
                "limit": "1d",
                "pauses": ["CUSTOMS_HELD"],
            },
            {
                "name": "express",
                "services": ["EXPRESS", "é"],
                "lanes": ["N"],
                "starts": ["ADVISED"],
                "stops": ["DISPATCHED"],
                "limit": "promised_at",
                "at_risk": 0.5,
                "pauses": ["CUSTOMS_HELD"],
            },
            {
                "name": "silence",
                "restarts": True,
                "starts": ["ARRIVED", "UNLOADED", "SORTED", "NO_READ"],
                "renews": ["UNPACKED", "PACKED"],
                "stops": ["DISPATCHED", "DELIVERED"],
                "limit": "5h",
                "pauses": ["CUSTOMS_HELD"],
            },
        ],
        "anomalies": {
            "no_reads": 2,
            "recirculations": 2,
            "unreleased": ["IMPORT"],
            "held_too_long": "6h",
            "future": "30m",
            "reused": "1d",
        },
        "retirement": {"finished": "2d", "unfinished": "4d"},
    }
)
KINDS = (
    "ADVISED",
    "ARRIVED",
    "ARRIVED",
    "UNLOADED",
    "UNPACKED",
    "SORTED",
    "NO_READ",
    "RECIRCULATED",
    "CUSTOMS_PRESENTED",
    "CUSTOMS_HELD",
    "CUSTOMS_HELD",
    "CUSTOMS_RELEASED",
    "CUSTOMS_RELEASED",
    "CUSTOMS_REFUSED",
    "PACKED",
    "PACKED",
    "LOADED",
    "DISPATCHED",
    "DELIVERED",
    "RETURNED",
    "LOST",
)


def days(seed, size, length_hours=250):
    """A log of some days: parcels come and go, records come mostly in time, some late or ahead, with ticks between."""
    dice = random.Random(seed)
    now, log, ids = MORNING, [], {}
    for number in range(size):
        now += dice.choice((0, 1, HOUR // 10, HOUR, 2 * length_hours * HOUR // size))
        if dice.random() < 0.4:
            log.append(tick(now - dice.choice((0, 0, 0, HOUR))))
            continue
        parcel = f"P{number * 4 // size + dice.choice((0, 0, 1))}"
        time = now - dice.choice((0, 0, 0, 1, HOUR, 5 * HOUR, 30 * HOUR, -HOUR, -20 * HOUR))
        what = dice.randrange(14)
        ids.setdefault(parcel, []).append(event_id := f"e{number}")
        if what == 0:
            log.append(
                advice(
                    event_id,
                    parcel,
                    time,
                    direction=dice.choice(("IMPORT", "EXPORT", "TRANSIT")),
                    service=dice.choice(("EXPRESS", "é", "ECONOMY", "")),
                    planned_lane=dice.choice((None, "N", "N", "S")),
                    promised_at=dice.choice((None, time + 9 * HOUR, time - HOUR)),
                )
            )
        elif what == 1:
            log.append(void(f"v{number}", parcel, dice.choice(ids[parcel]), time))
        elif what == 2 and log:
            log.append(dice.choice(log))
        else:
            kind = dice.choice(KINDS)
            lane = dice.choice((None, "N", "S")) if kind in ("SORTED", "LOADED") else None
            reason = dice.choice((None, "", "why", "why")) if kind == "CUSTOMS_HELD" else None
            station = dice.choice(("S-1", "S-2"))
            log.append(scan(event_id, parcel, kind, time, lane=lane, reason=reason, station=station))
    log.append(tick(now + 1))
    return log


def compare(log, cuts=(), promises=PROMISES):
    run, oracle = Run(ParcelProcessor(0, 1, promises)), Oracle(promises=promises)
    first = 0
    for batch in batches_of([framed(record) for record in log], cuts):
        oracle.changed.clear()
        for record in log[first : first + len(batch)]:
            oracle.add(record)
        first += len(batch)
        said = run.batch(batch)
        assert sorted(key.decode() for key, _ in said.states) == sorted(oracle.changed)
    assert sorted(run.read_alerts(), key=order) == sorted(oracle.alerts, key=order)
    assert run.read_states() == oracle.states()
    assert len(run.stage.table) == len(oracle.parcels)
    return run, oracle


def order(alert):
    return alert["hub_time"], alert["parcel_id"], alert["alert_id"]


class TestAgainstTheAccount:
    @given(seed=SEEDS, size=st.integers(5, 120), cuts=CUTS)
    def test_alerts_states_and_who_retires(self, seed, size, cuts):
        compare(days(seed, size), cuts)

    @given(seed=SEEDS, cuts=CUTS)
    def test_with_the_promises_that_are_shipped(self, seed, cuts):
        compare(days(seed, 150, length_hours=2_000), cuts, Promises.default())

    @given(seed=SEEDS)
    def test_the_running_clocks_are_counted(self, seed):
        run, oracle = compare(days(seed, 100))
        for name, number in run.last.active_clocks.items():
            clocks = [
                clock["standing"]
                for state in oracle.states().values()
                for clock in state["clocks"]
                if clock["promise"] == name
            ]
            assert number == clocks.count("RUNNING") + clocks.count("PAUSED")

    def test_each_of_them_happens(self):
        told = set()
        for seed in range(150):
            oracle = Oracle(days(seed, 150), PROMISES)
            told |= {(alert["about"], alert["type"]) for alert in oracle.alerts}
            told |= {("retired", bool(oracle.retired))}
        promises = {(each.name, what) for each in PROMISES.promises for what in ("AT_RISK", "BREACHED", "WITHDRAWN")}
        odd = "MISROUTED REPEATED_NO_READ RECIRCULATING NOT_RELEASED HELD_TOO_LONG FROM_THE_FUTURE NUMBER_REUSED"
        assert told >= promises | {(about, "ANOMALY") for about in odd.split()} | {("retired", True)}
        assert {about for about, what in told if what == "WITHDRAWN"} >= set(odd.split()[:-1])


class TestTheSameAgain:
    @given(seed=SEEDS, size=st.sampled_from((1, 7, 1_000)))
    def test_batches_mean_nothing(self, seed, size):
        values = [framed(record) for record in days(seed, 150)]
        whole, cut = Run(ParcelProcessor(0, 1, PROMISES)), Run(ParcelProcessor(0, 1, PROMISES))
        whole.batch(values)
        for first in range(0, len(values), size):
            cut.batch(values[first : first + size])
        assert cut.states == whole.states
        assert sorted(cut.alerts) == sorted(whole.alerts)
        assert +cut.throughput == +whole.throughput

    @given(seed=SEEDS, at=st.integers(0, 200), cuts=CUTS)
    def test_a_restart_at_any_place_repeats_nothing_and_loses_nothing(self, seed, at, cuts):
        values = [framed(record) for record in days(seed, 200)]
        whole, run = Run(ParcelProcessor(0, 1, PROMISES)), Run(ParcelProcessor(0, 1, PROMISES))
        whole.batch(values[:at])
        whole.batch(values[at:])
        for batch in batches_of(values[:at], cuts):
            run.batch(batch)
        stage = ParcelProcessor(0, 1, PROMISES)
        for key, value in run.log:
            if value:
                stage.restore_states([value])
            else:
                stage.restore_tombstones([key])
        stage.restore_hub_time(run.stage.table.hub_time)
        run.stage = stage
        run.batch(values[at:])
        assert run.states == whole.states
        assert sorted(run.alerts) == sorted(whole.alerts)
        assert +run.throughput == +whole.throughput
        assert len(run.stage.table) == len(whole.stage.table)

    @given(seed=SEEDS)
    def test_the_order_between_two_ticks_means_nothing(self, seed):
        log, dice = days(seed, 150), random.Random(seed)
        shuffled, between = [], []
        for record in log:
            if "hub_time" in record:
                dice.shuffle(between)
                shuffled += [*between, record]
                between = []
            else:
                between.append(record)
        one, other = folded(log, promises=PROMISES), folded(shuffled, promises=PROMISES)
        assert other.states == one.states
        assert sorted(other.alerts) == sorted(one.alerts)

    @given(seed=SEEDS)
    def test_no_alert_is_told_twice(self, seed):
        ids = [alert["alert_id"] for alert in folded(days(seed, 200), promises=PROMISES).read_alerts()]
        assert len(set(ids)) == len(ids)

    @given(seed=SEEDS)
    def test_what_is_withdrawn_was_told_and_stood(self, seed):
        standing = {}
        for alert in folded(days(seed, 200), promises=PROMISES).read_alerts():
            about = alert["parcel_id"], alert["about"]
            if alert["type"] == "WITHDRAWN":
                assert standing.pop(about)["alert_id"] == alert["withdraws"]
            else:
                standing[about] = alert


class TestRetirement:
    @given(seed=SEEDS, cuts=CUTS)
    def test_a_swept_table_goes_on_as_if_nothing_had_happened(self, seed, cuts):
        # Every time that there is anything to sweep.
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(parcel_processor, "COMPACT_MIN_ROWS", 1)
            run, _ = compare(days(seed, 200, 400), [*cuts, *range(0, 200, 9)])
            assert run.stage.table.retired <= 8

    def test_memory_stays_flat_over_a_month(self):
        stage, day, sizes = ParcelProcessor(0, 1, PROMISES), 24 * HOUR, []
        for today in range(40):
            now = MORNING + today * day
            log = []
            for number in range(3_000):
                parcel = f"P{today}-{number}"
                log += [
                    advice(f"a{parcel}", parcel, now, promised_at=now + number, owner=parcel),
                    *(scan(f"{parcel} {n}", parcel, "SORTED", now + n, container_id=f"BAG {parcel}") for n in range(5)),
                    void(f"v{parcel}", parcel, f"{parcel} 0", now),
                ]
            stage.run([framed(record) for record in log])
            stage.run([framed(tick(now + day // 2))])
            sizes.append(stage.table.nbytes)
        # Those of four days, and an eighth that waits to be swept.
        assert len(stage.table) == 4 * 3_000
        assert sizes[39] < 1.02 * sizes[10]

    def test_a_late_scan_of_a_parcel_that_left_begins_it_anew(self):
        gone = [scan("a", "P", "DELIVERED"), tick(MORNING + 1), tick(MORNING + 49 * HOUR)]
        run, oracle = compare([*gone, scan("b", "P", "SORTED", MORNING - 9)])
        assert oracle.retired == ["P"]
        assert run.read_states()["P"]["version"] == 1
        # In one batch or in two, the tombstone comes before the new state.
        assert [bool(value) for _, value in run.log] == [False, True]


class TestThroughput:
    @given(seed=SEEDS, cuts=CUTS)
    def test_the_sum_of_the_deltas_is_how_many_scans_count(self, seed, cuts):
        kept = Promises.parse({"retirement": {"finished": None, "unfinished": None}})
        log = days(seed, 150)
        oracle = Oracle(log, kept)
        assert +folded(log, cuts, kept).throughput == oracle.counted()
