"""A comparison as its user sees it: polls in, results out."""

import json
import math

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from modelexperiment.core.stats import (
    Alternative,
    Comparison,
    Goal,
    Increment,
    Kind,
    Margin,
    Method,
    Poll,
    Settings,
    Unit,
)

BINARY = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=20), baseline=0.1)


def binomial_polls(rng, polls: int, a: float, b: float, n: int = 200) -> list[Poll]:
    return [
        Poll(Increment(n, int(rng.binomial(n, a))), Increment(n, int(rng.binomial(n, b))))
        for _ in range(polls)
    ]


def gaussian(rng, n: int, mean: float, squares: bool = True, sd: float = 1.0) -> Increment:
    values = rng.normal(mean, sd, n)
    return Increment(n, float(values.sum()), float((values**2).sum()) if squares else None)


def run(settings: Settings, polls: list[Poll]) -> Comparison:
    comparison = Comparison.start(settings)
    for poll in polls:
        comparison = comparison.observe(poll)
    return comparison


def test_an_effect_is_found_and_its_interval_holds_the_truth() -> None:
    result = run(BINARY, binomial_polls(np.random.default_rng(1), 100, 0.10, 0.13)).result()
    assert result.significant
    assert result.withheld is None
    assert result.absolute is not None
    assert result.relative is not None
    assert 0 < result.absolute.lower < 0.03 < result.absolute.upper
    assert 0 < result.relative.lower < 30 < result.relative.upper
    difference = result.challenger.estimate - result.champion.estimate
    assert result.absolute.effect == pytest.approx(difference)
    assert (result.champion.samples, result.challenger.samples) == (20_000, 20_000)


def test_no_effect_is_not_found() -> None:
    result = run(BINARY, binomial_polls(np.random.default_rng(2), 100, 0.1, 0.1)).result()
    assert not result.significant
    assert result.absolute is not None
    assert result.absolute.lower < 0 < result.absolute.upper


def test_drift_while_the_split_ramps_is_no_effect() -> None:
    # Both arms are alike in each hour, but the challenger had most of the bad hours: pooled
    # totals would show 0.29 against 0.21.
    polls = [Poll(Increment(900, 90), Increment(100, 10)) for _ in range(50)]
    polls += [Poll(Increment(500, 150), Increment(500, 150)) for _ in range(50)]
    result = run(BINARY, polls).result()
    assert result.absolute is not None
    assert result.absolute.effect == pytest.approx(0.0, abs=1e-12)
    assert result.p_value > 0.5


def test_alpha_of_the_caller_widens_the_interval() -> None:
    comparison = run(BINARY, binomial_polls(np.random.default_rng(3), 60, 0.1, 0.115))
    wide, narrow = comparison.result(alpha=0.01), comparison.result()
    assert wide.p_value == narrow.p_value
    assert wide.absolute.lower < narrow.absolute.lower
    assert wide.absolute.effect == narrow.absolute.effect
    with pytest.raises(ValueError, match=r"alpha is 0\.7"):
        comparison.result(alpha=0.7)


def test_nothing_seen() -> None:
    empty = Poll(Increment.zero(), Increment.zero())
    for settings in (BINARY, Settings(Kind.MEAN), Settings(Kind.RATE)):
        result = run(settings, [empty, empty]).result()
        assert result == Comparison.start(settings).result()
        assert result.champion.estimate is None
        assert result.p_value is None
        assert result.withheld


def test_sums_without_trials_wait() -> None:
    late = Poll(Increment(0, 3), Increment(100, 10))
    for kind in (Kind.PROPORTION, Kind.MEAN, Kind.RATE):
        comparison = run(Settings(kind), [late])
        assert comparison.evidence.pending.s.tolist() == [3, 10]
        comparison = comparison.observe(Poll(Increment(50, 4), Increment(50, 6)))
        assert comparison.evidence.samples.tolist() == [50, 150]
        assert comparison.evidence.sums.tolist() == [7, 16]
        assert not comparison.evidence.pending.s.any()


