"""The capture gateway as a web application: what each address takes and answers (docs/reference/capture.md).

Nothing is answered with success before the spool says that it is on stable storage.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streams.capture import openapi
from streams.capture.devices import Device
from streams.capture.documents import check_document, parse
from streams.capture.doors import Doors, RateLimitedError, sender_of
from streams.capture.intake import Intake, Taken, TooManyError, problems_for
from streams.capture.jobs import Job, Jobs
from streams.capture.problems import Refusal, later
from streams.capture.signatures import Denied
from streams.capture.signatures import Request as SignedRequest
from streams.capture.spool import Done, Spool, SpoolUnavailable
from streams.capture.spool_files import LARGEST_FRAME, encode_frame
from streams.domain.capture_happenings import RequestAnswered, RequestDenied, Watcher

JSON: Final = ("application/json", "application/ld+json")
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
AVRO: Final = ("application/vnd.apache.avro", "avro/binary", "application/avro")
_VERSIONS: Final = {
    "GS1-EPCIS-Version": "2.0.0",
    "GS1-EPCIS-Min": "2.0.0",
    "GS1-EPCIS-Max": "2.0.0",
    "GS1-CBV-Version": "2.0.0",
    "GS1-CBV-Min": "2.0.0",
    "GS1-CBV-Max": "2.0.0",
    "GS1-Vendor-Version": "parcel-streams",
    "GS1-Extensions": "parcels=urn:parcels:voc:",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one request may be."""

    body_bytes: int = 8 << 20
    events: int = 10_000
    inflated_bytes: int = 32 << 20
    body_seconds: float = 30.0
    spool_seconds: float = 30.0
    concurrent: int = 2_000


@dataclass(slots=True)
class Gateway:
    """The parts that the addresses use."""

    spool: Spool
    intake: Intake
    jobs: Jobs
    doors: Doors
    watch: Watcher
    bounds: Bounds
    # Prometheus text; None where no metrics are served.
    exposition: Callable[[], bytes] | None = None
    # For measurements of the server alone: answer as if the spool had written.
    without_spool: bool = False

    async def store(self, taken: Taken) -> None:
        """Return when everything taken is on stable storage.

        Raises:
            Refusal: it is not.
        """
        if taken.entries and not self.without_spool:
            frame = encode_frame(int(time.time() * 1000), taken.entries)
            if len(frame) > LARGEST_FRAME:
                # It would be written, and never read again.
                raise Refusal(413, "CaptureLimitExceededException", "the request becomes too many bytes of records")
            loop = asyncio.get_running_loop()
            stored: asyncio.Future[None] = loop.create_future()

            def done(error: Exception | None) -> None:
                if not stored.done():
                    stored.set_exception(error) if error is not None else stored.set_result(None)

            self.spool.append(frame, done)
            try:
                async with asyncio.timeout(self.bounds.spool_seconds):
                    await stored
            except SpoolUnavailable as error:
                raise later(503, str(error), 5) from None
            except TimeoutError:
                raise later(503, "the disk does not answer", 10) from None
        self.intake.known.add(taken.identities)


def deliver_to(loop: asyncio.AbstractEventLoop) -> Callable[[list[tuple[Done, Exception | None]]], None]:
    """Hands outcomes of the spool's thread over to the event loop, a whole group at a time."""

    def run(outcomes: list[tuple[Done, Exception | None]]) -> None:
        for done, error in outcomes:
            done(error)

    def deliver(outcomes: list[tuple[Done, Exception | None]]) -> None:
        # A loop that has ended has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(run, outcomes)

    return deliver


