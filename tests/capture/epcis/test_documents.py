"""Checks of EPCIS documents: valid documents are accepted, and each violation names the broken rule."""

import copy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.capture.epcis.documents import TooManyEventsError, check_document, parse_json
from tests.capture.epcis import reference_events as events
from tests.capture.epcis.documents import document, query_document
from tests.conftest import run_cli

SCAN = {
    "type": "ObjectEvent",
    "eventTime": "2026-03-01T05:00:00+01:00",
    "eventTimeZoneOffset": "+01:00",
    "epcList": ["urn:parcels:s10:RB123456785GB"],
    "action": "OBSERVE",
    "bizStep": "arriving",
}
BAG = {
    "type": "AggregationEvent",
    "eventTime": "2026-03-01T05:00:00+01:00",
    "eventTimeZoneOffset": "+01:00",
    "parentID": "urn:epc:id:sscc:0614141.1234567890",
    "childEPCs": ["urn:parcels:s10:RB123456785GB"],
    "action": "ADD",
}
SENSOR_SCAN = {key: value for key, value in SCAN.items() if key != "epcList"} | {
    "readPoint": {"id": "geo:50.6,5.4"},
    "sensorElementList": [{"sensorReport": [{"type": "Temperature", "value": 4.5, "uom": "CEL"}]}],
}
TRANSACTION = {
    "type": "TransactionEvent",
    "eventTime": "2026-03-01T05:00:00Z",
    "eventTimeZoneOffset": "-14:00",
    "bizTransactionList": [{"bizTransaction": "urn:parcels:awb:020-12345675"}],
    "epcList": [],
    "action": "OBSERVE",
}
TRANSFORMATION = {
    "type": "TransformationEvent",
    "eventTime": "2026-03-01T05:00:00Z",
    "eventTimeZoneOffset": "+00:00",
    "inputEPCList": ["urn:a:1"],
    "outputEPCList": ["urn:a:2"],
}

