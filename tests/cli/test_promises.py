"""The output of `parcels promises` for a file, and for the promise clocks of a parcel."""

import pytest

from streams.cli.promise_explanation import explain_promises, explanation_lines
from streams.domain.promises import AnomalyThresholds, Promises
from streams.domain.reference.promise_clocks import ParcelRecord
from tests.conftest import run_cli

NINE = 1_772_355_600_000
HOUR = 3_600_000
DOOR = Promises.parse(
    {
        "promises": [
            {
                "name": "door",
                "directions": ["IMPORT"],
                "starts": ["ARRIVED"],
                "stops": ["DELIVERED"],
                "limit": "72h",
                "pauses": ["CUSTOMS_HELD"],
            }
        ]
    }
)


def record(name, kind, hours, **others):
    return ParcelRecord(name.encode().ljust(16), kind, NINE + hours * HOUR, "LGG", "S-1", **others)


ADVICE = record("plan", "ADVISED", -9, plan={"direction": "IMPORT", "service": "STANDARD", "planned_lane": "N"})
ARRIVED = record("arrived", "ARRIVED", 0)
HELD = record("held", "CUSTOMS_HELD", 10, reason="DOCUMENTS_MISSING")
RELEASED = record("released", "CUSTOMS_RELEASED", 30)


def explained(*records, hours=100, active_alerts=(), promises=DOOR):
    return "\n".join(explanation_lines(explain_promises(promises, records, NINE + hours * HOUR, active_alerts)))


class TestExplain:
    def test_shows_start_pause_and_status_of_the_clock(self):
        text = explained(ADVICE, ARRIVED, HELD)
        assert "2026-03-01 09:00:00 +00:00 ARRIVED at LGG S-1" in text
        hold = f"19:00:00 +00:00 CUSTOMS_HELD at LGG S-1 DOCUMENTS_MISSING ({HELD.record_hash.hex()})"
        assert f"{hold}: held with a reason, the clock pauses" in text
        assert "PAUSED, 2d14h left" in text

    def test_shows_the_release_and_the_active_alert(self):
        alert = {"condition": "door", "type": "BREACHED", "since": NINE, "alert_id": b"\xab" * 16}
        text = explained(ADVICE, ARRIVED, HELD, RELEASED, active_alerts=[alert])
        release = f"CUSTOMS_RELEASED at LGG S-1 ({RELEASED.record_hash.hex()})"
        assert f"{release}: released, the clock resumes" in text
        assert "BREACHED, the deadline is 2026-03-05 05:00:00 +00:00" in text
        assert "active alert: BREACHED, of the clock that started 2026-03-01 09:00:00 +00:00 (alert abababab" in text

    def test_shows_why_a_hold_does_not_pause_the_clock(self):
        bare = record("bare", "CUSTOMS_HELD", 5)
        wrong = record("wrong", "CUSTOMS_HELD", 40, reason="X")
        void = record("void", "VOID", 41, voids=wrong.record_hash)
        again, late = record("again", "CUSTOMS_HELD", 20, reason="Y"), record("late", "CUSTOMS_HELD", 95, reason="Z")
        text = explained(ADVICE, ARRIVED, bare, HELD, again, RELEASED, wrong, void, late)
        for hold, why in (
            (bare, "it has no reason"),
            (again, "the clock is paused already"),
            (wrong, f"a VOID declares it wrong ({void.record_hash.hex()})"),
            (late, "the limit had passed before it"),
        ):
            assert f"({hold.record_hash.hex()}): does not pause the clock: {why}" in text
        assert text.count("the clock pauses") == text.count("the clock resumes") == 1
        times = [line.split(" +")[0] for line in text.splitlines() if line.startswith("  20")]
        assert times == sorted(times)

    def test_leaves_out_holds_that_ended_before_the_clock_started_or_began_after_it_stopped(self):
        before, over = record("before", "CUSTOMS_HELD", -8, reason="X"), record("over", "CUSTOMS_RELEASED", -7)
        text = explained(ADVICE, before, over, ARRIVED, record("done", "DELIVERED", 9), HELD)
        assert [line for line in text.splitlines() if "CUSTOMS_HELD" in line and "clock" in line] == []

    def test_shows_that_holds_do_not_pause_a_promise(self):
        plain = Promises.parse({"promises": [DOOR.promises[0].model_dump(mode="json") | {"pauses": []}]})
        text = explained(ADVICE, ARRIVED, HELD, promises=plain)
        assert "does not pause the clock: holds do not pause the clock of this promise" in text

    def test_shows_since_when_a_clock_is_at_risk(self):
        assert "RUNNING and at risk since 2026-03-03 18:36:00 +00:00, until 2026-03-04 09:00" in explained(
            ADVICE, ARRIVED, hours=60
        )
        text = explained(ADVICE, ARRIVED, record("held", "CUSTOMS_HELD", 70, reason="X"))
        assert "PAUSED and at risk since 2026-03-03 18:36:00 +00:00, 2h left" in text
        assert "MET and was at risk since" in explained(ADVICE, ARRIVED, record("done", "DELIVERED", 70))

    def test_shows_why_there_is_no_clock(self):
        assert "no clock: there is no valid scan ARRIVED" in explained(ADVICE)
        assert "unknown whether the promise is about it" in explained(ARRIVED)
        export = ADVICE._replace(plan=dict(ADVICE.plan, direction="EXPORT"))
        assert "about other parcels than EXPORT, service STANDARD, lane N" in explained(export, ARRIVED)

    def test_shows_anomalies(self):
        text = explained(ADVICE, ARRIVED, record("sorted", "SORTED", 2, lane="S"))
        assert "MISROUTED since 2026-03-01 11:00:00 +00:00" in text


class TestCheck:
    def test_prints_the_promises_of_a_file_in_words(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("promises: [{name: sort, starts: [UNLOADED], stops: [SORTED], limit: 90m}]")
        done = run_cli("promises", "check", str(path))
        assert done.returncode == 0, done.stderr
        assert "sort: within 1h30m from the first UNLOADED to SORTED, at risk after 80%" in done.stdout
        assert "anomaly missing: in a container that was emptied 2h ago, and not scanned since" in done.stdout
        lines = [line for line in done.stdout.splitlines() if line.startswith("anomaly")]
        assert [line.split(":")[0].removeprefix("anomaly ") for line in lines] == list(AnomalyThresholds.model_fields)

    @pytest.mark.parametrize(
        ("text", "message"), [("promises: [{name: x}]", "promises[0].starts (x)"), ("[", "not YAML")]
    )
    def test_names_the_key_that_is_wrong(self, tmp_path, text, message):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        done = run_cli("promises", "check", str(path))
        assert done.returncode == 2
        assert message in done.stderr
