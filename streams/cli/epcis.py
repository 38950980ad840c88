"""`parcels epcis`: work with EPCIS documents in files."""

import json as jsonlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json

if TYPE_CHECKING:
    from streams.capture.epcis.documents import CheckedDocument

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Validate EPCIS documents without sending them.",
)

# A file is read into memory as a whole; a larger one cannot be a document of one request.
_MAX_FILE_BYTES = 256 << 20


@app.callback()
def _group() -> None:
    # With one command and no callback, Typer would make `parcels epcis` that command.
    pass


@app.command()
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="EPCIS documents in JSON; - reads stdin.")],
    json: Json = False,
) -> None:
    """Validate EPCIS 2.0 documents in files, and hash their events.

    Use it to test documents before you send them: it applies the rules of the gateway and prints what breaks them. With
    --json it also prints the content hash of each event. It takes an EPCISDocument, an EPCISQueryDocument or a single
    event. A problem of the document as a whole is reported with its first event. The rules are listed in
    docs/reference/capture.md.

    Exit code 1: a document has a problem or cannot be read.

    Examples:
      parcels epcis validate events.jsonld
      parcels epcis validate *.jsonld --json
    """
    all_valid = True
    for name in files:
        result = _validate_file(name)
        all_valid = all_valid and result["ok"]
        if json:
            print(jsonlib.dumps(result), flush=True)
        else:
            _print(result)
    if not all_valid:
        raise typer.Exit(EXIT_DIFFERENCES)


def _validate_file(name: str) -> dict[str, Any]:
    from streams.capture.epcis.documents import check_document, parse_json

    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as stream:
            text = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        return _unreadable(name, "file", f"cannot be read: {error.strerror}")
    if len(text) > _MAX_FILE_BYTES:
        return _unreadable(name, "file", f"is larger than {_MAX_FILE_BYTES >> 20} MiB")
    try:
        document = parse_json(text)
    except ValueError as error:
        return _unreadable(name, "json", str(error))
    return _result(name, check_document(document))


def _unreadable(name: str, rule: str, message: str) -> dict[str, Any]:
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
        # A problem of the document rejects all its events; it is reported with the first one, or in its place.
        first = events[0] if events else {"index": 0, "event_id": None, "hash": None, "errors": []}
        errors = [asdict(problem) for problem in document.violations]
        events[:1] = [{**first, "ok": False, "errors": [*errors, *first["errors"]]}]
    return {"file": name, "ok": document.is_valid, "events": events}


def _print(result: dict[str, Any]) -> None:
    invalid = sum(not event["ok"] for event in result["events"])
    count = len(result["events"])
    print(
        f"{result['file']}: "
        + (f"valid, {count} event{'s' * (count != 1)}" if result["ok"] else f"NOT VALID, {invalid} of {count} events")
    )
    for problem in (problem for event in result["events"] for problem in event["errors"]):
        print(f"  {problem['path'] or 'the document'}: {problem['message']} [{problem['rule']}]")
