"""Error answers: `application/problem+json` (RFC 9457) with the exception types of EPCIS 2.0."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
_TITLES: Final = {
    "ValidationException": "The content is not valid",
    "SecurityException": "Not permitted",
    "CaptureLimitExceededException": "Larger than a limit of this gateway",
    "ResourceAlreadyExistsException": "An event with this eventID exists",
    "NoSuchResourceException": "There is no such resource",
    "UnsupportedMediaTypeException": "This type of content is not supported",
    "NotAcceptableException": "This type of answer is not supported",
    "MethodNotAllowedException": "This resource does not support this method",
    "ImplementationException": "The gateway cannot process the request now",
    "TooManyRequestsException": "Too many requests",
}


class HttpProblem(Exception):
    """Ends a request with an error answer."""

    def __init__(
        self,
        status: int,
        exception_type: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """exception_type: the EPCIS exception without its prefix. errors: the single violations."""
        super().__init__(detail)
        self.status, self.exception_type, self.detail = status, exception_type, detail
        self.headers, self.errors = dict(headers or {}), list(errors)

    def to_json(self) -> dict[str, Any]:
        """The problem as a JSON object."""
        problem: dict[str, Any] = {
            "type": f"epcisException:{self.exception_type}",
            "title": _TITLES[self.exception_type],
            "status": self.status,
            "detail": self.detail,
        }
        return problem | {"errors": self.errors} if self.errors else problem

    def to_response(self) -> Response:
        """The answer."""
        return Response(json.dumps(self.to_json()), self.status, self.headers, media_type=PROBLEM_MEDIA_TYPE)


def retry_later(
    status: int, detail: str, retry_after_seconds: float, exception_type: str = "ImplementationException"
) -> HttpProblem:
    """An error answer with the header Retry-After."""
    return HttpProblem(status, exception_type, detail, headers={"Retry-After": str(max(1, round(retry_after_seconds)))})
