"""Clocks, alerts, retirement and throughput are as in the reference rules, for any batches and restarts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.promises import Promises
from streams.processors import parcel_processor
from streams.processors.parcel_processor import ParcelProcessor
from tests.kernel.oracle import Oracle
from tests.kernel.records import CUTS, MORNING, advice, batches_of, framed, scan, tick, void
from tests.kernel.test_fold import ProcessorRun, fold_records

SEEDS = st.integers(0, 2**32)
HOUR = 3_600_000
# Promises with every option, and limits that a history of a few days reaches.
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
            "repeated_no_read": 2,
            "recirculating": 2,
            "not_released": ["IMPORT"],
            "held_too_long": "6h",
            "from_the_future": "30m",
            "number_reused": "1d",
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
    """A log of some days: parcels come and go, most records are on time, some are late or early, with ticks between."""
    rng = random.Random(seed)
    now, log, ids = MORNING, [], {}
    for number in range(size):
        now += rng.choice((0, 1, HOUR // 10, HOUR, 2 * length_hours * HOUR // size))
        if rng.random() < 0.4:
            log.append(tick(now - rng.choice((0, 0, 0, HOUR))))
            continue
        parcel = f"P{number * 4 // size + rng.choice((0, 0, 1))}"
        time = now - rng.choice((0, 0, 0, 1, HOUR, 5 * HOUR, 30 * HOUR, -HOUR, -20 * HOUR))
        choice = rng.randrange(14)
        ids.setdefault(parcel, []).append(event_id := f"e{number}")
        if choice == 0:
            log.append(
                advice(
                    event_id,
                    parcel,
                    time,
                    direction=rng.choice(("IMPORT", "EXPORT", "TRANSIT")),
                    service=rng.choice(("EXPRESS", "é", "ECONOMY", "")),
                    planned_lane=rng.choice((None, "N", "N", "S")),
                    promised_at=rng.choice((None, time + 9 * HOUR, time - HOUR)),
                )
            )
        elif choice == 1:
            log.append(void(f"v{number}", parcel, rng.choice(ids[parcel]), time))
        elif choice == 2 and log:
            log.append(rng.choice(log))
        else:
            kind = rng.choice(KINDS)
            lane = rng.choice((None, "N", "S")) if kind in ("SORTED", "LOADED") else None
            reason = rng.choice((None, "", "why", "why")) if kind == "CUSTOMS_HELD" else None
            station = rng.choice(("S-1", "S-2"))
            log.append(scan(event_id, parcel, kind, time, lane=lane, reason=reason, station=station))
    log.append(tick(now + 1))
    return log


def compare(log, cuts=(), promises=PROMISES):
    run, oracle = ProcessorRun(ParcelProcessor(0, 1, promises)), Oracle(promises=promises)
    first = 0
    for batch in batches_of([framed(record) for record in log], cuts):
        oracle.changed.clear()
        for record in log[first : first + len(batch)]:
            oracle.add(record)
        first += len(batch)
        output = run.run_batch(batch)
        assert sorted(key.decode() for key, _ in output.states) == sorted(oracle.changed)
    assert sorted(run.read_alerts(), key=order) == sorted(oracle.alerts, key=order)
    assert run.read_states() == oracle.states()
    assert len(run.processor.table) == len(oracle.parcels)
    return run, oracle


def order(alert):
    return alert["hub_time"], alert["parcel_id"], alert["alert_id"]


class TestAgainstTheReferenceRules:
    @given(seed=SEEDS, size=st.integers(5, 120), cuts=CUTS)
    def test_alerts_states_and_retirement(self, seed, size, cuts):
        compare(days(seed, size), cuts)

    @given(seed=SEEDS, cuts=CUTS)
    def test_with_the_default_promises(self, seed, cuts):
        compare(days(seed, 150, length_hours=2_000), cuts, Promises.default())

    @given(seed=SEEDS)
    def test_the_running_clocks_are_counted(self, seed):
        run, oracle = compare(days(seed, 100))
        for name, number in run.last.active_clocks.items():
            clocks = [
                clock["status"]
                for state in oracle.states().values()
                for clock in state["clocks"]
                if clock["promise"] == name
            ]
            assert number == clocks.count("RUNNING") + clocks.count("PAUSED")

    def test_the_logs_lead_to_every_kind_of_alert(self):
        seen = set()
        for seed in range(150):
            oracle = Oracle(days(seed, 150), PROMISES)
            seen |= {(alert["condition"], alert["type"]) for alert in oracle.alerts}
            seen |= {("retired", bool(oracle.retired))}
        promises = {
            (promise.name, alert_type)
            for promise in PROMISES.promises
            for alert_type in ("AT_RISK", "BREACHED", "WITHDRAWN")
        }
        anomalies = "MISROUTED REPEATED_NO_READ RECIRCULATING NOT_RELEASED HELD_TOO_LONG FROM_THE_FUTURE NUMBER_REUSED"
        assert seen >= promises | {(condition, "ANOMALY") for condition in anomalies.split()} | {("retired", True)}
        assert {condition for condition, alert_type in seen if alert_type == "WITHDRAWN"} >= set(anomalies.split()[:-1])


class TestDeterminism:
    @given(seed=SEEDS, size=st.sampled_from((1, 7, 1_000)))
    def test_batches_have_no_effect(self, seed, size):
        values = [framed(record) for record in days(seed, 150)]
        whole, cut = ProcessorRun(ParcelProcessor(0, 1, PROMISES)), ProcessorRun(ParcelProcessor(0, 1, PROMISES))
        whole.run_batch(values)
        for first in range(0, len(values), size):
            cut.run_batch(values[first : first + size])
        assert cut.states == whole.states
        assert sorted(cut.alerts) == sorted(whole.alerts)
        assert +cut.throughput == +whole.throughput

    @given(seed=SEEDS, cut=st.integers(0, 200), cuts=CUTS)
    def test_a_restart_at_any_record_repeats_nothing_and_loses_nothing(self, seed, cut, cuts):
        values = [framed(record) for record in days(seed, 200)]
        whole, run = ProcessorRun(ParcelProcessor(0, 1, PROMISES)), ProcessorRun(ParcelProcessor(0, 1, PROMISES))
        whole.run_batch(values[:cut])
        whole.run_batch(values[cut:])
        for batch in batches_of(values[:cut], cuts):
            run.run_batch(batch)
        processor = ParcelProcessor(0, 1, PROMISES)
        for key, value in run.log:
            if value:
                processor.restore_states([value])
            else:
                processor.restore_tombstones([key])
        processor.restore_hub_time(run.processor.table.hub_time)
        run.processor = processor
        run.run_batch(values[cut:])
        assert run.states == whole.states
        assert sorted(run.alerts) == sorted(whole.alerts)
        assert +run.throughput == +whole.throughput
        assert len(run.processor.table) == len(whole.processor.table)

    @given(seed=SEEDS)
    def test_the_order_between_two_ticks_has_no_effect(self, seed):
        log, rng = days(seed, 150), random.Random(seed)
        shuffled, between = [], []
        for record in log:
            if "hub_time" in record:
                rng.shuffle(between)
                shuffled += [*between, record]
                between = []
            else:
                between.append(record)
        run, shuffled_run = fold_records(log, promises=PROMISES), fold_records(shuffled, promises=PROMISES)
        assert shuffled_run.states == run.states
        assert sorted(shuffled_run.alerts) == sorted(run.alerts)

    @given(seed=SEEDS)
    def test_no_alert_is_published_twice(self, seed):
        ids = [alert["alert_id"] for alert in fold_records(days(seed, 200), promises=PROMISES).read_alerts()]
        assert len(set(ids)) == len(ids)

    @given(seed=SEEDS)
    def test_a_withdrawn_alert_was_published_and_active(self, seed):
        active = {}
        for alert in fold_records(days(seed, 200), promises=PROMISES).read_alerts():
            subject = alert["parcel_id"], alert["condition"]
            if alert["type"] == "WITHDRAWN":
                assert active.pop(subject)["alert_id"] == alert["withdraws"]
            else:
                active[subject] = alert


class TestRetirement:
    @given(seed=SEEDS, cuts=CUTS)
    def test_a_compacted_table_has_the_same_outputs(self, seed, cuts):
        # Compact before every batch, if there is a retired row.
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(parcel_processor, "COMPACT_MIN_ROWS", 1)
            run, _ = compare(days(seed, 200, 400), [*cuts, *range(0, 200, 9)])
            assert run.processor.table.retired_row_count <= 8

    def test_memory_stays_flat_over_a_month(self):
        processor, day, sizes = ParcelProcessor(0, 1, PROMISES), 24 * HOUR, []
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
            processor.run([framed(record) for record in log])
            processor.run([framed(tick(now + day // 2))])
            sizes.append(processor.table.nbytes)
        # The parcels of four days, and up to an eighth of retired rows.
        assert len(processor.table) == 4 * 3_000
        assert sizes[39] < 1.02 * sizes[10]

    def test_a_late_scan_of_a_retired_parcel_starts_a_new_state(self):
        gone = [scan("a", "P", "DELIVERED"), tick(MORNING + 1), tick(MORNING + 49 * HOUR)]
        run, oracle = compare([*gone, scan("b", "P", "SORTED", MORNING - 9)])
        assert oracle.retired == ["P"]
        assert run.read_states()["P"]["version"] == 1
        # The tombstone comes before the new state.
        assert [bool(value) for _, value in run.log] == [False, True]


class TestThroughput:
    @given(seed=SEEDS, cuts=CUTS)
    def test_the_sum_of_the_deltas_is_the_number_of_scans_that_count(self, seed, cuts):
        kept = Promises.parse({"retirement": {"finished": None, "unfinished": None}})
        log = days(seed, 150)
        oracle = Oracle(log, kept)
        assert +fold_records(log, cuts, kept).throughput == oracle.counted()
