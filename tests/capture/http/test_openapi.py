"""The gateway against its OpenAPI document: requests that the document allows, and many that it does not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from streams.capture.http import openapi
from streams.capture.http.gateway import RequestLimits
from streams.formats import record_parser
from tests.capture.http.gateways import running_gateway, scan

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))
DOCUMENT = openapi.openapi_document(RequestLimits().max_body_bytes, RequestLimits().max_events)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/x-ndjson", "application/vnd.apache.avro")
def as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


# The parameter gives each operation an id of its own (schemathesis 4.32 with pytest 9.2). Without it, only one of the
# operations is run when tests run in parallel.
@pytest.fixture(scope="module", params=["Kafka unavailable"])
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway whose Kafka is unavailable, which must make no difference."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    data = str(tmp_path_factory.mktemp("gateway"))
    command = [sys.executable, "-m", "streams.cli", "gateway", "--insecure-local", "--port", "0", "--data", data]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors, errors


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_gateway_conforms_to_its_openapi_document(case: schemathesis.Case, address: str) -> None:
    response = case.call(base_url=address)
    case.validate_response(response, checks=CHECKS)


BAG = {
    "type": "container",
    "event_id": "c1",
    "container_id": "BAG-7",
    "kind": "PACKED",
    "event_time": "2026-03-01T01:00:00Z",
    "site": "CAN",
    "station": "PCK-01",
    "parcels": ["LP1"],
}
ADVICE = {
    "type": "advice",
    "event_id": "v1",
    "parcel_id": "LP1",
    "event_time": 1772337600000,
    "direction": "IMPORT",
    "service": "STANDARD",
    "origin": "CN",
    "destination": "DE",
}
NUMBERED = {"event_id": None, "device_id": "S7", "device_seq": 1}


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    ("record", "accepted"),
    [
        (scan(), True),
        (scan(type="scan", lane=None, weight_g=3, record_time=0), True),
        (without(scan(), "event_id") | NUMBERED, True),
        (scan("a2", kind="VOID", voids="a1"), True),
        (BAG, True),
        (without(BAG, "parcels") | {"containers": ["B"]}, True),
        (without(BAG, "parcels") | {"kind": "UNPACKED", "parent_id": "AKE12345XX"}, True),
        (without(BAG, "event_id") | NUMBERED, True),
        (ADVICE, True),
        (ADVICE | {"promised_at": "2026-03-04T04:00:00Z", "owner": "t", "planned_lane": "R"}, True),
        (scan(type="parcel"), False),
        (without(scan(), "parcel_id"), False),
        (without(scan(), "event_id"), False),
        (scan(parcels=["LP1"]), False),
        (without(BAG, "container_id"), False),
        (BAG | {"parcel_id": "LP1"}, False),
        (BAG | {"parcels": "LP1"}, False),
        (BAG | {"inferred_from": "c0"}, False),
        (without(ADVICE, "service"), False),
        (ADVICE | {"site": "LGG"}, False),
    ],
)
def test_the_schema_of_a_line_allows_what_the_gateway_accepts(
    record: dict[str, Any], accepted: bool, tmp_path: Path
) -> None:
    schema = {"$ref": "#/components/schemas/Record", "components": DOCUMENT["components"]}
    with running_gateway(tmp_path) as gateway:
        assert (gateway.scans(record).json()["accepted"] == 1) == accepted
    assert jsonschema_rs.is_valid(schema, record) == accepted


def test_every_field_of_a_line_is_in_the_schema() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    inferred = {"container": {"inferred_from", "path"}}
    for type_, name in (("scan", "Scan"), ("container", "ContainerEvent"), ("advice", "Advice")):
        fields = record_parser._FIELDS[type_].keys() - inferred.get(type_, set())
        assert schemas[name]["properties"].keys() == fields | {"type"}


def test_the_document_lists_options_where_the_gateway_supports_it(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        for path, methods in DOCUMENT["paths"].items():
            answered = gateway.request("OPTIONS", path.replace("{", "").replace("}", "")).status_code == 204
            assert ("options" in methods) == answered, path