VALID_EVENTS = [
    *events.EVENTS,
    SCAN,
    BAG,
    SENSOR_SCAN,
    TRANSACTION,
    TRANSFORMATION,
    {**SCAN, "epcList": []},
    *[
        {**SCAN, "epcList": [each]}
        for each in (
            "URN:EPC:ID:SGTIN:0614141.107346.2017",
            "urn:epc:id:gid:95100000.12345.400",
            "urn:epc:id:usdod:CJ194.12345678901",
            "urn:parcels:sscc:106141412345678908",
            # A link at another host is not checked.
            "https://example.com/00/106141412345678909",
            "https://id.gs1.org/nothing/of/ours",
        )
    ],
    *[
        {**SCAN, "quantityList": [{"epcClass": each}]}
        for each in (
            "urn:epc:class:lgtin:4012345.012345.998877",
            "urn:epc:idpat:sgtin:4012345.012345.*",
            "https://id.gs1.org/01/10614141073464",
            "https://id.gs1.org/01/10614141073464/10/L1",
        )
    ],
    {**BAG, "parentID": "urn:parcels:container:X", "childEPCs": ["urn:parcels:parcel:X"]},
    {**SCAN, "bizStep": "https://example.com/voc/sorting"},
    {**SCAN, "bizStep": "cbv:BizStep-arriving"},
    {**SCAN, "eventTime": "2026-03-01T05:00:00.123456789Z"},
    {**SCAN, "eventTime": "2016-12-31T23:59:60Z"},
    {**SCAN, "eventTimeZoneOffset": "+14:00"},
    {**SCAN, "certificationInfo": ["https://example.com/1", "https://example.com/2"]},
    {**SCAN, "action": "ADD", "ilmd": {"cbvmda:lotNumber": "A"}},
    {**SCAN, "persistentDisposition": {"set": ["completeness_verified"]}},
    {**TRANSFORMATION, "persistentDisposition": {"set": ["completeness_verified"]}},
    {
        **SENSOR_SCAN,
        "sensorElementList": [
            {"sensorReport": [{"type": "Temperature", "bizRules": "https://example.org/253/4012345000054987"}]}
        ],
    },
    {
        **SENSOR_SCAN,
        "sensorElementList": [
            {"sensorReport": [{"type": "AbsoluteHumidity", "exception": "ALARM_CONDITION", "booleanValue": True}]}
        ],
    },
    {**SCAN, "persistentDisposition": {"set": ["completeness_verified"], "unset": ["completeness_inferred"]}},
    {**SCAN, "quantityList": [{"epcClass": "urn:x:1"}, {"epcClass": "urn:x:1", "quantity": 2}]},
    {**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": 2.0}]},
    {**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": 0.25, "uom": "KGM"}]},
    {**SCAN, "errorDeclaration": {"declarationTime": "2026-03-01T06:00:00Z", "reason": "did_not_occur"}},
    {**BAG, "action": "DELETE", "childEPCs": []},
    {**{key: value for key, value in BAG.items() if key != "parentID"}, "action": "OBSERVE"},
    {**BAG, "type": "AssociationEvent"},
    {**TRANSFORMATION, "outputEPCList": [], "transformationID": "urn:t:1"},
    {**{key: value for key, value in TRANSACTION.items() if key != "epcList"}, "action": "DELETE"},
    {"type": "example:Custom", "eventTime": "2026-03-01T05:00:00Z", "eventTimeZoneOffset": "+00:00", "x": 1},
]


@pytest.mark.parametrize("event", VALID_EVENTS)
def test_valid_events_are_accepted(event: dict[str, Any]) -> None:
    for whole in (document(event), query_document(event), {"@context": events.PREFIXES, **event}):
        checked = check_document(whole)
        assert checked.is_valid, (checked.violations, checked.events[0].violations)
        assert checked.events[0].event_hash.startswith("ni:///sha-256;")
        assert checked.events[0].event_id == event.get("eventID", checked.events[0].event_hash)


def without(event: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != field}


SENSOR = SENSOR_SCAN["sensorElementList"][0]
INVALID_EVENTS = [
    (without(SCAN, "eventTime"), "eventTime", "required-field"),
    (without(SCAN, "eventTimeZoneOffset"), "eventTimeZoneOffset", "required-field"),
    (without(SCAN, "action"), "action", "required-field"),
    (without(SCAN, "type"), "type", "required-field"),
    (without(SCAN, "epcList"), "", "no-objects"),
    ({**SCAN, "type": "SortEvent"}, "type", "event-type"),
    ({**SCAN, "type": 5}, "type", "type"),
    ({**SCAN, "action": "observe"}, "action", "enum"),
    ({**SCAN, "bizStep": "sorting"}, "bizStep", "enum"),
    ({**SCAN, "bizStep": "Arriving"}, "bizStep", "enum"),
    ({**SCAN, "bizStep": "urn:epcglobal:cbv:bizstep:arriving"}, "bizStep", "enum"),
    ({**SCAN, "bizStep": "https://ref.gs1.org/cbv/BizStep-sorting"}, "bizStep", "enum"),
    ({**SCAN, "bizStep": ["arriving"]}, "bizStep", "type"),
    ({**SCAN, "disposition": "held"}, "disposition", "enum"),
    ({**SCAN, "disposition": None}, "disposition", "type"),
    ({**SCAN, "eventTime": "2026-03-01T05:00:00"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "2026-02-30T05:00:00Z"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "2026-03-01"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "20260301T050000Z"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "2026-03-01 05:00:00Z"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "2026-03-01T24:00:00Z"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": 1772341200000}, "eventTime", "type"),
    ({**SCAN, "eventTimeZoneOffset": "+14:01"}, "eventTimeZoneOffset", "time-zone-offset"),
    ({**SCAN, "eventTimeZoneOffset": "01:00"}, "eventTimeZoneOffset", "time-zone-offset"),
    ({**SCAN, "eventTimeZoneOffset": "Z"}, "eventTimeZoneOffset", "time-zone-offset"),
    ({**SCAN, "eventTimeZoneOffset": "+1:00"}, "eventTimeZoneOffset", "time-zone-offset"),
    ({**SCAN, "epcList": ["RB123456785GB"]}, "epcList[0]", "uri"),
    ({**SCAN, "epcList": ["urn:x:a b"]}, "epcList[0]", "uri"),
    ({**SCAN, "epcList": ["http://x/%zz"]}, "epcList[0]", "uri"),
    ({**SCAN, "epcList": ["urn:x:ä"]}, "epcList[0]", "uri"),
    ({**SCAN, "epcList": "urn:x:1"}, "epcList", "type"),
    ({**SCAN, "epcList": ["urn:x:1", "urn:x:1"]}, "epcList", "unique-items"),
    ({**SCAN, "epcList": ["urn:epc:id:sgtin:0614141.107346"]}, "epcList[0]", "epc-urn"),
    ({**SCAN, "epcList": ["urn:epc:id:sscc:0614141.123456789"]}, "epcList[0]", "epc-urn"),
    # Identifiers with a wrong form or check digit give no record, so their sender must be told.
    *[
        ({**SCAN, "epcList": ["urn:x:1", wrong]}, "epcList[1]", "identifier")
        for wrong in (
            "urn:parcels:s10:RB123456786GB",
            "urn:parcels:s10:",
            "URN:PARCELS:s10:RB123456785XX",
            "urn:parcels:uld:AKE123456LH",
            "urn:parcels:awb:020-12345676",
            "urn:parcels:sscc:106141412345678909",
            "urn:parcels:s9:RB123456785GB",
            "https://id.gs1.org/00/106141412345678909",
            "https://id.gs1.org/01/09506000134353/21/1",
        )
    ],
    ({**BAG, "parentID": "urn:parcels:uld:AKE123456LH"}, "parentID", "identifier"),
    # A single object is named at instance level.
    *[
        ({**event, name: ["urn:x:1", wrong]}, f"{name}[1]", "instance-level")
        for event, name in (
            (SCAN, "epcList"),
            (BAG, "childEPCs"),
            (TRANSFORMATION, "inputEPCList"),
            (TRANSFORMATION, "outputEPCList"),
            (TRANSACTION, "epcList"),
        )
        for wrong in (
            "urn:epc:idpat:sgtin:0614141.107346.*",
            "urn:epc:pat:sgtin-96:3.0614141.*.*",
            "urn:epc:tag:sgtin-96:3.0614141.107346.2017",
            "urn:epc:raw:96.x1",
            "urn:epc:id:sgtinn:0614141.107346.2017",
            "urn:epc:id:gid:abc",
            "URN:epc:ID:nothing",
        )
    ],
    ({**BAG, "parentID": "urn:epc:class:lgtin:4012345.012345.998877"}, "parentID", "instance-level"),
    ({**BAG, "childEPCs": ["urn:epc:class:lgtin:4012345.012345.998877"]}, "childEPCs[0]", "instance-level"),
    ({**SCAN, "epcList": ["URN:EPC:ID:SGTIN:0614141.10734.1"]}, "epcList[0]", "epc-urn"),
    # A class of objects is not.
    *[
        ({**SCAN, "quantityList": [{"epcClass": wrong}]}, "quantityList[0].epcClass", "class-level")
        for wrong in (
            "urn:epc:id:sgtin:0614141.107346.2017",
            "urn:epc:id:sscc:0614141.1234567890",
            "https://id.gs1.org/01/10614141073464/21/2017",
            "urn:epc:class:sgtin:0614141.107346",
        )
    ],
    ({**BAG, "childEPCs": ["urn:x:1", BAG["parentID"]]}, "childEPCs[1]", "parent-among-children"),
    (
        {**BAG, "action": "DELETE", "childEPCs": ["https://id.gs1.org/00/106141412345678908"]},
        "childEPCs[0]",
        "parent-among-children",
    ),
    ({**BAG, "parentID": "urn:x:1", "childEPCs": ["urn:x:1"]}, "childEPCs[0]", "parent-among-children"),
    ({**SCAN, "myField": 1}, "myField", "extension-key"),
    ({**SCAN, "bizstep": "arriving"}, "bizstep", "extension-key"),
    ({**SCAN, "childEPCs": ["urn:x:1"]}, "childEPCs", "extension-key"),
    ({**SCAN, "ilmd": {"cbvmda:lotNumber": "A"}}, "ilmd", "ilmd-only-with-add"),
    ({**SCAN, "action": "DELETE", "ilmd": {}}, "ilmd", "ilmd-only-with-add"),
    ({**SCAN, "action": "ADD", "ilmd": {"lotNumber": "A"}}, "ilmd.lotNumber", "extension-key"),
    ({**BAG, "ilmd": {}}, "ilmd", "extension-key"),
    ({**SCAN, "eventID": "1234"}, "eventID", "uri"),
    ({**SCAN, "certificationInfo": "none"}, "certificationInfo", "uri"),
    ({**SCAN, "readPoint": "urn:x:1"}, "readPoint", "type"),
    ({**SCAN, "readPoint": {}}, "readPoint.id", "required-field"),
    ({**SCAN, "readPoint": {"id": "gate 5"}}, "readPoint.id", "uri"),
    ({**SCAN, "bizLocation": {"id": "urn:x:1", "name": "A"}}, "bizLocation.name", "extension-key"),
    ({**SCAN, "quantityList": [{"quantity": 1}]}, "quantityList[0].epcClass", "required-field"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": "1"}]}, "quantityList[0].quantity", "type"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "uom": "kg"}]}, "quantityList[0].uom", "unit"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "ex:y": 1}]}, "quantityList[0].ex:y", "unknown-field"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": -1}]}, "quantityList[0].quantity", "quantity"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": 0}]}, "quantityList[0].quantity", "quantity"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": 1.5}]}, "quantityList[0].quantity", "quantity"),
    (
        {**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": -0.5, "uom": "KGM"}]},
        "quantityList[0].quantity",
        "quantity",
    ),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "uom": "KGM"}]}, "quantityList[0].uom", "quantity"),
    ({**SCAN, "quantityList": [{"epcClass": "urn:x:1", "quantity": True}]}, "quantityList[0].quantity", "type"),
    (
        {**BAG, "childQuantityList": [{"epcClass": "urn:x:1", "quantity": -1}]},
        "childQuantityList[0].quantity",
        "quantity",
    ),
    (
        {**TRANSFORMATION, "inputQuantityList": [{"epcClass": "urn:x:1", "uom": "E"}]},
        "inputQuantityList[0].uom",
        "unit",
    ),
    ({**TRANSFORMATION, "outputQuantityList": [{"epcClass": "a b"}]}, "outputQuantityList[0].epcClass", "uri"),
    (
        {**SCAN, "persistentDisposition": {"set": ["damaged"], "unset": ["damaged", "expired"]}},
        "persistentDisposition",
        "set-and-unset",
    ),
    (
        {**SCAN, "persistentDisposition": {"set": ["damaged"], "unset": ["cbv:Disp-damaged"]}},
        "persistentDisposition",
        "set-and-unset",
    ),
    (
        {**SCAN, "persistentDisposition": {"set": ["damaged", "damaged"]}},
        "persistentDisposition.set",
        "unique-items",
    ),
    ({**SCAN, "persistentDisposition": {"unset": "damaged"}}, "persistentDisposition.unset", "type"),
    ({**SCAN, "persistentDisposition": ["damaged"]}, "persistentDisposition", "type"),
    # A persistent disposition would be ambiguous: of the container or of its children?
    *[
        ({**event, "persistentDisposition": {"set": ["damaged"]}}, "persistentDisposition", "extension-key")
        for event in (BAG, {**BAG, "type": "AssociationEvent"}, TRANSACTION)
    ],
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "bizRules": "my rules"}]}]},
        "sensorElementList[0].sensorReport[0].bizRules",
        "uri",
    ),
    ({**SCAN, "bizStep": "arriving "}, "bizStep", "enum"),
    ({**SCAN, "disposition": "cbv:Disp-arriving"}, "disposition", "enum"),
    ({**SCAN, "disposition": "urn:epcglobal:cbv:disp:in_transit"}, "disposition", "enum"),
    ({**SCAN, "type": ["ObjectEvent"]}, "type", "type"),
    ({**SCAN, "eventID": ["urn:x:1"]}, "eventID", "type"),
    ({**SCAN, "transformationID": "urn:t:1"}, "transformationID", "extension-key"),
    ({**TRANSACTION, "childQuantityList": []}, "childQuantityList", "extension-key"),
    ({**TRANSACTION, "quantityList": [], "epcList": None}, "epcList", "type"),
    ({**BAG, "childEPCs": None}, "childEPCs", "type"),
    ({**SCAN, "@context": {"own": 5}}, "@context.own", "context"),
    ({**SCAN, "@context": [{"own": ["urn:x:"]}]}, "@context[0].own", "context"),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "hexBinaryValue": ""}]}]},
        "sensorElementList[0].sensorReport[0].hexBinaryValue",
        "hex",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": {"type": "Temperature"}}]},
        "sensorElementList[0].sensorReport",
        "type",
    ),
    ({**SENSOR_SCAN, "sensorElementList": [{"type": "x", **SENSOR}]}, "sensorElementList[0].type", "extension-key"),
    ({**SCAN, "recordTime": "now"}, "recordTime", "date-time"),
    ({**SCAN, "eventTime": "2026-03-01T05:00:00+25:00"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "2026-03-01T05:00Z"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": "2026-13-01T05:00:00Z"}, "eventTime", "date-time"),
    ({**SCAN, "eventTime": ""}, "eventTime", "date-time"),
    ({**SCAN, "eventTimeZoneOffset": "+00:60"}, "eventTimeZoneOffset", "time-zone-offset"),
    ({**SCAN, "eventTimeZoneOffset": 1}, "eventTimeZoneOffset", "type"),
    ({**SCAN, "eventTimeZoneOffset": "\u221201:00"}, "eventTimeZoneOffset", "time-zone-offset"),
    ({**SCAN, "action": None}, "action", "type"),
    ({**SCAN, "type": "objectEvent"}, "type", "event-type"),
    ({**SCAN, "epcList": [""]}, "epcList[0]", "uri"),
    ({**SCAN, "epcList": [None]}, "epcList[0]", "type"),
    ({**SCAN, "epcList": ["urn:epc:id:sgtin:06141412.107346.2017"]}, "epcList[0]", "epc-urn"),
    ({**SCAN, "epcList": ["urn:epc:id:sscc:0614141.12345678901"]}, "epcList[0]", "epc-urn"),
    ({**SCAN, "eventID": "urn:uuid:1 2"}, "eventID", "uri"),
    ({**SCAN, "eventID": None}, "eventID", "type"),
    ({**SCAN, " ": 1}, " ", "extension-key"),
    ({**SCAN, "@context": "https://evil.example/"}, "@context", "context"),
    ({**SCAN, "errorDeclaration": None}, "errorDeclaration", "type"),
    (
        {**SCAN, "errorDeclaration": {"declarationTime": "2026-03-01"}},
        "errorDeclaration.declarationTime",
        "date-time",
    ),
    (
        {**SCAN, "errorDeclaration": {"declarationTime": "2026-03-01T06:00:00Z", "correctiveEventIDs": ["no uri"]}},
        "errorDeclaration.correctiveEventIDs[0]",
        "uri",
    ),
    (
        {**SCAN, "errorDeclaration": {"declarationTime": "2026-03-01T06:00:00Z", "why": "x"}},
        "errorDeclaration.why",
        "extension-key",
    ),
    ({**SCAN, "sourceList": {}}, "sourceList", "type"),
    ({**SCAN, "sourceList": [{"type": "location"}]}, "sourceList[0].source", "required-field"),
    ({**SCAN, "destinationList": [{"destination": "urn:x:1"}]}, "destinationList[0].type", "required-field"),
    (
        {**SCAN, "sourceList": [{"type": "location", "source": "urn:x:1", "ex:y": 1}]},
        "sourceList[0].ex:y",
        "unknown-field",
    ),
    (
        {**SCAN, "bizTransactionList": [{"bizTransaction": "order 5"}]},
        "bizTransactionList[0].bizTransaction",
        "uri",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{**SENSOR, "ex": 1}]},
        "sensorElementList[0].ex",
        "extension-key",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "component": "w"}]}]},
        "sensorElementList[0].sensorReport[0].component",
        "enum",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "uriValue": "a b"}]}]},
        "sensorElementList[0].sensorReport[0].uriValue",
        "uri",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "stringValue": 5}]}]},
        "sensorElementList[0].sensorReport[0].stringValue",
        "type",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "minValue": "1"}]}]},
        "sensorElementList[0].sensorReport[0].minValue",
        "type",
    ),
    ({**SENSOR_SCAN, "sensorElementList": {}}, "sensorElementList", "type"),
    (without(SENSOR_SCAN, "readPoint"), "", "no-objects"),
    ({**without(SCAN, "epcList"), "quantityList": []}, "", "no-objects"),
    ({**BAG, "parentID": "bag 5"}, "parentID", "uri"),
    ({**BAG, "parentID": ["urn:x:1"]}, "parentID", "type"),
    ({**BAG, "childEPCs": ["urn:epc:id:sscc:0614141.1"]}, "childEPCs[0]", "epc-urn"),
    ({**BAG, "epcList": ["urn:x:1"]}, "epcList", "extension-key"),
    ({**BAG, "action": "OBSERVE", "childEPCs": []}, "", "children"),
    ({**TRANSACTION, "childEPCs": ["urn:x:1"]}, "childEPCs", "extension-key"),
    ({**TRANSFORMATION, "parentID": "urn:x:1"}, "parentID", "extension-key"),
    ({**TRANSFORMATION, "epcList": ["urn:x:1"]}, "epcList", "extension-key"),
    ({**TRANSFORMATION, "transformationID": "one"}, "transformationID", "uri"),
    ({**TRANSFORMATION, "inputEPCList": ["urn:x:1", "urn:x:1"]}, "inputEPCList", "unique-items"),
    ({**SCAN, "certificationInfo": 5}, "certificationInfo", "type"),
    ({**SCAN, "certificationInfo": ["https://example.com/1", "x"]}, "certificationInfo[1]", "uri"),
    ({**SCAN, "bizTransactionList": [{"type": "po"}]}, "bizTransactionList[0].bizTransaction", "required-field"),
    (
        {**SCAN, "bizTransactionList": [{"type": "order", "bizTransaction": "urn:x:1"}]},
        "bizTransactionList[0].type",
        "enum",
    ),
    ({**SCAN, "sourceList": [{"source": "urn:x:1"}]}, "sourceList[0].type", "required-field"),
    ({**SCAN, "sourceList": [{"type": "owner", "source": "urn:x:1"}]}, "sourceList[0].type", "enum"),
    (
        {**SCAN, "destinationList": [{"type": "location", "source": "urn:x:1"}]},
        "destinationList[0].destination",
        "required-field",
    ),
    ({**SCAN, "persistentDisposition": {}}, "persistentDisposition", "one-of"),
    ({**SCAN, "persistentDisposition": {"set": []}}, "persistentDisposition.set", "min-items"),
    ({**SCAN, "persistentDisposition": {"set": ["held"]}}, "persistentDisposition.set[0]", "enum"),
    ({**SCAN, "persistentDisposition": {"add": ["damaged"]}}, "persistentDisposition.add", "unknown-field"),
    ({**SCAN, "errorDeclaration": {}}, "errorDeclaration.declarationTime", "required-field"),
    (
        {**SCAN, "errorDeclaration": {"declarationTime": "2026-03-01T06:00:00Z", "reason": "oops"}},
        "errorDeclaration.reason",
        "enum",
    ),
    (
        {
            **SCAN,
            "errorDeclaration": {
                "declarationTime": "2026-03-01T06:00:00Z",
                "reason": "did_not_occur",
                "correctiveEventIDs": ["urn:x:1"],
            },
        },
        "errorDeclaration.correctiveEventIDs",
        "did-not-occur",
    ),
    ({**SENSOR_SCAN, "sensorElementList": []}, "", "no-objects"),
    ({**SENSOR_SCAN, "sensorElementList": [{}]}, "sensorElementList[0].sensorReport", "required-field"),
    ({**SENSOR_SCAN, "sensorElementList": [{"sensorReport": []}]}, "sensorElementList[0].sensorReport", "min-items"),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"value": 1}]}]},
        "sensorElementList[0].sensorReport[0].type",
        "required-field",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Warmth"}]}]},
        "sensorElementList[0].sensorReport[0].type",
        "enum",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "https://gs1.org/voc/Temperature"}]}]},
        "sensorElementList[0].sensorReport[0].type",
        "enum",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "value": True}]}]},
        "sensorElementList[0].sensorReport[0].value",
        "type",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "hexBinaryValue": "xyz"}]}]},
        "sensorElementList[0].sensorReport[0].hexBinaryValue",
        "hex",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "exception": "ALARM"}]}]},
        "sensorElementList[0].sensorReport[0].exception",
        "enum",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{"sensorReport": [{"type": "Temperature", "booleanValue": "true"}]}]},
        "sensorElementList[0].sensorReport[0].booleanValue",
        "type",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{**SENSOR, "sensorMetadata": {"time": "noon"}}]},
        "sensorElementList[0].sensorMetadata.time",
        "date-time",
    ),
    (
        {**SENSOR_SCAN, "sensorElementList": [{**SENSOR, "sensorMetadata": {"place": "here"}}]},
        "sensorElementList[0].sensorMetadata.place",
        "extension-key",
    ),
    (without(BAG, "parentID"), "parentID", "parent"),
    ({**without(BAG, "parentID"), "action": "DELETE"}, "parentID", "parent"),
    (without(BAG, "childEPCs"), "", "children"),
    ({**BAG, "childEPCs": []}, "", "children"),
    ({**without(BAG, "parentID"), "type": "AssociationEvent", "action": "OBSERVE"}, "parentID", "required-field"),
    ({**BAG, "type": "AssociationEvent", "childEPCs": []}, "", "children"),
    (without(TRANSACTION, "bizTransactionList"), "bizTransactionList", "required-field"),
    ({**TRANSACTION, "bizTransactionList": []}, "bizTransactionList", "min-items"),
    (without(TRANSACTION, "epcList"), "", "no-objects"),
    (without(TRANSFORMATION, "inputEPCList"), "", "transformation"),
    ({**TRANSFORMATION, "outputEPCList": []}, "", "transformation"),
    ({**TRANSFORMATION, "action": "ADD"}, "action", "extension-key"),
    (
        {**without(without(TRANSFORMATION, "inputEPCList"), "outputEPCList"), "transformationID": "urn:t:1"},
        "",
        "transformation",
    ),
    ({"type": "example:Custom", "eventTimeZoneOffset": "+00:00"}, "eventTime", "required-field"),
    ({"type": "example:Custom", **without(SCAN, "type"), "ilmd": 5}, "ilmd", "type"),
    ({"type": "example:Custom", **without(SCAN, "type"), "readPoint": "here"}, "readPoint", "type"),
    ("ObjectEvent", "", "type"),
]


