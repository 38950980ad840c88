"""Events whose content hashes others have published: the reference project of the CBV 2.0 event hash.

Its documents are under the MIT licence, copyright (c) 2019 RalphTro.
"""

PREFIXES = [
    "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld",
    {
        "example": "http://ns.example.com/epcis/",
        "example2": "http://ns.example.com/epcis-2/",
        "example3": "http://ns.example.com/epcis-3/",
        "example4": "http://ns.example.com/epcis-4/",
        "ext1": "http://example.com/ext1/",
        "ext2": "http://example.com/ext2/",
        "ext3": "http://example.com/ext3/",
        "ns": "https://ns.ext.de/epcis/",
    },
]

_NESTED = {
    "ext2:string": "stringInObject",
    "ext2:object": {"ext2:object": {"ext3:string": "stringInObjectInObject"}},
    "ext2:array": ["11", "21", "stringInArrayInObject"],
}
_IN_ARRAY = {
    "ext2:int": "13",
    "ext2:string": "stringInObjectInArray",
    "ext2:object": {"ext2:object": {"ext3:string": "stringInObjectInObjectInArray"}},
    "ext2:array": ["14", "23.0", "stringInArrayInObjectInArray"],
}
_EXTENSIONS = {
    "ext1:int": "10",
    "ext1:float": "20",
    "ext1:string": "string",
    "ext1:boolean": "true",
    "ext1:default": "stringAsDefaultValue",
    "ext1:time": "2013-06-08T14:58:56.591Z",
    "ext1:object": _NESTED,
    "ext1:array": [
        "12",
        "22",
        "2013-06-08T14:58:56.591Z",
        "true",
        "stringInArray",
        {"ext1:object": {"ext1:object": _IN_ARRAY}},
    ],
}
_SENSOR = {
    "sensorMetadata": {
        "time": "2019-04-02T13:05:00.000Z",
        "deviceID": "urn:epc:id:giai:4000001.111",
        "deviceMetadata": "https://id.gs1.org/8004/4000001111",
        "rawData": "https://example.org/8004/401234599999",
        "startTime": "2019-04-02T12:55:01.000Z",
        "endTime": "2019-04-02T13:55:00.000Z",
        "dataProcessingMethod": "https://example.com/253/4012345000054987",
        "bizRules": "https://example.com/253/4012345000054987",
        "ext1:someFurtherMetadata": "someText",
    },
    "sensorReport": [
        {
            "type": "Temperature",
            "deviceID": "urn:epc:id:giai:4000001.111",
            "deviceMetadata": "https://id.gs1.org/8004/4000001111",
            "rawData": "https://example.org/8004/401234599999",
            "dataProcessingMethod": "https://example.com/253/4012345000054987",
            "time": "2019-07-19T13:00:00.000Z",
            "microorganism": "https://www.ncbi.nlm.nih.gov/taxonomy/1126011",
            "chemicalSubstance": "https://identifiers.org/inchikey:CZMRCDWAGMRECN-UGDNZRGBSA-N",
            "value": 26,
            "component": "example:x",
            "stringValue": "SomeString",
            "booleanValue": True,
            "hexBinaryValue": "f0f0f0",
            "uriValue": "https://id.gs1.org/8004/4000001111",
            "minValue": 26,
            "maxValue": 26.2,
            "meanValue": 13.2,
            "sDev": 0.1,
            "percRank": 50,
            "percValue": 12.7,
            "uom": "CEL",
            "ext1:someFurtherReportData": "someText",
        }
    ],
    **_EXTENSIONS,
}
_PARTIES = {
    "bizTransactionList": [
        {"type": "po", "bizTransaction": "urn:epc:id:gdti:0614141.00001.1618034"},
        {"type": "pedigree", "bizTransaction": "urn:epc:id:gsrn:0614141.0000010253"},
    ],
    "sourceList": [
        {"type": "location", "source": "urn:epc:id:sgln:4012345.00225.0"},
        {"type": "possessing_party", "source": "urn:epc:id:pgln:4012345.00225"},
        {"type": "owning_party", "source": "urn:epc:id:pgln:4012345.00225"},
    ],
    "destinationList": [
        {"type": "location", "destination": "urn:epc:id:sgln:0614141.00777.0"},
        {"type": "possessing_party", "destination": "urn:epc:id:pgln:0614141.00777"},
        {"type": "owning_party", "destination": "urn:epc:id:pgln:0614141.00777"},
    ],
}
_DECLARED = {
    "certificationInfo": "https://accreditation-council.example.org/certificate/ABC12345",
    "errorDeclaration": {
        "declarationTime": "2006-11-07T14:00:00.000+01:00",
        "reason": "incorrect_data",
        "correctiveEventIDs": ["urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8"],
    },
}

