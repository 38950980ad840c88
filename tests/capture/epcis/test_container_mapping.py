"""EPCIS events of containers as records of hub.containers, and lines of type container."""

import json

import pytest

from streams.capture.epcis.mapping import map_event
from streams.domain.limits import MAX_CONTAINER_RECORD_BYTES
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from tests.capture.http.gateways import Running, running

BAG, ULD = "urn:parcels:container:BAG-1", "urn:parcels:uld:AKE12345XX"
ONE, OTHER = "urn:parcels:s10:RB123456785GB", "urn:parcels:parcel:LP17"
PALLET, PALLET_ID = "urn:epc:id:sscc:0614141.1234567890", "https://id.gs1.org/00/106141412345678908"
TRUCK, TRUCK_ID = "urn:epc:id:giai:4000001.TRUCK1", "https://id.gs1.org/8004/4000001TRUCK1"
PLACE = {"readPoint": {"id": "urn:parcels:place:LGG:PCK-01"}}
WRONG = {"errorDeclaration": {"declarationTime": "2026-03-01T09:00:00Z"}}


def mapped(type_="AggregationEvent", **said):
    event = {"type": type_, "eventTime": "2026-03-01T05:00:00+01:00", "eventTimeZoneOffset": "+01:00", **PLACE, **said}
    made = map_event(event, "urn:x:1", {}, 1_772_355_600_000, "acme")
    for record in (*made.scans, *made.containers):
        RecordParser()(record)
    return made


def told(type_="AggregationEvent", **said):
    """(container, kind, and what is said of others) of each event."""
    named = ("parcels", "containers", "parent_id", "voids")
    return [
        (each["container_id"], each["kind"], {name: each[name] for name in named if name in each})
        for each in mapped(type_, **said).containers
    ]


@pytest.mark.parametrize("type_", ["AggregationEvent", "AssociationEvent"])
class TestAnAggregation:
    def test_says_what_was_put_in_and_taken_out_and_nothing_of_the_parcels(self, type_):
        made = mapped(type_, action="ADD", parentID=BAG, childEPCs=[ONE, OTHER], bizStep="packing")
        assert made.scans == ()
        (packed,) = made.containers
        assert packed["parcels"] == ["RB123456785GB", "LP17"]
        assert (packed["site"], packed["station"], packed["device_id"]) == ("LGG", "PCK-01", "acme")
        assert told(type_, action="DELETE", parentID=BAG, childEPCs=[ONE]) == [
            ("BAG-1", "UNPACKED", {"parcels": ["RB123456785GB"]})
        ]

    def test_without_children_empties(self, type_):
        assert told(type_, action="DELETE", parentID=BAG) == [("BAG-1", "UNPACKED", {})]
        # What was taken out is no parcel of ours: that is no emptying.
        assert told(type_, action="DELETE", parentID=BAG, childEPCs=["urn:epc:id:sgtin:0614141.107346.1"]) == []
        assert told(type_, action="DELETE", parentID=BAG, childQuantityList=[{"epcClass": "urn:x:1"}]) == []

    def test_of_containers_that_are_loaded_says_so_of_each_of_them(self, type_):
        said = told(type_, action="ADD", parentID=ULD, childEPCs=[BAG, ONE], bizStep="loading")
        assert said == [
            ("AKE12345XX", "PACKED", {"parcels": ["RB123456785GB"], "containers": ["BAG-1"]}),
            ("BAG-1", "LOADED", {}),
        ]

    def test_names_a_logistic_unit_as_the_parcel_and_as_the_container_that_it_may_be(self, type_):
        said = told(type_, action="ADD", parentID=ULD, childEPCs=[PALLET, TRUCK, ONE], bizStep="loading")
        assert said == [
            ("AKE12345XX", "PACKED", {"parcels": [PALLET_ID, "RB123456785GB"], "containers": [PALLET_ID, TRUCK_ID]}),
            (PALLET_ID, "LOADED", {}),
            (TRUCK_ID, "LOADED", {}),
        ]
        assert told(type_, action="ADD", parentID=PALLET, childEPCs=[ONE])[0][0] == PALLET_ID

    def test_that_is_observed_is_a_scan_of_the_parent(self, type_):
        said = told(type_, action="OBSERVE", parentID=ULD, childEPCs=[BAG], bizStep="arriving")
        assert said == [("AKE12345XX", "ARRIVED", {})]
        said = told(type_, action="OBSERVE", parentID=ULD, childEPCs=[BAG], bizStep="packing")
        assert said == [("AKE12345XX", "PACKED", {"containers": ["BAG-1"]})]

    def test_that_is_declared_wrong_is_a_void(self, type_):
        made = mapped(type_, action="ADD", parentID=BAG, childEPCs=[ONE], **WRONG).containers
        assert [(each["event_id"], each["kind"], each["voids"]) for each in made] == [("urn:x:1", "VOID", "urn:x:1")]
        assert made[0]["event_time"] == 1_772_355_600_000
        assert "parcels" not in made[0]

    def test_of_more_than_a_record_holds_goes_on_in_the_next_and_so_does_its_declaration(self, type_):
        children = [f"urn:parcels:parcel:{n:0120d}" for n in range(20_000)]
        made = mapped(type_, action="ADD", parentID=BAG, childEPCs=children).containers
        assert [each["event_id"] for each in made] == ["urn:x:1", "urn:x:1#2", "urn:x:1#3", "urn:x:1#4"]
        assert [each for record in made for each in record["parcels"]] == [f"{n:0120d}" for n in range(20_000)]
        assert all(len(RecordParser()(each).value) < MAX_CONTAINER_RECORD_BYTES for each in made)
        voids = mapped(type_, action="ADD", parentID=BAG, childEPCs=children, **WRONG).containers
        assert [each["voids"] for each in voids] == [each["event_id"] for each in made]


