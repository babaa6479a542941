"""The interval of a single proportion holds at every look, and is what the evidence says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats

from modelexperiment.core.stats import mixture_log_evidence, proportion_interval

ALPHA = 0.05


def crossings(p: float, limit: float, step: int, looks: int, seed: int) -> tuple[float, float]:
    """The shares of 4,000 runs that ever lie wholly under the limit, and wholly over it."""
    rng = np.random.default_rng(seed)
    runs = 4_000
    n, s = 0.0, np.zeros(runs)
    under, over = np.zeros(runs, bool), np.zeros(runs, bool)
    for _ in range(looks):
        n += step
        s += rng.binomial(step, p, runs)
        found = mixture_log_evidence(np.full(runs, n), s, np.full(runs, limit), limit)
        beyond = found >= -math.log(ALPHA)
        under |= beyond & (s < n * limit)
        over |= beyond & (s > n * limit)
    return float(under.mean()), float(over.mean())


@pytest.mark.parametrize(("limit", "step"), [(0.05, 1), (0.05, 20), (0.01, 20), (0.2, 20)])
def test_what_lies_just_at_the_limit_seldom_passes_and_seldom_diverges(
    limit: float, step: int
) -> None:
    passes, diverges = crossings(limit, limit, step, 500, seed=1)

    assert 0.003 < passes <= ALPHA
    assert 0.003 < diverges <= ALPHA
    assert passes + diverges <= ALPHA


def test_what_lies_beyond_the_limit_passes_even_less_often() -> None:
    assert crossings(0.06, 0.05, 20, 500, seed=2)[0] < 0.01
    assert crossings(0.04, 0.05, 20, 500, seed=3)[1] < 0.01


def test_what_lies_clearly_on_one_side_is_found() -> None:
    assert crossings(0.02, 0.05, 20, 100, seed=4) == (1.0, 0.0)
    assert crossings(0.10, 0.05, 20, 100, seed=5) == (0.0, 1.0)


def test_the_evidence_is_the_likelihood_averaged_over_the_prior() -> None:
    n, s, p, expected = 40, 3, 0.12, 0.05

    def integrand(theta: float) -> float:
        return float(stats.binom.pmf(s, n, theta) * stats.beta.pdf(theta, 1, 1 / expected - 1))

    average, _ = integrate.quad(integrand, 0, 1)
    found = mixture_log_evidence(np.asarray(n), np.asarray(s), np.asarray(p), expected)

    assert float(found) == pytest.approx(math.log(average / stats.binom.pmf(s, n, p)), rel=1e-6)


def test_without_a_disagreement_so_many_comparisons_are_needed() -> None:
    # By hand: B(1, 19 + n) / B(1, 19) / .95^n = 19 / (19 + n) / .95^n is 20 between 92 and 93.
    assert proportion_interval(92, 0, ALPHA, 0.05)[1] > 0.05
    assert proportion_interval(93, 0, ALPHA, 0.05)[1] <= 0.05
    assert 19 / (19 + 92) / 0.95**92 < 20 < 19 / (19 + 93) / 0.95**93


@given(
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.floats(0.001, 0.4),
    st.floats(0.001, 1),
)
def test_the_bounds_are_where_the_evidence_reaches_one_over_alpha(
    n: int, share: float, alpha: float, expected: float
) -> None:
    s = round(n * share)
    lower, upper = proportion_interval(n, s, alpha, expected)

    assert 0 <= lower <= upper <= 1
    if n:
        assert lower <= s / n <= upper
    for bound in (lower, upper):
        assume(1e-9 < bound < 1 - 1e-9)
        at = mixture_log_evidence(
            np.asarray(n), np.asarray(s), np.asarray(bound), min(expected, 0.5)
        )
        assert math.exp(-float(at)) == pytest.approx(alpha, rel=1e-3)


def test_more_data_make_it_narrower_around_the_same_share() -> None:
    few, many = (proportion_interval(n, n // 10, ALPHA, 0.05) for n in (100, 10_000))

    assert few[0] < many[0] < 0.1 < many[1] < few[1]


def test_nothing_seen_rules_nothing_out() -> None:
    assert proportion_interval(0, 0, ALPHA, 0.05) == (0.0, 1.0)
    assert proportion_interval(50, 50, ALPHA, 0.05)[1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((10, 11, 0.05, 0.05), "successes is 11, not between 0 and the 10 trials"),
        ((10, 1, 0.0, 0.05), "alpha is 0.0"),
        ((10, 1, 0.05, 0.0), "expected is 0.0"),
    ],
)
def test_impossible_numbers_are_refused(
    arguments: tuple[float, float, float, float], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        proportion_interval(*arguments)