@pytest.mark.parametrize(("event", "path", "rule"), INVALID_EVENTS)
def test_invalid_events_are_rejected_with_the_broken_rule(event: Any, path: str, rule: str) -> None:
    checked = check_document(document(SCAN, event))
    assert not checked.is_valid and not checked.events[0].violations and not checked.violations
    violations = checked.events[1].violations
    full_path = "epcisBody.eventList[1]" + (f".{path}" if path else "")
    assert (full_path, rule) in {(each.path, each.rule) for each in violations}, violations
    assert all(each.message for each in violations)
    assert checked.events[1].event_id is None and checked.events[1].event_hash is None


@pytest.mark.parametrize(
    ("changes", "path", "rule"),
    [
        ({"@context": None}, "@context", "required-field"),
        ({"@context": "https://evil.example/context.jsonld"}, "@context", "context"),
        ({"@context": [PREFIX := "https://gs1.github.io/EPCIS/epcis-context.jsonld", 7]}, "@context[1]", "type"),
        ({"@context": [PREFIX, {"@import": "https://evil.example/"}]}, "@context[1].@import", "context"),
        ({"@context": []}, "@context", "context"),
        ({"@context": {}}, "@context", "context"),
        ({"@context": ""}, "@context", "context"),
        ({"@context": [{}]}, "@context", "context"),
        ({"@context": 5}, "@context", "type"),
        ({"@context": [PREFIX, PREFIX]}, "@context", "unique-items"),
        ({"@context": [PREFIX, {"@base": "https://evil.example/"}]}, "@context[1].@base", "context"),
        ({"type": "Document"}, "type", "document-type"),
        ({"type": None}, "type", "required-field"),
        ({"schemaVersion": None}, "schemaVersion", "required-field"),
        ({"schemaVersion": "1.2"}, "schemaVersion", "version"),
        ({"schemaVersion": 2.0}, "schemaVersion", "type"),
        ({"creationDate": None}, "creationDate", "required-field"),
        ({"creationDate": "yesterday"}, "creationDate", "date-time"),
        ({"epcisBody": None}, "epcisBody", "required-field"),
        ({"epcisBody": {}}, "epcisBody.eventList", "required-field"),
        ({"epcisBody": {"eventList": {}}}, "epcisBody.eventList", "type"),
        ({"epcisBody": []}, "epcisBody", "type"),
        ({"events": []}, "events", "extension-key"),
        ({"id": "document one"}, "id", "uri"),
        ({"sender": 5}, "sender", "type"),
        ({"epcisHeader": {"masterData": {}}}, "epcisHeader.masterData", "extension-key"),
        (
            {"epcisHeader": {"epcisMasterData": {"vocabularyList": [{"vocabularyElementList": []}]}}},
            "epcisHeader.epcisMasterData.vocabularyList[0].type",
            "required-field",
        ),
    ],
)
def test_invalid_documents_are_rejected_with_the_broken_rule(changes: dict[str, Any], path: str, rule: str) -> None:
    checked = check_document(document(SCAN, **changes))
    assert not checked.is_valid
    assert (path, rule) in {(each.path, each.rule) for each in checked.violations}, checked.violations


