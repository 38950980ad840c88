"""A simulated log: the same for the same seed, in order, and with faults at the rates that were set."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.cli.simulate import simulate
from streams.domain.hub import Hub
from streams.domain.kinds import KINDS
from streams.domain.record_columns import RecordType
from streams.errors import Misconfigured
from streams.simulate.compact_records import DAY, HOUR, MINUTE
from streams.simulate.data_faults import DataFaults
from streams.simulate.day import Scenario, Simulation
from streams.simulate.ndjson import ndjson_lines
from streams.simulate.truth import truth_records

CLEAN = DataFaults.none()
# Kinds of scan that are not made at the parcel itself.
INFERRED_KINDS = {"ARRIVED", "UNLOADED", "PACKED", "LOADED", "DISPATCHED"}
# Kind -> kinds that must come before it, in the order of the steps.
EARLIER_KINDS = {
    "UNLOADED": {"ARRIVED"},
    "UNPACKED": {"UNLOADED"},
    "INDUCTED": {"UNPACKED"},
    "SORTED": {"INDUCTED"},
    "CUSTOMS_RELEASED": {"CUSTOMS_PRESENTED"},
    "PACKED": {"SORTED"},
    "LOADED": {"PACKED"},
    "DISPATCHED": {"LOADED"},
    "DELIVERED": {"DISPATCHED"},
}


def run_simulation(parcels: int, **options):
    simulation = Simulation(Scenario(parcels, **{"scans_only": True, **options}))
    return simulation, list(simulation.batches())


def digest(parcels: int, **options) -> str:
    sha256 = hashlib.sha256()
    for columns in run_simulation(parcels, **options)[1]:
        for line in ndjson_lines(columns):
            sha256.update(line.encode())
    return sha256.hexdigest()


def records_by_parcel(batches):
    """Parcel -> its scans and advices, in log order."""
    parcels = defaultdict(list)
    for columns in batches:
        for parcel_id, record in truth_records(columns):
            parcels[parcel_id].append(record)
    return parcels


class TestSeed:
    def test_gives_the_same_bytes(self):
        assert digest(300, seed=7) == digest(300, seed=7)

    def test_another_seed_gives_others(self):
        assert digest(300, seed=7) != digest(300, seed=8)

    def test_parcels_and_events_of_other_seeds_have_other_names(self):
        names = [
            {
                name
                for parcel, record in records_by_parcel(run_simulation(300, seed=seed)[1]).items()
                for name in (parcel, record[0].event_id)
            }
            for seed in (1, 2)
        ]
        assert not names[0] & names[1]


class TestLog:
    def test_is_in_order_and_ends_in_time(self):
        scenario = Scenario(2_000, seed=3, after_hours=6)
        times = np.concatenate([columns.append_times for columns in Simulation(scenario).batches()])
        assert (np.diff(times) >= 0).all()
        assert scenario.start_ms <= times[0]
        assert times[-1] < scenario.end_ms

    def test_has_ticks_at_the_set_interval_and_none_after_a_later_record(self):
        scenario = Scenario(500, seed=3, tick_seconds=90)
        ticks, last = [], 0
        for columns in Simulation(scenario).batches():
            for type_, time, hub_time in zip(
                columns.types.tolist(),
                columns.append_times.tolist(),
                columns.columns["hub_time"][0].tolist(),
                strict=True,
            ):
                if type_ == RecordType.TICK:
                    assert hub_time >= last
                    ticks.append(hub_time)
                last = time
        assert ticks[0] == scenario.start_ms
        assert set(np.diff(ticks)) == {90_000}

    def test_counts_its_records(self):
        simulation, batches = run_simulation(1_000, seed=5)
        counts = simulation.counts
        types = Counter(type_ for columns in batches for type_ in columns.types.tolist())
        assert types[RecordType.TICK] == counts.ticks
        assert types[RecordType.RAW] == counts.dead_letters.total()
        assert types[RecordType.RAW_CONTAINER] == counts.container_dead_letters.total()
        assert types[RecordType.SCAN] + types[RecordType.ADVICE] == counts.records + counts.duplicates

    def test_only_duplicates_and_voids_repeat_an_event_id(self):
        seen = {}
        for parcel_id, records in records_by_parcel(run_simulation(2_000, seed=5)[1]).items():
            for record in records:
                key = record.event_id, record.kind == "VOID"
                assert seen.setdefault(key, (parcel_id, record)) == (parcel_id, record)

    def test_parcels_are_spread_over_the_days(self):
        days = Counter()
        for records in records_by_parcel(run_simulation(900, seed=5, days=3, faults=CLEAN)[1]).values():
            arrived = next(record.event_time for record in records if record.kind == "ARRIVED")
            days[(arrived - Scenario(1).start_ms) // DAY] += 1
        assert all(200 < days[day] < 400 for day in range(3))

    def test_has_two_waves_a_day(self):
        hours = Counter()
        for records in records_by_parcel(run_simulation(5_000, seed=5, faults=CLEAN)[1]).values():
            arrived = next(record.event_time for record in records if record.kind == "ARRIVED")
            hours[arrived // HOUR % 24] += 1
        quiet = max(hours[hour] for hour in (9, 10, 11, 20, 21))
        assert min(hours[3], hours[4]) > 1.5 * quiet
        assert min(hours[13], hours[14]) > 1.5 * quiet


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), parcels=st.integers(1, 60), days=st.integers(1, 3))
def test_every_parcel_without_faults_has_a_plausible_journey(seed, parcels, days):
    journeys = records_by_parcel(run_simulation(parcels, seed=seed, days=days, faults=CLEAN, after_hours=1_000)[1])
    assert len(journeys) == parcels
    stations = {(site.code, station.code) for site in Hub.default().sites for station in site.stations}
    for records in journeys.values():
        assert 10 <= len(records) <= 14
        records.sort(key=lambda record: record.event_time)
        # It is packed at its origin and here. Taken out of its bag by hand, it may have a scan of its own.
        kinds = Counter(record.kind for record in records)
        assert kinds.pop("PACKED") == 2
        assert kinds.pop("UNPACKED") in (1, 2)
        assert set(kinds.values()) == {1}, "each other step once"
        assert all(
            record.inferred == (record.kind in INFERRED_KINDS) for record in records if record.kind != "UNPACKED"
        )
        first = {record.kind: record.event_time for record in reversed(records)}
        times = {record.kind: record.event_time for record in records} | {"UNPACKED": first["UNPACKED"]}
        assert first["PACKED"] < times["ARRIVED"]
        plan = next(record.plan for record in records if record.plan is not None)
        for kind, before in EARLIER_KINDS.items():
            assert kind not in times or all(times[earlier] <= times[kind] for earlier in before), kind
        assert ("CUSTOMS_RELEASED" in times) == (plan["direction"] in ("IMPORT", "EXPORT"))
        assert times["ADVISED"] <= times["ARRIVED"]
        assert times["DISPATCHED"] >= max(times.values()) or "DELIVERED" in times
        if "CUSTOMS_RELEASED" in times:
            assert times["CUSTOMS_RELEASED"] <= times["PACKED"]
        for record in records:
            assert record.plan is not None or (record.site, record.station) in stations or record.station == "OUT-01"
            assert record.kind not in ("SORTED", "LOADED") or record.lane == plan["planned_lane"]
            assert record.kind not in ("UNPACKED", "PACKED", "LOADED") or record.container_id


def test_a_parcel_has_eleven_to_thirteen_records_on_average_and_three_in_five_are_inferred():
    simulation, batches = run_simulation(3_000, seed=1)
    assert 11 <= simulation.counts.records / 3_000 <= 13
    scans = [
        record
        for records in records_by_parcel(batches).values()
        for record in records
        if record.kind not in ("ADVISED", "VOID")
    ]
    assert 0.58 < sum(record.inferred for record in scans) / len(scans) < 0.65


class TestDataFaults:
    """The rate of each fault is near its setting, in a hub without other faults."""

    PARCELS = 4_000

    def simulate(self, name, value, **options):
        faults = DataFaults.none().__class__(**{**dict.fromkeys(DataFaults.__slots__, 0.0), name: value, **options})
        self.simulation, self.batches = run_simulation(
            self.PARCELS, seed=11, faults=faults, after_hours=1_000, scans_only=False
        )
        self.records = records_by_parcel(self.batches)
        return Counter(record.kind for records in self.records.values() for record in records)

    def delays(self):
        found = []
        for columns in self.batches:
            is_scan = columns.types <= RecordType.ADVICE
            found.append((columns.columns["record_time"][0] - columns.columns["event_time"][0])[is_scan])
        return np.concatenate(found)

    def test_zero_gives_no_faults(self):
        kinds = self.simulate("held", 0)
        assert self.simulation.counts.duplicates == 0
        assert not self.simulation.counts.dead_letters
        assert not kinds.keys() & {"VOID", "NO_READ", "RECIRCULATED", "CUSTOMS_HELD", "LOST", "DAMAGED"}
        assert self.delays().max() <= 2_000

    @pytest.mark.parametrize(
        ("name", "kind", "value"),
        [
            ("no_reads", "NO_READ", 0.1),
            ("damaged", "DAMAGED", 0.1),
            ("lost", "LOST", 0.1),
            ("held", "CUSTOMS_HELD", 0.1),
        ],
    )
    def test_parcels(self, name, kind, value):
        self.simulate(name, value)
        parcels = [records for records in self.records.values() if any(record.kind == kind for record in records)]
        passes = 0.75 if name == "held" else 1
        assert len(parcels) / self.PARCELS == pytest.approx(value * passes, rel=0.2)

    def test_duplicates_are_exact_and_come_later(self):
        kinds = self.simulate("duplicates", 0.05)
        assert self.simulation.counts.duplicates / kinds.total() == pytest.approx(0.05, rel=0.15)
        first, times = {}, {}
        for columns in self.batches:
            for line, time in zip(ndjson_lines(columns), columns.append_times.tolist(), strict=True):
                if line.startswith('{"type": "tick"'):
                    continue
                event_id = line.split('"event_id": "')[1][:32]
                assert first.setdefault(event_id, line) == line
                assert times.setdefault(event_id, time) <= time

    def test_late_and_very_late(self):
        self.simulate("late", 0.1, very_late=0.05)
        delays = self.delays()
        assert (delays > 2_000).mean() == pytest.approx(0.15, rel=0.1)
        assert delays[delays > 2_000].min() >= MINUTE
        assert (delays > 4 * HOUR).mean() > 0.01
        assert delays.max() <= 48 * HOUR

    def test_voids_come_before_and_after_their_targets(self):
        kinds = self.simulate("voids", 0.05)
        assert kinds["VOID"] / kinds.total() == pytest.approx(0.05, rel=0.2)
        before = after = same_id = 0
        for records in self.records.values():
            index_of = {record.event_id: index for index, record in enumerate(records) if record.kind != "VOID"}
            for index, record in enumerate(records):
                if record.kind == "VOID":
                    assert record.voids in index_of
                    same_id += record.voids == record.event_id
                    before += index < index_of[record.voids]
                    after += index > index_of[record.voids]
        assert after > before > 0.1 * after
        assert 0.3 < same_id / kinds["VOID"] < 0.7

    def test_missed(self):
        whole = self.simulate("missed", 0).total()
        assert self.simulate("missed", 0.1).total() / whole == pytest.approx(0.91, abs=0.02)

    def test_missorted_parcels_get_to_the_right_lane_in_the_end(self):
        self.simulate("missorted", 0.1)
        wrong = 0
        for records in self.records.values():
            lanes = [
                record.lane
                for record in sorted(records, key=lambda record: record.event_time)
                if record.kind == "SORTED"
            ]
            plan = next(record.plan for record in records if record.plan is not None)
            assert lanes[-1] == plan["planned_lane"]
            wrong += lanes[0] != plan["planned_lane"]
        assert wrong / self.PARCELS == pytest.approx(0.1, rel=0.2)

    def test_clock_errors(self):
        self.simulate("clock_skew_seconds", 120, wrong_time_zone=0.02)
        delays = self.delays()
        hours = np.abs(delays) > 30 * MINUTE
        assert hours.mean() == pytest.approx(0.02, rel=0.3)
        assert np.abs(delays[~hours]).max() <= 123_000
        assert (np.abs(delays[~hours]) > 10_000).mean() > 0.05

    def test_malformed_values_have_every_reject_reason(self):
        kinds = self.simulate("malformed", 0.02)
        letters = self.simulation.counts.dead_letters
        assert letters.total() / kinds.total() == pytest.approx(0.02, rel=0.2)
        assert letters.keys() == {
            "BAD_FRAMING", "NO_VALUE", "UNKNOWN_SCHEMA", "TRUNCATED", "VARINT_OVERFLOW", "BAD_LENGTH", "BAD_INDEX",
            "INVALID_UTF8", "TRAILING_BYTES", "BAD_PARCEL_ID", "OUT_OF_BOUNDS", "BAD_VOID",
        }  # fmt: skip

    def test_holds_with_and_without_a_reason_end_in_release_or_refusal(self):
        kinds = self.simulate("held", 0.2, unexplained=0.3, refused=0.4)
        holds = [record for records in self.records.values() for record in records if record.kind == "CUSTOMS_HELD"]
        assert sum(record.reason is None for record in holds) / len(holds) == pytest.approx(0.3, abs=0.08)
        assert kinds["CUSTOMS_REFUSED"] / len(holds) == pytest.approx(0.4, abs=0.08)
        assert kinds["RETURNED"] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataFaults(late=1.5), "late is 1.5"),
        (lambda: DataFaults(late=0.7, very_late=0.7), "at most 1"),
        (lambda: DataFaults(voids=float("nan")), "voids is nan"),
        (lambda: Scenario(0), "parcels is 0"),
        (lambda: Scenario(1, days=0), "days is 0"),
        (lambda: Scenario(1, seed=-1), "seed is -1"),
    ],
)
def test_an_invalid_setting_is_rejected(make, message):
    with pytest.raises(Misconfigured, match=message):
        make()


def test_kinds_in_columns_are_kind_numbers():
    _, batches = run_simulation(50, seed=1)
    assert all(columns.columns["kind"][0].max() < len(KINDS) for columns in batches)


def test_the_help_states_the_defaults():
    text = simulate.__doc__
    for field in fields(DataFaults):
        assert f"  {field.name}={field.default:g} " in text