class TestAnObject:
    def test_that_is_a_container_is_scanned(self):
        made = mapped("ObjectEvent", action="OBSERVE", epcList=[ULD, ONE], bizStep="unloading")
        assert [(each["container_id"], each["kind"]) for each in made.containers] == [("AKE12345XX", "UNLOADED")]
        assert [(each["parcel_id"], each["kind"]) for each in made.scans] == [("RB123456785GB", "UNLOADED")]

    def test_that_may_hold_others_is_scanned_for_them_too(self):
        made = mapped("ObjectEvent", action="OBSERVE", epcList=[PALLET, TRUCK], bizStep="departing")
        assert [(each["container_id"], each["kind"]) for each in made.containers] == [
            (PALLET_ID, "DISPATCHED"),
            (TRUCK_ID, "DISPATCHED"),
        ]
        assert [(each["parcel_id"], each["kind"]) for each in made.scans] == [(PALLET_ID, "DISPATCHED")]
        made = mapped("ObjectEvent", action="OBSERVE", epcList=[PALLET], bizStep="departing", **WRONG)
        assert [each["kind"] for each in (*made.scans, *made.containers)] == ["VOID", "VOID"]

    def test_is_put_into_what_its_extension_names(self):
        into = {"urn:parcels:voc:container_id": "AKE12345XX"}
        said = told("ObjectEvent", action="OBSERVE", epcList=[BAG], bizStep="packing", **into)
        assert said == [("BAG-1", "PACKED", {"parent_id": "AKE12345XX"})]
        assert told("ObjectEvent", action="OBSERVE", epcList=[BAG], bizStep="unpacking") == []

    def test_with_an_id_that_no_container_has_is_left_to_the_archive(self):
        long = f"urn:parcels:container:{'x' * 129}"
        assert told("ObjectEvent", action="OBSERVE", epcList=[long], bizStep="arriving") == []
        assert told(action="ADD", parentID=long, childEPCs=[ONE]) == []
        assert told(action="ADD", parentID=BAG, childEPCs=[long, ONE]) == [
            ("BAG-1", "PACKED", {"parcels": ["RB123456785GB"]})
        ]


@pytest.fixture
def gateway(tmp_path):
    with running(tmp_path) as held:
        yield held


def line(**said):
    place = {"site": "LGG", "station": "PCK-01", "event_time": "2026-03-01T04:00:00Z"}
    return {"type": "container", "event_id": "c1", "container_id": "BAG-1", "kind": "PACKED", **place, **said}


class TestLines:
    def test_of_containers_go_to_their_log(self, gateway: Running):
        said = gateway.scans(line(parcels=["LP1", "LP2"]), line(event_id="c2", kind="UNPACKED")).json()
        assert [each["status"] for each in said["results"]] == ["accepted", "accepted"]
        packed, emptied = (RecordDecoder("ContainerEvent")(entry.value) for entry in gateway.kept(1))
        assert (packed["parcels"], emptied["parcels"]) == (["LP1", "LP2"], [])
        assert gateway.kept(0) == [] and gateway.kept(1)[0].key == b"BAG-1"

    def test_that_come_again_are_duplicates(self, gateway: Running):
        for status in ("accepted", "duplicate"):
            assert gateway.scans(line(parcels=["LP1"])).json()["results"][0]["status"] == status
        # The same id of a parcel's scan is another record.
        scan = line(parcels=["LP1"]) | {"type": "scan", "parcel_id": "BAG-1", "container_id": "BAG-1"}
        del scan["parcels"]
        assert gateway.scans(scan).json()["results"][0]["status"] == "accepted"

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"kind": "PACKED"}, "needs children"),
            ({"kind": "ARRIVED", "parcels": ["LP1"]}, "PACKED and UNPACKED"),
            ({"kind": "ARRIVED", "inferred_from": "x"}, "not taken here"),
            ({"kind": "ARRIVED", "path": ["ULD"]}, "not taken here"),
            ({"container_id": 7}, "container_id"),
        ],
    )
    def test_that_are_wrong_are_refused(self, gateway: Running, wrong, message):
        (result,) = gateway.scans(line(**wrong)).json()["results"]
        assert result["status"] == "rejected"
        assert message in result["error"]

    def test_may_be_long_and_others_may_not(self, gateway: Running):
        many = [f"LP{n:014d}" for n in range(10_000)]
        (result,) = gateway.scans(line(parcels=many)).json()["results"]
        assert result["status"] == "accepted"
        body = json.dumps({"type": "scan", "event_id": "x" * 70_000}).encode()
        (result,) = gateway.scans(body).json()["results"]
        assert result["status"] == "rejected" and "65,536" in result["error"]

    def test_ticks_go_to_both_logs(self, gateway: Running):
        gateway.scans({"type": "tick", "hub_time": "2026-03-01T04:00:00Z"})
        assert [len(gateway.kept(target)) for target in (0, 1)] == [1, 1]
