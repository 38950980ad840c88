"""Errors as answers: `application/problem+json` (RFC 9457) with the exception types of EPCIS 2.0."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
_TITLES: Final = {
    "ValidationException": "The content breaks a rule of EPCIS",
    "SecurityException": "Not permitted",
    "CaptureLimitExceededException": "Larger than this gateway takes at once",
    "ResourceAlreadyExistsException": "An event with this eventID exists",
    "NoSuchResourceException": "There is no such resource",
    "UnsupportedMediaTypeException": "This kind of content is not taken",
    "NotAcceptableException": "This kind of answer is not given",
    "MethodNotAllowedException": "This method is not for this resource",
    "ImplementationException": "The gateway cannot do this now",
    "TooManyRequestsException": "Too many requests",
}


class HttpProblem(Exception):
    """Ends a request with an answer that says why."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """kind: the EPCIS exception, without its prefix. errors: what is wrong, one by one."""
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers, self.errors = dict(headers or {}), list(errors)

    def body(self) -> dict[str, Any]:
        """The problem as JSON has it."""
        said: dict[str, Any] = {
            "type": f"epcisException:{self.kind}",
            "title": _TITLES[self.kind],
            "status": self.status,
            "detail": self.detail,
        }
        return said | {"errors": self.errors} if self.errors else said

    def response(self) -> Response:
        """The answer."""
        return Response(json.dumps(self.body()), self.status, self.headers, media_type=PROBLEM_MEDIA_TYPE)


def retry_later(status: int, detail: str, seconds: float, kind: str = "ImplementationException") -> HttpProblem:
    """A refusal that says when to come again."""
    return HttpProblem(status, kind, detail, headers={"Retry-After": str(max(1, round(seconds)))})
