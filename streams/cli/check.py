"""`parcels check`: are these EPCIS documents right?"""

import json as jsonlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import DIFFERENCES, Json
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.capture.documents import CheckedDocument

# A file is read whole; beyond this it is no document for one request.
_LARGEST = 256 << 20


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="EPCIS documents in JSON; - is stdin.")],
    json: Json = False,
) -> None:
    """Validate EPCIS 2.0 documents without sending them, and compute the content hash of each event.

    Takes EPCISDocument, EPCISQueryDocument and single events. Exit code 1 when anything is wrong.

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
        raise typer.Exit(DIFFERENCES)


def _checked(name: str) -> dict[str, Any]:
    from streams.capture.documents import check_document, parse

    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as stream:
            text = stream.read(_LARGEST + 1)
    except OSError as error:
        raise Misconfigured(f"{name} cannot be read: {error.strerror}") from error
    if len(text) > _LARGEST:
        raise Misconfigured(f"{name} is larger than {_LARGEST >> 20} MiB")
    try:
        document = parse(text)
    except ValueError as error:
        problem = {"path": "", "rule": "json", "message": str(error)}
        return {"file": name, "ok": False, "events": [], "errors": [problem]}
    return {"file": name, **_result(check_document(document))}


def _result(document: "CheckedDocument") -> dict[str, Any]:
    return {
        "ok": document.ok,
        "events": [
            {
                "index": event.index,
                "ok": not event.problems,
                "event_id": event.event_id,
                "hash": event.hash,
                "errors": [asdict(problem) for problem in event.problems],
            }
            for event in document.events
        ],
        "errors": [asdict(problem) for problem in document.problems],
    }


def _print(result: dict[str, Any]) -> None:
    bad = sum(not event["ok"] for event in result["events"])
    count = len(result["events"])
    print(
        f"{result['file']}: {'fine' if result['ok'] else 'WRONG'}, {count} events" + (f", {bad} wrong" if bad else "")
    )
    for problem in [*result["errors"], *(each for event in result["events"] for each in event["errors"])]:
        print(f"  {problem['path'] or 'the document'}: {problem['message']} [{problem['rule']}]")
