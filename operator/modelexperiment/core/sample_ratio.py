"""Whether the arms got the shares that the split gives them (sample ratio mismatch, SRM)."""

from __future__ import annotations

from typing import Any

from modelexperiment.core import causes, stats
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.exposure import of_one_split
from modelexperiment.core.measures import bucket_label
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec, Metric, Unit
from modelexperiment.core.status import Memory, SampleRatioStatus

# The literature's level for SRM: a healthy experiment is frozen once in a thousand.
ALPHA = 0.001
# By users' buckets the check is weak, so that it warns before it freezes.
WARNING = 0.01


def counting_metric(spec: ExperimentSpec) -> Metric | None:
    """The metric whose samples are compared with the split: one that counts requests.

    The primary metric if it can be. A rate knows its events only, and those may differ.
    """
    candidates = [spec.primary, *spec.metrics]
    return next((metric for metric in candidates if not metric.rate), None)


def blind_spot(spec: ExperimentSpec) -> tuple[str, str] | None:
    """Why the split can't be checked with this spec, as reason and message, if it can't."""
    if counting_metric(spec) is None:
        return "NothingCounted", (
            "rates count events only; add a metric that counts requests (a proportion, a mean or "
            "a quantile) to have the split checked"
        )
    if spec.unit is Unit.USER and bucket_label(spec) is None:
        return "NoBucketLabel", (
            "requests of one user move together: to have the split checked, have the counters "
            "carry the bucket and name the label in spec.assignment.bucketLabel"
        )
    return None


def check(draft: Draft, counted: Counted) -> None:
    """Test a metric's samples against the split; a mismatch freezes the verdict."""
    spec, memory = draft.spec, draft.status.memory
    metric = counting_metric(spec)
    if metric is None or draft.status.rollout is not None:
        return
    if spec.unit is Unit.USER and not (counted.buckets or _by_bucket(memory)):
        return
    split = {arm.model_version: arm.percent for arm in memory.split}
    shares = {version: percent / 100 for version, percent in split.items() if percent > 0}
    if len(shares) < 2:
        return
    ratio = _restored(memory, shares, _buckets(spec))
    if of_one_split(memory, counted):
        ratio = _observed(spec, ratio, metric.name, counted)
    draft.remember(sample_ratio=ratio, ratio_split=memory.split)
    looked = causes.look(draft, counted, metric.name, list(shares))
    _report(draft, ratio, looked)


def _buckets(spec: ExperimentSpec) -> int:
    return spec.assignment.buckets if spec.unit is Unit.USER and spec.assignment else 0


def _observed(
    spec: ExperimentSpec, ratio: stats.SampleRatio, metric: str, counted: Counted
) -> stats.SampleRatio:
    if not _buckets(spec):
        found = {v: counted.increments.get((metric, v)) for v in ratio.names}
        return ratio.observe({v: i.n if i else 0.0 for v, i in found.items()})
    return ratio.observe_buckets(
        {
            version: {b: i.n for b, i in counted.buckets.get((metric, version), {}).items()}
            for version in ratio.names
        }
    )


def _restored(memory: Memory, shares: dict[str, float], buckets: int) -> stats.SampleRatio:
    state, fresh = memory.sample_ratio, stats.SampleRatio.start(shares, buckets)
    if state is None or _buckets_of(state) != buckets:
        return fresh
    known = isinstance(state, stats.SampleRatio)
    ratio = state if known else stats.SampleRatio.from_state(state, buckets)
    if memory.ratio_split == memory.split:
        return ratio
    # The shares of other arms can't be compared with what these got: the check starts anew.
    return ratio.new_phase(shares) if set(ratio.names) == shares.keys() else fresh


def _by_bucket(memory: Memory) -> bool:
    """Whether the check has seen users by their buckets before."""
    return memory.sample_ratio is not None and _buckets_of(memory.sample_ratio) > 0


def _buckets_of(state: Any) -> int:
    if isinstance(state, stats.SampleRatio):
        return int(state.surplus.shape[1])
    return len(state.get("surplus", [])) // (len(state["arms"]) - 1)


def _report(draft: Draft, ratio: stats.SampleRatio, looked: causes.Causes) -> None:
    before = draft.before.sample_ratio
    mismatch = ratio.p_value <= ALPHA
    if before and before.mismatch:
        # What was found once stays found: an edit or a restart shows in one poll only.
        looked = looked.after(before.causes)
    status = SampleRatioStatus(
        expected={v: round(share, 4) for v, share in ratio.expected.items()},
        observed={v: round(share, 4) for v, share in ratio.observed.items()},
        p_value=float(f"{ratio.p_value:.3g}"),
        mismatch=mismatch,
        causes=looked.found if mismatch else [],
        checked=looked.fine if mismatch else [],
    )
    draft.update(sample_ratio=status)
    if mismatch and not (before and before.mismatch):
        draft.tell(Reason.SAMPLE_RATIO_MISMATCH, f"{describe(status)}; {looked}")


def describe(status: SampleRatioStatus) -> str:
    """Say which arm got how much instead of how much."""
    parts = [
        f"{version} got {100 * status.observed.get(version, 0.0):.2f} % "
        f"instead of {100 * share:.2f} %"
        for version, share in status.expected.items()
    ]
    return f"{', '.join(parts)} (p = {status.p_value:.2g})"