@pytest.mark.parametrize("where", ["queryResults", "queryName", "resultsBody", "eventList"])
def test_query_documents_need_their_parts(where: str) -> None:
    text = json.dumps(query_document(SCAN)).replace(f'"{where}"', '"urn:x:other"')
    checked = check_document(json.loads(text))
    assert [(each.rule, each.path.rpartition(".")[2]) for each in checked.violations] == [("required-field", where)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"{", "not JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "not a JSON number"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"\xff", "not UTF-8"),
        (b"[" * 40 + b"]" * 40, "deeper"),
        (b"[" * 100_000, "deeper"),
        (b'{"a":' * 100_000, "deeper"),
        (b"9" * 5000, "digits"),
    ],
)
def test_hostile_json_is_rejected(text: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(VALID_EVENTS), st.data())
def test_no_mutation_breaks_the_checker(event: dict[str, Any], data: st.DataObject) -> None:
    whole = document(event)
    node: Any = whole
    for _ in range(data.draw(st.integers(1, 6))):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or data.draw(st.integers(0, 2)) == 0:
            node[key] = data.draw(JSON)
            break
        node = node[key]
    checked = check_document(copy.deepcopy(whole))
    for each in checked.events:
        assert (each.event_hash is None) == bool(each.violations)


def test_an_event_of_a_document_need_not_bring_prefixes() -> None:
    for nothing in ([], {}):
        assert check_document(document({**SCAN, "@context": nothing})).is_valid


