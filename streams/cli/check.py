"""`parcels check`: are these EPCIS documents right?"""

import json as jsonlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json

if TYPE_CHECKING:
    from streams.capture.epcis.documents import CheckedDocument

# A file is read whole; beyond this it is no document for one request.
_LARGEST = 256 << 20


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="EPCIS documents in JSON; - is stdin.")],
    json: Json = False,
) -> None:
    """Validate EPCIS 2.0 documents without sending them, and compute the content hash of each event.

    Takes EPCISDocument, EPCISQueryDocument and single events. Exit code 1 when anything is wrong, or cannot be read.
    What is wrong with a document as a whole stands at its first event.

    Examples:
      parcels check events.jsonld
      parcels check *.jsonld --json
    """
    fine = True
    for name in files:
        result = _checked(name)
        fine = fine and result["ok"]
        if json:
            print(jsonlib.dumps(result), flush=True)
        else:
            _print(result)
    if not fine:
        raise typer.Exit(EXIT_DIFFERENCES)


def _checked(name: str) -> dict[str, Any]:
    from streams.capture.epcis.documents import check_document, parse_json

    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as stream:
            text = stream.read(_LARGEST + 1)
    except OSError as error:
        return _unread(name, "file", f"cannot be read: {error.strerror}")
    if len(text) > _LARGEST:
        return _unread(name, "file", f"is larger than {_LARGEST >> 20} MiB")
    try:
        document = parse_json(text)
    except ValueError as error:
        return _unread(name, "json", str(error))
    return _result(name, check_document(document))


def _unread(name: str, rule: str, message: str) -> dict[str, Any]:
    error = {"path": "", "rule": rule, "message": message}
    event = {"index": 0, "ok": False, "event_id": None, "hash": None, "errors": [error]}
    return {"file": name, "ok": False, "events": [event]}


def _result(name: str, document: "CheckedDocument") -> dict[str, Any]:
    events: list[dict[str, Any]] = [
        {
            "index": event.index,
            "ok": not event.violations,
            "event_id": event.event_id,
            "hash": event.event_hash,
            "errors": [asdict(problem) for problem in event.violations],
        }
        for event in document.events
    ]
    if document.violations:
        # They keep every event of it out; they stand at the first one, or where it would be.
        first = events[0] if events else {"index": 0, "event_id": None, "hash": None, "errors": []}
        wrong = [asdict(problem) for problem in document.violations]
        events[:1] = [{**first, "ok": False, "errors": [*wrong, *first["errors"]]}]
    return {"file": name, "ok": document.is_valid, "events": events}


def _print(result: dict[str, Any]) -> None:
    bad = sum(not event["ok"] for event in result["events"])
    count = len(result["events"])
    print(
        f"{result['file']}: "
        + (f"fine, {count} event{'s' * (count != 1)}" if result["ok"] else f"WRONG, {bad} of {count}")
    )
    for problem in (each for event in result["events"] for each in event["errors"]):
        print(f"  {problem['path'] or 'the document'}: {problem['message']} [{problem['rule']}]")
