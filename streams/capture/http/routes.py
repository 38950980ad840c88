"""The handlers of the routes that take or return records, events and capture jobs (docs/reference/capture.md)."""

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


_T = TypeVar("_T")
# A body of this size is parsed on the event loop, which takes a few milliseconds. Larger ones go to a thread.
_MAX_INLINE_BYTES: Final = 64 << 10


async def post_scans(context: RequestContext) -> Response:
    """POST /scans."""
    media_type = context.require_media_type(*NDJSON_MEDIA_TYPES, *AVRO_MEDIA_TYPES)
    gateway, principal = context.gateway, principal_of(context.device)
    try:
        if media_type in AVRO_MEDIA_TYPES:
            max_inflated_bytes = gateway.request_limits.max_inflated_bytes
            result = await gateway.intake.accept_avro(context.body, principal, max_inflated_bytes)
        else:
            result = await gateway.intake.accept_ndjson(context.body, principal)
    except TooManyRecordsError as error:
        raise HttpProblem(413, "CaptureLimitExceededException", str(error)) from None
    if not result.record_results:
        raise HttpProblem(400, "ValidationException", "the request has no record: send at least one")
    context.charge_rate(len(result.record_results))
    await gateway.store(result)
    context.record_result(result)
    rejected = result.rejected + result.conflicts
    counts = {"accepted": result.accepted, "duplicates": result.duplicates, "rejected": rejected}
    return json_response({**counts, "results": result.record_results})


async def post_capture(context: RequestContext) -> Response:
    """POST /capture."""
    context.require_media_type(*JSON_MEDIA_TYPES)
    gateway = context.gateway
    behaviour = context.request.headers.get("gs1-capture-error-behaviour", "rollback").lower()
    if behaviour not in ("rollback", "proceed"):
        raise HttpProblem(400, "ValidationException", "GS1-Capture-Error-Behaviour must be rollback or proceed")
    document = await _parse_body(context.body)
    if not isinstance(document, dict) or document.get("type") not in ("EPCISDocument", "EPCISQueryDocument"):
        detail = "the body must be an EPCISDocument or an EPCISQueryDocument: single events go to /events"
        raise HttpProblem(400, "ValidationException", detail)
    try:
        checked = await asyncio.to_thread(check_document, document, gateway.request_limits.max_events)
    except TooManyEventsError as error:
        raise HttpProblem(413, "CaptureLimitExceededException", str(error)) from None
    if checked.violations:
        errors = violations_as_json(checked.violations)
        detail = "the document breaks rules of EPCIS 2.0: errors lists them"
        raise HttpProblem(400, "ValidationException", detail, errors=errors)
    context.charge_rate(len(checked.events))
    result, event_errors = IntakeResult(), list[dict[str, Any]]()
    async with gateway.intake.time_slicer(result) as time_slicer:
        for event in checked.events:
            problem = _accept_event(context, event, result)
            if problem is not None:
                event_errors.append({**problem.to_json(), "event": event.index})
            if time_slicer.is_expired:
                await time_slicer.yield_to_others()
    context.charge_rate(result.object_count)
    if event_errors and behaviour == "rollback":
        rejected = len(checked.events) - result.conflicts
        result = IntakeResult(rejected=rejected, conflicts=result.conflicts, out_of_scope=result.out_of_scope)
    await gateway.store(result)
    job = gateway.capture_jobs.start(context.principal_name, behaviour)
    job.accepted, job.duplicates = result.accepted, result.duplicates
    job.finish(event_errors)
    gateway.capture_jobs.save(job)
    context.record_result(result)
    return Response(status_code=202, headers={"Location": f"/capture/{job.capture_id}", **VERSION_HEADERS})