def test_the_reference_page_has_every_rule() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "capture.md").read_text(encoding="utf-8")
    known = set(re.findall("`([a-z][a-z-]+)`", page.partition("## Rules that")[2].partition("##")[0]))
    named = {rule for _, _, rule in INVALID_EVENTS} | {"json", "file", "document-type", "version", "context"}
    assert named == known


def test_the_command_reports_every_file(tmp_path: Path) -> None:
    good, bad, torn, whole, empty, large = (
        tmp_path / f"{name}.jsonld" for name in ("good", "bad", "torn", "whole", "empty", "large")
    )
    good.write_text(json.dumps(document(events.SHIPPING)))
    bad.write_text(json.dumps(document(SCAN, {**SCAN, "bizStep": "sorting"})))
    torn.write_text('{"type": ')
    whole.write_text(json.dumps(document(SCAN, SCAN, creationDate=None)))
    empty.write_text(json.dumps(document(schemaVersion=None)))
    with large.open("wb") as stream:
        stream.truncate((256 << 20) + 1)
    files = [str(each) for each in (good, bad, tmp_path / "none", tmp_path, torn, whole, empty, large, good)]
    done = run_cli("epcis", "validate", *files, "--json")
    assert done.returncode == 1
    results = list(map(json.loads, done.stdout.splitlines()))
    assert [each["file"] for each in results] == files
    assert [each["ok"] for each in results] == [True, *[False] * 7, True]
    for each in results:
        assert set(each) == {"file", "ok", "events"}
        assert each["ok"] == all(event["ok"] for event in each["events"])
        for number, event in enumerate(each["events"]):
            assert set(event) == {"index", "ok", "event_id", "hash", "errors"}
            assert event["index"] == number and event["ok"] == (not event["errors"])
            assert all(set(error) == {"path", "rule", "message"} for error in event["errors"])
    event = results[0]["events"][0]
    assert event["event_id"] == event["hash"] == f"ni:///sha-256;{events.HASHES[0][1]}?ver=CBV2.0"
    rules = [[[error["rule"] for error in event["errors"]] for event in each["events"]] for each in results[1:-1]]
    # The violations of the document itself are listed with its first event, even if it has none.
    assert rules == [
        [[], ["enum"]],
        [["file"]],
        [["file"]],
        [["json"]],
        [["required-field"], []],
        [["required-field"]],
        [["file"]],
    ]
    assert results[5]["events"][0]["errors"][0]["path"] == "creationDate" and results[5]["events"][0]["hash"]
    assert run_cli("epcis", "validate", str(good)).returncode == 0
    summary = run_cli("epcis", "validate", str(tmp_path / "none"), str(good))
    assert summary.returncode == 1 and "No such file" in summary.stdout and "valid, 1 event" in summary.stdout


