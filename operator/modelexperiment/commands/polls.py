"""Polls as a CSV file: what `replay` reads.

Columns `time, metric, modelVersion, segment, bucket, count, sum, sumSquares`, one row per poll and
arm (and segment and bucket, where there are any), increments. `segment`, `bucket` and `sumSquares`
may be empty or absent; a column `experiment` makes it a file of many experiments.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from modelexperiment.commands.files import InputError, read_text
from modelexperiment.core.analysis import merge_increments
from modelexperiment.core.measures import kind_of
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.stats import Increment

_NEEDED = ("time", "metric", "modelVersion", "count", "sum")
_KNOWN = {*_NEEDED, "segment", "bucket", "sumSquares", "experiment"}
Arm = tuple[str, str]


@dataclass
class Poll:
    """One poll: increments by (metric, modelVersion), and the same by hash bucket."""

    time: datetime
    increments: dict[Arm, Increment] = field(default_factory=dict)
    buckets: dict[Arm, dict[int, Increment]] = field(default_factory=dict)

    def counted(self, since: datetime) -> Counted:
        """The poll as the operator would have seen it."""
        return Counted(since, self.time, self.increments, buckets=self.buckets)


@dataclass(frozen=True)
class _Row:
    """One row, with what its errors are called by."""

    file: str
    number: int
    values: dict[str, str | None]

    def error(self, column: str, why: str) -> InputError:
        """An error that names row and column."""
        value = (self.values.get(column) or "").strip()
        return InputError(
            f"{self.file}: row {self.number}, column {column}: {why}, got {value or 'nothing'}"
        )

    def text(self, column: str) -> str:
        """A value, "" where there is none."""
        return (self.values.get(column) or "").strip()

    def number_from_zero(self, column: str, *, whole: bool, signed: bool = False) -> float:
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

    def time(self) -> datetime:
        """RFC 3339, or seconds since 1970."""
        text = self.text("time")
        try:
            return datetime.fromtimestamp(float(text), UTC)
        except (ValueError, OverflowError, OSError):
            pass
        try:
            found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            found = datetime.min
        if found.tzinfo is None:
            raise self.error("time", "must be RFC 3339 or seconds since 1970")
        return found.astimezone(UTC)


def read_polls(file: str, spec: ExperimentSpec) -> dict[str, list[Poll]]:
    """All polls by experiment, each in the order of time; "" names the only one.

    Raises:
        InputError: naming row and column.
    """
    experiments: dict[str, list[Poll]] = {}
    for row in _rows(file):
        polls = experiments.setdefault(row.text("experiment"), [])
        time = row.time()
        if polls and time < polls[-1].time:
            raise row.error("time", "goes backwards")
        if not polls or time > polls[-1].time:
            polls.append(Poll(time))
        _add(polls[-1], row, spec)
    if not experiments:
        raise InputError(f"{file}: has no polls")
    return experiments


def _rows(file: str) -> Iterator[_Row]:
    reader = csv.DictReader(read_text(file).splitlines())
    header = [name.strip() for name in reader.fieldnames or []]
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise InputError(
            f"{file}: row 1, column {missing[0]}: the header has no such column, got "
            f"{','.join(header) or 'nothing'}"
        )
    unknown = [name for name in header if name not in _KNOWN]
    if unknown:
        raise InputError(f"{file}: row 1, column {unknown[0]}: is not a known column")
    reader.fieldnames = header
    for values in reader:
        row = _Row(file, reader.line_num, values)
        if None in values:
            raise InputError(f"{file}: row {row.number}: has more values than the header")
        yield row


def _add(poll: Poll, row: _Row, spec: ExperimentSpec) -> None:
    metrics = {metric.name: metric for metric in spec.metrics}
    name, version = row.text("metric"), row.text("modelVersion")
    if name not in metrics:
        raise row.error("metric", f"must be one of {', '.join(metrics)}")
    if version not in spec.versions:
        raise row.error("modelVersion", f"must be one of {', '.join(spec.versions)}")
    increment = _increment(row, kind_of(metrics[name]))
    arm = (name, version)
    poll.increments[arm] = merge_increments(poll.increments.get(arm), increment)
    bucket = row.text("bucket")
    if bucket:
        limit = spec.assignment.buckets if spec.assignment else 0
        if not bucket.isdecimal() or not int(bucket) < limit:
            raise row.error("bucket", f"must be a whole number below {limit}")
        buckets = poll.buckets.setdefault(arm, {})
        buckets[int(bucket)] = merge_increments(buckets.get(int(bucket)), increment)


def _increment(row: _Row, kind: str) -> Increment:
    count = row.number_from_zero("count", whole=True)
    total = row.number_from_zero("sum", whole=kind != "mean", signed=kind == "mean")
    if kind in ("proportion", "quantile") and total > count:
        raise row.error("sum", f"must not be over the count of {count:g}")
    squares = None
    if row.text("sumSquares"):
        squares = row.number_from_zero("sumSquares", whole=False)
    return Increment(count, total, squares)


def first_start(polls: list[Poll], interval: timedelta) -> datetime:
    """When the experiment of these polls began: one interval before the first."""
    return polls[0].time - interval
