"""Log lines: events with keys, one a line, on standard error.

On a terminal `04:00:07 info parcels.worker.restored partition=3 rows=41877 seconds=0.9`, anywhere else the same as a
JSON object. What may be in a line is the business of whoever says it: never a payload, never a parcel's id.
"""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

_KEYS = structlog.processors.LogfmtRenderer(bool_as_flag=False)


def configure_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send the log lines of this process to `stream`, by default standard error."""
    stream = stream or sys.stderr
    for_people = stream.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("%H:%M:%S", utc=False) if for_people else _iso,
            _tidy,
            structlog.processors.format_exc_info,
            _line if for_people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


_iso = structlog.processors.TimeStamper("iso", utc=True)


def _tidy(_: Any, __: str, line: EventDict) -> EventDict:
    # When, how bad and what come first. Seconds are measured to the nanosecond; three digits are what anybody reads.
    ordered = {key: line[key] for key in ("timestamp", "level", "event")}
    return ordered | {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}


def _line(logger: Any, method: str, line: EventDict) -> str:
    time, level, event = line.pop("timestamp"), line.pop("level"), line.pop("event")
    trace = line.pop("exception", None)
    # A broker's or a sender's words must not steer the terminal, nor begin a line of their own.
    keys = "".join(letter if letter.isprintable() else "?" for letter in _KEYS(logger, method, line))
    return " ".join(filter(None, (str(time), str(level), str(event), keys))) + (f"\n{trace}" if trace else "")
