"""The bench: what it counts, what it compares, what it writes. The figures themselves are for `make bench`."""

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fastavro
import numpy as np
import pytest

from bench import latency, report, same, ticks
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas

REPOSITORY = Path(__file__).parent.parent.parent
PARCEL = b"JD0099999990000000000BE"


def encoded(name, record):
    body = io.BytesIO()
    fastavro.schemaless_writer(body, load_schemas().current(name), record)
    return load_schemas().to_wire_format(name, body.getvalue())


def state(version, parcel=PARCEL, **fields):
    blank = {
        "parcel_id": parcel.decode(), "version": version, "held": False, "damaged": False, "no_reads": 0,
        "recirculations": 0, "kinds": [], "timeline": [],
    }  # fmt: skip
    return encoded("ParcelState", blank | fields)


def scan(event_id, parcel=PARCEL, kind="ARRIVED"):
    return encoded(
        "Scan",
        {
            "event_id": event_id, "parcel_id": parcel.decode(), "kind": kind, "event_time": 0, "record_time": 0,
            "site": "LGG", "station": "TRK-01",
        },
    )  # fmt: skip


@pytest.fixture
def every_parcel(monkeypatch):
    monkeypatch.setattr(latency, "_SAMPLE", 1)


@pytest.mark.usefixtures("every_parcel")
class TestLatency:
    def test_a_scan_is_in_the_first_state_with_its_version(self):
        sent = [latency.Sent(0, PARCEL, scan(f"e{n}"), at=100.0 + n) for n in range(3)]
        # The state of the first scan was seen; the second and the third came with one state.
        seen = [(PARCEL, state(1), 100.1), (PARCEL, state(3), 102.5)]
        figures = latency._figures(sent, seen, warm_up_seconds=0)
        assert figures["scans"] == 3
        assert figures["p50_ms"] == 500
        assert figures["max_ms"] == 1500

    def test_scans_of_the_warm_up_do_not_count(self):
        sent = [latency.Sent(0, PARCEL, scan(f"e{n}"), at=100.0 + n) for n in range(3)]
        seen = [(PARCEL, state(1), 109.0), (PARCEL, state(3), 109.0)]
        assert latency._figures(sent, seen, warm_up_seconds=2)["scans"] == 1

    def test_a_scan_that_no_state_holds_is_an_error(self):
        sent = [latency.Sent(0, PARCEL, scan(f"e{n}"), at=100.0 + n) for n in range(2)]
        with pytest.raises(StreamsError, match="1 of 2 scans never appeared in a state"):
            latency._figures(sent, [(PARCEL, state(1), 101.0)], warm_up_seconds=0)

    def test_parcels_whose_versions_cannot_be_counted_are_left_out(self):
        other = b"LR000000001BE"
        sent = [
            latency.Sent(0, PARCEL, scan("e1"), at=1.0),
            latency.Sent(0, other, scan("e2", other), at=2.0),
            latency.Sent(0, other, scan("e2", other), at=3.0),
            latency.Sent(0, None, b"\0\0\0\0\3", at=4.0),
            latency.Sent(0, b"LR000000002BE", b"garbage", at=5.0),
        ]
        assert latency._clean_histories(sent) == {PARCEL: [1.0]}

    @pytest.mark.parametrize("version", [1, 63, 64, 10_000])
    def test_the_version_is_read_from_the_head_of_a_state(self, version):
        assert latency._version(state(version)[: latency._HEAD]) == version


class TestSameOutcome:
    ALERT = (PARCEL.decode(), "sort", "BREACHED", 9)

    def outcome(self, states, milestones=((1, 2),), alerts=()):
        return same.Outcome(states, np.array(milestones, np.uint64).reshape(-1, 2), Counter(alerts), Counter([b"id"]))

    def test_equal_outcomes(self):
        one = self.outcome({PARCEL: state(1)}, alerts=[self.ALERT])
        assert same.compare(one, one) == {
            "parcels": 1, "identical_bytes": 1, "milestones": 1, "alerts": {"sort BREACHED": 1},
            "identical_alert_ids": 1,
        }  # fmt: skip

    def test_the_first_difference_is_reported(self):
        one, other = self.outcome({PARCEL: state(1)}), self.outcome({PARCEL: state(1, no_reads=2)})
        with pytest.raises(StreamsError, match=r"JD0099.*no_reads: 0 and 2"):
            same.compare(one, other)

    def test_a_parcel_that_only_one_knows(self):
        with pytest.raises(StreamsError, match="is in one of them only"):
            same.compare(self.outcome({PARCEL: state(1)}), self.outcome({}))

    def test_other_milestones(self):
        with pytest.raises(StreamsError, match="did not write the same milestones"):
            same.compare(self.outcome({}), self.outcome({}, ((1, 3),)))

    def test_a_duplicate_alert(self):
        one, other = self.outcome({}, alerts=[self.ALERT]), self.outcome({}, alerts=[self.ALERT, self.ALERT])
        with pytest.raises(
            StreamsError, match=r"did not write the same alerts.*'sort', 'BREACHED', 9.*written 1 and 2"
        ):
            same.compare(one, other)

    def test_anomalies_are_left_out(self):
        def standing(about, type_):
            return {"condition": about, "type": type_, "since": 0, "alert_id": bytes(16)}

        broken = standing("sort", "BREACHED")
        one = self.outcome({PARCEL: state(1, active_alerts=[standing("MISROUTED", "ANOMALY"), broken])})
        assert same.compare(one, self.outcome({PARCEL: state(1, active_alerts=[broken])}))["parcels"] == 1
        with pytest.raises(StreamsError, match="alerts:"):
            same.compare(one, self.outcome({PARCEL: state(1)}))


