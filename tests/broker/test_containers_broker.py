# ruff: noqa: E501 - a line is a record
"""Containers on a real broker: from files, through both stages, to what people see; and back after a restart."""

import json

import pytest

from streams.pipeline import topics
from streams.pipeline.clients import read_to_end

EVENTS = """\
{"type": "container", "event_id": "c1", "container_id": "BAG-7", "kind": "PACKED", "event_time": "2026-03-01T01:00:00Z", "site": "CAN", "station": "PCK-01", "parcels": ["LP1", "LP2"]}
{"type": "container", "event_id": "c2", "container_id": "ULD-1", "kind": "PACKED", "event_time": "2026-03-01T02:00:00Z", "site": "CAN", "station": "PCK-02", "containers": ["BAG-7"]}
{"type": "container", "event_id": "c3", "container_id": "ULD-1", "kind": "ARRIVED", "event_time": "2026-03-01T14:00:00Z", "site": "LGG", "station": "GATE-1"}
{"type": "container", "event_id": "c4", "container_id": "BAG-7", "kind": "UNPACKED", "event_time": "2026-03-01T15:30:00Z", "site": "LGG", "station": "UNP-01"}
{"type": "container", "event_id": "c4", "container_id": "BAG-7", "kind": "UNPACKED", "event_time": "2026-03-01T15:30:00Z", "site": "LGG", "station": "UNP-01"}
"""
LATER = """\
{"type": "container", "event_id": "c5", "container_id": "BAG-7", "kind": "PACKED", "event_time": "2026-03-01T01:30:00Z", "site": "CAN", "station": "PCK-01", "parcels": ["LP3"]}
"""


@pytest.fixture
def hub(parcels, settings, tmp_path):
    topics.apply(settings, topics.plan(settings, 3))

    def load_and_run(text):
        path = tmp_path / "events.ndjson"
        path.write_text(text)
        parcels("load", str(path), check=True)
        return parcels("run", "--until-idle", "2", check=True)

    load_and_run(EVENTS)
    return load_and_run


def test_a_parcel_is_shown_with_what_it_travelled_in(hub, parcels):
    said = parcels("show", "LP1", check=True).stdout
    assert "UNPACKED, version 3" in said
    assert "in BAG-7 from 2026-03-01 01:00:00 +00:00 to 2026-03-01 15:30:00 +00:00" in said
    assert "in ULD-1 from 2026-03-01 02:00:00 +00:00 to 2026-03-01 15:30:00 +00:00" in said
    state = json.loads(parcels("show", "LP1", "--json", check=True).stdout)
    [stay] = state["travelled_in"]
    assert (stay["container_id"], [each["container_id"] for each in stay["within"]]) == ("BAG-7", ["ULD-1"])


def test_a_container_is_shown_as_of_any_time(hub, parcels):
    assert "BAG-7  0 containers, 0 parcels inside\n" in parcels("show", "BAG-7", check=True).stdout
    before = json.loads(parcels("show", "BAG-7", "--at", "2026-03-01T12:00Z", "--json", check=True).stdout)
    assert before["inside"] == {"containers": [], "parcels": ["LP1", "LP2"]}
    assert [event["event_id"] for event in before["events"] if event["inferred_from"] is None] == ["c1"]
    assert json.loads(parcels("show", "ULD-1", "--json", check=True).stdout)["inside"]["containers"] == ["BAG-7"]
    nobody = parcels("show", "BAG-8")
    assert (nobody.returncode, "nothing is known of a parcel or a container BAG-8" in nobody.stderr) == (1, True)


def test_after_a_restart_a_late_manifest_is_caught_up(hub, parcels, settings):
    told = sum(1 for _ in read_to_end(settings, settings.prefix + topics.SCANS))
    hub(LATER)
    state = json.loads(parcels("show", "LP3", "--json", check=True).stdout)
    assert [entry["kind"] for entry in state["scans"]] == ["PACKED", "ARRIVED", "UNPACKED"]
    # Nobody else hears anything again.
    assert sum(1 for _ in read_to_end(settings, settings.prefix + topics.SCANS)) == told + 3
    assert "LP1, LP2, LP3" in parcels("show", "BAG-7", "--at", "2026-03-01T12:00Z", check=True).stdout