class _Call:
    """One request on its way: who asks, with what."""

    def __init__(self, gateway: Gateway, request: Request, route: str) -> None:
        self.gateway, self.request, self.route = gateway, request, route
        self.taken = Taken()
        self.device: Device | None = None
        self.body = b""

    async def enter(self) -> None:
        """Read the body and find out who sends it.

        Raises:
            Refusal: too large, too slow, in a form that is not taken, or from somebody who may not.
        """
        refused = self.gateway.spool.room() if self.request.method == "POST" else None
        if refused is not None and not self.gateway.without_spool:
            raise later(503, str(refused), 10)
        headers = self._headers()
        url = self.request.scope
        path = url.get("raw_path", b"").partition(b"?")[0].decode("latin-1") or url["path"]
        signed = SignedRequest(self.request.method, path, url["query_string"].decode("latin-1"), headers)
        try:
            self.gateway.doors.glance(signed, secure=url["scheme"] == "https")
            self.body = await self._read(headers)
            self.device = self.gateway.doors.enter(signed, self.body, secure=url["scheme"] == "https")
        except Denied as denied:
            self.gateway.watch(RequestDenied(denied.reason, denied.device))
            scheme = {"WWW-Authenticate": 'Bearer realm="parcels"'}
            raise Refusal(401, "SecurityException", str(denied), headers=scheme) from None
        except OSError as error:
            # The nonce cannot be written down, so a restarted gateway would take the request twice.
            raise later(503, f"the nonces cannot be written: {error.strerror or error}", 5) from None
        except RateLimitedError as error:
            self.gateway.watch(RequestDenied("rate", ""))
            raise later(429, str(error), error.seconds, "TooManyRequestsException") from None

    def charge(self, records: int) -> None:
        """Count records against the device's rate."""
        if self.device is not None and records:
            self.gateway.doors.rates.charge(self.device.name, self.device.rate, records)

    def count(self, taken: Taken) -> None:
        """Remember what became of the records, for the metrics."""
        self.taken = taken
        for _ in range(taken.out_of_scope):
            self.gateway.watch(RequestDenied("out_of_scope", self.device.name if self.device else ""))

    def media_type(self, *wanted: str) -> str:
        """The kind of content, one of `wanted`.

        Raises:
            Refusal: it is another one.
        """
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in wanted:
            raise Refusal(415, "UnsupportedMediaTypeException", f"Content-Type must be {' or '.join(wanted)}")
        return kind

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self.request.scope["headers"]:
            key = name.decode("latin-1")
            text = value.decode("latin-1").strip()
            found[key] = f"{found[key]}, {text}" if key in found else text
        return found

    async def _read(self, headers: dict[str, str]) -> bytes:
        bounds = self.gateway.bounds
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "UnsupportedMediaTypeException", "content is taken as it is: leave Content-Encoding out")
        said = headers.get("content-length", "0")
        if said.isdigit() and int(said) > bounds.body_bytes:
            raise self._too_large()
        parts, size = [], 0
        try:
            async with asyncio.timeout(bounds.body_seconds):
                async for part in self.request.stream():
                    size += len(part)
                    if size > bounds.body_bytes:
                        raise self._too_large()
                    parts.append(part)
        except TimeoutError:
            raise Refusal(
                408, "ImplementationException", "the content did not come in time", headers={"Connection": "close"}
            ) from None
        return b"".join(parts)

    def _too_large(self) -> Refusal:
        most = self.gateway.bounds.body_bytes
        return Refusal(
            413, "CaptureLimitExceededException", f"at most {most:,} bytes a request", headers={"Connection": "close"}
        )


Handler = Callable[[_Call], Awaitable[Response]]


async def _scans(call: _Call) -> Response:
    kind = call.media_type(*NDJSON, *AVRO)
    gateway, sender = call.gateway, sender_of(call.device)
    try:
        if kind in AVRO:
            taken = gateway.intake.avro(call.body, sender, gateway.bounds.inflated_bytes)
        else:
            taken = gateway.intake.ndjson(call.body, sender)
    except TooManyError as error:
        raise Refusal(413, "CaptureLimitExceededException", str(error)) from None
    if not taken.results:
        raise Refusal(400, "ValidationException", "the request holds no record")
    call.charge(len(taken.results))
    await gateway.store(taken)
    call.count(taken)
    counts = {"accepted": taken.accepted, "duplicates": taken.duplicates, "refused": taken.refused}
    return _json({**counts, "results": taken.results})


