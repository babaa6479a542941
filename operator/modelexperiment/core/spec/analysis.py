"""How the numbers are judged, and what follows a verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelexperiment.core.fields import (
    Duration,
    ItemName,
    LabelName,
    Model,
    ModelVersion,
    Rule,
    parse_duration,
)


class Method(StrEnum):
    """How the stopping of the experiment is accounted for."""

    SEQUENTIAL = "Sequential"
    GROUP_SEQUENTIAL = "GroupSequential"
    FIXED_HORIZON = "FixedHorizon"


class TimeoutAction(StrEnum):
    """What follows when guardrails have had no data for too long."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"


class Unit(StrEnum):
    """What is independent of what."""

    USER = "User"
    REQUEST = "Request"


class Correction(StrEnum):
    """How p-values are corrected for asking several questions."""

    HOLM = "Holm"
    BONFERRONI = "Bonferroni"
    NONE = "None"


class Analysis(Model):
    """How the numbers are judged."""

    method: Method = Method.SEQUENTIAL
    """Sequential is valid at every look, GroupSequential up to sampleSize, FixedHorizon at it."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance of a false verdict, two-sided."""
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    """Chance of finding minimumEffect, for planning."""
    sample_size: Annotated[int, Field(ge=2)] | None = None
    """Samples of the smaller arm. Default: planned from the baseline seen and minimumEffect."""
    baseline: float | None = None
    """Prior guess of the champion's value, for planning before the first data."""
    interval: Duration = parse_duration("15s")
    """Time between polls, at least 1s."""
    guardrail_timeout: Duration = parse_duration("5m")
    """How long a guardrail may be without data before onGuardrailTimeout."""
    on_guardrail_timeout: TimeoutAction = TimeoutAction.ROLLBACK
    """What to do then: back to the champion, or pause."""
    min_duration: Duration = parse_duration("0s")
    """No verdict before this time."""
    max_duration: Duration = parse_duration("14d")
    """After this time without a verdict the champion is kept."""
    washout: Duration = parse_duration("0s")
    """Data of this time after the start is discarded."""
    unit: Unit | None = None
    """What is independent. Default: User with assignment, else Request."""
    correction: Correction = Correction.HOLM
    """Correction for several metrics and challengers."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.method == 'Sequential' || has(self.sampleSize)",
            message="methods GroupSequential and FixedHorizon need sampleSize",
            holds=lambda a: a.method is Method.SEQUENTIAL or a.sample_size is not None,
            field="sampleSize",
            shown=lambda a: a.sample_size,
        ),
    )


class Segment(Model):
    """A breakdown of the counters by one of their labels."""

    name: ItemName
    """Its name, unique among the segments."""
    label: LabelName
    """The counters' label."""
    values: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63)]],
        Field(min_length=1, max_length=16),
    ]
    """The label's values to report."""


class OnWin(StrEnum):
    """What follows a won experiment."""

    FULL = "Full"
    GRADUAL = "Gradual"
    MANUAL = "Manual"


class Rollout(Model):
    """What happens when a challenger wins."""

    on_win: OnWin | None = None
    """Full, Gradual, or Manual, which waits for promote. Left out: by the lift."""
    steps: Annotated[
        list[Annotated[float, Field(gt=0, le=100)]], Field(min_length=1, max_length=20)
    ] = [25, 50, 100]
    """The challenger's percent in each step of a gradual rollout."""
    step_duration: Duration = parse_duration("1h")
    """How long each step lasts."""
    promote: ModelVersion | None = None
    """Set by `modelexperiment promote`: rolls this challenger out now, whatever the verdict says.
    At once where onWin is Full, else by the steps. Followed once; taken out before the last step,
    the split is as before. Guardrails stay on. An ended experiment does not follow it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.steps[size(self.steps) - 1] == 100.0",
            message="the last of rollout.steps must be 100",
            holds=lambda rollout: rollout.steps[-1] == 100,
            field="steps",
            shown=lambda rollout: rollout.steps,
        ),
        Rule(
            cel="self.steps.isSorted()",
            message="rollout.steps must rise",
            holds=lambda rollout: list(rollout.steps) == sorted(rollout.steps),
            field="steps",
            shown=lambda rollout: rollout.steps,
        ),
    )
