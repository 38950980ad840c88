"""What `parcels promises` says: of a file, and of the clocks of a parcel."""

import pytest

from streams.cli.promises import explained
from streams.domain.account import Record, look
from streams.domain.promises import Promises
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
    return Record(name.encode().ljust(16), kind, NINE + hours * HOUR, "LGG", "S-1", **others)


ADVICE = record("plan", "ADVISED", -9, plan={"direction": "IMPORT", "service": "STANDARD", "planned_lane": "N"})
ARRIVED = record("arrived", "ARRIVED", 0)
HELD = record("held", "CUSTOMS_HELD", 10, reason="DOCUMENTS_MISSING")
RELEASED = record("released", "CUSTOMS_RELEASED", 30)


def told(*records, hours=100, standing=()):
    looked = look(DOOR, records, NINE + hours * HOUR)
    return "\n".join(explained(DOOR, looked, list(standing)))


class TestExplain:
    def test_tells_start_pause_and_where_the_clock_stands(self):
        text = told(ADVICE, ARRIVED, HELD)
        assert "2026-03-01 09:00:00 +00:00 ARRIVED at LGG S-1" in text
        assert "19:00:00 +00:00 held by customs with a reason: it stands still" in text
        assert "PAUSED, 2d14h left" in text

    def test_tells_of_the_release_and_of_what_was_told(self):
        alert = {"about": "door", "type": "BREACHED", "since": NINE, "alert_id": b"\xab" * 16}
        text = told(ADVICE, ARRIVED, HELD, RELEASED, standing=[alert])
        assert "released: it goes on" in text
        assert "BROKEN, the last instant is 2026-03-05 05:00:00 +00:00" in text
        assert "told BREACHED about the clock of 2026-03-01 09:00:00 +00:00 (alert abababab" in text

    def test_tells_why_there_is_no_clock(self):
        assert "no clock: no scan of ARRIVED counts" in told(ADVICE)
        assert "nobody knows whether it is one of these" in told(ARRIVED)
        export = ADVICE._replace(plan=dict(ADVICE.plan, direction="EXPORT"))
        assert "for other parcels than EXPORT, service STANDARD, lane N" in told(export, ARRIVED)

    def test_tells_of_anomalies(self):
        text = told(ADVICE, ARRIVED, record("sorted", "SORTED", 2, lane="S"))
        assert "MISROUTED since 2026-03-01 11:00:00 +00:00" in text


class TestCheck:
    def test_says_in_words_what_a_file_promises(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("promises: [{name: sort, starts: [UNLOADED], stops: [SORTED], limit: 90m}]")
        done = run_cli("promises", "check", str(path))
        assert done.returncode == 0, done.stderr
        assert "sort: within 1h30m from the first UNLOADED to SORTED, at risk after 80%" in done.stdout

    @pytest.mark.parametrize(("text", "says"), [("promises: [{name: x}]", "promises[0].starts (x)"), ("[", "not YAML")])
    def test_says_what_is_wrong(self, tmp_path, text, says):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        done = run_cli("promises", "check", str(path))
        assert done.returncode == 2
        assert says in done.stderr
