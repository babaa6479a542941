"""Sample sizes against published numbers and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from modelexperiment.core.stats.confidence_sequence import critical_value, tuned_information
from modelexperiment.core.stats.model import Kind, Method
from modelexperiment.core.stats.planning import (
    eta,
    multiplier,
    pooled_sample_size,
    sample_size,
    sample_variance,
)


def test_calculators_number_for_20_to_25_percent() -> None:
    assert round(pooled_sample_size(0.20, 0.25)) == 1030


def test_unpooled_number_for_5_to_6_percent() -> None:
    size = sample_size(effect=0.01, champion_variance=0.0475, challenger_variance=0.0564)
    assert (size.champion, size.challenger) == (8155, 8155)


@pytest.mark.parametrize("ratio", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("one_sided", [False, True])
def test_statsmodels_agrees(ratio: float, one_sided: bool) -> None:
    ours = sample_size(effect=0.1, champion_variance=1.0, ratio=ratio, one_sided=one_sided)
    theirs = NormalIndPower().solve_power(
        effect_size=0.1,
        alpha=0.05,
        power=0.8,
        ratio=ratio,
        alternative="larger" if one_sided else "two-sided",
    )
    assert ours.champion == pytest.approx(theirs, abs=1.1)
    assert ours.challenger == pytest.approx(theirs * ratio, abs=1.1)


def test_multipliers() -> None:
    assert multiplier(Method.FIXED_HORIZON) == 1.0
    assert multiplier(Method.GROUP_SEQUENTIAL, power=0.8) == pytest.approx(1.057, abs=1e-3)
    assert multiplier(Method.GROUP_SEQUENTIAL, power=0.9) == pytest.approx(1.054, abs=1e-3)
    assert multiplier(Method.SEQUENTIAL, power=0.8) == pytest.approx(1.64, abs=0.04)
    assert multiplier(Method.SEQUENTIAL, power=0.9) == pytest.approx(1.55, abs=0.03)
    # Jennison and Turnbull, table 2.4 gives 1.028 for the classical test of five looks.
    assert multiplier(Method.GROUP_SEQUENTIAL, looks=5) == pytest.approx(1.025, abs=5e-3)


def test_multiplier_of_the_confidence_sequence_by_simulation() -> None:
    rng = np.random.default_rng(7)
    looks, runs = 500, 4000
    t = np.arange(1, looks + 1) / looks
    z_end = (stats.norm.isf(0.025) + stats.norm.ppf(0.8)) * multiplier(Method.SEQUENTIAL) ** 0.5
    paths = rng.standard_normal((runs, looks)).cumsum(axis=1) / looks**0.5 + z_end * t
    x = tuned_information(0.05) * multiplier(Method.SEQUENTIAL) * t
    bound = critical_value(x, 0.05, one_sided=False)
    power = (paths / np.sqrt(t) >= bound).any(axis=1).mean()
    # Five hundred looks see a little less than a continuous one.
    assert power == pytest.approx(0.79, abs=0.02)


def test_design_effect_and_method_multiply() -> None:
    plain = sample_size(effect=0.1, champion_variance=1.0)
    users = sample_size(
        effect=0.1, champion_variance=1.0, design_effect=2.5, method=Method.SEQUENTIAL
    )
    assert users.fixed_horizon[0] == pytest.approx(2.5 * plain.champion, rel=1e-3)
    assert users.champion == pytest.approx(2.5 * users.multiplier * plain.champion, rel=1e-3)


def test_variance_of_one_sample() -> None:
    assert sample_variance(Kind.PROPORTION, 0.2) == pytest.approx(0.16)
    assert sample_variance(Kind.QUANTILE, 0.05) == pytest.approx(0.0475)
    assert sample_variance(Kind.RATE, 0.7) == 0.7
    assert sample_variance(Kind.MEAN, 3.0, spread=2.0) == 4.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effect": 0.0}, "effect is 0.0"),
        ({"effect": float("nan")}, "effect is nan"),
        ({"alpha": 0.7}, "alpha is 0.7"),
        ({"power": 1.0}, "power is 1.0"),
        ({"ratio": 0.0}, "ratio is 0.0"),
        ({"design_effect": 0.0}, "design_effect is 0.0"),
        ({"champion_variance": -1.0}, "variance is -1.0"),
    ],
)
def test_bad_plans_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_size(**({"effect": 0.1, "champion_variance": 1.0} | arguments))


def test_bad_variances_are_refused() -> None:
    for kind, value, message in (
        (Kind.PROPORTION, 1.2, "value is 1.2"),
        (Kind.RATE, -0.1, "value is -0.1"),
        (Kind.MEAN, 1.0, "spread is None"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_variance(kind, value)
    with pytest.raises(ValueError, match=r"other is 0\.2"):
        pooled_sample_size(0.2, 0.2)


def test_eta() -> None:
    assert eta(1000, 400, 2.0) == 300.0
    assert eta(1000, 1000, 0.0) == 0.0
    assert eta(1000, 400, 0.0) is None
