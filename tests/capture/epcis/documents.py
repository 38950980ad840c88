"""EPCIS documents for tests, built from events."""

import copy
import json
from typing import Any

from tests.capture.epcis.reference_events import PREFIXES


def document(*events: Any, **changes: Any) -> dict[str, Any]:
    """An EPCISDocument of these events. `changes` replace its fields; None removes a field."""
    fields = {
        "@context": copy.deepcopy(PREFIXES),
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-03-01T04:00:00Z",
        "epcisBody": {"eventList": [copy.deepcopy(event) for event in events]},
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not None}


def query_document(*events: Any) -> dict[str, Any]:
    body = {"queryResults": {"queryName": "Q", "resultsBody": {"eventList": list(events)}}}
    return {"@context": copy.deepcopy(PREFIXES), "type": "EPCISQueryDocument", "epcisBody": body}


def encoded(*events: Any) -> bytes:
    return json.dumps(document(*events)).encode()
