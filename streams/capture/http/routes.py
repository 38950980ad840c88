"""What each address that takes something does with it, and what it answers (docs/reference/capture.md)."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

from starlette.responses import Response

from streams.capture.auth.authentication import sender_of
from streams.capture.epcis.documents import CheckedEvent, TooManyEventsError, check_document, parse
from streams.capture.http.problems import Refusal
from streams.capture.http.request_context import Call
from streams.capture.intake.intake import ConflictError, OutOfScopeError, TooManyError, problems_for
from streams.capture.intake.intake_result import Taken
from streams.capture.spool.segment_files import identity

JSON: Final = ("application/json", "application/ld+json")
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
AVRO: Final = ("application/vnd.apache.avro", "avro/binary", "application/avro")
VERSIONS: Final = {
    "GS1-EPCIS-Version": "2.0.0",
    "GS1-EPCIS-Min": "2.0.0",
    "GS1-EPCIS-Max": "2.0.0",
    "GS1-CBV-Version": "2.0.0",
    "GS1-CBV-Min": "2.0.0",
    "GS1-CBV-Max": "2.0.0",
    "GS1-Vendor-Version": "parcel-streams",
    "GS1-Extensions": "parcels=urn:parcels:voc:",
}


_Found = TypeVar("_Found")
# A body that is read while the event loop waits: a few milliseconds.
_AT_ONCE_BYTES: Final = 64 << 10


async def take_scans(call: Call) -> Response:
    """POST /scans."""
    kind = call.media_type(*NDJSON, *AVRO)
    gateway, sender = call.gateway, sender_of(call.device)
    try:
        if kind in AVRO:
            taken = await gateway.intake.avro(call.body, sender, gateway.bounds.inflated_bytes)
        else:
            taken = await gateway.intake.ndjson(call.body, sender)
    except TooManyError as error:
        raise Refusal(413, "CaptureLimitExceededException", str(error)) from None
    if not taken.results:
        raise Refusal(400, "ValidationException", "the request holds no record")
    call.charge(len(taken.results))
    await gateway.store(taken)
    call.count(taken)
    refused = taken.refused + taken.conflicts
    counts = {"accepted": taken.accepted, "duplicates": taken.duplicates, "refused": refused}
    return json_response({**counts, "results": taken.results})


async def take_document(call: Call) -> Response:
    """POST /capture."""
    call.media_type(*JSON)
    gateway = call.gateway
    behaviour = call.request.headers.get("gs1-capture-error-behaviour", "rollback").lower()
    if behaviour not in ("rollback", "proceed"):
        raise Refusal(400, "ValidationException", "GS1-Capture-Error-Behaviour is rollback or proceed")
    document = await _parsed(call.body)
    if not isinstance(document, dict) or document.get("type") not in ("EPCISDocument", "EPCISQueryDocument"):
        raise Refusal(400, "ValidationException", "a capture takes an EPCISDocument or an EPCISQueryDocument")
    try:
        checked = await asyncio.to_thread(check_document, document, gateway.bounds.events)
    except TooManyEventsError as error:
        raise Refusal(413, "CaptureLimitExceededException", str(error)) from None
    if checked.problems:
        wrong = problems_for(checked.problems)
        raise Refusal(400, "ValidationException", "the document breaks rules of EPCIS", errors=wrong)
    call.charge(len(checked.events))
    taken, errors = Taken(), list[dict[str, Any]]()
    async with gateway.intake.slices(taken) as slices:
        for event in checked.events:
            problem = _taken(call, event, taken)
            if problem is not None:
                errors.append({**problem.body(), "event": event.index})
            if slices.over:
                await slices.others()
    call.charge(taken.objects)
    if errors and behaviour == "rollback":
        left = len(checked.events) - taken.conflicts
        taken = Taken(refused=left, conflicts=taken.conflicts, out_of_scope=taken.out_of_scope)
    await gateway.store(taken)
    job = gateway.jobs.begin(call.sender, behaviour)
    job.accepted, job.duplicates = taken.accepted, taken.duplicates
    job.finish(errors)
    gateway.jobs.keep(job)
    call.count(taken)
    return Response(status_code=202, headers={"Location": f"/capture/{job.capture_id}", **VERSIONS})


async def take_event(call: Call) -> Response:
    """POST /events."""
    call.media_type(*JSON)
    event = await _parsed(call.body)
    if not isinstance(event, dict) or event.get("type") in ("EPCISDocument", "EPCISQueryDocument", None):
        raise Refusal(400, "ValidationException", "this takes one event with its @context; documents go to /capture")
    call.charge(1)
    checked = await _apart(check_document, call.body, event)
    problems = (*checked.problems, *(each for one in checked.events for each in one.problems))
    if problems:
        errors = problems_for(problems)
        raise Refusal(400, "ValidationException", "the event breaks rules of EPCIS", errors=errors)
    one, taken = checked.events[0], Taken()
    refusal = _taken(call, one, taken)
    if refusal is None and taken.duplicates and "errorDeclaration" not in event:
        said = "an event with this eventID exists, and this is no declaration"
        refusal = Refusal(409, "ResourceAlreadyExistsException", said)
    if refusal is not None:
        call.count(taken)
        raise refusal
    call.charge(taken.objects)
    await call.gateway.store(taken)
    call.count(taken)
    return Response(status_code=201, headers={"Location": f"/events/{quote(one.event_id or '', safe='')}", **VERSIONS})


async def show_event(call: Call) -> Response:
    """GET /events/{eventID}."""
    event_id = call.request.path_params["event_id"]
    found = call.gateway.events.find(identity(event_id, ""), call.sender)
    if found is None:
        raise Refusal(404, "NoSuchResourceException", "there is no such event of yours among the newest ones here")
    return Response(found, headers=VERSIONS, media_type="application/ld+json")


async def list_jobs(call: Call) -> Response:
    """GET /capture."""
    said = call.request.query_params
    size = said.get("perPage", "30")
    if re.fullmatch("[0-9]{1,4}", size) is None or not 1 <= int(size) <= 1000:
        raise Refusal(400, "ValidationException", "perPage is a number from 1 to 1000")
    try:
        jobs, following = call.gateway.jobs.page(call.sender, int(size), said.get("nextPageToken"))
    except KeyError:
        raise Refusal(400, "ValidationException", "there is no page of this nextPageToken") from None
    headers = {"Link": f'</capture?perPage={size}&nextPageToken={following}>; rel="next"'} if following else {}
    return json_response([job.shown() for job in jobs], headers)


async def show_job(call: Call) -> Response:
    """GET /capture/{captureID}."""
    job = call.gateway.jobs.find(call.request.path_params["capture_id"], call.sender)
    if job is None:
        raise Refusal(404, "NoSuchResourceException", "there is no such capture job")
    return json_response(job.shown())


def _taken(call: Call, event: CheckedEvent, taken: Taken) -> Refusal | None:
    """Take an event of a request; why it is refused, None where it is not.

    Raises:
        Refusal: the request as a whole is.
    """
    name = f"event {event.index}"
    if event.problems:
        taken.refused += 1
        errors = problems_for(event.problems)
        return Refusal(400, "ValidationException", f"{name}: {event.problems[0].message}", errors=errors)
    try:
        call.gateway.intake.event(event, sender_of(call.device), taken)
    except TooManyError as error:
        raise Refusal(413, "CaptureLimitExceededException", str(error)) from None
    except ConflictError as error:
        taken.conflicts += 1
        return Refusal(409, "ResourceAlreadyExistsException", f"{name}: {error}")
    except OutOfScopeError as error:
        taken.refused += 1
        taken.out_of_scope += 1
        return Refusal(403, "SecurityException", f"{name}: {error}")
    except ValueError as error:
        taken.refused += 1
        return Refusal(400, "ValidationException", f"{name}: {error}")
    return None


async def _parsed(body: bytes) -> Any:
    try:
        return await _apart(parse, body, body)
    except ValueError as error:
        raise Refusal(400, "ValidationException", str(error)) from None


async def _apart(work: Callable[[Any], _Found], body: bytes, given: Any) -> _Found:
    """Do what a large body takes long for beside the event loop: others wait for their answers."""
    return await asyncio.to_thread(work, given) if len(body) > _AT_ONCE_BYTES else work(given)


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    encoded = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Response(encoded, headers=headers, media_type="application/json")