def test_late_labels_are_neither_lost_nor_clamped() -> None:
    skewed = [Poll(Increment(10, 12), Increment(10, 3)), Poll(Increment(10, 2), Increment(10, 9))]
    whole = [Poll(Increment(20, 14), Increment(20, 12))]
    lagging, even = run(BINARY, skewed), run(BINARY, whole)
    assert lagging.to_state() == even.to_state()
    held = run(BINARY, skewed[:1])
    assert held.result().champion.samples == 10
    assert not held.evidence.samples.any()


def test_sparse_polls_are_merged_not_dropped() -> None:
    # One request in a poll has no variance, and a poll with one arm has no effect.
    sparse = []
    for k in range(400):
        hit = Increment(1, k % 4 == 0)
        nothing = Increment.zero()
        sparse += [Poll(hit, nothing), Poll(nothing, hit)]
    result = run(BINARY, sparse).result()
    assert result.champion.samples == 400
    assert result.absolute is not None
    assert result.absolute.effect == pytest.approx(0.0, abs=1e-12)
    assert result.absolute.upper < 0.2


def test_waiting_ends_before_an_arm_without_traffic_meets_another_hour() -> None:
    night = [Poll(Increment(600, 60), Increment.zero()) for _ in range(4)]
    comparison = run(BINARY, night)
    assert comparison.evidence.samples.tolist() == [2400, 0]
    assert comparison.evidence.strata.weight == 0
    waiting = run(BINARY, night[:1])
    assert waiting.evidence.pending.n.tolist() == [600, 0]
    flushed = waiting.new_phase()
    assert flushed.evidence.pending.n.tolist() == [0, 0]
    assert flushed.evidence.samples.tolist() == [600, 0]
    assert flushed.result().champion.estimate == pytest.approx(0.1)


def test_means_with_and_without_squares_agree() -> None:
    rng = np.random.default_rng(5)
    with_squares = [Poll(gaussian(rng, 200, 5.0), gaussian(rng, 100, 5.3)) for _ in range(200)]
    without = [
        Poll(
            Increment(p.champion.n, p.champion.s),
            Increment(p.challenger.n, p.challenger.s),
        )
        for p in with_squares
    ]
    settings = Settings(Kind.MEAN, minimum_effect=Margin(absolute=0.2))
    full, poor = run(settings, with_squares).result(), run(settings, without).result()
    assert full.significant
    assert poor.significant
    assert poor.absolute.effect == pytest.approx(full.absolute.effect)
    width = full.absolute.upper - full.absolute.lower
    assert poor.absolute.upper - poor.absolute.lower == pytest.approx(width, rel=0.15)
    assert poor.relative.upper - poor.relative.lower == pytest.approx(
        full.relative.upper - full.relative.lower, rel=0.15
    )
    early = run(settings, without[:59]).result()
    assert early.withheld is not None
    assert "59 of the 60" in early.withheld


def test_relative_effects_need_a_positive_mean() -> None:
    rng = np.random.default_rng(6)
    polls = [Poll(gaussian(rng, 200, -5.0), gaussian(rng, 200, -5.3)) for _ in range(5)]
    result = run(Settings(Kind.MEAN), polls).result()
    assert result.absolute is not None
    assert result.relative is None


def test_equal_observations_are_no_verdict() -> None:
    polls = [Poll(Increment(200, 400, 800), Increment(200, 400, 800)) for _ in range(3)]
    assert "equal so far" in run(Settings(Kind.MEAN), polls).result().withheld
    fixed = Settings(Kind.MEAN, Method.FIXED_HORIZON, sample_size=300)
    assert "nothing varied" in run(fixed, polls).result().withheld


def test_rates_compare_events_by_exposure() -> None:
    rng = np.random.default_rng(7)
    polls = [
        Poll(Increment(900, int(rng.poisson(45))), Increment(100, int(rng.poisson(8))))
        for _ in range(60)
    ]
    result = run(Settings(Kind.RATE, minimum_effect=Margin(relative=30)), polls).result()
    assert result.significant
    assert result.absolute.lower < 0.03 < result.absolute.upper
    assert result.champion.estimate == pytest.approx(0.05, abs=0.002)


def test_withheld_says_what_is_missing() -> None:
    few = [Poll(Increment(20, 1), Increment(20, 1))]
    assert "10 successes and failures in both arms" in run(BINARY_LATE, few).result().withheld
    assert "first poll sets the base" in run(BINARY, few).result().withheld
    assert "10 events" in run(Settings(Kind.RATE), few).result().withheld
    assert "20 samples; 100" in run(Settings(Kind.MEAN), few).result().withheld


