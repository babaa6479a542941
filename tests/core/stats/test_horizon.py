"""Boundaries of tests with a known end, against published tables."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from modelexperiment.core.stats import horizon


def equal(looks: int) -> list[float]:
    return [(k + 1) / looks for k in range(looks)]


def test_obrien_fleming() -> None:
    bounds = horizon.obrien_fleming_bounds(5, 0.05)
    assert bounds == pytest.approx([4.562, 3.226, 2.634, 2.281, 2.040], abs=6e-4)


def test_lan_demets() -> None:
    bounds = horizon.lan_demets_bounds(equal(5), 0.05, one_sided=False)
    assert bounds == pytest.approx([4.8769, 3.3570, 2.6803, 2.2898, 2.0310], abs=6e-5)


def test_a_single_look_is_the_ordinary_test() -> None:
    bound = horizon.lan_demets_bounds([1.0], 0.05, one_sided=False)
    assert bound == pytest.approx([1.959964], abs=1e-6)
    bound = horizon.lan_demets_bounds([1.0], 0.025, one_sided=True)
    assert bound == pytest.approx([1.959964], abs=1e-6)


def test_a_look_that_may_spend_nothing_never_rejects() -> None:
    bounds = horizon.lan_demets_bounds([0.01, 1.0], 0.05, one_sided=False)
    assert bounds == pytest.approx([9.0, 1.959964], abs=1e-6)


@pytest.mark.parametrize("fractions", [[], [0.5, 0.5], [0.0, 1.0], [0.5, 1.2]])
def test_bad_fractions_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="not rising from above 0 to at most 1"):
        horizon.lan_demets_bounds(fractions, 0.05, one_sided=False)


@pytest.mark.parametrize(
    ("looks", "error"),
    [(1, 0.050), (2, 0.083), (3, 0.107), (5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320)],
)
def test_error_of_naive_peeking(looks: int, error: float) -> None:
    chances = horizon.exit_probabilities(equal(looks), [1.959964] * looks, one_sided=False)
    assert chances.sum() == pytest.approx(error, abs=6e-4)


def test_bounds_spend_exactly_alpha() -> None:
    for one_sided in (False, True):
        bounds = horizon.lan_demets_bounds(equal(4), 0.05, one_sided)
        chances = horizon.exit_probabilities(equal(4), bounds, one_sided)
        assert chances.sum() == pytest.approx(0.05, abs=1e-6)


def test_continuous_constants() -> None:
    assert horizon.continuous_constant(0.05, False) == pytest.approx(2.2414, abs=5e-5)
    assert horizon.continuous_constant(0.05, True) == pytest.approx(1.95996, abs=5e-6)
    p = horizon.continuous_p_value(np.array(2.2414), np.array(1.0), one_sided=False)
    assert float(p) == pytest.approx(0.05, abs=1e-5)
    assert horizon.continuous_p_value(np.array(-3.0), np.array(1.0), one_sided=True) == 1.0


def test_crossing_of_a_constant_band_is_the_reflection_principle() -> None:
    c = 2.2414
    for drift in (0.0, 1.5, 2.8):
        found = horizon.crossing_probability(lambda t: c / np.sqrt(t), drift)
        exact = stats.norm.sf(c - drift) + np.exp(2 * c * drift) * stats.norm.cdf(-c - drift)
        assert found == pytest.approx(exact, abs=2e-4)


def test_scheduled_p_value_inverts_the_bounds() -> None:
    for look in (2, 3, 5):
        for alpha in (0.2, 0.05, 0.004):
            bound = horizon.scheduled_bound(np.array(look), 5, alpha, one_sided=False)
            p = horizon.scheduled_p_value(-bound, np.array(look), 5, one_sided=False)
            assert float(p) == pytest.approx(alpha, rel=0.01)
    assert horizon.scheduled_p_value(np.array(0.1), np.array(5), 5, one_sided=False) == 1.0
    assert horizon.scheduled_p_value(np.array(3.0), np.array(0), 5, one_sided=False) == 1.0


def test_newcombe() -> None:
    low, high = horizon.newcombe_interval(
        np.array([48 / 80, 56 / 70]), np.array([80.0, 70.0]), 0.05
    )
    assert (float(low), float(high)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    oracle = confint_proportions_2indep(56, 70, 48, 80, method="newcomb")
    assert (float(low), float(high)) == pytest.approx(oracle, abs=1e-9)