def test_a_repeated_key_among_many_is_found_quickly() -> None:
    many = ",".join(f'"k{number}": 1' for number in range(200_000))
    begun = time.process_time()
    with pytest.raises(ValueError, match="'z' stands twice"):
        parse_json(f'{{{many}, "z": 1, "z": 2}}'.encode())
    assert time.process_time() - begun < 10


def test_a_number_too_large_for_a_float_is_rejected() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_json(b'{"quantity": 1e999}')
    assert parse_json(b'{"quantity": 1.5e30}') == {"quantity": 1.5e30}


def test_of_a_repeated_event_id_the_last_one_counts() -> None:
    text = json.dumps(document({**SCAN, "eventID": "urn:x:2"}))
    twice = text.replace('"eventID"', '"eventID": "urn:x:1", "eventID"')
    assert twice != text
    assert check_document(parse_json(twice.encode())).events[0].event_id == "urn:x:2"
    with pytest.raises(ValueError, match="'action' stands twice"):
        parse_json(twice.replace('"action"', '"action": "ADD", "action"').encode())


def test_an_event_of_a_document_may_bring_its_own_prefixes() -> None:
    event = {**SCAN, "@context": {"own": "urn:parcels:voc:"}, "own:lane": "L1"}
    assert check_document(document(event)).events[0].prefixes["own"] == "urn:parcels:voc:"


