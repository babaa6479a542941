"""Guardrails: exact under the limit, fast beyond it, also when it breaks late."""

import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

from modelexperiment.core.stats import GuardrailTest, Increment, Kind, Limit, Margin, Poll, Unit
from modelexperiment.core.stats import threshold as t
from modelexperiment.core.stats.e_process import Bernoulli, Poisson, unit_nodes

UP, DOWN = unit_nodes(True, 1.0), unit_nodes(True, -1.0)


def binomial(rng, n: int, p: float) -> Increment:
    return Increment(n, int(rng.binomial(n, p)))


def gaussian(rng, n: int, mean: float) -> Increment:
    values = rng.normal(mean, 2.0, n)
    return Increment(n, float(values.sum()), float((values**2).sum()))


def delay(limit: Limit, polls, alpha: float = 0.01) -> float:
    test = GuardrailTest.start(limit)
    for number, poll in enumerate(polls, 1):
        test = test.observe(poll)
        if test.breached(alpha):
            return number
    return math.inf


def test_beta_binomial_is_the_average_of_likelihood_ratios() -> None:
    limit, n, s = 0.05, 200, 19
    a, b = 1.0, 1 / limit - 1

    def integrand(p: float) -> float:
        ratio = stats.binom.logpmf(s, n, p) - stats.binom.logpmf(s, n, limit)
        return math.exp(ratio) * stats.beta.pdf(p, a, b)

    expected = integrate.quad(integrand, limit, 1.0)[0] / stats.beta.sf(limit, a, b)
    found = t.beta_binomial_log_evidence(np.array(n), np.array(s), limit)
    assert math.exp(found) == pytest.approx(expected, rel=1e-6)


def test_beta_binomial_has_expectation_one_at_the_limit() -> None:
    n, s = 60, np.arange(61)
    e = np.exp(t.beta_binomial_log_evidence(np.full(61, n), s, 0.1))
    assert stats.binom.pmf(s, n, 0.1) @ e == pytest.approx(1.0)
    assert stats.binom.pmf(s, n, 0.05) @ e < 1.0


@pytest.mark.parametrize(("nodes", "inside"), [(UP, [0.1, 0.03]), (DOWN, [0.1, 0.4])])
def test_threshold_factors_are_exact(nodes, inside) -> None:
    s = np.arange(41.0)
    e = np.exp(t.log_factors(Bernoulli, np.full(41, 40.0), s, 0.1, nodes))
    for p in inside:
        assert (stats.binom.pmf(s, 40, p) @ e <= 1 + 1e-12).all()
    counts = np.arange(80.0)
    e = np.exp(t.log_factors(Poisson, np.full(80, 40.0), counts, 0.1, nodes))
    for rate in inside:
        assert (stats.poisson.pmf(counts, 40 * rate) @ e <= 1 + 1e-6).all()


def test_start_time_mixture_is_the_sum_over_starts() -> None:
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(5, 31))
    mixture = t.StartTimeMixture.start()
    assert mixture.log_evidence == 0.0
    for row in factors:
        mixture = mixture.add(row)
    expected = np.exp([factors[j:].sum(axis=0) for j in range(5)]).mean(axis=1)
    weights = [1 / (j * (j + 1)) for j in range(1, 6)]
    assert math.exp(mixture.log_evidence) == pytest.approx(weights @ expected + 1 / 6)


