"""The promises about parcels and the thresholds of anomalies: `promises.yaml`, typed and checked.

`promises.yaml` beside this file is the default; `streams.config.load_promises` reads another file. The meaning of each
line is explained in `streams/domain/promise_clocks.py`, where the clocks run.
"""

import hashlib
import json
import re
from collections import Counter
from functools import cache
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from streams.domain.config_errors import describe_config_errors
from streams.domain.kinds import DIRECTIONS, KINDS, VOID
from streams.errors import Misconfigured

MAX_PROMISES: Final = 16
BASIS_POINTS: Final = 10_000  # of 1: an at-risk share is a whole number of these
# Anomalies by their numbers: the position of a word in the Avro enum `Anomaly`.
ANOMALIES: Final = (
    "OTHER",
    "MISROUTED",
    "REPEATED_NO_READ",
    "RECIRCULATING",
    "NOT_RELEASED",
    "HELD_TOO_LONG",
    "FROM_THE_FUTURE",
    "NUMBER_REUSED",
    "FOUND_OUTSIDE",
    "MISSING",
    "FOUND_EXTRA",
)
(
    _,
    MISROUTED,
    REPEATED_NO_READ,
    RECIRCULATING,
    NOT_RELEASED,
    HELD_TOO_LONG,
    FROM_THE_FUTURE,
    NUMBER_REUSED,
    FOUND_OUTSIDE,
    MISSING,
    FOUND_EXTRA,
) = range(len(ANOMALIES))

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_PART: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_DURATION: Final = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MAX_DURATION_MS: Final = 3660 * _UNITS["d"]


def parse_duration(text: Any) -> Any:
    """A duration like 90s, 12h or 1d12h in ms."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"a duration is a number with ms, s, m, h or d, for example 90m or 1d12h; not {text!r}")
    duration = sum(int(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if not 0 < duration <= _MAX_DURATION_MS:
        raise ValueError("a duration must be longer than 0 and shorter than ten years")
    return duration


def format_duration(ms: int) -> str:
    """A duration as text: 129,600,000 ms is 1d12h."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        number, ms = divmod(ms, _UNITS[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def _scan_kind(kind: str) -> str:
    if kind not in KINDS or kind in (KINDS[0], KINDS[VOID]):
        raise ValueError(f"{kind!r} is not a kind of scan; there are {', '.join(KINDS[1:VOID])}")
    return kind


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Kind = Annotated[str, BeforeValidator(_scan_kind)]
Kinds = Annotated[tuple[Kind, ...], Field(min_length=1)]
Direction = Literal["UNKNOWN", "IMPORT", "EXPORT", "TRANSIT"]
PlanText = Annotated[str, Field(min_length=1, max_length=63)]
assert set(DIRECTIONS) == {"UNKNOWN", "IMPORT", "EXPORT", "TRANSIT"}


def _share(value: Any) -> Any:
    basis_points = value * BASIS_POINTS if isinstance(value, int | float) else 0
    # Rounded, because 0.1 + 0.2 stands for 0.3.
    if not (1 <= round(basis_points, 6) < BASIS_POINTS and round(basis_points, 6).is_integer()):
        raise ValueError("a share of the limit is a number from 0.0001 to 0.9999, in steps of 0.0001, for example 0.8")
    return value


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name has at most 32 characters of a to z, 0 to 9, _ and -, and begins with a letter")
    return text


def _duration_or_promised(value: Any) -> Any:
    return value if value == "promised_at" else parse_duration(value)


