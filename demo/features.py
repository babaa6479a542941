"""A flight as the caller describes it, and as each model sees it.

A request describes one flight in three sections: its schedule, the weather at its origin in the
hour of departure, and the plane. A version of the model takes the sections that it was built for
and ignores the rest, so that the caller need not know which version answers. Training and serving
encode by the same code; there is no second pipeline that could drift away from the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypedDict

ORIGINS = ("EWR", "JFK", "LGA")
HOURS = range(5, 24)
WEEKDAYS = range(7)


class Schedule(TypedDict):
    """What the timetable says; distance in miles, weekday 0 is Monday."""

    month: int
    day: int
    weekday: int
    hour: int
    minute: int
    carrier: str
    origin: str
    destination: str
    distance: int


class Weather(TypedDict):
    """At the origin: percent, degrees, miles per hour (twice), inches, miles; None is unknown."""

    humidity: float | None
    wind_direction: float | None
    wind_speed: float | None
    wind_gust: float | None
    precipitation: float | None
    visibility: float | None


class Plane(TypedDict):
    """Age in years and number of seats; None is unknown."""

    age: float | None
    seats: float | None


class FlightRequest(TypedDict):
    """The body of one request for a prediction."""

    schedule: Schedule
    weather: Weather
    plane: Plane


class Encoder(Protocol):
    """From a request to the numbers that a classifier takes, always in the same order."""

    def encode(self, request: FlightRequest) -> list[float]:
        """One row of features; raises KeyError or TypeError where the request lacks a field."""
        ...


@dataclass(frozen=True)
class ScheduleEncoder:
    """The schedule alone, one-hot, for a linear model."""

    carriers: tuple[str, ...]

    @classmethod
    def fit(cls, requests: Iterable[FlightRequest]) -> Self:
        """Learn the carriers that occur; one never seen is all zeros later."""
        return cls(tuple(sorted({r["schedule"]["carrier"] for r in requests})))

    def encode(self, request: FlightRequest) -> list[float]:
        """One row: distance in thousands of miles, hour, weekday, carrier, origin."""
        schedule = request["schedule"]
        return [
            schedule["distance"] / 1000,
            *one_hot(schedule["hour"], HOURS),
            *one_hot(schedule["weekday"], WEEKDAYS),
            *one_hot(schedule["carrier"], self.carriers),
            *one_hot(schedule["origin"], ORIGINS),
        ]


@dataclass(frozen=True)
class FullEncoder:
    """Schedule with destination, weather and plane, for trees that take NaN and categories.

    Temperature and air pressure are left out on purpose. They tell the season, and a model that
    learned from January to April would have to extrapolate in summer.
    """

    carriers: dict[str, int]
    destinations: dict[str, int]
    categorical = (3, 4, 5)

    @classmethod
    def fit(cls, requests: Iterable[FlightRequest]) -> Self:
        """Number the carriers and destinations that occur; one never seen is NaN later."""
        schedules = [request["schedule"] for request in requests]
        return cls(
            numbered(schedule["carrier"] for schedule in schedules),
            numbered(schedule["destination"] for schedule in schedules),
        )

    def encode(self, request: FlightRequest) -> list[float]:
        """One row: time, weekday, distance, carrier, origin, destination, weather, plane."""
        schedule, weather, plane = request["schedule"], request["weather"], request["plane"]
        return [
            schedule["hour"] + schedule["minute"] / 60,
            schedule["weekday"],
            schedule["distance"],
            self.carriers.get(schedule["carrier"], math.nan),
            ORIGINS.index(schedule["origin"]),
            self.destinations.get(schedule["destination"], math.nan),
            known(weather["humidity"]),
            known(weather["wind_direction"]),
            known(weather["wind_speed"]),
            known(weather["wind_gust"]),
            known(weather["precipitation"]),
            known(weather["visibility"]),
            known(plane["age"]),
            known(plane["seats"]),
        ]


def one_hot(value: object, known_values: Iterable[Any]) -> list[float]:
    """1 in the place of ``value`` among the known ones, 0 elsewhere."""
    return [float(value == other) for other in known_values]


def numbered(values: Iterable[str]) -> dict[str, int]:
    """The distinct values in alphabetical order, counted from 0."""
    return {value: number for number, value in enumerate(sorted(set(values)))}


def known(value: float | None) -> float:
    """None as NaN, which the trees treat as a value of its own."""
    return math.nan if value is None else value
