"""What each address that takes something does with it, and what it answers (docs/reference/capture.md)."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

from starlette.responses import Response

from streams.capture.auth.authentication import principal_of
from streams.capture.epcis.documents import CheckedEvent, TooManyEventsError, check_document, parse_json
from streams.capture.http.problems import HttpProblem
from streams.capture.http.request_context import RequestContext
from streams.capture.intake.intake import ConflictError, OutOfScopeError, TooManyRecordsError, violations_as_json
from streams.capture.intake.intake_result import IntakeResult
from streams.capture.spool.segment_files import identity_hash

JSON_MEDIA_TYPES: Final = ("application/json", "application/ld+json")
NDJSON_MEDIA_TYPES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
AVRO_MEDIA_TYPES: Final = ("application/vnd.apache.avro", "avro/binary", "application/avro")
VERSION_HEADERS: Final = {
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


async def post_scans(call: RequestContext) -> Response:
    """POST /scans."""
    kind = call.media_type(*NDJSON_MEDIA_TYPES, *AVRO_MEDIA_TYPES)
    gateway, sender = call.gateway, principal_of(call.device)
    try:
        if kind in AVRO_MEDIA_TYPES:
            taken = await gateway.intake.avro(call.body, sender, gateway.bounds.max_inflated_bytes)
        else:
            taken = await gateway.intake.ndjson(call.body, sender)
    except TooManyRecordsError as error:
        raise HttpProblem(413, "CaptureLimitExceededException", str(error)) from None
    if not taken.results:
        raise HttpProblem(400, "ValidationException", "the request holds no record")
    call.charge(len(taken.results))
    await gateway.store(taken)
    call.count(taken)
    refused = taken.refused + taken.conflicts
    counts = {"accepted": taken.accepted, "duplicates": taken.duplicates, "refused": refused}
    return json_response({**counts, "results": taken.results})


async def post_capture(call: RequestContext) -> Response:
    """POST /capture."""
    call.media_type(*JSON_MEDIA_TYPES)
    gateway = call.gateway
    behaviour = call.request.headers.get("gs1-capture-error-behaviour", "rollback").lower()
    if behaviour not in ("rollback", "proceed"):
        raise HttpProblem(400, "ValidationException", "GS1-Capture-Error-Behaviour is rollback or proceed")
    document = await _parsed(call.body)
    if not isinstance(document, dict) or document.get("type") not in ("EPCISDocument", "EPCISQueryDocument"):
        raise HttpProblem(400, "ValidationException", "a capture takes an EPCISDocument or an EPCISQueryDocument")
    try:
        checked = await asyncio.to_thread(check_document, document, gateway.bounds.events)
    except TooManyEventsError as error:
        raise HttpProblem(413, "CaptureLimitExceededException", str(error)) from None
    if checked.problems:
        wrong = violations_as_json(checked.problems)
        raise HttpProblem(400, "ValidationException", "the document breaks rules of EPCIS", errors=wrong)
    call.charge(len(checked.events))
    taken, errors = IntakeResult(), list[dict[str, Any]]()
    async with gateway.intake.slices(taken) as slices:
        for event in checked.events:
            problem = _taken(call, event, taken)
            if problem is not None:
                errors.append({**problem.body(), "event": event.index})
            if slices.over:
                await slices.yield_to_others()
    call.charge(taken.object_count)
    if errors and behaviour == "rollback":
        left = len(checked.events) - taken.conflicts
        taken = IntakeResult(refused=left, conflicts=taken.conflicts, out_of_scope=taken.out_of_scope)
    await gateway.store(taken)
    job = gateway.jobs.begin(call.sender, behaviour)
    job.accepted, job.duplicates = taken.accepted, taken.duplicates
    job.finish(errors)
    gateway.jobs.keep(job)
    call.count(taken)
    return Response(status_code=202, headers={"Location": f"/capture/{job.capture_id}", **VERSION_HEADERS})


async def post_event(call: RequestContext) -> Response:
    """POST /events."""
    call.media_type(*JSON_MEDIA_TYPES)
    event = await _parsed(call.body)
    if not isinstance(event, dict) or event.get("type") in ("EPCISDocument", "EPCISQueryDocument", None):
        raise HttpProblem(
            400, "ValidationException", "this takes one event with its @context; documents go to /capture"
        )
    call.charge(1)
    checked = await _apart(check_document, call.body, event)
    problems = (*checked.problems, *(each for one in checked.events for each in one.problems))
    if problems:
        errors = violations_as_json(problems)
        raise HttpProblem(400, "ValidationException", "the event breaks rules of EPCIS", errors=errors)
    one, taken = checked.events[0], IntakeResult()
    refusal = _taken(call, one, taken)
    if refusal is None and taken.duplicates and "errorDeclaration" not in event:
        said = "an event with this eventID exists, and this is no declaration"
        refusal = HttpProblem(409, "ResourceAlreadyExistsException", said)
    if refusal is not None:
        call.count(taken)
        raise refusal
    call.charge(taken.object_count)
    await call.gateway.store(taken)
    call.count(taken)
    return Response(
        status_code=201, headers={"Location": f"/events/{quote(one.event_id or '', safe='')}", **VERSION_HEADERS}
    )


async def get_event(call: RequestContext) -> Response:
    """GET /events/{eventID}."""
    event_id = call.request.path_params["event_id"]
    found = call.gateway.events.find(identity_hash(event_id, ""), call.sender)
    if found is None:
        raise HttpProblem(404, "NoSuchResourceException", "there is no such event of yours among the newest ones here")
    return Response(found, headers=VERSION_HEADERS, media_type="application/ld+json")


async def get_capture_jobs(call: RequestContext) -> Response:
    """GET /capture."""
    said = call.request.query_params
    size = said.get("perPage", "30")
    if re.fullmatch("[0-9]{1,4}", size) is None or not 1 <= int(size) <= 1000:
        raise HttpProblem(400, "ValidationException", "perPage is a number from 1 to 1000")
    try:
        jobs, following = call.gateway.jobs.page(call.sender, int(size), said.get("nextPageToken"))
    except KeyError:
        raise HttpProblem(400, "ValidationException", "there is no page of this nextPageToken") from None
    headers = {"Link": f'</capture?perPage={size}&nextPageToken={following}>; rel="next"'} if following else {}
    return json_response([job.shown() for job in jobs], headers)


async def get_capture_job(call: RequestContext) -> Response:
    """GET /capture/{captureID}."""
    job = call.gateway.jobs.find(call.request.path_params["capture_id"], call.sender)
    if job is None:
        raise HttpProblem(404, "NoSuchResourceException", "there is no such capture job")
    return json_response(job.shown())


def _taken(call: RequestContext, event: CheckedEvent, taken: IntakeResult) -> HttpProblem | None:
    """Take an event of a request; why it is refused, None where it is not.

    Raises:
        Refusal: the request as a whole is.
    """
    name = f"event {event.index}"
    if event.problems:
        taken.refused += 1
        errors = violations_as_json(event.problems)
        return HttpProblem(400, "ValidationException", f"{name}: {event.problems[0].message}", errors=errors)
    try:
        call.gateway.intake.event(event, principal_of(call.device), taken)
    except TooManyRecordsError as error:
        raise HttpProblem(413, "CaptureLimitExceededException", str(error)) from None
    except ConflictError as error:
        taken.conflicts += 1
        return HttpProblem(409, "ResourceAlreadyExistsException", f"{name}: {error}")
    except OutOfScopeError as error:
        taken.refused += 1
        taken.out_of_scope += 1
        return HttpProblem(403, "SecurityException", f"{name}: {error}")
    except ValueError as error:
        taken.refused += 1
        return HttpProblem(400, "ValidationException", f"{name}: {error}")
    return None


async def _parsed(body: bytes) -> Any:
    try:
        return await _apart(parse_json, body, body)
    except ValueError as error:
        raise HttpProblem(400, "ValidationException", str(error)) from None


async def _apart(work: Callable[[Any], _Found], body: bytes, given: Any) -> _Found:
    """Do what a large body takes long for beside the event loop: others wait for their answers."""
    return await asyncio.to_thread(work, given) if len(body) > _AT_ONCE_BYTES else work(given)


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    encoded = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Response(encoded, headers=headers, media_type="application/json")
