"""What the status says of each metric: the entries of `status.analysis`, rounded for people."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, PlainSerializer, WithJsonSchema

from modelexperiment.core.fields import Model, ModelVersion
from modelexperiment.core.spec import Role


def _whole(value: float) -> float | int:
    return int(value) if value.is_integer() else value


Number = Annotated[float, PlainSerializer(_whole), WithJsonSchema({"type": "number"})]
"""A number that is written without ".0" where it is whole."""


class Part(Model):
    """A part of the status. What a newer operator has written in it is passed over."""

    model_config = ConfigDict(extra="ignore")


class ArmEstimate(Part):
    """What was seen of one version."""

    samples: Number
    """How many trials or observations; of a rate, the exposure in seconds of all traffic."""
    estimate: float | None = None
    """The metric's value."""


class Interval(Part):
    """An effect with its interval, which holds at every look."""

    effect: float
    """Challenger minus champion."""
    lower: float
    """The interval's lower end."""
    upper: float
    """The interval's upper end."""


class SegmentValue(Part):
    """One metric of one challenger against the champion, within one value of a segment."""

    value: str
    """The label's value."""
    champion: ArmEstimate
    """What was seen of the champion."""
    challenger: ArmEstimate
    """What was seen of the challenger."""
    absolute: Interval | None = None
    """The effect in the metric's own units."""
    relative: Interval | None = None
    """The effect in percent of the champion's value."""
    p_value: float | None = None
    """Anytime-valid: it may be read at every poll. It never rises."""
    corrected_p_value: float | None = None
    """The same, corrected by Holm for the number of values."""
    significant: bool
    """Whether the corrected p-value is at most alpha. Nothing is decided from it."""
    withheld: str | None = None
    """Why there is nothing to say of this value yet."""


class Heterogeneity(Part):
    """Cochran's test of whether all values of a segment have the same effect."""

    statistic: float
    """Cochran's Q."""
    degrees: int
    """Number of values less one."""
    p_value: float
    """Of a single look: descriptive, not anytime-valid."""


class SegmentAnalysis(Part):
    """A metric broken down by a segment. Reported; nothing is decided from it."""

    name: str
    """The segment's name."""
    values: list[SegmentValue]
    """One entry per value."""
    overall: Interval | None = None
    """The absolute effect of the values together, each weighted by its share of the samples."""
    heterogeneity: Heterogeneity | None = None
    """Whether the values differ in their effect."""


class NoveltyReport(Part):
    """Whether the effect has changed from block to block. Nothing is decided from it."""

    block: str
    """hour or day: what the experiment is cut into."""
    blocks: int
    """How many of them are complete."""
    drift: str
    """steady, rising or falling: how the effect moves, steady unless that is significant."""
    p_value: float
    """Anytime-valid, of an effect that stays the same."""


class MetricAnalysis(Part):
    """One metric of one challenger against the champion."""

    metric: str
    """The metric's name."""
    role: Role
    """Primary or Secondary."""
    model_version: ModelVersion
    """The challenger."""
    champion: ArmEstimate
    """What was seen of the champion."""
    challenger: ArmEstimate
    """What was seen of the challenger."""
    absolute: Interval | None = None
    """The effect in the metric's own units."""
    relative: Interval | None = None
    """The effect in percent of the champion's value."""
    p_value: float | None = None
    """Anytime-valid: it may be read at every poll. It never rises."""
    corrected_p_value: float | None = None
    """The same, corrected for the number of questions."""
    significant: bool
    """Whether the corrected p-value is at most alpha."""
    method: str
    """How it was computed."""
    withheld: str | None = None
    """Why there is no verdict from this metric yet."""
    design_effect: float | None = None
    """Where users are the unit: by how much their requests count less than independent ones."""
    segments: list[SegmentAnalysis] = []
    """The same by segment."""
    novelty: NoveltyReport | None = None
    """Of the primary metric: whether the effect changes as users get used to the challenger."""


class History(Part):
    """What was seen over time: thinned where it grows, so that it always covers the whole run."""

    of: str = ""
    """What the primary metric counts; where that changes, the history begins anew."""
    scale: str = "relative"
    """Of effect, lower and upper: relative (percent of the champion's value) or absolute."""
    spacing: Number = 0.0
    """Points are kept no closer than this, in seconds."""
    seconds: list[Number] = []
    """The points' times, in seconds since startTime."""
    values: dict[str, list[Number | None]] = {}
    """What was seen then, by "<modelVersion>/<what>": percent (of the route), samples, estimate;
    of a challenger also effect, lower, upper, pValue and "guardrail/<name>"."""
