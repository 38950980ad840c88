"""EPCIS events of containers become records of hub.containers; so do lines of type container."""

import json

import pytest

from streams.capture.epcis.mapping import map_event
from streams.domain.limits import MAX_CONTAINER_RECORD_BYTES
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from tests.capture.http.gateways import RunningGateway, running_gateway

BAG, ULD = "urn:parcels:container:BAG-1", "urn:parcels:uld:AKE12345XX"
PARCEL, OTHER_PARCEL = "urn:parcels:s10:RB123456785GB", "urn:parcels:parcel:LP17"
PALLET, PALLET_ID = "urn:epc:id:sscc:0614141.1234567890", "https://id.gs1.org/00/106141412345678908"
TRUCK, TRUCK_ID = "urn:epc:id:giai:4000001.TRUCK1", "https://id.gs1.org/8004/4000001TRUCK1"
PLACE = {"readPoint": {"id": "urn:parcels:place:LGG:PCK-01"}}
DECLARED_WRONG = {"errorDeclaration": {"declarationTime": "2026-03-01T09:00:00Z"}}


def mapped(type_="AggregationEvent", **fields):
    time = {"eventTime": "2026-03-01T05:00:00+01:00", "eventTimeZoneOffset": "+01:00"}
    event = {"type": type_, **time, **PLACE, **fields}
    records = map_event(event, "urn:x:1", {}, 1_772_355_600_000, "acme")
    for record in (*records.scans, *records.containers):
        RecordParser()(record)
    return records


def container_events(type_="AggregationEvent", **fields):
    """(container, kind, fields with other ids) of each container event."""
    names = ("parcels", "containers", "parent_id", "voids")
    return [
        (record["container_id"], record["kind"], {name: record[name] for name in names if name in record})
        for record in mapped(type_, **fields).containers
    ]


@pytest.mark.parametrize("type_", ["AggregationEvent", "AssociationEvent"])
class TestAggregation:
    def test_add_and_delete_become_packed_and_unpacked_without_scans_of_the_parcels(self, type_):
        records = mapped(type_, action="ADD", parentID=BAG, childEPCs=[PARCEL, OTHER_PARCEL], bizStep="packing")
        assert records.scans == ()
        (packed,) = records.containers
        assert packed["parcels"] == ["RB123456785GB", "LP17"]
        assert (packed["site"], packed["station"], packed["device_id"]) == ("LGG", "PCK-01", "acme")
        assert container_events(type_, action="DELETE", parentID=BAG, childEPCs=[PARCEL]) == [
            ("BAG-1", "UNPACKED", {"parcels": ["RB123456785GB"]})
        ]

    def test_delete_without_children_empties_the_container(self, type_):
        assert container_events(type_, action="DELETE", parentID=BAG) == [("BAG-1", "UNPACKED", {})]
        # The children are not parcels of ours, so the container was not emptied.
        assert (
            container_events(type_, action="DELETE", parentID=BAG, childEPCs=["urn:epc:id:sgtin:0614141.107346.1"])
            == []
        )
        assert container_events(type_, action="DELETE", parentID=BAG, childQuantityList=[{"epcClass": "urn:x:1"}]) == []

    def test_loading_gives_a_scan_of_each_child_container(self, type_):
        events = container_events(type_, action="ADD", parentID=ULD, childEPCs=[BAG, PARCEL], bizStep="loading")
        assert events == [
            ("AKE12345XX", "PACKED", {"parcels": ["RB123456785GB"], "containers": ["BAG-1"]}),
            ("BAG-1", "LOADED", {}),
        ]

    def test_an_sscc_among_the_children_is_a_parcel_and_a_container(self, type_):
        events = container_events(
            type_, action="ADD", parentID=ULD, childEPCs=[PALLET, TRUCK, PARCEL], bizStep="loading"
        )
        assert events == [
            ("AKE12345XX", "PACKED", {"parcels": [PALLET_ID, "RB123456785GB"], "containers": [PALLET_ID, TRUCK_ID]}),
            (PALLET_ID, "LOADED", {}),
            (TRUCK_ID, "LOADED", {}),
        ]
        assert container_events(type_, action="ADD", parentID=PALLET, childEPCs=[PARCEL])[0][0] == PALLET_ID

    def test_observe_is_a_scan_of_the_parent(self, type_):
        events = container_events(type_, action="OBSERVE", parentID=ULD, childEPCs=[BAG], bizStep="arriving")
        assert events == [("AKE12345XX", "ARRIVED", {})]
        events = container_events(type_, action="OBSERVE", parentID=ULD, childEPCs=[BAG], bizStep="packing")
        assert events == [("AKE12345XX", "PACKED", {"containers": ["BAG-1"]})]

    def test_an_error_declaration_is_a_void(self, type_):
        records = mapped(type_, action="ADD", parentID=BAG, childEPCs=[PARCEL], **DECLARED_WRONG).containers
        assert [(each["event_id"], each["kind"], each["voids"]) for each in records] == [("urn:x:1", "VOID", "urn:x:1")]
        assert records[0]["event_time"] == 1_772_355_600_000
        assert "parcels" not in records[0]

    def test_a_long_child_list_continues_in_further_records_and_so_does_its_declaration(self, type_):
        children = [f"urn:parcels:parcel:{n:0120d}" for n in range(20_000)]
        records = mapped(type_, action="ADD", parentID=BAG, childEPCs=children).containers
        assert [each["event_id"] for each in records] == ["urn:x:1", "urn:x:1#2", "urn:x:1#3", "urn:x:1#4"]
        assert [each for record in records for each in record["parcels"]] == [f"{n:0120d}" for n in range(20_000)]
        assert all(len(RecordParser()(each).value) < MAX_CONTAINER_RECORD_BYTES for each in records)
        voids = mapped(type_, action="ADD", parentID=BAG, childEPCs=children, **DECLARED_WRONG).containers
        assert [each["voids"] for each in voids] == [each["event_id"] for each in records]