async def _capture(call: _Call) -> Response:
    call.media_type(*JSON)
    gateway = call.gateway
    behaviour = call.request.headers.get("gs1-capture-error-behaviour", "rollback").lower()
    if behaviour not in ("rollback", "proceed"):
        raise Refusal(400, "ValidationException", "GS1-Capture-Error-Behaviour is rollback or proceed")
    document = _parsed(call.body)
    if not isinstance(document, dict) or document.get("type") not in ("EPCISDocument", "EPCISQueryDocument"):
        raise Refusal(400, "ValidationException", "a capture takes an EPCISDocument or an EPCISQueryDocument")
    checked = await asyncio.to_thread(check_document, document)
    if len(checked.events) > gateway.bounds.events:
        raise Refusal(413, "CaptureLimitExceededException", f"at most {gateway.bounds.events:,} events a document")
    if checked.problems:
        wrong = problems_for(checked.problems)
        raise Refusal(400, "ValidationException", "the document breaks rules of EPCIS", errors=wrong)
    call.charge(len(checked.events))
    job = gateway.jobs.begin(call.device.name if call.device else "", behaviour)
    taken, errors, sender = Taken(), list[dict[str, Any]](), sender_of(call.device)
    for event in checked.events:
        if event.problems:
            problem = _problem_of(event.index, "ValidationException", 400, event.problems[0].message)
            errors.append({**problem, "errors": problems_for(event.problems)})
            taken.refused += 1
            continue
        try:
            result = gateway.intake.event(event, sender, taken)
        except TooManyError as error:
            gateway.jobs.forget(job)
            raise Refusal(413, "CaptureLimitExceededException", str(error)) from None
        except ValueError as error:
            errors.append(_problem_of(event.index, "ValidationException", 400, str(error)))
            taken.refused += 1
            continue
        if result == "refused":
            errors.append(_problem_of(event.index, "SecurityException", 403, "outside of what the sender speaks for"))
    call.charge(taken.objects)
    if errors and behaviour == "rollback":
        taken = Taken(refused=len(checked.events), out_of_scope=taken.out_of_scope)
    try:
        await gateway.store(taken)
    except Refusal:
        gateway.jobs.forget(job)
        raise
    job.accepted, job.duplicates = taken.accepted, taken.duplicates
    job.finish(errors)
    gateway.jobs.keep(job)
    call.count(taken)
    return Response(status_code=202, headers={"Location": f"/capture/{job.capture_id}", **_VERSIONS})


async def _events(call: _Call) -> Response:
    call.media_type(*JSON)
    gateway = call.gateway
    event = _parsed(call.body)
    if not isinstance(event, dict) or event.get("type") in ("EPCISDocument", "EPCISQueryDocument", None):
        raise Refusal(400, "ValidationException", "this takes one event with its @context; documents go to /capture")
    checked = check_document(event)
    problems = (*checked.problems, *(each for one in checked.events for each in one.problems))
    if problems:
        errors = problems_for(problems)
        raise Refusal(400, "ValidationException", "the event breaks rules of EPCIS", errors=errors)
    one, taken = checked.events[0], Taken()
    try:
        result = gateway.intake.event(one, sender_of(call.device), taken)
    except TooManyError as error:
        raise Refusal(413, "CaptureLimitExceededException", str(error)) from None
    except ValueError as error:
        raise Refusal(400, "ValidationException", str(error)) from None
    if result == "duplicate" and "errorDeclaration" not in event:
        call.count(taken)
        raise Refusal(
            409, "ResourceAlreadyExistsException", "an event with this eventID exists, and this is no declaration"
        )
    if result == "refused":
        call.count(taken)
        raise Refusal(403, "SecurityException", "the sender may not speak for this place")
    call.charge(1 + taken.objects)
    await gateway.store(taken)
    call.count(taken)
    return Response(status_code=201, headers={"Location": f"/events/{quote(one.event_id or '', safe='')}", **_VERSIONS})