LIMITS = {
    "maximum": (Limit(Kind.PROPORTION, maximum=0.02), 0.01, 0.05),
    "minimum": (Limit(Kind.PROPORTION, minimum=0.9), 0.95, 0.75),
    "increase": (Limit(Kind.PROPORTION, max_increase=Margin(absolute=0.005)), 0.01, 0.05),
    "relative": (Limit(Kind.QUANTILE, max_increase=Margin(relative=50)), 0.05, 0.2),
    "decrease": (Limit(Kind.PROPORTION, max_decrease=Margin(relative=5)), 0.9, 0.7),
    "rate": (Limit(Kind.RATE, maximum=0.02), 0.01, 0.05),
    "rate increase": (Limit(Kind.RATE, max_increase=Margin(absolute=0.005)), 0.01, 0.05),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_breach_is_found_soon_and_a_kept_limit_is_not(name: str) -> None:
    limit, fine, broken = LIMITS[name]
    rng = np.random.default_rng(2)
    good = (Poll(binomial(rng, 450, fine), binomial(rng, 50, fine)) for _ in range(200))
    bad = (Poll(binomial(rng, 450, fine), binomial(rng, 50, broken)) for _ in range(200))
    assert delay(limit, good) == math.inf
    assert delay(limit, bad) <= 30


def test_a_late_regression_is_found_soon() -> None:
    limit = Limit(Kind.PROPORTION, max_increase=Margin(absolute=0.0))
    rng = np.random.default_rng(3)
    delays = []
    for _ in range(9):
        polls = [Poll(binomial(rng, 450, 0.01), binomial(rng, 50, 0.01)) for _ in range(300)]
        polls += [Poll(binomial(rng, 450, 0.01), binomial(rng, 50, 0.05)) for _ in range(60)]
        delays.append(delay(limit, polls) - 300)
    assert 1 <= np.median(delays) <= 14


def test_means_absolute_and_against_the_champion() -> None:
    rng = np.random.default_rng(4)
    for limit, bad in (
        (Limit(Kind.MEAN, maximum=10.2), 11.0),
        (Limit(Kind.MEAN, minimum=9.8), 9.0),
        (Limit(Kind.MEAN, max_increase=Margin(relative=2)), 11.0),
        (Limit(Kind.MEAN, max_decrease=Margin(absolute=0.2)), 9.0),
    ):
        good = (Poll(gaussian(rng, 90, 10.0), gaussian(rng, 30, 10.0)) for _ in range(150))
        assert delay(limit, good) == math.inf
        worse = (Poll(gaussian(rng, 90, 10.0), gaussian(rng, 30, bad)) for _ in range(150))
        assert delay(limit, worse) <= 25


def test_a_mean_needs_its_squares_and_some_samples() -> None:
    test = GuardrailTest.start(Limit(Kind.MEAN, maximum=1.0))
    assert "Each arm needs 100 samples" in test.withheld
    small = Poll(Increment.zero(), Increment(50, 500.0, 6000.0))
    for _ in range(2):
        test = test.observe(small)
    assert test.e_value == 1.0
    test = test.observe(small)
    assert test.withheld is None
    assert test.e_value > 1.0
    poor = GuardrailTest.start(Limit(Kind.MEAN, maximum=1.0))
    for _ in range(5):
        poor = poor.observe(Poll(Increment.zero(), Increment(50, 500.0)))
    assert poor.e_value == 1.0
    assert "sum of squares" in poor.withheld
    flat = GuardrailTest.start(Limit(Kind.MEAN, maximum=1.0))
    for _ in range(5):
        flat = flat.observe(Poll(Increment.zero(), Increment(50, 100.0, 200.0)))
    assert flat.e_value == 1.0


def test_false_alarms_are_bounded_with_a_look_at_every_poll() -> None:
    rng = np.random.default_rng(5)
    limit = Limit(Kind.PROPORTION, max_increase=Margin(absolute=0.0))
    alarms = 0
    for _ in range(60):
        polls = (Poll(binomial(rng, 90, 0.2), binomial(rng, 30, 0.2)) for _ in range(120))
        alarms += delay(limit, polls, alpha=0.1) < math.inf
    assert alarms <= 8


def test_users_are_judged_by_bucket() -> None:
    rng = np.random.default_rng(6)
    absolute = Limit(Kind.PROPORTION, maximum=0.25, unit=Unit.USER, buckets=64)
    against = Limit(Kind.PROPORTION, max_increase=Margin(absolute=0.02), unit=Unit.USER, buckets=64)

    def polls(extra: float):
        rates = rng.beta(2, 8, (2, 64)) + np.array([[0.0], [extra]])
        for _ in range(40):
            arms = [{k: binomial(rng, 20, p) for k, p in enumerate(arm)} for arm in rates]
            yield Poll(*(sum(arm.values(), Increment.zero()) for arm in arms), *arms)

    for limit in (absolute, against):
        assert delay(limit, polls(0.0)) == math.inf
        assert delay(limit, polls(0.2)) < math.inf
        test = GuardrailTest.start(limit)
        assert "hash buckets" in test.withheld
        bare = test.observe(Poll(Increment(10, 1), Increment(10, 1)))
        assert bare.to_state() == test.to_state()
        for poll in polls(0.2):
            test = test.observe(poll)
        assert test.withheld is None
        back = GuardrailTest.from_state(limit, json.loads(json.dumps(test.to_state())))
        assert back.p_value == test.p_value
        assert back.new_phase().e_value == test.e_value
        assert test.estimates[1].estimate == pytest.approx(0.4, abs=0.06)


def test_skewed_and_sparse_polls_wait() -> None:
    limit = Limit(Kind.PROPORTION, max_increase=Margin(absolute=0.0))
    test = GuardrailTest.start(limit)
    assert "first poll" in test.withheld
    assert test.estimates[0].estimate is None
    test = test.observe(Poll(Increment(100, 1), Increment(0, 2)))
    assert test.pending.n.tolist() == [100, 0]
    assert test.new_phase().pending.n.tolist() == [100, 0]
    back = GuardrailTest.from_state(limit, json.loads(json.dumps(test.to_state())))
    assert back.pending.s.tolist() == [1, 2]
    test = back.observe(Poll(Increment(0, 0), Increment(40, 1)))
    assert test.seen.n.tolist() == [100, 40]
    assert test.seen.s.tolist() == [1, 3]
    assert test.withheld is not None
    flushed = test.observe(Poll(Increment(500, 5), Increment.zero())).new_phase()
    assert flushed.seen.n.tolist() == [600, 40]
    assert flushed.e_value == 1.0
    patient = test.observe(Poll(Increment(1500, 5), Increment.zero()))
    assert patient.seen.n.tolist() == [1600, 40]
    assert test.new_phase() is test


def test_withheld_of_an_absolute_limit() -> None:
    test = GuardrailTest.start(Limit(Kind.PROPORTION, maximum=0.1))
    assert test.withheld == "No samples were seen yet."
    test = test.observe(Poll(Increment.zero(), Increment(10, 9)))
    assert test.withheld is None
    assert test.e_value > 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Limit(Kind.PROPORTION), "limit is"),
        (lambda: Limit(Kind.PROPORTION, maximum=0.1, minimum=0.05), "limit is"),
        (lambda: Limit(Kind.PROPORTION, maximum=1.0), "maximum is 1.0"),
        (lambda: Limit(Kind.RATE, maximum=0.0), "maximum is 0.0"),
        (lambda: Limit(Kind.MEAN, minimum=math.nan), "minimum is nan"),
        (lambda: Limit(Kind.MEAN, maximum=1.0, unit=Unit.USER), "buckets is 0"),
        (lambda: Limit(Kind.MEAN, max_decrease=Margin(relative=100)), "max_decrease is 100"),
        (lambda: GuardrailTest.start(LIMITS["rate"][0]).breached(0.0), "alpha is 0.0"),
        (lambda: GuardrailTest.from_state(LIMITS["rate"][0], {}), "state version is None"),
        (lambda: GuardrailTest.from_state(LIMITS["rate"][0], {"version": 1}), "state polls"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
