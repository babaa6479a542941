"""Which split the route is to have, and the steps of a gradual rollout."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import ExperimentStatus, Phase, RolloutStatus

Split = dict[str, float]
"""Percent by modelVersion."""


def all_to(spec: ExperimentSpec, version: str) -> Split:
    """Everything to one version; the others stay listed, with nothing."""
    return {v: 100.0 if v == version else 0.0 for v in spec.versions}


def step_split(spec: ExperimentSpec, rollout: RolloutStatus) -> Split:
    """The split of a rollout's step: the challenger's share, and the rest to the champion."""
    percent = spec.rollout.steps[min(rollout.step, len(spec.rollout.steps) - 1)]
    split = all_to(spec, rollout.model_version)
    split[rollout.model_version] = percent
    split[spec.champion_version] = round(100 - percent, 2)
    return split


def wanted_split(spec: ExperimentSpec, status: ExperimentStatus) -> Split | None:
    """The split that the route must have in this phase; None where it is not held."""
    if not status.phase.started:
        return None
    if status.phase is Phase.SUCCEEDED and status.rollout:
        return all_to(spec, status.rollout.model_version)
    if status.phase.ended or status.shadowing:
        return all_to(spec, spec.champion_version)
    if status.rollout:
        return step_split(spec, status.rollout)
    return spec.split


def first_step(spec: ExperimentSpec, version: str, now: datetime) -> RolloutStatus:
    """The first step that gives the challenger more than the experiment did."""
    share = spec.split.get(version, 0.0)
    steps = spec.rollout.steps
    step = next((i for i, percent in enumerate(steps) if percent > share), len(steps) - 1)
    return RolloutStatus(model_version=version, step=step, since=now)


def next_step(spec: ExperimentSpec, rollout: RolloutStatus, now: datetime) -> RolloutStatus | None:
    """The step that is due now: this one, the next one, or None once the last has been held."""
    held: timedelta = spec.rollout.step_duration
    if now - rollout.since < held:
        return rollout
    if rollout.step + 1 >= len(spec.rollout.steps):
        return None
    return RolloutStatus(model_version=rollout.model_version, step=rollout.step + 1, since=now)


def same_split(one: Split, other: Split) -> bool:
    """Whether two splits send the same shares to the same versions."""
    versions = one.keys() | other.keys()
    return all(abs(one.get(v, 0.0) - other.get(v, 0.0)) < 0.005 for v in versions)


def format_split(split: Split) -> str:
    """Write a split the way `kubectl get` shows it: "v1 90 / v2 10"."""
    return " / ".join(f"{version} {percent:g}" for version, percent in split.items())
