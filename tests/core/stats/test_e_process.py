"""E-variables are exact: their expectation can be summed over every outcome."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from modelexperiment.core.stats import e_process as e

NODES = 0.8 * e.unit_nodes(one_sided=False, sign=1.0)
UP = 0.8 * e.unit_nodes(one_sided=True, sign=1.0)
DOWN = 0.8 * e.unit_nodes(one_sided=True, sign=-1.0)


def expected_bernoulli(p: tuple[float, float], n: tuple[int, int], nodes, null) -> np.ndarray:
    """The expectation of each effect's factor, by summing over all outcomes."""
    outcomes = np.array(list(itertools.product(range(n[0] + 1), range(n[1] + 1))), dtype=float)
    sizes = np.broadcast_to(np.array(n, dtype=float), outcomes.shape)
    base = np.full(len(outcomes), 0.3)
    factors = np.exp(e.log_factors(e.Bernoulli, sizes, outcomes, base, nodes, null))
    chance = stats.binom.pmf(outcomes[:, 0], n[0], p[0]) * stats.binom.pmf(
        outcomes[:, 1], n[1], p[1]
    )
    return chance @ factors


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("n", [(1, 1), (7, 2), (3, 12)])
def test_equal_proportions_have_expectation_at_most_one(p: float, n: tuple[int, int]) -> None:
    assert (expected_bernoulli((p, p), n, NODES, e.Null()) <= 1 + 1e-12).all()


def test_one_sided_is_safe_in_the_whole_null() -> None:
    for a, b in ((0.3, 0.3), (0.5, 0.3), (0.9, 0.1)):
        assert (expected_bernoulli((a, b), (4, 6), UP, e.Null()) <= 1 + 1e-12).all()
        assert (expected_bernoulli((b, a), (4, 6), DOWN, e.Null()) <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ("null", "nodes", "inside"),
    [
        (e.Null(1.0, 0.1), UP, [(0.2, 0.3), (0.2, 0.25), (0.85, 0.95), (0.6, 0.1)]),
        (e.Null(1.5, 0.0), UP, [(0.2, 0.3), (0.4, 0.6), (0.01, 0.015), (0.5, 0.2)]),
        (e.Null(1.0, -0.1), UP, [(0.3, 0.2), (0.9, 0.8), (0.9, 0.2)]),
        (e.Null(0.8, 0.0), DOWN, [(0.5, 0.4), (0.1, 0.08), (0.5, 0.9)]),
    ],
)
def test_margins_are_safe_in_the_whole_null(null, nodes, inside) -> None:
    for p in inside:
        assert (expected_bernoulli(p, (6, 5), nodes, null) <= 1 + 1e-9).all()


def test_beyond_the_null_evidence_grows() -> None:
    gain = expected_bernoulli((0.2, 0.5), (10, 10), UP, e.Null(1.0, 0.1))
    assert gain.mean() > 1.5


@pytest.mark.parametrize("null", [e.Null(), e.Null(1.3, 0.0), e.Null(1.0, 0.05)])
def test_rates_have_expectation_at_most_one(null: e.Null) -> None:
    n, champion = np.array([20.0, 7.0]), 0.15
    rates = np.array([champion, null.slope * champion + null.offset])
    counts = np.array(list(itertools.product(range(40), range(40))), dtype=float)
    sizes = np.broadcast_to(n, counts.shape)
    base = np.full(len(counts), 0.2)
    factors = np.exp(e.log_factors(e.Poisson, sizes, counts, base, UP, null))
    chance = stats.poisson.pmf(counts, n * rates).prod(axis=1)
    expectation = chance @ factors
    assert (expectation <= 1 + 1e-6).all()
    assert expectation[0] > 0.99


def test_rates_ask_only_in_which_arm_the_events_fell() -> None:
    # Given their number, events are binomial with the exposure's share; the base has no say.
    n, s = np.array([900.0, 100.0]), np.array([40.0, 9.0])
    for base in (0.001, 0.05, 3.0):
        gained = e.log_factors(e.Poisson, n, s, np.array(base), NODES, e.Null())
        share = 0.1 * np.exp(NODES) / (0.9 + 0.1 * np.exp(NODES))
        expected = 9 * np.log(share / 0.1) + 40 * np.log((1 - share) / 0.9)
        np.testing.assert_allclose(gained, expected, atol=1e-9)


def test_projection_is_the_nearest_point() -> None:
    theta, weights = np.array([0.1, 0.4]), np.array([0.7, 0.3])
    for null in (e.Null(1.0, 0.05), e.Null(1.4, 0.0), e.Null(0.7, 0.0), e.Null(1.0, -0.02)):

        def divergence(a: float, null: e.Null = null) -> float:
            points = np.array([a, null.slope * a + null.offset])
            log_ratio = theta * np.log(theta / points)
            log_ratio += (1 - theta) * np.log((1 - theta) / (1 - points))
            return float(weights @ log_ratio)

        low, high = null.domain(1.0)
        best = optimize.minimize_scalar(
            divergence, bounds=(low + 1e-9, high - 1e-9), options={"xatol": 1e-10}
        )
        found = e.project(e.Bernoulli, theta, weights, null)
        assert found[0] == pytest.approx(best.x, abs=1e-6)
        assert found[1] == pytest.approx(null.slope * found[0] + null.offset)


def test_an_empty_arm_adds_nothing() -> None:
    for null in (e.Null(), e.Null(1.2, 0.0)):
        for n in ([50.0, 0.0], [0.0, 50.0], [0.0, 0.0]):
            sizes = np.array(n)
            gain = e.log_factors(e.Bernoulli, sizes, sizes / 10, np.array(0.1), UP, null)
            np.testing.assert_array_equal(gain, 0.0)


def test_nodes_stand_for_the_normal_prior() -> None:
    two, one = e.unit_nodes(False, 1.0), e.unit_nodes(True, -1.0)
    assert len(two) == len(one) == 31
    assert two.mean() == pytest.approx(0.0, abs=1e-12)
    assert two.std() == pytest.approx(1.0, abs=0.03)
    assert (one < 0).all()
    assert -one.mean() == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)


def test_mean_evidence_neither_overflows_nor_underflows() -> None:
    assert e.mean_evidence(np.array([1e4, 1e4])) == pytest.approx(1e4)
    assert e.mean_evidence(np.array([-1e4, -1e4])) == pytest.approx(-1e4)
    assert e.mean_evidence(np.log(np.array([1.0, 3.0]))) == pytest.approx(math.log(2))