class TestObjectEvent:
    def test_of_a_container_is_a_scan_of_the_container(self):
        records = mapped("ObjectEvent", action="OBSERVE", epcList=[ULD, PARCEL], bizStep="unloading")
        assert [(each["container_id"], each["kind"]) for each in records.containers] == [("AKE12345XX", "UNLOADED")]
        assert [(each["parcel_id"], each["kind"]) for each in records.scans] == [("RB123456785GB", "UNLOADED")]

    def test_of_an_sscc_is_a_scan_of_the_parcel_and_of_the_container(self):
        records = mapped("ObjectEvent", action="OBSERVE", epcList=[PALLET, TRUCK], bizStep="departing")
        assert [(each["container_id"], each["kind"]) for each in records.containers] == [
            (PALLET_ID, "DISPATCHED"),
            (TRUCK_ID, "DISPATCHED"),
        ]
        assert [(each["parcel_id"], each["kind"]) for each in records.scans] == [(PALLET_ID, "DISPATCHED")]
        records = mapped("ObjectEvent", action="OBSERVE", epcList=[PALLET], bizStep="departing", **DECLARED_WRONG)
        assert [each["kind"] for each in (*records.scans, *records.containers)] == ["VOID", "VOID"]

    def test_packing_needs_the_extension_container_id(self):
        into = {"urn:parcels:voc:container_id": "AKE12345XX"}
        events = container_events("ObjectEvent", action="OBSERVE", epcList=[BAG], bizStep="packing", **into)
        assert events == [("BAG-1", "PACKED", {"parent_id": "AKE12345XX"})]
        assert container_events("ObjectEvent", action="OBSERVE", epcList=[BAG], bizStep="unpacking") == []

    def test_too_long_ids_of_containers_give_no_record(self):
        long = f"urn:parcels:container:{'x' * 129}"
        assert container_events("ObjectEvent", action="OBSERVE", epcList=[long], bizStep="arriving") == []
        assert container_events(action="ADD", parentID=long, childEPCs=[PARCEL]) == []
        assert container_events(action="ADD", parentID=BAG, childEPCs=[long, PARCEL]) == [
            ("BAG-1", "PACKED", {"parcels": ["RB123456785GB"]})
        ]


@pytest.fixture
def gateway(tmp_path):
    with running_gateway(tmp_path) as running:
        yield running


def line(**fields):
    common = {"site": "LGG", "station": "PCK-01", "event_time": "2026-03-01T04:00:00Z"}
    return {"type": "container", "event_id": "c1", "container_id": "BAG-1", "kind": "PACKED", **common, **fields}


class TestLines:
    def test_of_type_container_go_to_hub_containers(self, gateway: RunningGateway):
        answer = gateway.scans(line(parcels=["LP1", "LP2"]), line(event_id="c2", kind="UNPACKED")).json()
        assert [each["status"] for each in answer["results"]] == ["accepted", "accepted"]
        packed, emptied = (RecordDecoder("ContainerEvent")(entry.value) for entry in gateway.spool_entries(1))
        assert (packed["parcels"], emptied["parcels"]) == (["LP1", "LP2"], [])
        assert gateway.spool_entries(0) == [] and gateway.spool_entries(1)[0].key == b"BAG-1"

    def test_that_are_repeated_are_duplicates(self, gateway: RunningGateway):
        for status in ("accepted", "duplicate"):
            assert gateway.scans(line(parcels=["LP1"])).json()["results"][0]["status"] == status
        # A scan with the same id is another record.
        scan = line(parcels=["LP1"]) | {"type": "scan", "parcel_id": "BAG-1", "container_id": "BAG-1"}
        del scan["parcels"]
        assert gateway.scans(scan).json()["results"][0]["status"] == "accepted"

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"kind": "PACKED"}, "needs children"),
            ({"kind": "ARRIVED", "parcels": ["LP1"]}, "PACKED and UNPACKED"),
            ({"kind": "ARRIVED", "inferred_from": "x"}, "not accepted here"),
            ({"kind": "ARRIVED", "path": ["ULD"]}, "not accepted here"),
            ({"container_id": 7}, "container_id"),
        ],
    )
    def test_that_are_wrong_are_rejected_with_a_message(self, gateway: RunningGateway, wrong, message):
        (result,) = gateway.scans(line(**wrong)).json()["results"]
        assert result["status"] == "rejected"
        assert message in result["error"]

    def test_of_type_container_may_be_long_and_others_may_not(self, gateway: RunningGateway):
        many = [f"LP{n:014d}" for n in range(10_000)]
        (result,) = gateway.scans(line(parcels=many)).json()["results"]
        assert result["status"] == "accepted"
        body = json.dumps({"type": "scan", "event_id": "x" * 70_000}).encode()
        (result,) = gateway.scans(body).json()["results"]
        assert result["status"] == "rejected" and "65,536" in result["error"]

    def test_ticks_go_to_both_logs(self, gateway: RunningGateway):
        gateway.scans({"type": "tick", "hub_time": "2026-03-01T04:00:00Z"})
        assert [len(gateway.spool_entries(target)) for target in (0, 1)] == [1, 1]
