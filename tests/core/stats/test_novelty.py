"""Novelty: a constant effect stays steady, a wearing one is seen."""

import json
import math

import numpy as np
import pytest

from modelexperiment.core.stats import Drift, Increment, Kind, Novelty, Poll, Settings, Unit

PLAN = Settings(Kind.PROPORTION)


def play(seed: int, effects: list[float], n: int = 500, of: Settings = PLAN) -> Novelty:
    rng = np.random.default_rng(seed)
    novelty = Novelty.start(of)
    for day, effect in enumerate(effects):
        level = 0.2 + 0.05 * math.sin(day)
        for _ in range(4):
            arms = [Increment(n, int(rng.binomial(n, p))) for p in (level, level + effect)]
            novelty = novelty.observe(Poll(*arms))
        novelty = novelty.end_block()
    return novelty


def test_a_constant_effect_is_steady() -> None:
    steady = [play(seed, [0.03] * 14).drift is Drift.STEADY for seed in range(40)]
    assert sum(steady) >= 36


def test_a_wearing_effect_falls_and_a_growing_one_rises() -> None:
    wearing = [0.12 * 0.7**day for day in range(14)]
    assert play(1, wearing).drift is Drift.FALLING
    assert play(1, wearing[::-1]).drift is Drift.RISING


def test_recursive_residuals() -> None:
    rng = np.random.default_rng(3)
    novelty, seen, surprise = Novelty.start(Settings(Kind.MEAN)), [], 0.0
    for _ in range(5):
        a, b = rng.normal(5, 1, 150), rng.normal(5.2, 1, 150)
        arms = [Increment(150, float(v.sum()), float((v**2).sum())) for v in (a, b)]
        novelty = novelty.observe(Poll(*arms)).end_block()
        d, v = b.mean() - a.mean(), a.var(ddof=1) / 150 + b.var(ddof=1) / 150
        if seen:
            weights = np.array([1 / w for _, w in seen])
            before = weights @ np.array([e for e, _ in seen]) / weights.sum()
            surprise += (d - before) / math.sqrt(v + 1 / weights.sum())
        seen.append((d, v))
    assert novelty.surprise == pytest.approx(surprise)
    assert novelty.blocks == 5


def test_a_small_block_goes_on() -> None:
    novelty = Novelty.start(PLAN).observe(Poll(Increment(30, 3), Increment(30, 4))).end_block()
    assert novelty.blocks == 0
    novelty = novelty.observe(Poll(Increment(300, 30), Increment(300, 40))).end_block()
    assert novelty.blocks == 1
    assert novelty.weighted / novelty.precision == pytest.approx(1 / 30)
    assert novelty.p_value == 1.0


def test_users_need_buckets() -> None:
    of = Settings(Kind.PROPORTION, unit=Unit.USER, buckets=64)
    novelty = Novelty.start(of)
    bare = Poll(Increment(10, 1), Increment(10, 1))
    assert novelty.observe(bare) is novelty
    rng = np.random.default_rng(4)
    for _ in range(3):
        arms = [{k: Increment(50, int(rng.binomial(50, 0.2))) for k in range(64)} for _ in "ab"]
        totals = [sum(arm.values(), Increment.zero()) for arm in arms]
        novelty = novelty.observe(Poll(*totals, *arms)).end_block()
    assert novelty.blocks == 3
    assert novelty.drift is Drift.STEADY


def test_state_comes_back() -> None:
    novelty = play(5, [0.02] * 3).observe(Poll(Increment(50, 8), Increment(50, 9)))
    state = json.loads(json.dumps(novelty.to_state()))
    back = Novelty.from_state(PLAN, state)
    assert back.to_state() == novelty.to_state()
    assert back.end_block().to_state() == novelty.end_block().to_state()
    with pytest.raises(ValueError, match="state block is None"):
        Novelty.from_state(PLAN, {"sums": [0] * 5})
    with pytest.raises(ValueError, match="state sums is None"):
        Novelty.from_state(PLAN, {})