BINARY_LATE = Settings(Kind.PROPORTION)


def test_an_arm_without_events_is_judged_too() -> None:
    for a, b in ((25, 0), (475, 500)):
        polls = [Poll(Increment(900, a), Increment(500, b)) for _ in range(8)]
        for kind in (Kind.PROPORTION, Kind.RATE):
            result = run(Settings(kind), polls).result()
            assert result.significant
            assert result.absolute is not None
            assert result.absolute.lower * result.absolute.upper > 0
            assert (result.relative is None) == (b == 0)
    # The empty arm's variance counts for more than the nothing that was seen of it.
    comparison = run(BINARY_LATE, [Poll(Increment(5_000, 50), Increment(500, 0))] * 2)
    variance = comparison.evidence.look.variance.sum()
    assert variance == pytest.approx(100 / 11_000 * (1 - 100 / 11_000) * 11 / 10_000, rel=1e-9)


def test_an_absurd_plan_does_no_harm() -> None:
    settings = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=90))
    polls = [Poll(Increment(5_000, 4_990), Increment(5_000, 4_985)) for _ in range(20)]
    assert run(settings, polls).result().absolute.lower < 0


def test_fixed_horizon_is_withheld_and_then_the_ordinary_test() -> None:
    settings = Settings(Kind.PROPORTION, Method.FIXED_HORIZON, sample_size=10_000)
    before = run(settings, [Poll(Increment(9_999, 500), Increment(9_999, 580))]).result()
    assert before.p_value is None
    assert before.absolute is None
    assert not before.significant
    assert before.withheld == (
        "The fixed horizon is not reached: the smaller arm has 9,999 of the planned 10,000 samples."
    )
    done = run(settings, [Poll(Increment(10_000, 500), Increment(10_000, 580))])
    _, p = proportions_ztest([580, 500], [10_000, 10_000])
    assert done.result().p_value == pytest.approx(p, rel=1e-9)
    later = done.observe(Poll(Increment(5_000, 100), Increment(5_000, 900)))
    assert later.result().absolute == done.result().absolute
    assert later.result().p_value == done.result().p_value
    assert later.result().champion.samples == 15_000


def test_fixed_horizon_without_a_single_event_in_an_arm() -> None:
    settings = Settings(Kind.PROPORTION, Method.FIXED_HORIZON, sample_size=1_000)
    result = run(settings, [Poll(Increment(1_000, 20), Increment(1_000, 0))]).result()
    low, high = confint_proportions_2indep(0, 1_000, 20, 1_000, method="newcomb")
    assert result.absolute.lower == pytest.approx(low, rel=1e-9)
    assert result.absolute.upper == pytest.approx(high, rel=1e-9)
    assert result.relative is None


def test_fixed_horizon_plans_its_own_size() -> None:
    settings = Settings(
        Kind.PROPORTION, Method.FIXED_HORIZON, minimum_effect=Margin(absolute=0.01), baseline=0.05
    )
    assert "of the planned 8,155" in Comparison.start(settings).result().withheld
    # 0.05 against 0.055 events: 7.849 * 0.105 / 0.005^2.
    settings = Settings(
        Kind.RATE, Method.FIXED_HORIZON, minimum_effect=Margin(relative=10), baseline=0.05
    )
    assert "of the planned 32,966" in Comparison.start(settings).result().withheld


def test_group_sequential_continuous() -> None:
    settings = Settings(Kind.PROPORTION, Method.GROUP_SEQUENTIAL, sample_size=10_000)
    assert "first look" in Comparison.start(settings).result().withheld
    comparison = run(settings, binomial_polls(np.random.default_rng(8), 30, 0.1, 0.12))
    look = comparison.evidence.look
    assert look.fraction == pytest.approx(0.6)
    result = comparison.result()
    half = 2.2414027 / math.sqrt(0.6) * math.sqrt(look.variance.sum())
    assert result.absolute.upper - result.absolute.effect == pytest.approx(half)
    over = run(settings, binomial_polls(np.random.default_rng(8), 80, 0.1, 0.12))
    assert over.evidence.look.fraction == 1.0
    assert over.evidence.look.number == 50
    exact = run(settings, binomial_polls(np.random.default_rng(8), 50, 0.1, 0.12))
    assert over.result().absolute == exact.result().absolute


