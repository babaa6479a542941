"""Segments: their own verdicts, one overall effect, and whether they differ."""

import numpy as np
import pytest
from scipy import stats

from modelexperiment.core.stats import (
    Comparison,
    Increment,
    Kind,
    Margin,
    Method,
    Poll,
    Settings,
    holm,
    report_segments,
)

PLAN = Settings(Kind.PROPORTION, minimum_effect=Margin(absolute=0.02))


def segment(seed: int, a: float, b: float, of: Settings = PLAN, n=(100, 100)) -> Comparison:
    rng = np.random.default_rng(seed)
    comparison = Comparison.start(of)
    for _ in range(60):
        arms = [Increment(m, int(rng.binomial(m, p))) for m, p in zip(n, (a, b), strict=True)]
        comparison = comparison.observe(Poll(*arms))
    return comparison


def test_overall_effect_is_not_bent_by_the_shares_of_the_arms() -> None:
    # The challenger is better nowhere, but most of its requests come from the good segment.
    report = report_segments(
        {"ios": segment(1, 0.5, 0.5, n=(50, 150)), "web": segment(2, 0.1, 0.1, n=(150, 50))}
    )
    assert report.overall is not None
    assert report.overall.lower < 0 < report.overall.upper
    assert abs(report.overall.effect) < 0.02


def test_overall_effect_weighs_by_samples() -> None:
    parts = {"ios": segment(3, 0.2, 0.24), "web": segment(4, 0.2, 0.20, n=(300, 300))}
    report = report_segments(parts)
    effects = {value: result.absolute.effect for value, result in report.results.items()}
    expected = 0.25 * effects["ios"] + 0.75 * effects["web"]
    assert report.overall.effect == pytest.approx(expected)
    width = report.overall.upper - report.overall.lower
    own = report.results["ios"].absolute
    assert width < own.upper - own.lower


def test_a_single_value_is_the_comparison_itself() -> None:
    only = segment(5, 0.2, 0.23)
    report = report_segments({"ios": only})
    own = only.result().absolute
    assert report.overall.lower == pytest.approx(own.lower)
    assert report.overall.upper == pytest.approx(own.upper)
    assert report.heterogeneity is None


def test_subgroups_are_corrected_by_holm() -> None:
    parts = {str(k): segment(k, 0.2, 0.22) for k in range(4)}
    report = report_segments(parts)
    assert report.corrected == holm({v: r.p_value for v, r in report.results.items()})


def test_heterogeneity() -> None:
    same = report_segments({str(k): segment(k, 0.2, 0.2) for k in range(4)}).heterogeneity
    assert same.degrees == 3
    assert same.p_value > 0.01
    parts = {"ios": segment(6, 0.2, 0.3), "web": segment(7, 0.2, 0.1)}
    differ = report_segments(parts).heterogeneity
    assert differ.p_value < 1e-6
    looks = [c.evidence.look for c in parts.values()]
    z = (looks[0].mean - looks[1].mean) @ np.array([-1, 1])
    z /= np.sqrt(sum(look.variance.sum() for look in looks))
    assert differ.statistic == pytest.approx(z**2)
    assert differ.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_fixed_horizon_and_values_without_a_verdict() -> None:
    fixed = Settings(Kind.PROPORTION, Method.FIXED_HORIZON, sample_size=5_000)
    parts = {"ios": segment(8, 0.2, 0.25, of=fixed), "web": Comparison.start(fixed)}
    report = report_segments(parts, alpha=0.01)
    assert report.results["web"].withheld
    assert set(report.corrected) == {"ios"}
    look = parts["ios"].evidence.look
    half = stats.norm.isf(0.005) * np.sqrt(look.variance.sum())
    assert report.overall.upper - report.overall.effect == pytest.approx(half)
    empty = report_segments({"web": Comparison.start(fixed)})
    assert empty.overall is None
    assert empty.corrected == {}


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="settings of segments is 0"):
        report_segments({})
    other = Settings(Kind.PROPORTION, minimum_effect=Margin(absolute=0.03))
    with pytest.raises(ValueError, match="settings of segments is 2"):
        report_segments({"a": Comparison.start(PLAN), "b": Comparison.start(other)})
