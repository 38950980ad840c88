"""The capture gateway as a web application: the table of routes, and the processing that all of them share."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streams.capture.http import openapi, routes
from streams.capture.http.gateway import Gateway
from streams.capture.http.problems import HttpProblem, retry_later
from streams.capture.http.request_context import RequestContext
from streams.capture.http.routes import VERSION_HEADERS, json_response
from streams.capture.intake.dedup_cache import IdentityInFlightError
from streams.telemetry.gateway_events import RequestAnswered

RouteHandler = Callable[[RequestContext], Awaitable[Response]]


def create_application(gateway: Gateway) -> Starlette:
    """The web application of a gateway."""

    def options_response(allow: str) -> Response:
        headers = {
            "Allow": allow,
            "GS1-EPCIS-Capture-Limit": str(gateway.request_limits.max_events),
            "GS1-EPCIS-Capture-File-Size-Limit": str(gateway.request_limits.max_body_bytes),
            "GS1-Capture-Error-Behaviour": "rollback",
            **VERSION_HEADERS,
        }
        return Response(status_code=204, headers=headers)

    def endpoint(route: str, handlers: dict[str, RouteHandler]) -> Callable[[Request], Awaitable[Response]]:
        allow = ", ".join([*handlers, "OPTIONS"])

        async def answer(request: Request) -> Response:
            if request.method == "OPTIONS":
                return options_response(allow)
            begun, context = time.monotonic(), RequestContext(gateway, request, route)
            handler = handlers.get(request.method)
            try:
                if handler is None:
                    detail = f"{request.url.path} does not support {request.method}: use {allow}"
                    raise HttpProblem(405, "MethodNotAllowedException", detail, headers={"Allow": allow})
                await context.read_and_authenticate()
                response = await handler(context)
            except HttpProblem as problem:
                context.charge_rejected_request()
                response = await context.reject(problem)
            except IdentityInFlightError as error:
                response = await context.reject(retry_later(503, str(error), 1))
            except ClientDisconnect:
                response = Response(status_code=400)
            finally:
                context.release_body()
            result = context.intake_result
            gateway.emit(
                RequestAnswered(
                    route if request.method == "POST" else "read",
                    response.status_code,
                    time.monotonic() - begun,
                    result.accepted,
                    result.duplicates,
                    result.rejected,
                    result.conflicts,
                )
            )
            return response

        return answer

    async def get_health(_: Request) -> Response:
        return _text_response(200, "ok")

    async def get_readiness(_: Request) -> Response:
        unavailable = gateway.spool.unavailable_reason() or gateway.spool.write_error
        if unavailable is None:
            return _text_response(200, "ok")
        public_reason = "the gateway cannot store records now"
        return _text_response(503, str(unavailable) if gateway.exposition is not None else public_reason)

    async def get_metrics(_: Request) -> Response:
        if gateway.exposition is None:
            detail = "this port serves no metrics: they are on the port of --metrics-port"
            return HttpProblem(404, "NoSuchResourceException", detail).to_response()
        return Response(gateway.exposition(), media_type="text/plain; version=0.0.4")

    async def get_openapi(_: Request) -> Response:
        limits = gateway.request_limits
        return json_response(openapi.openapi_document(limits.max_body_bytes, limits.max_events))

    async def handle_missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            detail = f"{request.url.path} does not support {request.method}"
            return HttpProblem(405, "MethodNotAllowedException", detail, headers=error.headers).to_response()
        detail = "there is no resource at this path: /openapi.json lists all paths"
        return HttpProblem(404, "NoSuchResourceException", detail).to_response()

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
    capture_handlers: dict[str, RouteHandler] = {"GET": routes.get_capture_jobs, "POST": routes.post_capture}
    table = [
        Route("/scans", endpoint("scans", {"POST": routes.post_scans}), methods=methods),
        Route("/capture", endpoint("capture", capture_handlers), methods=methods),
        Route("/capture/{capture_id}", endpoint("capture", {"GET": routes.get_capture_job}), methods=methods),
        Route("/events", endpoint("events", {"POST": routes.post_event}), methods=methods),
        # An eventID is a URI, and servers pass its slashes on unchanged.
        Route("/events/{event_id:path}", endpoint("events", {"GET": routes.get_event}), methods=methods),
        Route("/healthz", get_health),
        Route("/readyz", get_readiness),
        Route("/metrics", get_metrics),
        Route("/openapi.json", get_openapi),
    ]
    handlers: Any = {404: handle_missing, 405: handle_missing}
    return Starlette(routes=table, exception_handlers=handlers, lifespan=_lifespan)


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    yield


def _text_response(status: int, text: str) -> Response:
    return Response(text + "\n", status, {"Cache-Control": "no-store"}, media_type="text/plain")
