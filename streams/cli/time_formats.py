"""Times in the form in which people write and read them."""

import re
import time
from datetime import UTC, datetime, timedelta, timezone

from streams.errors import Misconfigured

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(time_ms: int | None, utc_offset_minutes: int = 0) -> str:
    """A time in ms since 1970 as local time with its offset: `2026-03-01 05:00:00 +01:00`; empty for None.

    A time beyond the calendar, which a dead letter may hold, is shown as a number.
    """
    if time_ms is None:
        return ""
    zone = timezone(timedelta(minutes=utc_offset_minutes))
    try:
        moment = (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(zone)
    except OverflowError:
        return f"{time_ms} ms since 1970"
    return moment.strftime("%Y-%m-%d %H:%M:%S ") + moment.isoformat()[-6:]


def parse_time(text: str, option: str = "--since") -> int:
    """Parse `90s`, `10m`, `2h` or `3d` (ago), or an ISO 8601 time, which is UTC where it has no offset.

    Returns:
        ms since 1970.

    Raises:
        Misconfigured: it is neither of them; the message names `option`.
    """
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago:
        return int(time.time() * 1000) - int(ago[1]) * _UNITS[ago[2]] * 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{option} {text}: write how long ago (90s, 10m, 2h, 3d) or a time (2026-03-01T04:00Z)"
        raise Misconfigured(message) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
