"""Who is in a container, as `parcels show` answers: what the children's own records say, whichever way one asks."""

import json

import pytest

PLACE = {"site": "LGG", "station": "S1"}


def minute(number: int) -> str:
    return f"2026-03-01T10:{number:02}:00Z"


def container(name: str, kind: str, at: int, **said) -> dict:
    return record(name, kind, at, type="container", container_id=name, **said)


def scan(parcel_id: str, kind: str, at: int, **said) -> dict:
    return record(parcel_id, kind, at, type="scan", parcel_id=parcel_id, **said)


def record(name: str, kind: str, at: int, **said) -> dict:
    return {"event_id": f"{name}-{kind}-{at}", "kind": kind, "event_time": minute(at), **PLACE, **said}


@pytest.fixture
def fold(parcels, tmp_path):
    """Write records to the log and fold them through both stages."""
    parcels("topics", "apply", "--partitions", "2", check=True)

    def fold(*records: dict) -> None:
        log = tmp_path / "log.ndjson"
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
        parcels("load", str(log), check=True)
        parcels("run", "--until-idle", "2", check=True)

    return fold


@pytest.fixture
def show(parcels):
    def show(*args: str) -> dict:
        return json.loads(parcels("show", *args, "--json", check=True).stdout)

    return show


def test_what_went_elsewhere_is_not_inside_any_more(fold, show, parcels):
    fold(
        container("ULD1", "PACKED", 1, parcels=["P1", "P2", "P3"], containers=["BAG1"]),
        # Nobody said that they were taken out of the first one.
        container("ULD2", "PACKED", 5, parcels=["P1"], containers=["BAG1"]),
        scan("P2", "SORTED", 6, site="CGN"),
    )
    assert show("ULD1")["inside"] == {"containers": [], "parcels": ["P3"]}
    assert show("ULD2")["inside"] == {"containers": ["BAG1"], "parcels": ["P1"]}
    # What it was told is there to compare.
    assert show("ULD1")["declared"] == {"containers": ["BAG1"], "parcels": ["P1", "P2", "P3"]}
    lines = parcels("show", "ULD1", check=True).stdout
    assert "0 containers, 1 parcels inside" in lines
    assert "parcels declared to be inside that are not, by their own records: P1, P2" in lines

    for time, first, second in (
        (0, [], []),
        (1, ["P1", "P2", "P3"], []),
        (5, ["P2", "P3"], ["P1"]),
        (6, ["P3"], ["P1"]),
    ):
        assert show("ULD1", "--at", minute(time))["inside"]["parcels"] == first
        assert show("ULD2", "--at", minute(time))["inside"]["parcels"] == second


def test_what_only_its_own_scan_put_there_is_inside(fold, show, parcels):
    fold(scan("P1", "PACKED", 1, container_id="BAG1"), scan("P2", "PACKED", 2, container_id="BAG1"))
    shown = show("BAG1")
    assert shown["inside"] == {"containers": [], "parcels": ["P1", "P2"]}
    assert shown["declared"] == {"containers": [], "parcels": []}
    assert show("BAG1", "--at", minute(1))["inside"]["parcels"] == ["P1"]
    assert parcels("show", "BAG2").returncode == 1


def test_a_parcel_may_hold_others_and_may_be_written_in_any_way(fold, show, parcels):
    pallet = "https://id.gs1.org/00/106141412345678908"
    fold(
        scan(pallet, "ARRIVED", 1),
        container(pallet, "PACKED", 0, parcels=["P1"]),
        scan("P2", "ARRIVED", 1),
    )
    shown = show("urn:epc:id:sscc:0614141.1234567890")
    assert shown["parcel_id"] == pallet
    assert shown["stage"] == "ARRIVED"
    assert shown["as_container"]["inside"]["parcels"] == ["P1"]
    assert "1 parcels inside" in parcels("show", pallet, check=True).stdout
    assert show(pallet, "--at", minute(0))["as_container"]["at"] is not None

    assert "as_container" not in show("P2")
    refused = parcels("show", "P2", "--at", minute(1))
    assert refused.returncode == 2
    assert "P2 is a parcel" in refused.stderr