async def _jobs(call: _Call) -> Response:
    said = call.request.query_params
    size = said.get("perPage", "30")
    if re.fullmatch("[0-9]{1,4}", size) is None or not 1 <= int(size) <= 1000:
        raise Refusal(400, "ValidationException", "perPage is a number from 1 to 1000")
    try:
        jobs, following = call.gateway.jobs.page(
            call.device.name if call.device else "", int(size), said.get("nextPageToken")
        )
    except KeyError:
        raise Refusal(400, "ValidationException", "there is no page of this nextPageToken") from None
    headers = {"Link": f'</capture?perPage={size}&nextPageToken={following}>; rel="next"'} if following else {}
    return _json([job.shown() for job in jobs], headers)


async def _job(call: _Call) -> Response:
    job: Job | None = call.gateway.jobs.find(
        call.request.path_params["capture_id"], call.device.name if call.device else ""
    )
    if job is None:
        raise Refusal(404, "NoSuchResourceException", "there is no such capture job")
    return _json(job.shown())


def application(gateway: Gateway) -> Starlette:
    """The application."""

    def limits(_: Request, allow: str) -> Response:
        headers = {
            "Allow": allow,
            "GS1-EPCIS-Capture-Limit": str(gateway.bounds.events),
            "GS1-EPCIS-Capture-File-Size-Limit": str(gateway.bounds.body_bytes),
            "GS1-Capture-Error-Behaviour": "rollback",
            **_VERSIONS,
        }
        return Response(status_code=204, headers=headers)

    def answering(route: str, handlers: dict[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
        allow = ", ".join([*handlers, "OPTIONS"])

        async def answer(request: Request) -> Response:
            if request.method == "OPTIONS":
                return limits(request, allow)
            begun, call = time.monotonic(), _Call(gateway, request, route)
            handler = handlers.get(request.method)
            try:
                if handler is None:
                    said = f"{request.method} is not for {request.url.path}"
                    raise Refusal(405, "MethodNotAllowedException", said, headers={"Allow": allow})
                await call.enter()
                response = await handler(call)
            except Refusal as refusal:
                response = refusal.response()
            except ClientDisconnect:
                response = Response(status_code=400)
            taken = call.taken
            gateway.watch(
                RequestAnswered(
                    route if request.method == "POST" else "look",
                    response.status_code,
                    time.monotonic() - begun,
                    taken.accepted,
                    taken.duplicates,
                    taken.refused,
                )
            )
            return response

        return answer

    async def healthy(_: Request) -> Response:
        return _text(200, "ok")

    async def ready(_: Request) -> Response:
        refused = gateway.spool.room() or gateway.spool.trouble
        return _text(503, str(refused)) if refused is not None else _text(200, "ok")

    async def metrics(_: Request) -> Response:
        if gateway.exposition is None:
            return Refusal(404, "NoSuchResourceException", "no metrics are served here").response()
        return Response(gateway.exposition(), media_type="text/plain; version=0.0.4")

    async def described(_: Request) -> Response:
        return _json(openapi.document(gateway.bounds.body_bytes, gateway.bounds.events))

    async def missing(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return Refusal(405, "MethodNotAllowedException", "another method", headers=error.headers).response()
        return Refusal(404, "NoSuchResourceException", "there is nothing at this address").response()

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
    routes = [
        Route("/scans", answering("scans", {"POST": _scans}), methods=methods),
        Route("/capture", answering("capture", {"GET": _jobs, "POST": _capture}), methods=methods),
        Route("/capture/{capture_id}", answering("capture", {"GET": _job}), methods=methods),
        Route("/events", answering("events", {"POST": _events}), methods=methods),
        Route("/healthz", healthy),
        Route("/readyz", ready),
        Route("/metrics", metrics),
        Route("/openapi.json", described),
    ]
    handlers: Any = {404: missing, 405: missing}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=_lifespan)


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    yield


def _parsed(body: bytes) -> Any:
    try:
        return parse(body)
    except ValueError as error:
        raise Refusal(400, "ValidationException", str(error)) from None


def _problem_of(index: int, kind: str, status: int, detail: str) -> dict[str, Any]:
    return {**Refusal(status, kind, f"event {index}: {detail}").body(), "event": index}


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    encoded = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Response(encoded, headers=headers, media_type="application/json")


def _text(status: int, text: str) -> Response:
    return Response(text + "\n", status, {"Cache-Control": "no-store"}, media_type="text/plain")
