"""The OpenAPI 3.1 document of the gateway. Tests check the gateway against it."""

from functools import cache
from importlib import metadata
from typing import Any

from streams.capture.http import openapi_records as records

_TEXT = {"type": "string"}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@cache
def openapi_document(max_body_bytes: int, max_events: int) -> dict[str, Any]:
    """The OpenAPI document of a gateway with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "parcel-streams capture gateway",
            "version": _version(),
            "description": "Takes scans and EPCIS 2.0 events. Records that are acknowledged with 200, 201 or 202 are "
            "on stable storage. "
            f"A request has at most {max_body_bytes:,} bytes, a document at most {max_events:,} events.",
        },
        "security": [{"signature": []}, {"token": []}, {}],
        "paths": {
            "/scans": {"post": _scans(), "options": _options()},
            "/capture": {"post": _capture(), "get": _jobs(), "options": _options()},
            "/capture/{captureID}": {"get": _job(), "options": _options("captureID")},
            "/events": {"post": _events(), "options": _options()},
            "/events/{eventID}": {"get": _event(), "options": _options("eventID")},
            "/healthz": {"get": _text_operation("Whether the process answers.")},
            "/readyz": {
                "get": _text_operation(
                    "Whether the spool accepts records.",
                    {"503": _text_answer("The spool accepts no records; the text gives the reason.")},
                )
            },
            "/metrics": {
                "get": _text_operation("Metrics for Prometheus.", {"404": _problem("This port serves no metrics.")})
            },
            "/openapi.json": {
                "get": {
                    "summary": "This document.",
                    "responses": {
                        "200": {
                            "description": "The document.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
        "components": {"schemas": _schemas(), "securitySchemes": _security()},
    }


def _scans() -> dict[str, Any]:
    return {
        "operationId": "postScans",
        "summary": "Scans, container events and advices, up to thousands in a request.",
        "description": "One JSON object a line, or an Avro container file of records Scan and Advice. A record is "
        "identified by its event_id, or by device_id and device_seq. A repeat is a duplicate; other content under a "
        "known id is rejected. A gateway that admits everybody also accepts ticks.",
        "requestBody": {
            "required": True,
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "x-line": {"$ref": "#/components/schemas/Record"},
                },
                "application/vnd.apache.avro": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "The result of each record; accepted records are on stable storage.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Results"}}},
            },
            **_problems("400", "401", "403", "408", "413", "415", "429", "503"),
        },
    }


def _capture() -> dict[str, Any]:
    return {
        "operationId": "postCapture",
        "summary": "An EPCISDocument or EPCISQueryDocument.",
        "parameters": [
            {
                "name": "GS1-Capture-Error-Behaviour",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": ["rollback", "proceed"], "default": "rollback"},
                "description": "rollback: store all events or none. proceed: store the valid ones.",
            }
        ],
        "requestBody": _json_body("#/components/schemas/Document"),
        "responses": {
            "202": {
                "description": "The capture job has the result; accepted events are on stable storage.",
                "headers": {"Location": {"schema": _TEXT, "required": True}},
            },
            **_problems("400", "401", "403", "408", "413", "415", "429", "503"),
        },
    }


def _events() -> dict[str, Any]:
    return {
        "operationId": "postEvent",
        "summary": "One event, with its @context.",
        "requestBody": _json_body("#/components/schemas/Event"),
        "responses": {
            "201": {
                "description": "The event is on stable storage.",
                "headers": {"Location": {"schema": _TEXT, "required": True}},
            },
            "409": _problem(
                "An event with this eventID exists, and this one has no errorDeclaration or has other content."
            ),
            **_problems("400", "401", "403", "408", "413", "415", "429", "503"),
        },
    }


def _event() -> dict[str, Any]:
    return {
        "operationId": "getEvent",
        "summary": "An event of the sender, while it is among the newest.",
        "parameters": [_in_path("eventID")],
        "responses": {
            "200": {
                "description": "The event, with its @context and the time at which it was accepted.",
                "content": {"application/ld+json": {"schema": {"$ref": "#/components/schemas/Event"}}},
            },
            **_problems("401", "403", "404", "429"),
        },
    }


def _jobs() -> dict[str, Any]:
    return {
        "operationId": "getCaptureJobs",
        "summary": "The capture jobs of the sender, newest first.",
        "parameters": [
            _query("perPage", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 30}),
            _query("nextPageToken", _TEXT),
        ],
        "responses": {
            "200": {
                "description": "The jobs; the header Link has the next page, if there is one.",
                "content": {
                    "application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}}}
                },
            },
            **_problems("400", "401", "403", "429"),
        },
    }


def _job() -> dict[str, Any]:
    return {
        "operationId": "getCaptureJob",
        "summary": "One capture job.",
        "parameters": [_in_path("captureID")],
        "responses": {
            "200": {
                "description": "The job.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
            },
            **_problems("401", "403", "404", "429"),
        },
    }


def _options(*in_path: str) -> dict[str, Any]:
    names = ("Allow", "GS1-EPCIS-Version", "GS1-CBV-Version", "GS1-EPCIS-Capture-Limit")
    return {
        "summary": "Versions and limits.",
        "parameters": [_in_path(name) for name in in_path],
        "responses": {
            "204": {
                "description": "Versions and limits in headers.",
                "headers": {name: {"schema": _TEXT, "required": True} for name in names},
            },
            **(_problems("404") if in_path else {}),
        },
    }


def _text_operation(text: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"summary": text, "responses": {"200": _text_answer(text), **(more or {})}}


def _text_answer(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"text/plain": {"schema": _TEXT}}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": _PROBLEM}


def _problems(*statuses: str) -> dict[str, Any]:
    descriptions = {
        "400": "The content is not valid; the problem names the rule.",
        "401": "The request is not authenticated.",
        "403": "The sender is not permitted to do this.",
        "404": "There is no such resource.",
        "408": "The body did not arrive in time.",
        "413": "Larger than a limit of this gateway.",
        "415": "This type of content is not supported.",
        "429": "The sender exceeded its rate; Retry-After has the time to wait.",
        "503": "Nothing was stored; Retry-After has the time to wait.",
    }
    return {status: _problem(descriptions[status]) for status in statuses}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _json_body(reference: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": reference}}
    return {"required": True, "content": {"application/json": schema, "application/ld+json": schema}}


def _security() -> dict[str, Any]:
    return {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "Signature-Input",
            "description": "HTTP message signature (RFC 9421) with Ed25519. It covers @method, @path, @query if there "
            "is one, and content-digest, and has created, nonce and keyid. The signature is in the header Signature.",
        },
        "token": {"type": "http", "scheme": "bearer", "description": "Accepted over TLS only."},
    }


def _schemas() -> dict[str, Any]:
    time = {"type": "string", "format": "date-time"}
    event = {
        "type": "object",
        "required": ["type", "eventTime", "eventTimeZoneOffset"],
        "properties": {
            "@context": {},
            "type": _TEXT,
            "eventTime": time,
            "eventTimeZoneOffset": {"type": "string", "pattern": r"^[+-](((0\d|1[0-3]):[0-5]\d)|14:00)$"},
            "eventID": {"type": "string", "format": "uri"},
        },
        "description": "An EPCIS 2.0 event, as the JSON schema of EPCIS 2.0 and CBV 2.0 define it.",
    }
    return {
        **records.record_schemas(),
        "Results": {
            "type": "object",
            "required": ["accepted", "duplicates", "rejected", "results"],
            "properties": {
                "accepted": {"type": "integer"},
                "duplicates": {"type": "integer"},
                "rejected": {"type": "integer"},
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["index", "status"],
                        "properties": {
                            "index": {"type": "integer"},
                            "status": {"enum": ["accepted", "duplicate", "rejected"]},
                            "event_id": _TEXT,
                            "error": _TEXT,
                        },
                    },
                },
            },
        },
        "Event": event,
        "Document": {
            "type": "object",
            "required": ["@context", "type", "epcisBody"],
            "properties": {
                "@context": {},
                "type": {"enum": ["EPCISDocument", "EPCISQueryDocument"]},
                "schemaVersion": _TEXT,
                "creationDate": time,
                "epcisBody": {"type": "object"},
            },
        },
        "Job": {
            "type": "object",
            "required": ["captureID", "createdAt", "running", "success", "captureErrorBehaviour", "errors"],
            "properties": {
                "captureID": _TEXT,
                "createdAt": time,
                "finishedAt": time,
                "running": {"type": "boolean"},
                "success": {"type": "boolean"},
                "captureErrorBehaviour": {"enum": ["rollback", "proceed"]},
                "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
            },
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string", "pattern": "^epcisException:"},
                "title": _TEXT,
                "status": {"type": "integer"},
                "detail": _TEXT,
                "errors": {"type": "array", "items": {"type": "object"}},
            },
        },
    }


def _version() -> str:
    try:
        return metadata.version("parcel-streams")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "0"