async def post_event(context: RequestContext) -> Response:
    """POST /events."""
    context.require_media_type(*JSON_MEDIA_TYPES)
    event = await _parse_body(context.body)
    if not isinstance(event, dict) or event.get("type") in ("EPCISDocument", "EPCISQueryDocument", None):
        detail = "the body must be one EPCIS event with its @context: documents go to /capture"
        raise HttpProblem(400, "ValidationException", detail)
    context.charge_rate(1)
    document = await _run_beside_loop(check_document, context.body, event)
    violations = [*document.violations]
    for checked_event in document.events:
        violations += checked_event.violations
    if violations:
        errors = violations_as_json(violations)
        detail = "the event breaks rules of EPCIS 2.0: errors lists them"
        raise HttpProblem(400, "ValidationException", detail, errors=errors)
    checked, result = document.events[0], IntakeResult()
    problem = _accept_event(context, checked, result)
    if problem is None and result.duplicates and "errorDeclaration" not in event:
        detail = "an event with this eventID exists, and this event has no errorDeclaration"
        problem = HttpProblem(409, "ResourceAlreadyExistsException", detail)
    if problem is not None:
        context.record_result(result)
        raise problem
    context.charge_rate(result.object_count)
    await context.gateway.store(result)
    context.record_result(result)
    location = f"/events/{quote(checked.event_id or '', safe='')}"
    return Response(status_code=201, headers={"Location": location, **VERSION_HEADERS})


async def get_event(context: RequestContext) -> Response:
    """GET /events/{eventID}."""
    event_id = context.request.path_params["event_id"]
    event = context.gateway.event_cache.find(identity_hash(event_id, ""), context.principal_name)
    if event is None:
        detail = "no event of yours has this eventID among the newest events of this gateway"
        raise HttpProblem(404, "NoSuchResourceException", detail)
    return Response(event, headers=VERSION_HEADERS, media_type="application/ld+json")


async def get_capture_jobs(context: RequestContext) -> Response:
    """GET /capture."""
    parameters = context.request.query_params
    size = parameters.get("perPage", "30")
    if re.fullmatch("[0-9]{1,4}", size) is None or not 1 <= int(size) <= 1000:
        raise HttpProblem(400, "ValidationException", "perPage must be a number from 1 to 1000")
    try:
        jobs, next_token = context.gateway.capture_jobs.page(
            context.principal_name, int(size), parameters.get("nextPageToken")
        )
    except KeyError:
        detail = "this nextPageToken is unknown or has expired: begin again without nextPageToken"
        raise HttpProblem(400, "ValidationException", detail) from None
    headers = {"Link": f'</capture?perPage={size}&nextPageToken={next_token}>; rel="next"'} if next_token else {}
    return json_response([job.to_json() for job in jobs], headers)


async def get_capture_job(context: RequestContext) -> Response:
    """GET /capture/{captureID}."""
    job = context.gateway.capture_jobs.find(context.request.path_params["capture_id"], context.principal_name)
    if job is None:
        detail = "no capture job of yours has this captureID among the newest jobs of this gateway"
        raise HttpProblem(404, "NoSuchResourceException", detail)
    return json_response(job.to_json())


def _accept_event(context: RequestContext, event: CheckedEvent, result: IntakeResult) -> HttpProblem | None:
    """Add an event of a request to the result.

    Returns:
        The problem for which the event is rejected; None if it is accepted or a duplicate.

    Raises:
        HttpProblem: the request as a whole is rejected.
    """
    name = f"event {event.index}"
    if event.violations:
        result.rejected += 1
        errors = violations_as_json(event.violations)
        return HttpProblem(400, "ValidationException", f"{name}: {event.violations[0].message}", errors=errors)
    try:
        context.gateway.intake.accept_event(event, principal_of(context.device), result)
    except TooManyRecordsError as error:
        raise HttpProblem(413, "CaptureLimitExceededException", str(error)) from None
    except ConflictError as error:
        result.conflicts += 1
        return HttpProblem(409, "ResourceAlreadyExistsException", f"{name}: {error}")
    except OutOfScopeError as error:
        result.rejected += 1
        result.out_of_scope += 1
        return HttpProblem(403, "SecurityException", f"{name}: {error}")
    except ValueError as error:
        result.rejected += 1
        return HttpProblem(400, "ValidationException", f"{name}: {error}")
    return None


async def _parse_body(body: bytes) -> Any:
    try:
        return await _run_beside_loop(parse_json, body, body)
    except ValueError as error:
        raise HttpProblem(400, "ValidationException", str(error)) from None


async def _run_beside_loop(function: Callable[[Any], _T], body: bytes, argument: Any) -> _T:
    """Call a function, in a thread if the body is large, so that the event loop can answer others meanwhile."""
    return await asyncio.to_thread(function, argument) if len(body) > _MAX_INLINE_BYTES else function(argument)


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    encoded = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Response(encoded, headers=headers, media_type="application/json")
