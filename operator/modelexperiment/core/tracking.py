"""What a tracking server is to hold of an experiment: one run per version, with its course.

A record says everything, and sending it twice changes nothing: runs are known by what they are
about, and points by their times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from string import ascii_uppercase

from modelexperiment.core import history
from modelexperiment.core.analysis import margin_of
from modelexperiment.core.entries import History
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.status import Action, ExperimentStatus, Memory, Phase

_METRICS = {
    "percent": "percent",
    "samples": "samples",
    "estimate": "estimate",
    "effect": "effect",
    "lower": "effect_lower",
    "upper": "effect_upper",
    "pValue": "p_value",
}
CHAMPION = "champion"
"""The alias that a promoted version gets in the model registry."""


@dataclass(frozen=True)
class Point:
    """What was seen at one time."""

    second: float
    """Since the start."""
    milliseconds: int
    """Since 1970."""
    values: Mapping[str, float]


@dataclass(frozen=True)
class VersionRun:
    """What a run is to hold of one version."""

    model_version: str
    identity: Mapping[str, str]
    """The tags that the run is found by."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Record:
    """What the tracking server is to hold of an experiment."""

    experiment: Experiment
    status: ExperimentStatus
    runs: tuple[VersionRun, ...]

    @property
    def name(self) -> str:
        """The tracking server's name for the experiment."""
        tracking = self.experiment.spec.tracking
        default = f"{self.experiment.namespace}/{self.experiment.name}"
        return (tracking.mlflow.experiment if tracking else None) or default

    @property
    def state(self) -> str:
        """What the report is written anew for."""
        status = self.status
        action = status.decision.action if status.decision else None
        return "/".join(str(part or "-") for part in (status.phase, status.verdict, action))

    @property
    def end(self) -> int | None:
        """When the experiment ended, in milliseconds since 1970."""
        return _milliseconds(self.status.end_time) if self.status.end_time else None

    @property
    def promoted(self) -> tuple[str, str] | None:
        """The registered model and the version that is its champion now, where that is asked."""
        tracking, rollout = self.experiment.spec.tracking, self.status.rollout
        model = tracking.mlflow.registered_model if tracking else None
        won = self.status.phase is Phase.SUCCEEDED and rollout is not None
        return (model, rollout.model_version) if model and won and rollout else None


def record(experiment: Experiment, uid: str, status: ExperimentStatus) -> Record | None:
    """What is to be held; None where nothing is, or nothing has started."""
    spec, start = experiment.spec, status.start_time
    if spec.tracking is None or start is None:
        return None
    seen = history.up_to_now(status) if status.phase.ended else status.history or History()
    order = [spec.champion_version, *spec.challengers]
    runs = tuple(
        VersionRun(
            model_version=version,
            identity=_identity(uid, start, version),
            params=_params(experiment, version),
            tags={"test_group": group, **_tags(experiment, status)},
            points=_points(seen, version, start),
        )
        for group, version in zip(ascii_uppercase, order, strict=False)
    )
    return Record(experiment, _light(status), runs)


def _light(status: ExperimentStatus) -> ExperimentStatus:
    """The status without the statistics' states: records of many experiments may have to wait."""
    return status.model_copy(update={"memory": Memory(split=status.memory.split)})


def _identity(uid: str, start: datetime, version: str) -> dict[str, str]:
    """An experiment that starts again is another one: it asks something else."""
    return {
        "modelexperiment.uid": uid,
        "modelexperiment.start": str(_milliseconds(start)),
        "modelexperiment.version": version,
    }


def _params(experiment: Experiment, version: str) -> dict[str, str]:
    spec = experiment.spec
    smallest = margin_of(spec.primary.minimum_effect)
    size = "none"
    if smallest:
        size = f"{smallest.relative:g} %" if smallest.relative else f"{smallest.absolute:g}"
    return {
        "modelVersion": version,
        "percent": f"{spec.split[version]:g}",
        "salt": experiment.salt if spec.assignment else "none",
        "alpha": f"{spec.analysis.alpha:g}",
        "metric": spec.primary.name,
        "minimumEffect": size,
        "method": str(spec.analysis.method),
        "unit": str(spec.unit),
    }


def _tags(experiment: Experiment, status: ExperimentStatus) -> dict[str, str]:
    decision = status.decision
    # The reason to go on has another number at every poll; the points say it better.
    final = decision is not None and decision.action is not Action.EXTEND_TEST
    return {
        "modelexperiment.name": f"{experiment.namespace}/{experiment.name}",
        "phase": str(status.phase),
        "verdict": str(status.verdict or "none"),
        "decision": str(decision.action) if decision else "none",
        "reason": decision.reason[:1000] if decision and final else "none",
    }


def _points(seen: History, version: str, start: datetime) -> tuple[Point, ...]:
    own = {
        _metric(name.removeprefix(f"{version}/")): series
        for name, series in seen.values.items()
        if name.startswith(f"{version}/")
    }
    began = _milliseconds(start)
    return tuple(
        Point(
            second=second,
            milliseconds=began + round(1000 * second),
            values={name: v for name, series in own.items() if (v := series[index]) is not None},
        )
        for index, second in enumerate(seen.seconds)
    )


def _metric(name: str) -> str:
    return _METRICS.get(name, name.replace("guardrail/", "guardrail."))


def _milliseconds(time: datetime) -> int:
    return round(1000 * time.timestamp())