RESULT = {
    "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 24},
    "live": {
        "ours": {
            "rate": 200_000,
            "cpu_seconds_per_million": 5.0,
            "peak_megabytes": 500,
            "phases": {"fold": 3.0, "send": 1.0},
        },
        "kafka_streams": {"rate": 50_000, "cpu_seconds_per_million": 40.0, "peak_megabytes": 1000},
        "ratio": 4.0,
        "records": 2_000_000,
    },
    "live_plain": {
        "ours": {"rate": 250_000, "cpu_seconds_per_million": 4.0, "peak_megabytes": 500},
        "kafka_streams": {"rate": 100_000, "cpu_seconds_per_million": 30.0, "peak_megabytes": 900},
        "ratio": 2.5,
        "records": 2_000_000,
    },
    "replay": None,
    "latency": {
        "ours": {"p50_ms": 40.0, "p99_ms": 100.0},
        "kafka_streams": {"p50_ms": 144.0, "p99_ms": 335.0},
        "rate": 10_000,
    },
}  # fmt: skip


class TestTicks:
    def test_a_tick_costs_one_comparison_a_block_when_nothing_is_due(self):
        result = ticks.measure(parcels=2_000, ticks=60)
        assert result["parcels"] == 2_000
        assert result["comparisons_per_tick_with_nothing_due"] == 2
        assert result["day_with_nothing_due"]["alerts"] == 0

    def test_a_tick_after_days_tells_all_that_became_due_and_encodes_it(self):
        large = ticks.measure(parcels=2_000, ticks=1)["all_due_at_once"]
        assert large["states"] == 2_000 and large["alerts"] >= 4_000
        assert large["megabytes_encoded"] > 1 and large["megabytes_at_its_peak"] >= large["megabytes_before"]


class TestReport:
    def test_what_could_not_be_measured_is_left_out(self):
        names = [row[0] for row in report.rows(RESULT)]
        assert any("states, milestones and alerts written" in name for name in names)
        assert not any("nothing written" in name for name in names)

    def test_what_promises_cost_each_program(self):
        assert ["with promises, share of the rate without", "80%", "50%", ""] in report.rows(RESULT)
        without = {name: measured for name, measured in RESULT.items() if name != "live_plain"}
        assert not any("share of the rate" in row[0] for row in report.rows(without))

    def test_containers_have_a_rate_of_their_own(self):
        measured = {"rate": 75_677, "min": 74_970, "max": 76_813, "inferred_share": 0.62}
        rate, spread = report.rows({**RESULT, "containers": measured})[-2:]
        assert rate[1:] == ["75,677", "", ""] and "62% of them inferred" in rate[0]
        assert spread[1] == "74,970 to 76,813"

    def test_phases_have_shares_the_largest_first(self):
        assert report.phase_rows(RESULT)[1:] == [["fold", "live", "3.00", "75%"], ["send", "live", "1.00", "25%"]]

    def test_only_what_stands_between_the_marks_of_the_readme_changes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(report, "REPOSITORY", tmp_path)
        readme = tmp_path / "README.md"
        readme.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
        report.rewrite_readme(RESULT)
        text = readme.read_text()
        assert text.startswith("before\n<!-- bench:begin -->\n| ")
        assert text.endswith("<!-- bench:end -->\nafter\n")
        assert "old" not in text
        assert "| 200,000 | 50,000 | 4.0 |" in text

    def test_the_result_is_kept_by_name_and_as_the_latest(self, tmp_path):
        report.write(RESULT, tmp_path, "2026-03-01")
        assert json.loads((tmp_path / "2026-03-01.json").read_text()) == RESULT
        assert json.loads((tmp_path / "latest.json").read_text()) == RESULT


@pytest.mark.faults
def test_a_quick_bench_measures_everything(broker, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--results", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        timeout=600,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": broker},
    )
    result = json.loads((tmp_path / "latest.json").read_text())
    for mode in ("live", "live_plain", "replay", "latency"):
        assert result[mode]["ours"]
        assert result[mode]["kafka_streams"]
    assert result["live"]["same_outcome"]["parcels"] > 10_000
    assert result["live"]["same_outcome"]["identical_alert_ids"] > 1_000