def test_group_sequential_looks_on_schedule() -> None:
    settings = Settings(Kind.PROPORTION, Method.GROUP_SEQUENTIAL, sample_size=10_000, looks=5)
    polls = binomial_polls(np.random.default_rng(9), 60, 0.1, 0.115)
    comparison, numbers = Comparison.start(settings), []
    for poll in polls:
        comparison = comparison.observe(poll)
        numbers.append(int(comparison.evidence.look.number))
    assert [numbers.count(k) for k in range(6)] == [9, 10, 10, 10, 10, 11]
    result = comparison.result()
    look = comparison.evidence.look
    half = 2.0310320 * math.sqrt(look.variance.sum())
    assert result.absolute.upper - result.absolute.effect == pytest.approx(half, rel=1e-5)
    assert result.significant == (result.absolute.lower > 0)


@pytest.mark.parametrize("goal", [Goal.INCREASE, Goal.DECREASE])
def test_one_sided_looks_in_one_direction(goal: Goal) -> None:
    good = 0.13 if goal is Goal.INCREASE else 0.07
    bad = 0.2 - good
    for kind in (Kind.PROPORTION, Kind.QUANTILE, Kind.RATE):
        settings = Settings(
            kind,
            goal=goal,
            alternative=Alternative.ONE_SIDED,
            minimum_effect=Margin(absolute=0.02),
        )
        rng = np.random.default_rng(10)
        assert run(settings, binomial_polls(rng, 60, 0.1, good)).result().significant
        assert run(settings, binomial_polls(rng, 60, 0.1, bad)).result().p_value > 0.9


@pytest.mark.parametrize(
    "margin", [Margin(absolute=0.02), Margin(relative=20)], ids=["absolute", "relative"]
)
@pytest.mark.parametrize("method", list(Method))
def test_non_inferiority(margin: Margin, method: Method) -> None:
    settings = Settings(
        Kind.PROPORTION, method, sample_size=10_000, margin=margin, goal=Goal.DECREASE
    )
    rng = np.random.default_rng(11)
    assert run(settings, binomial_polls(rng, 80, 0.10, 0.10)).result().significant
    worse = run(settings, binomial_polls(rng, 80, 0.10, 0.125)).result()
    assert not worse.significant


def test_non_inferiority_of_a_mean() -> None:
    settings = Settings(Kind.MEAN, margin=Margin(relative=2))
    rng = np.random.default_rng(12)
    same = [Poll(gaussian(rng, 300, 10.0), gaussian(rng, 300, 10.0)) for _ in range(60)]
    worse = [Poll(gaussian(rng, 300, 10.0), gaussian(rng, 300, 9.7)) for _ in range(60)]
    assert run(settings, same).result().significant
    assert not run(settings, worse).result().significant


def bucket_poll(rng, a, b, per_user: int = 5) -> Poll:
    """Users, 5 in each of 64 buckets and arm, with success rates of their own."""
    arms = []
    for rates in (a, b):
        s = rng.binomial(per_user, rates).reshape(64, -1).sum(axis=1)
        n = per_user * rates.size // 64
        arms.append({k: Increment(n, int(value)) for k, value in enumerate(s)})
    totals = [sum(arm.values(), Increment.zero()) for arm in arms]
    return Poll(*totals, *arms)


USERS = Settings(Kind.PROPORTION, unit=Unit.USER, buckets=64, minimum_effect=Margin(absolute=0.1))


def test_users_by_bucket() -> None:
    rng = np.random.default_rng(13)
    a, b = rng.beta(2, 8, 320), rng.beta(2, 8, 320)
    comparison = run(USERS, [bucket_poll(rng, a, b) for _ in range(40)])
    result = comparison.result()
    assert result.withheld is None
    # 200 requests of each user with rates that vary by 0.12: variance p (1 - p) = 0.16 each,
    # so the design effect is about 1 + 199 * 0.0145 / 0.16.
    assert comparison.design_effect == pytest.approx(19, rel=0.35)
    effect = b.mean() - a.mean()
    assert result.absolute.lower < effect < result.absolute.upper
    better = run(USERS, [bucket_poll(rng, a, np.clip(b + 0.15, 0, 1)) for _ in range(40)])
    assert better.result().significant
    assert Comparison.start(BINARY).design_effect is None


