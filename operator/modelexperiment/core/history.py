"""What was seen over time, in little room and over the whole run.

A point is added where `countedUntil` moves on. Once there are too many, the spacing at least
doubles and the points that are too close go, the first one never. So the number of points stays
between half of the most and the most, however long the experiment runs, and what is kept depends
on nothing but what was counted: a replay gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelexperiment.core.analysis import fingerprint
from modelexperiment.core.entries import History, MetricAnalysis
from modelexperiment.core.spec import ExperimentSpec, Role
from modelexperiment.core.status import ExperimentStatus

MOST = 64
"""Points with two versions; 6 KiB of JSON with two guardrails, as measured."""
LEAST = 16
"""Points are never thinned to fewer than half of this, however many versions there are."""

Point = Mapping[str, float | None]
"""What was seen at one time, by "<modelVersion>/<what>"."""


def record(spec: ExperimentSpec, status: ExperimentStatus) -> History:
    """The history with what the status says now, unless the last point is too close."""
    history = status.history or History()
    identity = {"of": fingerprint(spec, spec.primary), "scale": _scale(spec)}
    if {"of": history.of, "scale": history.scale} != identity:
        history = History(**identity)
    second = _second(status)
    if second is None or (history.seconds and second < history.seconds[-1] + history.spacing):
        return history
    return _thinned(_added(history, second, _point(status, history.scale)), _most(spec))


def up_to_now(status: ExperimentStatus) -> History:
    """The history with what the status says now as its last point: for who shows it."""
    history, second = status.history or History(), _second(status)
    if second is None or (history.seconds and second <= history.seconds[-1]):
        return history
    return _added(history, second, _point(status, history.scale))


def _scale(spec: ExperimentSpec) -> str:
    """The scale that minimumEffect is in, so that the two can be compared."""
    smallest = spec.primary.minimum_effect
    return "absolute" if smallest and smallest.absolute is not None else "relative"


def _most(spec: ExperimentSpec) -> int:
    return max(LEAST, MOST // len(spec.challengers))


def _second(status: ExperimentStatus) -> float | None:
    if status.start_time is None or status.counted_until is None:
        return None
    return round((status.counted_until - status.start_time).total_seconds(), 1)


def _point(status: ExperimentStatus, scale: str) -> dict[str, float | None]:
    point: dict[str, float | None] = {
        f"{arm.model_version}/percent": arm.percent for arm in status.routed
    }
    for entry in (e for e in status.analysis if e.role is Role.PRIMARY):
        point |= _compared(entry, scale)
    for guardrail in status.guardrails:
        name = f"{guardrail.model_version}/guardrail/{guardrail.name}"
        point[name] = _short(guardrail.value)
    champion = _champion(status)
    first = next((e for e in status.analysis if e.role is Role.PRIMARY), None)
    if first and champion:
        point[f"{champion}/samples"] = round(first.champion.samples, 0)
        point[f"{champion}/estimate"] = _short(first.champion.estimate)
    return point


def _champion(status: ExperimentStatus) -> str | None:
    """The one version of the split that is compared with nobody: the others are with it."""
    challengers = {entry.model_version for entry in status.analysis}
    versions = [arm.model_version for arm in status.memory.split]
    return next((v for v in versions if v not in challengers), None)


def _compared(entry: MetricAnalysis, scale: str) -> dict[str, float | None]:
    interval = entry.relative if scale == "relative" else entry.absolute
    found = {
        "samples": round(entry.challenger.samples, 0),
        "estimate": _short(entry.challenger.estimate),
        "effect": _short(interval.effect) if interval else None,
        "lower": _short(interval.lower) if interval else None,
        "upper": _short(interval.upper) if interval else None,
        "pValue": _short(entry.p_value, 3),
    }
    return {f"{entry.model_version}/{what}": value for what, value in found.items()}


def _short(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _added(history: History, second: float, point: Point) -> History:
    """The history with one more point; what is new in it has no values before."""
    number = len(history.seconds)
    names = [*history.values, *(name for name in point if name not in history.values)]
    values = {name: [*history.values.get(name, [None] * number), point.get(name)] for name in names}
    return history.model_copy(update={"seconds": [*history.seconds, second], "values": values})


def _thinned(history: History, most: int) -> History:
    if len(history.seconds) <= most:
        return history
    span = history.seconds[-1] - history.seconds[0]
    spacing = round(max(2 * history.spacing, 2 * span / most), 1)
    kept = _apart(history.seconds, spacing)
    values = {
        name: [series[i] for i in kept]
        for name, series in history.values.items()
        if any(series[i] is not None for i in kept)
    }
    seconds = [history.seconds[i] for i in kept]
    return history.model_copy(update={"spacing": spacing, "seconds": seconds, "values": values})


def _apart(seconds: Sequence[float], spacing: float) -> list[int]:
    """The points that are that far apart, from the first on."""
    kept = [0]
    for index, second in enumerate(seconds):
        if second >= seconds[kept[-1]] + spacing:
            kept.append(index)
    return kept
