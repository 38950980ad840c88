"""The gateway's addresses as an OpenAPI 3.1 document; tests hold the gateway against it."""

from functools import cache
from importlib import metadata
from typing import Any

from streams.capture.http import openapi_records as records

_TEXT = {"type": "string"}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@cache
def openapi_document(max_body_bytes: int, events: int) -> dict[str, Any]:
    """The document, with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "parcel-streams capture gateway",
            "version": _version(),
            "description": "Scans and EPCIS 2.0 events in. What is answered with success is on stable storage. "
            f"A request has at most {max_body_bytes:,} bytes, a document at most {events:,} events.",
        },
        "security": [{"signature": []}, {"token": []}, {}],
        "paths": {
            "/scans": {"post": _scans(), "options": _options()},
            "/capture": {"post": _capture(), "get": _jobs(), "options": _options()},
            "/capture/{captureID}": {"get": _job(), "options": _options("captureID")},
            "/events": {"post": _events(), "options": _options()},
            "/events/{eventID}": {"get": _event(), "options": _options("eventID")},
            "/healthz": {"get": _plain("The process answers.")},
            "/readyz": {"get": _plain("The spool takes records.", {"503": _said("It does not; the text says why.")})},
            "/metrics": {"get": _plain("Metrics for Prometheus.", {"404": _refused("None are served.")})},
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
        "summary": "Scans, events of containers and advices, hundreds or thousands at once.",
        "description": "One JSON object a line, or an Avro container of records Scan and Advice. A record is known "
        "again by its event_id, or by device_id and device_seq; a repeat is a duplicate, other content under a known "
        "id is refused. Where everybody is let in, ticks are taken as well.",
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
                "description": "What became of each record; those accepted are on stable storage.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Results"}}},
            },
            **_refusals("400", "401", "403", "408", "413", "415", "429", "503"),
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
                "description": "rollback: all events or none. proceed: those that are right.",
            }
        ],
        "requestBody": _json_body("#/components/schemas/Document"),
        "responses": {
            "202": {
                "description": "The job tells what became of each event; accepted events are on stable storage.",
                "headers": {"Location": {"schema": _TEXT, "required": True}},
            },
            **_refusals("400", "401", "403", "408", "413", "415", "429", "503"),
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
            "409": _refused("An event with this eventID exists; this one declares no error, or says something else."),
            **_refusals("400", "401", "403", "408", "413", "415", "429", "503"),
        },
    }


def _event() -> dict[str, Any]:
    return {
        "operationId": "getEvent",
        "summary": "One of the sender's own events, while it is among the newest.",
        "parameters": [_in_path("eventID")],
        "responses": {
            "200": {
                "description": "The event, with its @context and the time at which it was accepted.",
                "content": {"application/ld+json": {"schema": {"$ref": "#/components/schemas/Event"}}},
            },
            **_refusals("401", "403", "404", "429"),
        },
    }


def _jobs() -> dict[str, Any]:
    return {
        "operationId": "getCaptureJobs",
        "summary": "The sender's capture jobs, the newest first.",
        "parameters": [
            _query("perPage", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 30}),
            _query("nextPageToken", _TEXT),
        ],
        "responses": {
            "200": {
                "description": "The jobs; the header Link names the next page, if there is one.",
                "content": {
                    "application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}}}
                },
            },
            **_refusals("400", "401", "403", "429"),
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
            **_refusals("401", "403", "404", "429"),
        },
    }


def _options(*in_path: str) -> dict[str, Any]:
    names = ("Allow", "GS1-EPCIS-Version", "GS1-CBV-Version", "GS1-EPCIS-Capture-Limit")
    return {
        "summary": "Versions and limits.",
        "parameters": [_in_path(name) for name in in_path],
        "responses": {
            "204": {
                "description": "In headers.",
                "headers": {name: {"schema": _TEXT, "required": True} for name in names},
            },
            **(_refusals("404") if in_path else {}),
        },
    }


def _plain(text: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"summary": text, "responses": {"200": _said(text), **(more or {})}}


def _said(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"text/plain": {"schema": _TEXT}}}


def _refused(text: str) -> dict[str, Any]:
    return {"description": text, "content": _PROBLEM}


def _refusals(*statuses: str) -> dict[str, Any]:
    why = {
        "400": "The content breaks a rule; the problem names it.",
        "401": "Nobody who is enrolled signed this request.",
        "403": "The sender may not do this.",
        "404": "There is no such thing.",
        "408": "The content did not come in time.",
        "413": "Larger than this gateway takes at once.",
        "415": "This kind of content is not taken.",
        "429": "Too fast; Retry-After says when to go on.",
        "503": "Nothing was stored; Retry-After says when to come again.",
    }
    return {status: _refused(why[status]) for status in statuses}


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
            "description": "HTTP message signature (RFC 9421) with Ed25519 over @method, @path, @query where there is "
            "one, and content-digest; with created, nonce and keyid. The signature itself is in the header Signature.",
        },
        "token": {"type": "http", "scheme": "bearer", "description": "Over TLS only."},
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
        "description": "An event of EPCIS 2.0; its JSON schema and CBV 2.0 say the rest.",
    }
    return {
        **records.record_schemas(),
        "Results": {
            "type": "object",
            "required": ["accepted", "duplicates", "refused", "results"],
            "properties": {
                "accepted": {"type": "integer"},
                "duplicates": {"type": "integer"},
                "refused": {"type": "integer"},
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["index", "status"],
                        "properties": {
                            "index": {"type": "integer"},
                            "status": {"enum": ["accepted", "duplicate", "refused"]},
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