def test_users_without_buckets_are_no_verdict() -> None:
    polls = binomial_polls(np.random.default_rng(14), 10, 0.1, 0.4)
    assert "0 hash buckets" in Comparison.start(USERS).result().withheld
    bare = run(USERS, polls)
    result = bare.result()
    assert Comparison.from_state(USERS, bare.to_state()).result() == result
    assert "no bucket label" in result.withheld
    assert result.champion.samples == 2_000
    assert result.champion.estimate == pytest.approx(0.1, abs=0.03)
    none = Settings(Kind.PROPORTION, unit=Unit.USER)
    assert "without hash buckets" in run(none, polls).result().withheld


def test_few_buckets_are_no_verdict() -> None:
    buckets = {k: Increment(100, 10 + k) for k in range(20)}
    total = sum(buckets.values(), Increment.zero())
    result = run(USERS, [Poll(total, total, buckets, buckets)] * 3).result()
    assert result.withheld == "Users of only 20 hash buckets were seen; 24 are needed."
    scarce = {k: Increment(100, 0) for k in range(64)}
    total = sum(scarce.values(), Increment.zero())
    result = run(USERS, [Poll(total, total, scarce, scarce)] * 3).result()
    assert "10 successes and failures in each arm" in result.withheld


def test_a_dominating_bucket_is_named() -> None:
    buckets = {k: Increment(100, 10 + k % 3) for k in range(64)}
    heavy = buckets | {17: Increment(2_000, 300)}
    poll = Poll(
        sum(buckets.values(), Increment.zero()),
        sum(heavy.values(), Increment.zero()),
        buckets,
        heavy,
    )
    comparison = run(USERS, [poll] * 3)
    assert comparison.dominating == {"challenger": (17, pytest.approx(2000 / 8300))}
    result = comparison.result()
    assert "Bucket 17 has 24% of the challenger's requests" in result.withheld
    assert not result.significant
    assert result.absolute is None


