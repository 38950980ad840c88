"""The capture gateway as a web application: its addresses, and what is the same for all of them."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streams.capture.http import openapi
from streams.capture.http import routes as addresses
from streams.capture.http.gateway import Gateway
from streams.capture.http.problems import HttpProblem, retry_later
from streams.capture.http.request_context import RequestContext
from streams.capture.http.routes import VERSION_HEADERS, json_response
from streams.capture.intake.dedup_cache import IdentityInFlightError
from streams.telemetry.gateway_events import RequestAnswered

RouteHandler = Callable[[RequestContext], Awaitable[Response]]


def create_application(gateway: Gateway) -> Starlette:
    """The application."""

    def limits(_: Request, allow: str) -> Response:
        headers = {
            "Allow": allow,
            "GS1-EPCIS-Capture-Limit": str(gateway.bounds.events),
            "GS1-EPCIS-Capture-File-Size-Limit": str(gateway.bounds.max_body_bytes),
            "GS1-Capture-Error-Behaviour": "rollback",
            **VERSION_HEADERS,
        }
        return Response(status_code=204, headers=headers)

    def answering(route: str, handlers: dict[str, RouteHandler]) -> Callable[[Request], Awaitable[Response]]:
        allow = ", ".join([*handlers, "OPTIONS"])

        async def answer(request: Request) -> Response:
            if request.method == "OPTIONS":
                return limits(request, allow)
            begun, call = time.monotonic(), RequestContext(gateway, request, route)
            handler = handlers.get(request.method)
            try:
                if handler is None:
                    said = f"{request.method} is not for {request.url.path}"
                    raise HttpProblem(405, "MethodNotAllowedException", said, headers={"Allow": allow})
                await call.enter()
                response = await handler(call)
            except HttpProblem as refusal:
                call.charge_rejected_request()
                response = await call.reject(refusal)
            except IdentityInFlightError as error:
                response = await call.reject(retry_later(503, str(error), 1))
            except ClientDisconnect:
                response = Response(status_code=400)
            finally:
                call.release()
            taken = call.taken
            gateway.watch(
                RequestAnswered(
                    route if request.method == "POST" else "read",
                    response.status_code,
                    time.monotonic() - begun,
                    taken.accepted,
                    taken.duplicates,
                    taken.refused,
                    taken.conflicts,
                )
            )
            return response

        return answer

    async def healthy(_: Request) -> Response:
        return _text(200, "ok")

    async def ready(_: Request) -> Response:
        refused = gateway.spool.unavailable_reason() or gateway.spool.write_error
        if refused is None:
            return _text(200, "ok")
        return _text(503, str(refused) if gateway.exposition is not None else "nothing can be stored now")

    async def metrics(_: Request) -> Response:
        if gateway.exposition is None:
            return HttpProblem(404, "NoSuchResourceException", "metrics are on --metrics-port").response()
        return Response(gateway.exposition(), media_type="text/plain; version=0.0.4")

    async def described(_: Request) -> Response:
        return json_response(openapi.openapi_document(gateway.bounds.max_body_bytes, gateway.bounds.events))

    async def missing(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return HttpProblem(405, "MethodNotAllowedException", "another method", headers=error.headers).response()
        return HttpProblem(404, "NoSuchResourceException", "there is nothing at this address").response()

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
    routes = [
        Route("/scans", answering("scans", {"POST": addresses.post_scans}), methods=methods),
        Route(
            "/capture",
            answering("capture", {"GET": addresses.get_capture_jobs, "POST": addresses.post_capture}),
            methods=methods,
        ),
        Route("/capture/{capture_id}", answering("capture", {"GET": addresses.get_capture_job}), methods=methods),
        Route("/events", answering("events", {"POST": addresses.post_event}), methods=methods),
        # An eventID is a URI, whose slashes a server hands on as they are.
        Route("/events/{event_id:path}", answering("events", {"GET": addresses.get_event}), methods=methods),
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


def _text(status: int, text: str) -> Response:
    return Response(text + "\n", status, {"Cache-Control": "no-store"}, media_type="text/plain")