class TestHostileDocumentsAreCheckedQuickly:
    """Each of these documents fits into a request. Checking it once took minutes or gigabytes."""

    @staticmethod
    def in_time(work: Any) -> Any:
        begun = time.process_time()
        result = work()
        assert time.process_time() - begun < 5
        return result

    def test_a_text_with_thousands_of_gs1_keys(self) -> None:
        long = "https://example.com/" + "00/106141412345678908/" * 300_000 + "00/106141412345678908"
        assert self.in_time(lambda: check_document(document({**SCAN, "example:x": long}))).is_valid

    def test_a_key_of_megabytes(self) -> None:
        event = {**SCAN, "example:" + "x" * 8_000_000: 1}
        assert [each.rule for each in self.in_time(lambda: check_document(document(event))).events[0].violations] == [
            "extension-key"
        ]

    def test_documents_with_too_many_events_are_not_checked(self) -> None:
        whole = document()
        whole["epcisBody"]["eventList"] = [{}] * 2_000_000
        with pytest.raises(TooManyEventsError, match="at most 10,000"):
            self.in_time(lambda: check_document(whole, 10_000))

    def test_more_prefixes_than_the_limit(self) -> None:
        many = {f"p{number}": "urn:x:" for number in range(100_000)}
        event = {**SCAN, "@context": {}}
        checked = self.in_time(lambda: check_document(document(*[event] * 2_000, **{"@context": [PREFIX, many]})))
        assert [(each.path, each.rule) for each in checked.violations] == [("@context", "context")]
        assert all(len(each.prefixes) < 10 for each in checked.events)
        own = check_document(document({**SCAN, "@context": many}))
        assert [each.rule for each in own.events[0].violations] == ["context"]
        few = {f"p{number}": "urn:x:" for number in range(200)}
        assert check_document(document(SCAN, **{"@context": [PREFIX, few]})).is_valid


def test_prefixes_of_an_event_do_not_replace_those_of_its_document() -> None:
    event = {**SCAN, "cbvmda:lotNumber": "A"}
    whole = document(event, {**event, "@context": {"own": "urn:x:"}}, **{"@context": [PREFIX, {"cbvmda": "urn:y:"}]})
    first, second = check_document(whole).events
    assert first.event_hash == second.event_hash and second.prefixes["cbvmda"] == "urn:y:"