SHIPPING = {
    "type": "ObjectEvent",
    "action": "OBSERVE",
    "bizStep": "shipping",
    "disposition": "in_transit",
    "epcList": ["urn:epc:id:sgtin:0614141.107346.2017", "urn:epc:id:sgtin:0614141.107346.2018"],
    "eventTime": "2005-04-03T20:33:31.116-06:00",
    "eventTimeZoneOffset": "-06:00",
    "readPoint": {"id": "urn:epc:id:sgln:0614141.07346.1234"},
    "bizTransactionList": [{"type": "po", "bizTransaction": "http://transaction.acme.com/po/12345678"}],
}
RECEIVING = {
    "type": "ObjectEvent",
    "action": "OBSERVE",
    "bizStep": "receiving",
    "disposition": "in_progress",
    "epcList": ["urn:epc:id:sgtin:0614141.107346.2018"],
    "eventTime": "2005-04-04T20:33:31.116-06:00",
    "eventTimeZoneOffset": "-06:00",
    "readPoint": {"id": "urn:epc:id:sgln:0012345.11111.400"},
    "bizLocation": {"id": "urn:epc:id:sgln:0012345.11111.0"},
    "bizTransactionList": [
        {"type": "po", "bizTransaction": "http://transaction.acme.com/po/12345678"},
        {"type": "desadv", "bizTransaction": "urn:epcglobal:cbv:bt:0614141073467:1152"},
    ],
    "example:myField": "Example of a vendor/user extension",
}
CERTIFIED = {
    "type": "ObjectEvent",
    "eventTime": "2023-01-11T12:00:00+01:00",
    "eventTimeZoneOffset": "+01:00",
    "certificationInfo": "https://accreditation-council.example.org/certificate/ABC12345",
    "epcList": ["https://id.gs1.de/01/04012345999990/21/XYZ-1234"],
    "action": "OBSERVE",
    "bizStep": "receiving",
    "disposition": "in_progress",
    "readPoint": {"id": "https://id.gs1.de/414/4012345000115"},
    "sensorElementList": [
        {
            "sensorMetadata": {
                "time": "2023-01-11T11:05:00Z",
                "bizRules": "https://id.example.com/253/4012345000054987",
                "ns:someFurtherMetadata": "metadataText",
            },
            "sensorReport": [
                {
                    "type": "Dimensionless",
                    "exception": "ALARM_CONDITION",
                    "coordinateReferenceSystem": "http://www.opengis.net/def/crs/EPSG/0/27700",
                    "ns:someFurtherReportData": "reportText",
                }
            ],
        }
    ],
}
TRANSACTION = {
    "type": "TransactionEvent",
    "eventTime": "2005-04-04T02:33:31.116Z",
    "eventTimeZoneOffset": "-06:00",
    **_DECLARED,
    **_PARTIES,
    "parentID": "urn:epc:id:sscc:0614141.1234567890",
    "epcList": ["urn:epc:id:sgtin:0614141.107346.2017", "urn:epc:id:sgtin:0614141.107346.2018"],
    "action": "ADD",
    "bizStep": "shipping",
    "disposition": "in_transit",
    "readPoint": {"id": "urn:epc:id:sgln:0614141.07346.1234"},
    "bizLocation": {"id": "urn:epc:id:sgln:0614141.00888.0"},
    "quantityList": [{"epcClass": "urn:epc:class:lgtin:4012345.011111.4444", "quantity": 10, "uom": "KGM"}],
    "sensorElementList": [_SENSOR],
    **_EXTENSIONS,
}
EVERYTHING = {
    "type": "ObjectEvent",
    "eventTime": "2005-04-05T02:33:31.116Z",
    "eventTimeZoneOffset": "-06:00",
    **_DECLARED,
    **_PARTIES,
    "epcList": ["urn:epc:id:sgtin:0614141.107346.2018"],
    "action": "ADD",
    "bizStep": "receiving",
    "disposition": "in_progress",
    "persistentDisposition": {"unset": ["completeness_inferred"], "set": ["completeness_verified"]},
    "readPoint": {"id": "urn:epc:id:sgln:0012345.11111.400"},
    "bizLocation": {"id": "urn:epc:id:sgln:0012345.11111.0"},
    "quantityList": [{"epcClass": "urn:epc:class:lgtin:4012345.012345.998877", "quantity": 200, "uom": "KGM"}],
    "sensorElementList": [_SENSOR],
    "ilmd": {
        **_EXTENSIONS,
        "cbvmda:countryOfExport": "KR",
        "cbvmda:countryOfOrigin": "GB",
        "cbvmda:drainedWeight": "3.5",
        "cbvmda:grossWeight": "3.5",
        "cbvmda:netWeight": "3.5",
        "cbvmda:lotNumber": "ABC123",
    },
    **_EXTENSIONS,
}
ALL_KEYS = {
    "type": "ObjectEvent",
    "eventTime": "2023-03-27T11:30:00.0Z",
    "eventTimeZoneOffset": "+01:00",
    "epcList": [
        "urn:epc:id:sgtin:4012345.012345.12",
        "urn:epc:id:sscc:4012345.0000000333",
        "https://id.gs1.org/00/040123450000003338",
        "urn:epc:id:grai:4012345.66666.87",
        "urn:epc:id:giai:4012345.AAbb",
        "urn:epc:id:gsrn:4012345.9876540000",
        "urn:epc:id:gsrnp:4012345.0000098765",
        "urn:epc:id:gdti:4012345.55555.98",
        "urn:epc:id:cpi:4012345.ABC.123",
        "urn:epc:id:sgcn:4012345.99999.44",
        "urn:epc:id:ginc:4012345.333",
        "urn:epc:id:gsin:4012345.999987654",
        "urn:epc:id:itip:4012345.012345.01.02.999",
        "urn:epc:id:upui:4012345.012345.AB12",
    ],
    "quantityList": [
        {"epcClass": "urn:epc:class:lgtin:4054739.099914.20160711"},
        {"epcClass": "urn:epc:idpat:sgtin:4054739.099914.*"},
        {"epcClass": "urn:epc:idpat:grai:4012345.66666.*"},
        {"epcClass": "urn:epc:idpat:gdti:4012345.55555.*"},
        {"epcClass": "urn:epc:idpat:sgcn:4012345.99999.*"},
        {"epcClass": "urn:epc:idpat:cpi:4012345.ABC.*"},
        {"epcClass": "urn:epc:idpat:itip:4012345.012345.01.02.*"},
    ],
    "action": "OBSERVE",
    "bizStep": "other",
    "readPoint": {"id": "urn:epc:id:sgln:4012345.00011.987"},
}
TRANSFORMED = {
    "type": "TransformationEvent",
    "eventTime": "2020-09-29T14:00:00+02:00",
    "eventTimeZoneOffset": "+02:00",
    "errorDeclaration": {
        "declarationTime": "2020-09-29T15:00:00+02:00",
        "example:issuer": "Employee 123",
        "example3:errorCodes": {"example3:value1": "34", "example3:value44": "66"},
    },
    "inputQuantityList": [{"epcClass": "urn:epc:class:lgtin:4023333.055555.ABC123", "quantity": 25.0, "uom": "KGM"}],
    "outputEPCList": ["urn:epc:id:sgtin:4012345.012345.987", "urn:epc:id:sgtin:4012345.012345.988"],
    "bizStep": "commissioning",
    "readPoint": {"id": "urn:epc:id:sgln:4023333.00000.0", "example:gs1ES": "(414)4023333000000"},
    "bizLocation": {"id": "urn:epc:id:sgln:4023333.00001.12", "example:gs1ES": "(414)4023333000017 (254)12"},
    "ilmd": {
        "cbvmda:lotNumber": "LOTABC",
        "example:grading": "A",
        "example2:userMasterData": {"example2:sizeCode": "B-2"},
    },
    "sensorElementList": [
        {
            "sensorMetadata": {
                "startTime": "2019-04-01T15:00:00+01:00",
                "endTime": "2019-04-02T14:59:59.999+01:00",
                "example:someFurtherMetaData": "someText",
            },
            "sensorReport": [
                {
                    "type": "Temperature",
                    "minValue": 12.4,
                    "maxValue": 13.8,
                    "meanValue": 13.2,
                    "sDev": 0.41,
                    "percRank": 50.0,
                    "percValue": 12.7,
                    "uom": "CEL",
                    "example:cv": "123",
                },
                {"type": "example:someSensorProperty", "stringValue": "someSensorOutput"},
            ],
            "example:furtherSensorData": {"example:measure1": "123.5", "example:measure2": "0.987"},
            "example:someUserField": "abc123",
        }
    ],
    "example:extension": {"moreExtensions": {"futureExtension": {"tag1": "1", "tag2": "2", "tag3": "3"}}},
    "example:internalData": {"example:machine": "urn:epc:id:giai:4012345.ABC", "example:procedure": "A-1"},
    "example2:furtherData": {"example2:assemblyLine": "2", "example2:workingShift": "1"},
    "example4:otherThings": "some text",
}
AGGREGATION = {
    "type": "AggregationEvent",
    "eventTime": "2013-06-08T14:58:56.591Z",
    "eventTimeZoneOffset": "+02:00",
    **_DECLARED,
    **_PARTIES,
    "childQuantityList": [
        {"epcClass": "urn:epc:idpat:sgtin:4012345.098765.*", "quantity": 10},
        {"epcClass": "urn:epc:class:lgtin:4012345.012345.998877", "quantity": 200.5, "uom": "KGM"},
    ],
    "disposition": "in_progress",
    "sensorElementList": [_SENSOR],
    **_EXTENSIONS,
    "parentID": "urn:epc:id:sscc:0614141.1234567890",
    "childEPCs": ["urn:epc:id:sgtin:0614141.107346.2017", "urn:epc:id:sgtin:0614141.107346.2018"],
    "action": "OBSERVE",
    "bizStep": "receiving",
    "readPoint": {"id": "urn:epc:id:sgln:0037000.00729.8202"},
    "bizLocation": {"id": "urn:epc:id:sgln:0037000.00729.8202"},
}
_MADE = [
    {"epcClass": "urn:epc:class:lgtin:4012345.011111.4444", "quantity": 10, "uom": "KGM"},
    {"epcClass": "urn:epc:class:lgtin:0614141.077777.987", "quantity": 30},
    {"epcClass": "urn:epc:idpat:sgtin:4012345.066666.*", "quantity": 220},
]
TRANSFORMATION = {
    "@context": {"cbvmda": "http://example.com/cbvmda/"},
    "type": "TransformationEvent",
    "eventTime": "2013-10-31T14:58:56.591Z",
    "eventTimeZoneOffset": "+02:00",
    **_DECLARED,
    **_PARTIES,
    "inputEPCList": ["urn:epc:id:sgtin:4012345.011122.25", "urn:epc:id:sgtin:4000001.065432.99886655"],
    "inputQuantityList": _MADE,
    "outputEPCList": [f"urn:epc:id:sgtin:4012345.077889.{serial}" for serial in (25, 26, 27, 28)],
    "outputQuantityList": _MADE,
    "transformationID": "urn:epc:id:gdti:0614141.12345.400",
    "bizStep": "commissioning",
    "disposition": "in_progress",
    "persistentDisposition": {"set": ["completeness_verified"], "unset": ["completeness_inferred"]},
    "readPoint": {"id": "urn:epc:id:sgln:4012345.00001.0"},
    "bizLocation": {"id": "urn:epc:id:sgln:0614141.00888.0"},
    "ilmd": EVERYTHING["ilmd"],
    "sensorElementList": [_SENSOR],
    **_EXTENSIONS,
}
# Every kind of serial, with characters that some write percent-encoded.
SERIALS = {
    "type": "ObjectEvent",
    "eventTime": "2019-04-02T15:00:00.000+01:00",
    "eventTimeZoneOffset": "+01:00",
    "epcList": [
        "urn:epc:id:sgtin:4012345.011111.9876",
        "urn:epc:id:sgtin:4012345.011111.98%22",
        "urn:epc:id:sgtin:415056789012.0.987654",
        "urn:epc:id:sgtin:0614141.812345.6789%2F%26%25%22!%3F()",
        "urn:epc:id:sscc:4012345.3111111111",
        "urn:epc:id:sgln:4012345.00005.122",
        "urn:epc:id:sgln:4012345.00005.0",
        "urn:epc:id:grai:4012345.00022.334455",
        "urn:epc:id:giai:4012345.ABC345",
        "urn:epc:id:gsrn:4012345.0000006765",
        "urn:epc:id:gsrnp:4012345.0000000007",
        "urn:epc:id:gdti:4012345.00009.PO-4711",
        "urn:epc:id:gdti:987659999999..9",
        "urn:epc:id:cpi:0614141.11111111111111-A%23%2F.1234",
        "urn:epc:id:ginc:0614141.xyz47%2F11",
        "urn:epc:id:gsin:4012345.222333444",
        "urn:epc:id:itip:4012345.011111.01.02.987",
        "urn:epc:id:upui:1234567.098765.51qIgY)%3C%26Jp3*j7'SDB",
        "urn:epc:id:pgln:4000001.00000",
        "urn:epc:id:pgln:999999999999.",
        "urn:epc:class:lgtin:4012345.012345.Lot987",
        "https://id.gs1.org/gtin/09780345418913",
        "https://example.com/gtin/09780345418913/21/765tz?abc=211121",
    ],
    "action": "OBSERVE",
    "bizStep": "inspecting",
    "readPoint": {"id": "urn:epc:id:sgln:4012345.00005.0"},
}
PLACED = {
    "type": "ObjectEvent",
    "eventTime": "2022-04-07T10:00:00.000Z",
    "eventTimeZoneOffset": "+01:00",
    "action": "OBSERVE",
    "bizStep": "sensor_reporting",
    "epcList": ["https://id.example.com/8003/040123450007718765"],
    "readPoint": {"id": "https://id.example.com/414/4012345000054"},
    "sensorElementList": [
        {
            "sensorReport": [
                {
                    "type": "gs1:Angle",
                    "value": value,
                    "component": f"cbv:Comp-{axis}",
                    "uom": "DD",
                    "coordinateReferenceSystem": "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
                }
                for value, axis in ((42.698334, "latitude"), (23.319941, "longitude"))
            ]
        }
    ],
}
CORRECTED = {
    "type": "TransformationEvent",
    "eventTime": "2020-01-14T00:00:00.000+01:00",
    "eventTimeZoneOffset": "+01:00",
    "eventID": "urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8",
    "errorDeclaration": {"declarationTime": "2020-01-15T00:00:00.000+01:00", "reason": "incorrect_data"},
    "inputEPCList": ["urn:epc:id:sgtin:4012345.011111.987"],
    "inputQuantityList": [{"epcClass": "urn:epc:class:lgtin:4012345.022222.87545GHGH"}],
    "outputEPCList": ["urn:epc:id:sgtin:4012345.033333.AGHFG"],
    "outputQuantityList": [{"epcClass": "urn:epc:idpat:sgtin:4012345.044444.*", "quantity": 452.0, "uom": "KGM"}],
    "bizStep": "commissioning",
    "readPoint": {"id": "urn:epc:id:sgln:4012345.00000.0"},
}
_ROUNDED = {
    "type": "ObjectEvent",
    "eventTimeZoneOffset": "+01:00",
    "epcList": ["https://id.gs1.de/00/040123451111111110"],
    "action": "OBSERVE",
}
ROUNDED_UP = {
    **_ROUNDED,
    "eventTime": "2023-02-02T11:04:03.1415Z",
    "bizStep": "shipping",
    "disposition": "in_transit",
    "readPoint": {"id": "https://id.gs1.de/414/4012345000115"},
}
ROUNDED_DOWN = {
    **_ROUNDED,
    "eventTime": "2023-02-02T11:04:03.1414Z",
    "bizStep": "transporting",
    "readPoint": {"id": "geo:50.947573340894124,6.922120147375441"},
}

