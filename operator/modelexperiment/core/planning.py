"""How many samples an experiment needs, and when they will be there."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelexperiment.core import stats
from modelexperiment.core.analysis import METHODS, margin_of, ratio_of
from modelexperiment.core.measures import kind_of
from modelexperiment.core.spec import ExperimentSpec, Role
from modelexperiment.core.status import ExperimentStatus, MetricAnalysis, SamplePlan

# Later than this is as good as never, and may lie beyond what a date can say.
LONGEST = timedelta(days=10 * 365)


def needed_per_arm(
    spec: ExperimentSpec,
    challenger: str,
    baseline: float,
    effect: stats.Margin | None = None,
    *,
    spread: float | None = None,
    design_effect: float = 1.0,
) -> stats.SampleSize:
    """Samples for champion and challenger that find the effect, by the spec's method and power.

    `baseline` is the champion's value of the primary metric, a proportion or a rate; `effect`
    defaults to its minimumEffect. ValueError where the spec has none, or where the metric's
    spread is not known beforehand (a mean's).
    """
    metric = spec.primary
    wanted = effect or margin_of(metric.minimum_effect)
    if wanted is None:
        raise ValueError(f"spec.metrics[{metric.name}].minimumEffect: is needed for a plan")
    kind = stats.Kind(kind_of(metric))
    size = wanted.of(baseline)
    other = baseline + size * (1 if metric.goal == "Increase" else -1)
    if kind.is_binary:
        other = min(max(other, 1e-9), 1 - 1e-9)
    return stats.sample_size(
        effect=size,
        champion_variance=stats.sample_variance(kind, baseline, spread),
        challenger_variance=stats.sample_variance(kind, max(other, 0.0), spread),
        alpha=spec.analysis.alpha / len(spec.challengers),
        power=spec.analysis.power,
        ratio=ratio_of(spec, challenger),
        method=METHODS[spec.analysis.method],
        design_effect=design_effect,
    )


def _rarest(spec: ExperimentSpec, status: ExperimentStatus) -> MetricAnalysis | None:
    """The primary metric of the challenger with the fewest samples."""
    primary = [entry for entry in status.analysis if entry.role is Role.PRIMARY]
    return min(primary, key=lambda entry: entry.challenger.samples, default=None)


def _needed(spec: ExperimentSpec, entry: MetricAnalysis) -> tuple[int | None, str | None]:
    if spec.analysis.sample_size is not None:
        return spec.analysis.sample_size, None
    baseline = entry.champion.estimate
    if baseline is None:
        baseline = spec.analysis.baseline
    if baseline is None:
        return None, "planned once the champion has samples"
    try:
        seen = entry.design_effect
        size = needed_per_arm(
            spec, entry.model_version, baseline, design_effect=1.0 if seen is None else seen
        )
    except ValueError as why:
        return None, str(why)
    return min(size.champion, size.challenger), None


def sample_plan(spec: ExperimentSpec, status: ExperimentStatus, now: datetime) -> SamplePlan:
    """Plan from what has been seen: samples of the smallest arm, their rate, and the time left."""
    entry = _rarest(spec, status)
    if entry is None:
        return SamplePlan(samples_so_far=0, message="no sample has been counted yet")
    so_far = round(min(entry.champion.samples, entry.challenger.samples))
    needed, message = _needed(spec, entry)
    elapsed = (now - (status.start_time or now)).total_seconds()
    per_second = so_far / elapsed if elapsed > 0 else 0.0
    seconds = stats.eta(needed, so_far, per_second) if needed is not None else None
    if needed is not None and seconds is not None and seconds > LONGEST.total_seconds():
        message = f"{needed:,} samples per arm take over {LONGEST.days // 365} years at this rate"
        seconds = None
    return SamplePlan(
        samples_needed=needed,
        samples_so_far=so_far,
        arrival_rate=float(f"{per_second * 3600:.3g}") if per_second else None,
        eta=_rounded(now + timedelta(seconds=seconds)) if seconds is not None else None,
        message=message,
    )


def _rounded(time: datetime) -> datetime:
    """To the minute: what a projection means."""
    return time.replace(second=0, microsecond=0)
