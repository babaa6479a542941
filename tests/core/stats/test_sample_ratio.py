"""Sample ratio: published numbers, savvi's, phases, users."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from modelexperiment.core.stats import SampleRatio
from modelexperiment.core.stats.sample_ratio import log_multinomial_evidence

ORACLE = json.loads((Path(__file__).parents[2] / "oracles" / "savvi.json").read_text())["cases"]


@pytest.mark.parametrize("case", ORACLE)
def test_savvi_agrees(case: dict) -> None:
    log_e = log_multinomial_evidence(np.array(case["counts"]), np.array(case["shares"]), case["k"])
    assert math.exp(log_e) == pytest.approx(case["e"], rel=1e-9)


def test_published_numbers() -> None:
    half = np.array([0.5, 0.5])
    e = math.exp(log_multinomial_evidence(np.array([1560, 1440]), half, 100))
    assert e == pytest.approx(1.830333, abs=5e-7)
    e = math.exp(log_multinomial_evidence(np.array([2105, 1895]), half, 100))
    assert e == pytest.approx(33.868704, abs=5e-7)
    assert 1 / e == pytest.approx(0.0295258, abs=5e-8)


def test_one_sum_or_many_polls_are_the_same() -> None:
    once = SampleRatio.start({"v1": 90, "v2": 10}).observe({"v1": 9100, "v2": 900})
    many = SampleRatio.start({"v1": 0.9, "v2": 0.1})
    for _ in range(100):
        many = many.observe({"v2": 9, "v1": 91})
    assert many.counts.tolist() == once.counts.tolist()
    assert many.expected == once.expected == {"v1": 0.9, "v2": 0.1}
    assert many.observed == {"v1": 0.91, "v2": 0.09}
    assert many.p_value <= once.p_value


def test_a_p_value_never_rises() -> None:
    ratio = SampleRatio.start({"a": 1, "b": 1}).observe({"a": 700, "b": 300})
    low = ratio.p_value
    assert low < 1e-10
    assert ratio.observe({"a": 300, "b": 700}).p_value == low


def test_phases_multiply() -> None:
    first = SampleRatio.start({"a": 90, "b": 10}).observe({"a": 8800, "b": 1200})
    second = SampleRatio.start({"a": 50, "b": 50}).observe({"a": 5100, "b": 4900})
    both = (
        SampleRatio.start({"a": 90, "b": 10})
        .observe({"a": 8800, "b": 1200})
        .new_phase({"a": 50, "b": 50})
        .observe({"a": 5100, "b": 4900})
    )
    log_e = first._phase_log_e() + second._phase_log_e()
    assert both.past_log_e + both._phase_log_e() == pytest.approx(log_e)
    assert both.expected == {"a": 0.7, "b": 0.3}
    assert both.observed == pytest.approx({"a": 0.695, "b": 0.305})


def test_an_arm_that_should_get_nothing() -> None:
    ratio = SampleRatio.start({"a": 100, "b": 0})
    assert ratio.observe({"a": 500}).p_value == 1.0
    assert ratio.observe({"a": 500, "b": 1}).p_value < 1e-300


def users(rng: np.random.Generator, share: float, loss: float = 0.0) -> dict:
    """Requests by arm and bucket: few heavy users, so that buckets differ a lot."""
    counts: dict = {"a": {}, "b": {}}
    for bucket in range(64):
        activity = rng.pareto(2.5, size=(2, 40)) + 1
        counts["b"][bucket] = int(rng.poisson(activity[0].sum() * share * (1 - loss) * 10))
        counts["a"][bucket] = int(rng.poisson(activity[1].sum() * (1 - share) * 10))
    return counts


def test_users_are_judged_by_bucket() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        ratio = SampleRatio.start({"a": 0.5, "b": 0.5}, buckets=64)
        alarms += ratio.observe_buckets(users(rng, 0.5)).p_value <= 0.01
    assert alarms <= 4
    # The multinomial on the same requests would flag nearly every healthy experiment.
    counts = users(rng, 0.5)
    plain = SampleRatio.start({"a": 0.5, "b": 0.5})
    sums = {arm: sum(buckets.values()) for arm, buckets in counts.items()}
    honest = SampleRatio.start({"a": 0.5, "b": 0.5}, buckets=64).observe_buckets(counts)
    assert plain.observe(sums).p_value < honest.p_value


def test_a_large_loss_of_users_is_found() -> None:
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(20):
        ratio = SampleRatio.start({"a": 0.5, "b": 0.5}, buckets=64)
        found += ratio.observe_buckets(users(rng, 0.5, loss=0.4)).p_value <= 0.001
    assert found >= 18


def test_three_arms_by_bucket() -> None:
    shares = {"a": 2, "b": 1, "c": 1}
    rng = np.random.default_rng(2)
    counts = {
        arm: {k: int(rng.poisson(100 * share)) for k in range(32)} for arm, share in shares.items()
    }
    ratio = SampleRatio.start(shares, buckets=32).observe_buckets(counts)
    assert ratio.p_value > 0.2
    counts["c"] = {k: v // 2 for k, v in counts["c"].items()}
    assert ratio.observe_buckets(counts).p_value < 0.01


def test_too_few_buckets_say_nothing() -> None:
    ratio = SampleRatio.start({"a": 1, "b": 1}, buckets=64)
    assert ratio.observe_buckets({"a": {3: 1000}, "b": {3: 10}}).p_value == 1.0
    equal = dict.fromkeys(range(64), 10)
    assert ratio.observe_buckets({"a": equal, "b": equal}).p_value == 1.0
    # Totals without buckets count, but are no evidence about users.
    assert ratio.observe({"a": 1000, "b": 10}).p_value == 1.0


def test_state_round_trips() -> None:
    ratio = SampleRatio.start({"a": 0.9, "b": 0.1}).observe({"a": 871, "b": 129})
    ratio = ratio.new_phase({"a": 0.3, "b": 0.7}).observe({"a": 299, "b": 701})
    back = SampleRatio.from_state(json.loads(json.dumps(ratio.to_state())))
    assert back.to_state() == ratio.to_state()
    assert back.observe({"a": 10}).p_value == ratio.observe({"a": 10}).p_value
    by_user = SampleRatio.start({"a": 0.9, "b": 0.1}, buckets=64)
    by_user = by_user.observe_buckets(users(np.random.default_rng(1), 0.1))
    state = json.loads(json.dumps(by_user.to_state(), separators=(",", ":")))
    assert SampleRatio.from_state(state, buckets=64).to_state() == by_user.to_state()
    assert len(json.dumps(state, separators=(",", ":"))) < 1500


def test_nothing_observed() -> None:
    ratio = SampleRatio.start({"a": 1, "b": 1})
    assert ratio.observed == ratio.expected == {}
    assert ratio.p_value == 1.0


def test_bad_input_is_refused() -> None:
    ratio = SampleRatio.start({"a": 1, "b": 1}, buckets=64)
    for call, message in (
        (lambda: SampleRatio.start({"a": 1}), "arms is"),
        (lambda: SampleRatio.start({"a": -1, "b": 1}), "share of a is -1"),
        (lambda: SampleRatio.start({"a": 0, "b": 0}), "not above 0 together"),
        (lambda: ratio.observe({"c": 1}), "arm is 'c'"),
        (lambda: ratio.observe({"a": -1}), "count of a is -1"),
        (lambda: ratio.observe({"a": 0.5}), "count of a is 0.5"),
        (lambda: ratio.observe({"a": float("inf")}), "count of a is inf"),
        (lambda: ratio.observe_buckets({"a": {64: 1}}), "a bucket is 64"),
        (lambda: ratio.new_phase({"a": 1, "c": 1}), "arms is"),
        (lambda: SampleRatio.from_state({}), "state arms is None"),
        (lambda: SampleRatio.from_state({"arms": ["a", "b"]}), "state log is None"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