# SHA-256 of the canonical text, as published.
HASHES = [
    (SHIPPING, "df6523665bc5e5803d6c7b84f5a04e103694d8220f2abc4f2c74310e89f31bc6"),
    (RECEIVING, "32547b2344d525ea60ab1b899d82a9011fd9c39bb26ed936e113066146f49941"),
    (CERTIFIED, "db3f717972b6be7ce2eb2f31a12b00beda1f9a7de63c23948f4b7314ffe0581b"),
    (TRANSACTION, "4a85d64a96409f0c57baed258666b26d83e6690d204a8aaed4c7e2624d8b0c81"),
    (EVERYTHING, "9811bfb2672e9c3a0f6151be339d22b60db375c8b23d2740f6137cc6539f0639"),
    (ALL_KEYS, "40744f32beff53a4bf5bb5956d465cb52de5bbcc9f131409d8efb903b04d9351"),
    (TRANSFORMED, "dca180f4e6005d4b6a6408a8d143977ca2e4f3e72048d7aa03b4df4055d484f9"),
    (AGGREGATION, "41cf5d2be6b6926acc531597e43932eb4b9b23926ccb6ce08c882bda7a74d1a8"),
    (TRANSFORMATION, "529cc54b8cf9d8664208cc6c77473274d8c2dd473469920a7d09a814623f52cc"),
    (SERIALS, "028e1a1a0aef2be946fa8026eec361159033cab9d4da3f94bee1d58070b20198"),
    (PLACED, "14faa21345eb49fa31e5578aed52a2c291b7dc8ded0d53c88135955173ea91fc"),
    (CORRECTED, "e16ce101f3d7383612e00b74419b2d88f12baa6a124b0e390252d396687d5cf7"),
]
EVENTS = [event for event, _ in HASHES] + [ROUNDED_UP, ROUNDED_DOWN]
