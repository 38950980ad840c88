"""Alerts through a real broker: exactly those of the truth, each once, over restarts."""

import json

import pytest

from streams.formats.record_decoder import RecordDecoder
from streams.formats.topics import ALERTS_TOPIC, PARCEL_STATE_TOPIC, THROUGHPUT_TOPIC
from streams.kafka.reader import read_to_end

SHORT_PROMISES = """
promises:
  - {name: sort, starts: [UNLOADED], stops: [SORTED], limit: 1h}
  - {name: door, starts: [ARRIVED], stops: [DELIVERED], limit: 1d, pauses: [CUSTOMS_HELD]}
retirement: {finished: 1d, unfinished: 60d}
"""


@pytest.fixture
def promises(tmp_path):
    path = tmp_path / "promises.yaml"
    path.write_text(SHORT_PROMISES)
    return str(path)


def test_alerts_and_retired_parcels_are_those_of_the_truth(parcels, settings, promises, tmp_path):
    truth, days = str(tmp_path / "truth.json"), ("--parcels", "300", "--seed", "5", "--tail-hours", "120")
    parcels("topics", "apply", "--partitions", "2", check=True)
    parcels("simulate", "--scans-only", *days, "--promises", promises, "--truth", truth, check=True)
    for _ in range(2):
        # The second run finds nothing to do.
        parcels("run", "--until-idle", "2", "--promises", promises, check=True)
    verified = parcels("verify", truth, "--json")
    assert verified.returncode == 0, verified.stdout[-3000:]
    alerts = list(read_to_end(settings, settings.prefix + ALERTS_TOPIC))
    assert json.loads(verified.stdout)["alerts"]["count"] == len(alerts) > 100
    tombstones = [
        record for record in read_to_end(settings, settings.prefix + PARCEL_STATE_TOPIC) if record.value() is None
    ]
    assert len(tombstones) > 10
    decode = RecordDecoder("ThroughputDelta")
    counted = sum(
        decode(record.value())["count"] for record in read_to_end(settings, settings.prefix + THROUGHPUT_TOPIC)
    )
    assert counted > 1_000

    late = next(
        name for name, parcel in json.loads((tmp_path / "truth.json").read_text())["parcels"].items()
        if parcel.get("active_alerts", {}).get("door") == "BREACHED"
    )  # fmt: skip
    explained = parcels("promises", "explain", promises, late)
    assert explained.returncode == 0, explained.stderr
    assert "BREACHED, the deadline is" in explained.stdout
    assert "active alert: BREACHED" in explained.stdout
    as_json = json.loads(parcels("promises", "explain", promises, late, "--json", check=True).stdout)
    door = as_json["promises"][1]
    assert (door["promise"], door["status"], door["active_alert"]["type"]) == ("door", "BREACHED", "BREACHED")
    assert door["steps"][0]["kind"] == "ARRIVED"
    assert parcels("promises", "explain", promises, "nobody").returncode == 1


def test_other_promises_repeat_nothing_of_those_that_stay(parcels, settings, promises, tmp_path):
    parcels("topics", "apply", "--partitions", "1", check=True)
    parcels("simulate", "--scans-only", "--parcels", "100", "--seed", "6", check=True)
    parcels("run", "--until-idle", "2", "--promises", promises, check=True)
    before = len(list(read_to_end(settings, settings.prefix + ALERTS_TOPIC)))
    other = tmp_path / "other.yaml"
    other.write_text(SHORT_PROMISES.replace("name: sort", "name: sorting") + "anomalies: {repeated_no_read: 1}\n")
    # With one more Tick every clock is evaluated again.
    parcels("simulate", "--parcels", "1", "--start", "2026-04-01T00:00Z", "--tail-hours", "0", check=True)
    parcels("run", "--until-idle", "2", "--promises", str(other), check=True)
    decode = RecordDecoder("Alert")
    told = [decode(record.value()) for record in read_to_end(settings, settings.prefix + ALERTS_TOPIC)][before:]
    doors = [alert for alert in told if alert["condition"] == "door" and alert["hub_time"] > 0]
    breached = {(a["parcel_id"], a["since"]) for a in doors if a["type"] == "BREACHED"}
    assert len(breached) == sum(alert["type"] == "BREACHED" for alert in doors)
    assert {alert["condition"] for alert in told} >= {"sorting"}
    assert not any(alert["condition"] == "sort" for alert in told)
