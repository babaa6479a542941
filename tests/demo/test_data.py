"""The flights: their number, their order, and what is told about each."""

from __future__ import annotations

from datetime import UTC, datetime

from demo import data
from demo.data import Flight


def test_every_flight_with_a_known_arrival_is_there(flights: list[Flight]) -> None:
    assert len(flights) == 327_346
    assert len({flight.tail_number for flight in flights}) == 4_037


def test_share_of_late_flights(flights: list[Flight]) -> None:
    def late(months: range) -> float:
        known = [f.late for f in flights if f.request["schedule"]["month"] in months]
        return round(sum(known) / len(known), 3)

    assert late(data.TRAINING_MONTHS) == 0.242
    assert late(data.REPLAYED_MONTHS) == 0.235


def test_flights_come_in_order_of_departure(flights: list[Flight]) -> None:
    schedules = [flight.request["schedule"] for flight in flights]
    times = [(s["month"], s["day"], s["hour"], s["minute"]) for s in schedules]
    assert times == sorted(times)


def test_nobody_is_trained_on_what_is_replayed() -> None:
    assert not set(data.TRAINING_MONTHS) & set(data.REPLAYED_MONTHS)
    first = next(data.flights(data.REPLAYED_MONTHS)).request["schedule"]
    assert (first["month"], first["day"], first["weekday"]) == (5, 1, 2)  # a Wednesday


def test_first_flight_of_the_year(flights: list[Flight]) -> None:
    """UA 1545 to Houston, compared with the published table by hand."""
    flight = next(f for f in flights if f.tail_number == "N14228")
    schedule = flight.request["schedule"]
    assert (schedule["carrier"], schedule["origin"], schedule["destination"]) == (
        "UA",
        "EWR",
        "IAH",
    )
    assert (schedule["hour"], schedule["minute"], schedule["distance"]) == (5, 15, 1400)
    assert flight.request["plane"] == {"age": 14.0, "seats": 149.0}
    assert flight.request["weather"]["wind_speed"] is not None
    assert not flight.late  # it arrived 11 minutes after its schedule
    # Scheduled for 5:15 in New York; at the gate at 8:30 in Houston, an hour behind.
    assert datetime.fromtimestamp(flight.departs, UTC) == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    assert datetime.fromtimestamp(flight.arrived, UTC) == datetime(2013, 1, 1, 14, 30, tzinfo=UTC)


def test_outcomes_are_known_hours_after_the_departure(flights: list[Flight]) -> None:
    hours = sorted((flight.arrived - flight.departs) / 3600 for flight in flights)
    assert 2.7 < hours[len(hours) // 2] < 3.0
    # Seven lines of 3 November, when the clocks went back, contradict themselves.
    assert sum(hour < 0.4 for hour in hours) <= 7


def test_unknown_weather_is_none_and_not_nan(flights: list[Flight]) -> None:
    values = [value for flight in flights for value in flight.request["weather"].values()]
    assert None in values
    assert all(value == value for value in values)
