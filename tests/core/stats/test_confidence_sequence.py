"""The engine of means and intervals against published numbers and GrowthBook's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from modelexperiment.core.stats import confidence_sequence as cs
from modelexperiment.core.stats.comparison import Comparison
from modelexperiment.core.stats.model import Increment, Kind, Method, Poll, Settings

ORACLE = json.loads((Path(__file__).parents[2] / "oracles" / "gbstats.json").read_text())["cases"]


def test_tuning_puts_the_information_where_the_formula_says() -> None:
    assert cs.tuned_information(0.05) == pytest.approx(7.936, abs=5e-4)
    z = cs.critical_value(np.array(cs.tuned_information(0.05)), 0.05, one_sided=False)
    assert float(z) == pytest.approx(3.035, abs=5e-4)


def test_boundary_of_confseq() -> None:
    # confseq's normal mixture boundary on the scale of the sum, at intrinsic time v.
    v, rho = 100.0, 12.60056
    bound = cs.critical_value(np.array(v / rho), 0.05, one_sided=False) * math.sqrt(v)
    assert float(bound) == pytest.approx(30.35209, abs=5e-5)


def test_500_against_580_of_10000() -> None:
    variance = 0.05 * 0.95 / 10_000 + 0.058 * 0.942 / 10_000
    x = np.array(cs.tuned_information(0.05))
    half = float(cs.critical_value(x, 0.05, False)) * math.sqrt(variance)
    assert half == pytest.approx(0.00970014, abs=5e-9)
    e = math.exp(float(cs.log_evidence(np.array(0.008 / math.sqrt(variance)), x, False)))
    assert 1 / e == pytest.approx(0.1849966, abs=5e-8)


@pytest.mark.parametrize("case", [c for c in ORACLE if c["test"] == "sequential"])
def test_growthbook_sequential(case: dict) -> None:
    settings = Settings(Kind.MEAN, sample_size=int(case["tuning"] / 2))
    poll = Poll(Increment(*case["a"]), Increment(*case["b"]))
    result = Comparison.start(settings).observe(poll).result()
    assert result.absolute is not None
    assert result.absolute.effect == pytest.approx(case["effect"], rel=1e-12)
    assert result.absolute.lower == pytest.approx(case["lower"], rel=1e-9)
    assert result.absolute.upper == pytest.approx(case["upper"], rel=1e-9)
    assert result.p_value == pytest.approx(case["p"], rel=1e-9)


@pytest.mark.parametrize("case", [c for c in ORACLE if c["test"] == "welch"])
def test_growthbook_welch(case: dict) -> None:
    settings = Settings(Kind.MEAN, Method.FIXED_HORIZON, sample_size=int(case["a"][0]))
    poll = Poll(Increment(*case["a"]), Increment(*case["b"]))
    result = Comparison.start(settings).observe(poll).result()
    assert result.absolute is not None
    assert result.absolute.lower == pytest.approx(case["lower"], rel=1e-9)
    assert result.absolute.upper == pytest.approx(case["upper"], rel=1e-9)
    assert result.p_value == pytest.approx(case["p"], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_evidence_and_critical_value_agree(one_sided: bool, alpha: float) -> None:
    x = np.array([0.01, 0.5, 7.9, 300.0])
    z = cs.critical_value(x, alpha, one_sided)
    np.testing.assert_allclose(cs.log_evidence(z, x, one_sided), -math.log(alpha), rtol=1e-12)


def test_nothing_is_rejected_without_information() -> None:
    for one_sided in (False, True):
        assert np.isinf(cs.critical_value(np.array(0.0), 0.05, one_sided))


def test_the_mixture_is_an_average_of_likelihood_ratios() -> None:
    # E = integral of exp(z mu / SE - mu^2 / (2 SE^2)) over mu ~ N(0, tau^2), with SE = 1.
    z, tau = 2.3, 1.7
    mu = np.linspace(-15, 15, 200_001)
    ratio = np.exp(z * mu - mu**2 / 2) * stats.norm.pdf(mu, scale=tau)
    expected = np.log(np.trapezoid(ratio, mu))
    value = cs.log_evidence(np.array(z), np.array(tau**2), one_sided=False)
    assert float(value) == pytest.approx(expected, rel=1e-9)
    half = np.log(2 * np.trapezoid(np.where(mu > 0, ratio, 0.0), mu))
    bound = float(cs.log_evidence(np.array(z), np.array(tau**2), one_sided=True))
    assert half - 0.2 < bound <= half


def test_one_sided_has_no_evidence_in_the_wrong_direction() -> None:
    z = np.array([-5.0, 0.0])
    assert np.isneginf(cs.log_evidence(z, np.array(3.0), one_sided=True)).all()
    huge = cs.log_evidence(np.array(1e3), np.array(1e6), one_sided=True)
    assert np.isfinite(huge)


def test_student_and_normal_are_inverse() -> None:
    z = np.array([0.5, 2.0, 4.5])
    t = cs.student_equivalent(z, np.array(60.0))
    assert (t > z).all()
    np.testing.assert_allclose(stats.t.sf(t, 60), stats.norm.sf(z))
    np.testing.assert_allclose(cs.normal_equivalent(t, np.array(60.0)), z)
    np.testing.assert_allclose(cs.normal_equivalent(-t, np.array(60.0)), -z)
    np.testing.assert_array_equal(cs.normal_equivalent(z, np.array(np.nan)), z)
    np.testing.assert_array_equal(cs.student_equivalent(z, np.array(np.nan)), z)
