"""A simulated log: the same for the same seed, in order, and as dirty as it was asked to be."""

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
# Of a parcel's scans, those that nobody makes at the parcel.
UNSEEN = {"ARRIVED", "UNLOADED", "PACKED", "LOADED", "DISPATCHED"}
# What a parcel can have gone through, in the order of the steps; each step needs some of the earlier ones.
AFTER = {
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


def played(parcels: int, **options):
    simulation = Simulation(Scenario(parcels, **{"expanded": True, **options}))
    return simulation, list(simulation.batches())


def digest(parcels: int, **options) -> str:
    said = hashlib.sha256()
    for columns in played(parcels, **options)[1]:
        for line in ndjson_lines(columns):
            said.update(line.encode())
    return said.hexdigest()


def stories(batches):
    """Parcel -> its scans and advices, in the order of the log."""
    told = defaultdict(list)
    for columns in batches:
        for parcel_id, said in truth_records(columns):
            told[parcel_id].append(said)
    return told


class TestTheSameSeed:
    def test_gives_the_same_bytes(self):
        assert digest(300, seed=7) == digest(300, seed=7)

    def test_another_seed_gives_others(self):
        assert digest(300, seed=7) != digest(300, seed=8)

    def test_parcels_and_events_of_other_seeds_have_other_names(self):
        names = [
            {name for parcel, said in stories(played(300, seed=seed)[1]).items() for name in (parcel, said[0].event_id)}
            for seed in (1, 2)
        ]
        assert not names[0] & names[1]


class TestTheLog:
    def test_is_in_the_order_of_arrival_and_ends_in_time(self):
        scenario = Scenario(2_000, seed=3, after_hours=6)
        times = np.concatenate([columns.append_times for columns in Simulation(scenario).batches()])
        assert (np.diff(times) >= 0).all()
        assert scenario.start_ms <= times[0]
        assert times[-1] < scenario.end_ms

    def test_ticks_every_so_often_from_the_start_and_never_after_a_later_record(self):
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

    def test_counts_what_it_holds(self):
        simulation, batches = played(1_000, seed=5)
        counts = simulation.counts
        types = Counter(type_ for columns in batches for type_ in columns.types.tolist())
        assert types[RecordType.TICK] == counts.ticks
        assert types[RecordType.RAW] == counts.dead_letters.total()
        assert types[RecordType.RAW_CONTAINER] == counts.container_dead_letters.total()
        assert types[RecordType.SCAN] + types[RecordType.ADVICE] == counts.records + counts.duplicates

    def test_no_event_id_is_used_twice_but_by_duplicates_and_by_voids_of_their_target(self):
        seen = {}
        for parcel_id, told in stories(played(2_000, seed=5)[1]).items():
            for said in told:
                key = said.event_id, said.kind == "VOID"
                assert seen.setdefault(key, (parcel_id, said)) == (parcel_id, said)

    def test_several_days_have_their_share_of_parcels_each(self):
        days = Counter()
        for told in stories(played(900, seed=5, days=3, dirt=CLEAN)[1]).values():
            arrived = next(said.event_time for said in told if said.kind == "ARRIVED")
            days[(arrived - Scenario(1).start_ms) // DAY] += 1
        assert all(200 < days[day] < 400 for day in range(3))

    def test_has_two_waves(self):
        hours = Counter()
        for told in stories(played(5_000, seed=5, dirt=CLEAN)[1]).values():
            arrived = next(said.event_time for said in told if said.kind == "ARRIVED")
            hours[arrived // HOUR % 24] += 1
        quiet = max(hours[hour] for hour in (9, 10, 11, 20, 21))
        assert min(hours[3], hours[4]) > 1.5 * quiet
        assert min(hours[13], hours[14]) > 1.5 * quiet


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), parcels=st.integers(1, 60), days=st.integers(1, 3))
def test_every_parcel_of_a_clean_hub_has_a_plausible_story(seed, parcels, days):
    told_of = stories(played(parcels, seed=seed, days=days, dirt=CLEAN, after_hours=1_000)[1])
    assert len(told_of) == parcels
    stations = {(site.code, station.code) for site in Hub.default().sites for station in site.stations}
    for told in told_of.values():
        assert 10 <= len(told) <= 14
        told.sort(key=lambda said: said.event_time)
        # It is packed where it comes from, and here; and whoever took it out of its bag may have scanned it.
        kinds = Counter(said.kind for said in told)
        assert kinds.pop("PACKED") == 2
        assert kinds.pop("UNPACKED") in (1, 2)
        assert set(kinds.values()) == {1}, "each other step once"
        assert all(said.inferred == (said.kind in UNSEEN) for said in told if said.kind != "UNPACKED")
        first = {said.kind: said.event_time for said in reversed(told)}
        times = {said.kind: said.event_time for said in told} | {"UNPACKED": first["UNPACKED"]}
        assert first["PACKED"] < times["ARRIVED"]
        plan = next(said.plan for said in told if said.plan is not None)
        for kind, before in AFTER.items():
            assert kind not in times or all(times[earlier] <= times[kind] for earlier in before), kind
        assert ("CUSTOMS_RELEASED" in times) == (plan["direction"] in ("IMPORT", "EXPORT"))
        assert times["ADVISED"] <= times["ARRIVED"]
        assert times["DISPATCHED"] >= max(times.values()) or "DELIVERED" in times
        if "CUSTOMS_RELEASED" in times:
            assert times["CUSTOMS_RELEASED"] <= times["PACKED"]
        for said in told:
            assert said.plan is not None or (said.site, said.station) in stations or said.station == "OUT-01"
            assert said.kind not in ("SORTED", "LOADED") or said.lane == plan["planned_lane"]
            assert said.kind not in ("UNPACKED", "PACKED", "LOADED") or said.container_id


def test_a_parcel_has_eleven_to_thirteen_records_on_average_and_three_in_five_are_inferred():
    simulation, batches = played(3_000, seed=1)
    assert 11 <= simulation.counts.records / 3_000 <= 13
    scans = [said for told in stories(batches).values() for said in told if said.kind not in ("ADVISED", "VOID")]
    assert 0.58 < sum(said.inferred for said in scans) / len(scans) < 0.65


class TestDirt:
    """Shares near their settings, each alone in an otherwise clean hub."""

    PARCELS = 4_000

    def share(self, name, value, **options):
        dirt = DataFaults.none().__class__(**{**dict.fromkeys(DataFaults.__slots__, 0.0), name: value, **options})
        self.simulation, self.batches = played(self.PARCELS, seed=11, dirt=dirt, after_hours=1_000, expanded=False)
        self.told = stories(self.batches)
        return Counter(said.kind for told in self.told.values() for said in told)

    def delays(self):
        found = []
        for columns in self.batches:
            is_scan = columns.types <= RecordType.ADVICE
            found.append((columns.columns["record_time"][0] - columns.columns["event_time"][0])[is_scan])
        return np.concatenate(found)

    def test_none_is_none(self):
        kinds = self.share("held", 0)
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
        self.share(name, value)
        parcels = [told for told in self.told.values() if any(said.kind == kind for said in told)]
        passes = 0.75 if name == "held" else 1
        assert len(parcels) / self.PARCELS == pytest.approx(value * passes, rel=0.2)

    def test_duplicates_are_exact_and_come_later(self):
        kinds = self.share("duplicates", 0.05)
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
        self.share("late", 0.1, very_late=0.05)
        delays = self.delays()
        assert (delays > 2_000).mean() == pytest.approx(0.15, rel=0.1)
        assert delays[delays > 2_000].min() >= MINUTE
        assert (delays > 4 * HOUR).mean() > 0.01
        assert delays.max() <= 48 * HOUR

    def test_voids_come_before_and_after_what_they_declare_wrong(self):
        kinds = self.share("voids", 0.05)
        assert kinds["VOID"] / kinds.total() == pytest.approx(0.05, rel=0.2)
        before = after = same_id = 0
        for told in self.told.values():
            place = {said.event_id: at for at, said in enumerate(told) if said.kind != "VOID"}
            for at, said in enumerate(told):
                if said.kind == "VOID":
                    assert said.voids in place
                    same_id += said.voids == said.event_id
                    before += at < place[said.voids]
                    after += at > place[said.voids]
        assert after > before > 0.1 * after
        assert 0.3 < same_id / kinds["VOID"] < 0.7

    def test_missed(self):
        whole = self.share("missed", 0).total()
        assert self.share("missed", 0.1).total() / whole == pytest.approx(0.91, abs=0.02)

    def test_mis_sorted_parcels_get_to_the_right_lane_in_the_end(self):
        self.share("mis_sorted", 0.1)
        wrong = 0
        for told in self.told.values():
            lanes = [said.lane for said in sorted(told, key=lambda said: said.event_time) if said.kind == "SORTED"]
            plan = next(said.plan for said in told if said.plan is not None)
            assert lanes[-1] == plan["planned_lane"]
            wrong += lanes[0] != plan["planned_lane"]
        assert wrong / self.PARCELS == pytest.approx(0.1, rel=0.2)

    def test_wrong_clocks(self):
        self.share("clock_seconds", 120, wrong_clock=0.02)
        delays = self.delays()
        hours = np.abs(delays) > 30 * MINUTE
        assert hours.mean() == pytest.approx(0.02, rel=0.3)
        assert np.abs(delays[~hours]).max() <= 123_000
        assert (np.abs(delays[~hours]) > 10_000).mean() > 0.05

    def test_broken_values_have_every_reason_that_they_are_made_for(self):
        kinds = self.share("broken", 0.02)
        letters = self.simulation.counts.dead_letters
        assert letters.total() / kinds.total() == pytest.approx(0.02, rel=0.2)
        assert letters.keys() == {
            "BAD_FRAMING", "NO_VALUE", "UNKNOWN_SCHEMA", "TRUNCATED", "VARINT_OVERFLOW", "BAD_LENGTH", "BAD_INDEX",
            "INVALID_UTF8", "TRAILING_BYTES", "BAD_PARCEL_ID", "OUT_OF_BOUNDS", "BAD_VOID",
        }  # fmt: skip

    def test_holds_with_and_without_a_reason_end_in_release_or_refusal(self):
        kinds = self.share("held", 0.2, unexplained=0.3, refused=0.4)
        holds = [said for told in self.told.values() for said in told if said.kind == "CUSTOMS_HELD"]
        assert sum(said.reason is None for said in holds) / len(holds) == pytest.approx(0.3, abs=0.08)
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
def test_a_setting_that_cannot_be_is_refused(make, message):
    with pytest.raises(Misconfigured, match=message):
        make()


def test_the_kinds_of_the_columns_are_numbers_of_kinds():
    _, batches = played(50, seed=1)
    assert all(columns.columns["kind"][0].max() < len(KINDS) for columns in batches)


def test_the_help_tells_the_defaults():
    said = simulate.__doc__
    for field in fields(DataFaults):
        assert f"  {field.name}={field.default:g} " in said
