"""Polls as a CSV file: what `replay` reads.

Columns `time, metric, modelVersion, segment, bucket, count, sum, sumSquares`; all of a poll's rows
together are what its counters grew by, one row per arm, and per segment and bucket where there are
any. `segment`, `bucket` and `sumSquares` may be empty or absent; a column `experiment` makes it a
file of many experiments. Of a rate, `sum` is the events and `count` the exposure, 0 for the
version's share of the split; of a quantile, `sum` is the observations above the edge.

`segment` holds the value where the spec has one segment, and `name=value` joined by `;` where it
has several. What has no segment or bucket, or one that the spec doesn't list, counts into the
whole only.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modelexperiment.commands.files import InputError, read_text
from modelexperiment.core.measures import kind_of, segment_values
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Cell, SegmentValue, add_up, add_up_segments

_NEEDED = ("time", "metric", "modelVersion", "count", "sum")
_KNOWN = {*_NEEDED, "segment", "bucket", "sumSquares", "experiment"}


@dataclass
class Poll:
    """One poll: what its counters grew by, cell by cell."""

    time: datetime
    cells: list[tuple[Cell, Increment]] = field(default_factory=list)

    def counted(self, since: datetime) -> Counted:
        """The poll as the operator would have seen it."""
        arms = add_up(self.cells)
        segments = add_up_segments(self.cells)
        return Counted(since, self.time, arms.increments, arms.buckets, segments)


class _Row:
    """One row, with what its errors are called by."""

    __slots__ = ("_columns", "_file", "_number", "_values")

    def __init__(
        self, file: str, number: int, columns: Mapping[str, int], values: Sequence[str]
    ) -> None:
        self._file, self._number, self._columns, self._values = file, number, columns, values

    def text(self, column: str) -> str:
        """A value, "" where there is none."""
        index = self._columns.get(column)
        return "" if index is None or index >= len(self._values) else self._values[index].strip()

    def error(self, column: str, why: str) -> InputError:
        """An error that names row and column."""
        value = self.text(column) or "nothing"
        return InputError(f"{self._file}: row {self._number}, column {column}: {why}, got {value}")

    def number(self, column: str, *, whole: bool, signed: bool = False) -> float:
        """A number that the column may hold."""
        try:
            value = float(self.text(column))
        except ValueError:
            raise self.error(column, "must be a number") from None
        if not math.isfinite(value):
            raise self.error(column, "must be a finite number")
        if value < 0 and not signed:
            raise self.error(column, "must not be negative")
        if whole and not value.is_integer():
            raise self.error(column, "must be a whole number")
        return value


def read_polls(file: str, spec: ExperimentSpec) -> dict[str, list[Poll]]:
    """All polls by experiment, each in the order of time; "" names the only one.

    Raises:
        InputError: naming row and column.
    """
    reader = _Reader(spec)
    experiments: dict[str, list[Poll]] = {}
    for row in _rows(file):
        polls = experiments.setdefault(row.text("experiment"), [])
        time = reader.time(row)
        if polls and time < polls[-1].time:
            raise row.error("time", "goes backwards")
        if not polls or time > polls[-1].time:
            polls.append(Poll(time))
        polls[-1].cells.append((reader.cell(row), reader.increment(row)))
    if not experiments:
        raise InputError(f"{file}: has no polls")
    return experiments


def _rows(file: str) -> Iterator[_Row]:
    reader = csv.reader(read_text(file).removeprefix("\ufeff").splitlines())
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(file, header)
        columns = {name: index for index, name in enumerate(header)}
        for values in reader:
            if len(values) > len(header):
                where = f"{file}: row {reader.line_num}"
                raise InputError(f"{where}: has more values than the header has columns")
            if values:
                yield _Row(file, reader.line_num, columns, values)
    except csv.Error as why:
        raise InputError(f"{file}: row {reader.line_num}: {why}") from None


def _check_header(file: str, header: Sequence[str]) -> None:
    if not header:
        raise InputError(f"{file}: is empty; it must begin with a header")
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise InputError(
            f"{file}: row 1, column {missing[0]}: the header has no such column, got "
            f"{','.join(header)}"
        )
    unknown = [name for name in header if name not in _KNOWN]
    twice = [name for name in header if header.count(name) > 1]
    if unknown or twice:
        why = "is not a known column" if unknown else "stands in the header twice"
        raise InputError(f"{file}: row 1, column {(unknown or twice)[0]}: {why}")


class _Reader:
    """Reads rows for one spec; what many rows have in common is read once."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._spec = spec
        self._kinds = {metric.name: kind_of(metric) for metric in spec.metrics}
        self._times: dict[str, datetime] = {}
        self._cells: dict[tuple[str, ...], Cell] = {}

    def time(self, row: _Row) -> datetime:
        """RFC 3339, or seconds since 1970."""
        text = row.text("time")
        if text not in self._times:
            self._times = {text: _time(row, text)}
        return self._times[text]

    def cell(self, row: _Row) -> Cell:
        """Whose increments these are."""
        key = tuple(row.text(name) for name in ("metric", "modelVersion", "bucket", "segment"))
        if key not in self._cells:
            self._cells[key] = self._cell(row, *key)
        return self._cells[key]

    def _cell(self, row: _Row, metric: str, version: str, bucket: str, segment: str) -> Cell:
        if metric not in self._kinds:
            raise row.error("metric", f"must be one of {', '.join(self._kinds)}")
        if version not in self._spec.versions:
            raise row.error("modelVersion", f"must be one of {', '.join(self._spec.versions)}")
        return Cell(
            metric,
            version,
            self._bucket(row, bucket) if bucket else None,
            self._segments(row, segment) if segment else (),
        )

    def _bucket(self, row: _Row, text: str) -> int:
        assignment = self._spec.assignment
        buckets = assignment.buckets if assignment else 0
        if not buckets:
            raise row.error("bucket", "must be empty: the spec has no assignment with buckets")
        # Through a float, since that is how many programs write a column with gaps.
        number = row.number("bucket", whole=True)
        if not number < buckets:
            raise row.error("bucket", f"must be a whole number below {buckets}")
        return int(number)

    def _segments(self, row: _Row, text: str) -> tuple[SegmentValue, ...]:
        segments = self._spec.segments
        if len(segments) < 2:
            return segment_values(self._spec, {s.label: text for s in segments})
        labels = {segment.name: segment.label for segment in segments}
        named: dict[str, str] = {}
        for part in text.split(";"):
            name, equals, value = (word.strip() for word in part.partition("="))
            if not equals or name not in labels:
                raise row.error("segment", f"must be NAME=VALUE, NAME one of {', '.join(labels)}")
            named[labels[name]] = value
        return segment_values(self._spec, named)

    def increment(self, row: _Row) -> Increment:
        """What the row adds."""
        kind = self._kinds[row.text("metric")]
        count = row.number("count", whole=kind != "rate")
        total = row.number("sum", whole=kind != "mean", signed=kind == "mean")
        if kind in ("proportion", "quantile") and total > count:
            raise row.error("sum", f"must not be over the count of {count:g}")
        if kind == "mean" and total and not count:
            raise row.error("sum", "must be 0 where the count is 0")
        squares = None
        if row.text("sumSquares"):
            squares = row.number("sumSquares", whole=False)
        return Increment(count, total, squares)


def _time(row: _Row, text: str) -> datetime:
    found = parse_time(text)
    if found is None:
        raise row.error("time", "must be RFC 3339 or seconds since 1970")
    return found


def parse_time(text: str) -> datetime | None:
    """A time in RFC 3339, or in seconds since 1970; None where it is neither."""
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if found.tzinfo is None else found.astimezone(UTC)