def test_state_is_small_and_comes_back() -> None:
    rng = np.random.default_rng(15)
    a, b = rng.beta(2, 8, 320), rng.beta(2, 8, 320)
    comparison = Comparison.start(USERS)
    for _ in range(30):
        comparison = comparison.observe(bucket_poll(rng, a, b, per_user=4000))
        text = json.dumps(comparison.to_state(), separators=(",", ":"))
        again = Comparison.from_state(USERS, json.loads(text))
        assert json.dumps(again.to_state(), separators=(",", ":")) == text
        comparison = again
    assert comparison.evidence.samples.min() > 3e7
    assert len(text) < 3.3 * 1024
    binary = run(BINARY, binomial_polls(rng, 50, 0.1, 0.1))
    assert len(json.dumps(binary.to_state(), separators=(",", ":"))) < 1.3 * 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "state version is 2, not 1"),
        ({"samples": [1]}, "state samples is"),
        ({"samples": None}, "state samples is None"),
        ({"samples": [1, "x"]}, "state samples holds 'x'"),
        ({"samples": [1, True]}, "state samples holds True"),
        ({"look": [0] * 7}, "state look is"),
        ({"logE": [0.0] * 30}, "state logE is"),
        ({"logP": [float("inf")]}, "state logP holds inf"),
    ],
)
def test_a_broken_state_is_refused(change: dict, message: str) -> None:
    state = run(BINARY, binomial_polls(np.random.default_rng(1), 3, 0.1, 0.1)).to_state()
    with pytest.raises(ValueError, match=message) as error:
        Comparison.from_state(BINARY, state | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Increment(-1, 0), "n is -1, not a number from 0 up"),
        (lambda: Increment(math.nan, 0), "n is nan"),
        (lambda: Increment(1, math.inf), "s is inf"),
        (lambda: Increment(1, 1, -1.0), "q is -1.0"),
        (lambda: Margin(), "margin is"),
        (lambda: Margin(1.0, 2.0), "margin is"),
        (lambda: Margin(-1.0), "margin is -1.0"),
        (lambda: Settings(Kind.MEAN, alpha=0.0), "alpha is 0.0"),
        (lambda: Settings(Kind.MEAN, power=1.0), "power is 1.0"),
        (lambda: Settings(Kind.MEAN, buckets=-1), "buckets is -1"),
        (lambda: Settings(Kind.MEAN, unit=Unit.USER, buckets=8), "buckets is 8"),
        (lambda: Settings(Kind.MEAN, ratio=0.5), "ratio is 0.5"),
        (lambda: Settings(Kind.MEAN, sample_size=1), "sample_size is 1"),
        (lambda: Settings(Kind.MEAN, Method.FIXED_HORIZON), "sample_size is None"),
        (lambda: Settings(Kind.MEAN, looks=0), "looks is 0"),
        (lambda: Settings(Kind.MEAN, baseline=math.inf), "baseline is inf"),
        (lambda: Settings(Kind.PROPORTION, baseline=1.0), "baseline is 1.0"),
        (lambda: Settings(Kind.RATE, baseline=-0.1), "baseline is -0.1"),
        (lambda: Settings(Kind.MEAN, margin=Margin(relative=100)), "margin is 100"),
        (lambda: Settings("median"), "'median' is not a valid Kind"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        (Kind.PROPORTION, Increment(10.5, 1), "champion n is 10.5, not a whole number"),
        (Kind.PROPORTION, Increment(10, 0.5), "champion s is 0.5, not a whole number"),
        (Kind.QUANTILE, Increment(10, -1), "champion s is -1, not a count from 0 up"),
        (Kind.RATE, Increment(0.5, 1.5), "champion s is 1.5, not a whole number"),
    ],
)
def test_a_bad_poll_is_refused(kind: Kind, bad: Increment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Comparison.start(Settings(kind)).observe(Poll(bad, Increment.zero()))
    for bucket, match in ((3, message.replace("champion", "champion bucket 3")), (64, "not below")):
        settings = Settings(kind, unit=Unit.USER, buckets=64)
        poll = Poll(Increment.zero(), Increment.zero(), {bucket: bad}, {})
        with pytest.raises(ValueError, match=match):
            Comparison.start(settings).observe(poll)


def test_increments_add() -> None:
    total = sum([Increment(1, 2, 3), Increment(4, 5, 6)], Increment.zero())
    assert total == Increment(5, 7, 9)
    assert (total + Increment(1, 1)).q is None


def test_a_margin_in_the_metrics_units() -> None:
    assert Margin(absolute=0.3).of(7.0) == 0.3
    assert Margin(relative=5).of(-8.0) == pytest.approx(0.4)
    assert Settings(Kind.MEAN, baseline=5.0).null_line == (1.0, 0.0)


def test_the_projected_verdict() -> None:
    rng = np.random.default_rng(16)
    settings = Settings(Kind.MEAN, minimum_effect=Margin(absolute=0.1))
    early = run(settings, [Poll(gaussian(rng, 300, 5.0), gaussian(rng, 300, 5.2))])
    needed = early.samples_at_verdict()
    assert needed is not None
    # Growing the same data by that factor is what just makes the verdict.
    factor = needed / 300
    poll = Poll(
        *(
            Increment(i.n * factor, i.s * factor, i.q * factor)
            for i in (
                Increment(*values)
                for values in zip(
                    early.evidence.samples,
                    early.evidence.sums,
                    early.evidence.strata.variance / early.evidence.strata.weight**2 * 300 * 299
                    + early.evidence.sums**2 / 300,
                    strict=True,
                )
            )
        )
    )
    grown = run(settings, [poll]).result()
    assert grown.p_value == pytest.approx(0.05, rel=0.02)
    found = run(settings, [Poll(gaussian(rng, 300, 5.0), gaussian(rng, 300, 7.0))])
    assert found.samples_at_verdict() == 300
    equal = Increment(300, 1500.0, 7800.0)
    equal_binary = Poll(Increment(300, 30), Increment(300, 30))
    assert run(settings, [Poll(equal, equal)]).samples_at_verdict() is None
    assert Comparison.start(settings).samples_at_verdict() is None
    assert run(BINARY, [equal_binary, equal_binary]).samples_at_verdict() is None
    fixed = Settings(Kind.MEAN, Method.FIXED_HORIZON, sample_size=700)
    assert Comparison.start(fixed).samples_at_verdict() == 700
