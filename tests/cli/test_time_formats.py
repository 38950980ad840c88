"""Times in the form in which people write and read them."""

import time

import pytest

from streams.cli.time_formats import format_time, parse_time
from streams.errors import Misconfigured


@pytest.mark.parametrize(
    ("time_ms", "utc_offset_minutes", "text"),
    [
        (1_772_337_600_000, 0, "2026-03-01 04:00:00 +00:00"),
        (1_772_337_600_000, 60, "2026-03-01 05:00:00 +01:00"),
        (1_772_337_600_000, -210, "2026-03-01 00:30:00 -03:30"),
        (-2_208_988_800_000, 0, "1900-01-01 00:00:00 +00:00"),
        (1 << 62, 0, f"{1 << 62} ms since 1970"),
        (None, 0, ""),
    ],
)
def test_a_time_is_shown_as_local_time_with_its_offset(time_ms, utc_offset_minutes, text):
    assert format_time(time_ms, utc_offset_minutes) == text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259_200)])
def test_a_duration_is_that_long_ago(text, seconds):
    assert parse_time(text) == pytest.approx((time.time() - seconds) * 1000, abs=5000)


@pytest.mark.parametrize(
    "text", ["2026-03-01T04:00Z", "2026-03-01T04:00", "2026-03-01T05:00+01:00", "2026-03-01 04:00"]
)
def test_an_iso_time_is_that_time(text):
    assert parse_time(text) == 1_772_337_600_000


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-5m", "2026-13-01"])
def test_any_other_text_is_rejected(text):
    with pytest.raises(Misconfigured, match="--since"):
        parse_time(text)
