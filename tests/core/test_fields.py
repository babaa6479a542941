"""Durations, written and read the way Go does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelexperiment.core.fields import format_duration, format_time, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5_400),
        ("0.5h", 1_800),
        ("72h", 259_200),
        ("14d", 1_209_600),
        ("1d2h3m4s5ms", 93_784.005),
    ],
)
def test_reads_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "-5m", "5 m", "5M", "m", "5min", "1w", "five", "5m\n", "1" * 40 + "s", 5, None],
)
def test_refuses_what_is_no_duration_and_shows_what_one_is(text: object) -> None:
    with pytest.raises(ValueError, match='must be a duration such as "30s"'):
        parse_duration(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (0.4, "0s"),
        (45, "45s"),
        (60, "1m"),
        (3_661, "1h1m"),
        (90_000, "1d1h"),
        (86_405, "1d5s"),
        (1_209_600, "14d"),
    ],
)
def test_writes_a_duration_with_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(0, 59), st.integers(0, 59))
def test_what_is_written_reads_as_the_same(minutes: int, seconds: int) -> None:
    duration = timedelta(minutes=minutes, seconds=seconds)

    assert parse_duration(format_duration(duration)) == duration


def test_times_are_written_in_utc_with_the_milliseconds_that_counting_needs() -> None:
    cet = datetime(2026, 3, 1, 13, 0, 0, 123_000, tzinfo=timezone(timedelta(hours=1)))

    assert format_time(cet) == "2026-03-01T12:00:00.123Z"
    assert datetime.fromisoformat(format_time(cet)) == cet.astimezone(UTC)
