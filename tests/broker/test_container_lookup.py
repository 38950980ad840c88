"""The content of a container in `parcels show`: it follows the records of the children, in each form of the command."""

import json

import pytest

PLACE = {"site": "LGG", "station": "S1"}


def minute(number: int) -> str:
    return f"2026-03-01T10:{number:02}:00Z"


def container(name: str, kind: str, at: int, **fields) -> dict:
    return record(name, kind, at, type="container", container_id=name, **fields)


def scan(parcel_id: str, kind: str, at: int, **fields) -> dict:
    return record(parcel_id, kind, at, type="scan", parcel_id=parcel_id, **fields)


def record(name: str, kind: str, at: int, **fields) -> dict:
    return {"event_id": f"{name}-{kind}-{at}", "kind": kind, "event_time": minute(at), **PLACE, **fields}


@pytest.fixture
def fold(parcels, tmp_path):
    """Write records to the log and fold them with both processors."""
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


def test_a_child_that_was_packed_elsewhere_is_not_inside_any_more(fold, show, parcels):
    fold(
        container("ULD1", "PACKED", 1, parcels=["P1", "P2", "P3"], containers=["BAG1"]),
        # No event says that they were taken out of the first one.
        container("ULD2", "PACKED", 5, parcels=["P1"], containers=["BAG1"]),
        scan("P2", "SORTED", 6, site="CGN"),
    )
    assert show("ULD1")["contents"] == {"containers": [], "parcels": ["P3"]}
    assert show("ULD2")["contents"] == {"containers": ["BAG1"], "parcels": ["P1"]}
    # What it was told is there to compare.
    assert show("ULD1")["declared_contents"] == {"containers": ["BAG1"], "parcels": ["P1", "P2", "P3"]}
    lines = parcels("show", "ULD1", check=True).stdout
    assert "0 containers, 1 parcels inside" in lines
    assert "parcels declared to be inside, but not inside by their own records: P1, P2" in lines

    for time, first, second in (
        (0, [], []),
        (1, ["P1", "P2", "P3"], []),
        (5, ["P2", "P3"], ["P1"]),
        (6, ["P3"], ["P1"]),
    ):
        assert show("ULD1", "--at", minute(time))["contents"]["parcels"] == first
        assert show("ULD2", "--at", minute(time))["contents"]["parcels"] == second


def test_a_parcel_that_only_its_own_scan_names_is_inside(fold, show, parcels):
    fold(scan("P1", "PACKED", 1, container_id="BAG1"), scan("P2", "PACKED", 2, container_id="BAG1"))
    shown = show("BAG1")
    assert shown["contents"] == {"containers": [], "parcels": ["P1", "P2"]}
    assert shown["declared_contents"] == {"containers": [], "parcels": []}
    assert show("BAG1", "--at", minute(1))["contents"]["parcels"] == ["P1"]
    assert parcels("show", "BAG2").returncode == 1


def test_a_parcel_may_hold_others_and_may_be_written_in_any_way(fold, show, parcels):
    pallet = "https://id.gs1.org/00/106141412345678908"
    fold(
        scan(pallet, "ARRIVED", 1),
        container(pallet, "PACKED", 0, parcels=["P1"]),
        scan("P2", "ARRIVED", 1),
        scan("P3", "PACKED", 1, container_id="P4"),
        scan("P4", "ARRIVED", 2),
    )
    shown = show("urn:epc:id:sscc:0614141.1234567890")
    assert shown["parcel_id"] == pallet
    assert shown["stage"] == "ARRIVED"
    assert shown["as_container"]["contents"]["parcels"] == ["P1"]
    assert "1 parcels inside" in parcels("show", pallet, check=True).stdout
    assert show(pallet, "--at", minute(0))["as_container"]["as_of"] is not None

    # Only records of its children name it.
    assert show("P4", "--at", minute(1))["as_container"]["contents"]["parcels"] == ["P3"]

    assert "as_container" not in show("P2")
    refused = parcels("show", "P2", "--at", minute(1))
    assert refused.returncode == 2
    assert "P2 is a parcel" in refused.stderr


def test_a_void_says_what_it_declares_wrong(fold, show, parcels):
    fold(
        container("BAG1", "PACKED", 1, parcels=["P1"]),
        container("BAG1", "VOID", 2, voids="BAG1-PACKED-1"),
        container("BAG1", "VOID", 3, voids="BAG1-VOID-2"),
        container("BAG1", "VOID", 4, voids="nobody-said-so"),
        # An error declaration of EPCIS has the id of the event that it declares wrong.
        container("BAG1", "VOID", 5, voids="BAG1-PACKED-1") | {"event_id": "BAG1-PACKED-1"},
    )
    assert [each["voids"] for each in show("BAG1")["events"]] == [
        None, "BAG1-PACKED-1", "BAG1-VOID-2", "nobody-said-so", "BAG1-PACKED-1",
    ]  # fmt: skip
    lines = parcels("show", "BAG1", check=True).stdout.splitlines()[-4:]
    assert [line.partition(", at LGG S1, ")[2] for line in lines] == [
        "voids PACKED of 2026-03-01 10:01:00 +00:00",
        "voids a VOID, which changes nothing",
        "voids an unknown event",
        "voids PACKED of 2026-03-01 10:01:00 +00:00",
    ]


def test_events_of_a_container_are_shown_with_their_ids(fold, parcels):
    fold(container("ULD1", "PACKED", 1, containers=["BAG1"]), container("BAG1", "PACKED", 2, parcels=["P1"]))
    first, second = parcels("show", "BAG1", "--events", check=True).stdout.splitlines()[-2:]
    assert "through ULD1, event_id 'urn:parcels:inferred:" in first
    assert first.endswith(", follows from 'ULD1-PACKED-1'")
    assert second.endswith(", 1 children, event_id 'BAG1-PACKED-2'")
    assert "event_id" not in parcels("show", "BAG1", check=True).stdout
    assert parcels("show", "BAG1", "--at", minute(0), check=True).stdout.endswith("  events: none\n")


def test_long_identifiers_are_shown_whole(fold, parcels):
    longest = "https://id.gs1.org/8004/4000001".ljust(128, "A")
    fold(container(longest, "PACKED", 1, parcels=["P1"]))
    told = parcels("show", "P1", check=True).stdout
    assert f"  in {longest} from 2026-03-01 10:01:00 +00:00 to now\n" in told
    assert "…" not in told


def test_an_empty_identifier_is_unknown(fold, parcels):
    fold(container("BAG1", "PACKED", 1, parcels=["P1"]))
    refused = parcels("show", "")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is known" in refused.stderr
