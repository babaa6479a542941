"""Simulation, and by it a small calibration with a fixed seed."""

import pytest
from scipy import stats

from modelexperiment.core.stats import (
    Alternative,
    Kind,
    Margin,
    Method,
    Settings,
    Traffic,
    Truth,
    Unit,
    simulate,
)
from modelexperiment.core.stats.simulation import clopper_pearson

TRAFFIC = Traffic(samples=400, looks=60)


@pytest.mark.parametrize(
    ("settings", "truth"),
    [
        (Settings(Kind.PROPORTION, sample_size=12_000), Truth(0.05, 0.05)),
        (Settings(Kind.RATE, sample_size=12_000), Truth(0.05, 0.05)),
        (Settings(Kind.MEAN, sample_size=12_000), Truth(3.0, 3.0, spread=2.0)),
        (
            Settings(Kind.MEAN, alternative=Alternative.ONE_SIDED, sample_size=12_000),
            Truth(3.0, 3.0, spread=2.0),
        ),
        (
            Settings(Kind.PROPORTION, margin=Margin(absolute=0.02), sample_size=12_000),
            Truth(0.2, 0.18),
        ),
        (Settings(Kind.MEAN, Method.GROUP_SEQUENTIAL, sample_size=11_500), Truth(3.0, 3.0)),
        (
            Settings(Kind.MEAN, Method.GROUP_SEQUENTIAL, sample_size=11_500, looks=4),
            Truth(3.0, 3.0),
        ),
        (Settings(Kind.PROPORTION, Method.FIXED_HORIZON, sample_size=11_500), Truth(0.1, 0.1)),
    ],
)
def test_false_positives_are_bounded(settings: Settings, truth: Truth) -> None:
    out = simulate(settings, truth, TRAFFIC, runs=600, seed=1)
    # Above this, 5 % would be refuted at the level of 1 in 1,000.
    assert out.rejections <= stats.binom.isf(0.001, out.runs, settings.alpha)
    assert out.lower <= out.rate <= out.upper


def test_users_by_bucket_are_calibrated() -> None:
    users = Settings(Kind.PROPORTION, unit=Unit.USER, buckets=64, sample_size=12_000)
    truth = Truth(0.2, 0.2, bucket_spread=0.05)
    out = simulate(users, truth, Traffic(1_500, 40), runs=200, seed=2)
    assert out.rejections <= stats.binom.isf(0.001, out.runs, users.alpha)
    means = Settings(Kind.MEAN, unit=Unit.USER, buckets=64, sample_size=12_000)
    out = simulate(means, Truth(2.0, 3.0, bucket_spread=0.1), Traffic(3_000, 10), runs=20)
    assert out.rate == 1.0


def test_power_at_the_planned_size() -> None:
    # 80 % at a fixed horizon of 14,751 (10 % of 10 %), and at 1.61 times this sequentially.
    fixed = Settings(
        Kind.PROPORTION, Method.FIXED_HORIZON, minimum_effect=Margin(relative=10), baseline=0.1
    )
    out = simulate(fixed, Truth(0.1, 0.11), Traffic(3_000, 10), runs=800, seed=3)
    assert out.rate == pytest.approx(0.8, abs=0.05)
    assert out.wrong_direction == 0
    assert out.median_looks == 10
    sequential = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=10), baseline=0.1)
    out = simulate(sequential, Truth(0.1, 0.11), Traffic(480, 100), runs=400, seed=4)
    assert out.rate == pytest.approx(0.78, abs=0.07)
    assert out.mean_looks < 75
    mean = Settings(Kind.MEAN, sample_size=5_000)
    out = simulate(mean, Truth(3.0, 3.5), Traffic(1_000, 5), runs=20)
    assert (out.rate, out.mean_looks) == (1.0, 1.0)


def test_threads_do_not_change_the_result() -> None:
    settings, seen = Settings(Kind.PROPORTION, sample_size=2_000), []
    one = simulate(settings, Truth(0.1, 0.15), Traffic(100, 5), runs=2_100, threads=1)
    two = simulate(
        settings, Truth(0.1, 0.15), Traffic(100, 5), runs=2_100, threads=2, progress=seen.append
    )
    assert one == two
    assert seen[-1] == 1.0
    assert len(seen) == 3
    other = simulate(settings, Truth(0.1, 0.15), Traffic(100, 5), runs=2_100, seed=9)
    assert other != one


def test_clopper_pearson() -> None:
    assert clopper_pearson(5, 100) == pytest.approx(
        stats.binomtest(5, 100).proportion_ci(method="exact")
    )
    assert clopper_pearson(0, 10)[0] == 0.0
    assert clopper_pearson(10, 10)[1] == 1.0


@pytest.mark.parametrize(
    ("traffic", "runs", "message"),
    [
        (Traffic(0, 5), 10, "samples is 0"),
        (Traffic(10, 0), 10, "looks is 0"),
        (Traffic(10, 5, share=1.0), 10, "share is 1.0"),
        (Traffic(10, 5), 0, "runs is 0"),
    ],
)
def test_bad_input_is_refused(traffic: Traffic, runs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(Settings(Kind.PROPORTION), Truth(0.1, 0.1), traffic, runs=runs)
