"""How each version sees a flight."""

from __future__ import annotations

import math

import pytest

from demo.features import FlightRequest, FullEncoder, ScheduleEncoder


def test_schedule_is_one_hot(request_body: FlightRequest) -> None:
    request_body["schedule"] |= {
        "hour": 6,
        "weekday": 2,
        "carrier": "UA",
        "origin": "JFK",
        "distance": 1400,
    }
    row = ScheduleEncoder(("AA", "UA")).encode(request_body)
    assert row[0] == 1.4
    assert row[1:20] == [0, 1, *[0] * 17]  # hours 5 to 23
    assert row[20:27] == [0, 0, 1, 0, 0, 0, 0]
    assert row[27:29] == [0, 1]
    assert row[29:] == [0, 1, 0]


def test_carrier_that_was_never_seen(request_body: FlightRequest) -> None:
    request_body["schedule"]["carrier"] = "ZZ"
    assert ScheduleEncoder(("AA", "UA")).encode(request_body)[27:29] == [0, 0]
    assert math.isnan(FullEncoder({"AA": 0}, {}).encode(request_body)[3])


def test_unknown_values_are_nan_for_the_trees(request_body: FlightRequest) -> None:
    request_body["weather"]["wind_gust"] = None
    request_body["plane"]["age"] = None
    row = FullEncoder.fit([request_body]).encode(request_body)
    assert math.isnan(row[9])
    assert math.isnan(row[12])
    assert row[3:6] == [0.0, row[4], 0.0]


def test_fit_numbers_alphabetically(request_body: FlightRequest) -> None:
    other = {**request_body, "schedule": {**request_body["schedule"], "carrier": "AA"}}
    request_body["schedule"]["carrier"] = "UA"
    assert FullEncoder.fit([request_body, other]).carriers == {"AA": 0, "UA": 1}  # type: ignore[list-item]


@pytest.mark.parametrize("section", ["weather", "plane"])
def test_v1_needs_the_schedule_only(request_body: FlightRequest, section: str) -> None:
    full = FullEncoder.fit([request_body])
    del request_body[section]  # type: ignore[misc]
    assert ScheduleEncoder.fit([request_body]).encode(request_body)
    with pytest.raises(KeyError):
        full.encode(request_body)
