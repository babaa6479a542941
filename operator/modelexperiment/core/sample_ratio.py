"""Whether the arms got the shares that the split gives them (sample ratio mismatch, SRM)."""

from __future__ import annotations

from datetime import timedelta

from modelexperiment.core import stats
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import Unit
from modelexperiment.core.status import Phase, SampleRatioStatus

# The literature's level for SRM: a healthy experiment is frozen once in a thousand.
ALPHA = 0.001
# A poll that reaches back to before a change of the split holds requests of both splits, and
# proxies take a moment to get the new one.
SETTLING = timedelta(seconds=5)


def check(draft: Draft, counted: Counted) -> None:
    """Test the primary metric's samples against the split; a mismatch freezes the verdict."""
    spec, memory = draft.spec, draft.status.memory
    if spec.unit is Unit.USER or draft.status.phase is Phase.ROLLING_OUT:
        return
    split = {arm.model_version: arm.percent for arm in memory.split}
    shares = {version: percent / 100 for version, percent in split.items() if percent > 0}
    if len(shares) < 2:
        return
    ratio = _restored(draft, shares)
    since = memory.split_since
    if since is None or counted.since - since >= SETTLING:
        name = spec.primary.name
        counts = {v: counted.increments.get((name, v)) for v in shares}
        ratio = ratio.observe({v: found.n if found else 0.0 for v, found in counts.items()})
    draft.remember(sample_ratio=ratio.to_state(), ratio_split=memory.split)
    _report(draft, ratio)


def _restored(draft: Draft, shares: dict[str, float]) -> stats.SampleRatio:
    memory = draft.status.memory
    if memory.sample_ratio is None:
        return stats.SampleRatio.start(shares)
    ratio = stats.SampleRatio.from_state(memory.sample_ratio)
    if memory.ratio_split == memory.split:
        return ratio
    # The shares of other arms can't be compared with what these got: the check starts anew.
    same_arms = set(ratio.names) == shares.keys()
    return ratio.new_phase(shares) if same_arms else stats.SampleRatio.start(shares)


def _report(draft: Draft, ratio: stats.SampleRatio) -> None:
    before = draft.before.sample_ratio
    mismatch = ratio.p_value <= ALPHA
    status = SampleRatioStatus(
        expected={v: round(share, 4) for v, share in ratio.expected.items()},
        observed={v: round(share, 4) for v, share in ratio.observed.items()},
        p_value=float(f"{ratio.p_value:.3g}"),
        mismatch=mismatch,
    )
    draft.update(sample_ratio=status)
    if mismatch and not (before and before.mismatch):
        draft.tell(Reason.SAMPLE_RATIO_MISMATCH, describe(status))


def describe(status: SampleRatioStatus) -> str:
    """Say which arm got how much instead of how much."""
    parts = [
        f"{version} got {100 * status.observed.get(version, 0.0):.2f} % "
        f"instead of {100 * share:.2f} %"
        for version, share in status.expected.items()
    ]
    return f"{', '.join(parts)} (p = {status.p_value:.2g})"