class _PromiseModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Promise(_PromiseModel):
    """One promise: the time between two scans of a parcel does not exceed a limit."""

    name: Annotated[str, AfterValidator(_name)]
    # The parcels that it is for, by their latest advice; None: all of them.
    directions: tuple[Direction, ...] | None = Field(default=None, min_length=1)
    services: tuple[PlanText, ...] | None = Field(default=None, min_length=1)
    lanes: tuple[PlanText, ...] | None = Field(default=None, min_length=1)
    starts: Kinds
    stops: Kinds
    # True: every scan of `starts` restarts the clock.
    restarts: bool = False
    # Every scan of these restarts the clock as well, but only while it runs.
    renews: tuple[Kind, ...] = ()
    # Milliseconds, or until the instant that the advice promises.
    limit: Annotated[
        int | Literal["promised_at"],
        BeforeValidator(_duration_or_promised),
        PlainSerializer(lambda limit: limit if limit == "promised_at" else format_duration(limit)),
    ]
    # Share of the limit after which the promise is at risk; None: no such alert.
    at_risk: Annotated[float, BeforeValidator(_share)] | None = 0.8
    pauses: tuple[Literal["CUSTOMS_HELD"], ...] = ()

    @model_validator(mode="after")
    def _clock_can_run(self) -> Self:
        if both := sorted(set(self.starts) & set(self.stops)):
            raise ValueError(f"{', '.join(both)} cannot both start and stop the clock")
        if both := sorted(set(self.renews) & {*self.starts, *self.stops}):
            raise ValueError(f"{', '.join(both)} in renews cannot start or stop the clock as well")
        if self.renews and not self.restarts:
            raise ValueError("renews needs a clock that restarts (restarts: true)")
        if self.restarts and self.limit == "promised_at":
            raise ValueError("a clock that restarts needs a duration as its limit, not promised_at")
        return self


class AnomalyThresholds(_PromiseModel):
    """The thresholds of the anomalies of a parcel; None or False: never reported."""

    misrouted: bool = True
    repeated_no_read: Annotated[int, Field(ge=1, le=1000)] | None = 3
    recirculating: Annotated[int, Field(ge=1, le=1000)] | None = 3
    not_released: tuple[Direction, ...] | None = ("IMPORT", "EXPORT")
    held_too_long: Duration | None = 72 * _UNITS["h"]
    from_the_future: Duration | None = 10 * _UNITS["m"]
    number_reused: Duration | None = 5 * _UNITS["d"]
    found_outside: bool = True
    missing: Duration | None = 2 * _UNITS["h"]
    found_extra: bool = True


class Retirement(_PromiseModel):
    """The time after its last record at which a parcel leaves the table and parcel.state; None: never."""

    finished: Duration | None = 14 * _UNITS["d"]
    unfinished: Duration | None = 60 * _UNITS["d"]


class Promises(_PromiseModel):
    """All promises about parcels, the thresholds of their anomalies, and their retirement.

    Example:
        >>> promises = Promises.default()
        >>> [promise.name for promise in promises.promises]
        ['unload', 'sort', 'customs', 'dispatch', 'door', 'silence']
    """

    promises: tuple[Promise, ...] = Field(default=(), max_length=MAX_PROMISES)
    anomalies: AnomalyThresholds = Field(default_factory=AnomalyThresholds)
    retirement: Retirement = Field(default_factory=Retirement)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        repeated = sorted(name for name, count in Counter(each.name for each in self.promises).items() if count > 1)
        if repeated:
            raise ValueError(f"promise {', '.join(repeated)} is there more than once; names must differ")
        return self

    @classmethod
    @cache
    def default(cls) -> Self:
        """The promises of `promises.yaml` beside this module."""
        from streams.domain.yaml_documents import load_default

        return cls.parse(load_default("promises.yaml"))

    @classmethod
    def empty(cls) -> Self:
        """No promises and no anomalies, and no parcel ever retires."""
        fields = AnomalyThresholds.model_fields
        anomalies = {name: False if field.annotation is bool else None for name, field in fields.items()}
        return cls.parse({"anomalies": anomalies, "retirement": {"finished": None, "unfinished": None}})

    @classmethod
    def parse(cls, mapping: object) -> Self:
        """Promises from plain lists and mappings, as YAML or JSON give them.

        Raises:
            Misconfigured: names every key that is wrong, its value, and what would be right.
        """
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            models = (Promises, Promise, AnomalyThresholds, Retirement)
            lines = describe_config_errors(error, models, "promises", lambda path: _describe_path(path, mapping))
            raise Misconfigured("the promises are wrong:\n" + "\n".join(lines)) from None

    def digest(self) -> str:
        """SHA-256, in hex, of the content; the same for two files that write the same promises in different ways."""
        plain = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()


def _describe_path(path: str, mapping: Any) -> str:
    """`promises[3].limit` with the name of the promise, if it has one."""
    found = re.match(r"promises\[(\d+)\]", path)
    if found is None:
        return path
    promise = mapping["promises"][int(found[1])]
    name = promise.get("name") if isinstance(promise, dict) else None
    return f"{path} ({name})" if isinstance(name, str) else path
