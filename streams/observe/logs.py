"""Log lines: events with keys, one for each line, on standard error.

On a terminal a line is `04:00:07 info parcels.worker.restored partition=3 rows=41877 seconds=0.9`, anywhere else the
same as a JSON object. The caller is responsible for the content of a line: never a payload, never a parcel's id.
"""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

_LOGFMT = structlog.processors.LogfmtRenderer(bool_as_flag=False)


def configure_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Write the log lines of this process to `stream`, by default standard error."""
    stream = stream or sys.stderr
    is_terminal = stream.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("%H:%M:%S", utc=False) if is_terminal else _iso,
            _order_and_round,
            structlog.processors.format_exc_info,
            _format_line if is_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


_iso = structlog.processors.TimeStamper("iso", utc=True)


def _order_and_round(_: Any, __: str, line: EventDict) -> EventDict:
    # Time, level and event come first. Durations are measured to the nanosecond; a reader needs three digits.
    ordered = {key: line[key] for key in ("timestamp", "level", "event")}
    return ordered | {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}


def _format_line(logger: Any, method: str, line: EventDict) -> str:
    time, level, event = line.pop("timestamp"), line.pop("level"), line.pop("event")
    trace = line.pop("exception", None)
    # Text from a broker or a sender must not control the terminal, nor begin a new line.
    keys = "".join(character if character.isprintable() else "?" for character in _LOGFMT(logger, method, line))
    return " ".join(filter(None, (str(time), str(level), str(event), keys))) + (f"\n{trace}" if trace else "")
