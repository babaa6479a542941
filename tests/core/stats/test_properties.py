"""What must hold for any polls whatever."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelexperiment.core.stats import (
    Alternative,
    Comparison,
    Goal,
    GuardrailTest,
    Increment,
    Kind,
    Limit,
    Margin,
    Poll,
    SampleRatio,
    Settings,
    Unit,
)

FAST = settings(max_examples=60, deadline=None, derandomize=True)
PROPORTION = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=10))
MEAN = Settings(Kind.MEAN, minimum_effect=Margin(absolute=0.2))


@st.composite
def counts(draw, most: int = 400) -> Increment:
    n = draw(st.integers(0, most))
    return Increment(n, draw(st.integers(0, n)), None)


@st.composite
def observations(draw) -> Increment:
    seed, n = draw(st.integers(0, 10**6)), draw(st.integers(0, 200))
    values = np.random.default_rng(seed).normal(5.0, 2.0, n)
    return Increment(n, float(values.sum()), float((values**2).sum()))


binary_polls = st.lists(st.builds(Poll, counts(), counts()), min_size=1, max_size=12)
mean_polls = st.lists(st.builds(Poll, observations(), observations()), min_size=1, max_size=12)


def run(of: Settings, polls: list[Poll]) -> Comparison:
    comparison = Comparison.start(of)
    for poll in polls:
        comparison = comparison.observe(poll)
    return comparison


def close(a, b) -> bool:
    if a is None or b is None:
        return a is b
    pairs = zip((a.effect, a.lower, a.upper), (b.effect, b.lower, b.upper), strict=True)
    return all(math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9) for x, y in pairs)


@FAST
@given(binary_polls)
def test_the_anytime_p_value_never_rises(polls: list[Poll]) -> None:
    comparison, last = Comparison.start(PROPORTION), 1.0
    for poll in polls:
        comparison = comparison.observe(poll)
        p = comparison.result().p_value
        assert p is None or 0 <= p <= last
        last = last if p is None else p


@FAST
@given(st.one_of(binary_polls, mean_polls))
def test_states_come_back_bit_for_bit_at_every_poll(polls: list[Poll]) -> None:
    settings = MEAN if any(p.champion.q is not None for p in polls) else PROPORTION
    straight = resumed = Comparison.start(settings)
    for poll in polls:
        straight = straight.observe(poll)
        state = json.loads(json.dumps(resumed.to_state()))
        resumed = Comparison.from_state(settings, state).observe(poll)
        assert json.dumps(resumed.to_state()) == json.dumps(straight.to_state())
        assert resumed.result() == straight.result()


@FAST
@given(binary_polls, st.randoms())
def test_merging_polls_never_changes_totals(polls: list[Poll], random) -> None:
    merged, waiting = [], None
    for poll in polls:
        if waiting is not None:
            champion = waiting.champion + poll.champion
            poll = Poll(champion, waiting.challenger + poll.challenger)
        waiting = poll if random.random() < 0.5 else None
        merged += [] if waiting else [poll]
    merged += [waiting] if waiting else []
    one, other = run(PROPORTION, polls).result(), run(PROPORTION, merged).result()
    assert one.champion.samples == other.champion.samples
    assert one.challenger.samples == other.challenger.samples


@FAST
@given(st.lists(counts(), min_size=1, max_size=8), st.randoms())
def test_the_order_of_series_does_not_matter(series: list[Increment], random) -> None:
    shuffled = random.sample(series, len(series))
    a, b = (sum(s, Increment.zero()) for s in (series, shuffled))
    assert a == b
    assert (
        run(PROPORTION, [Poll(a, b)] * 3).to_state() == run(PROPORTION, [Poll(b, a)] * 3).to_state()
    )


@FAST
@given(binary_polls)
def test_swapping_the_arms_mirrors_the_result(polls: list[Poll]) -> None:
    swapped = [Poll(p.challenger, p.champion) for p in polls]
    for kind in (Kind.PROPORTION, Kind.QUANTILE):
        of = Settings(kind, sample_size=2_000, baseline=0.3)
        one, other = run(of, polls).result(), run(of, swapped).result()
        assert (one.p_value is None) == (other.p_value is None)
        if one.p_value is not None:
            assert one.p_value == pytest.approx(other.p_value, rel=1e-6)
        if one.absolute is not None:
            assert one.absolute.effect == pytest.approx(-other.absolute.effect)
            assert one.absolute.lower == pytest.approx(-other.absolute.upper)


@FAST
@given(mean_polls, st.sampled_from([1e-3, 0.1, 3.0, 1e4]))
def test_scaling_a_mean_scales_its_effect(polls: list[Poll], factor: float) -> None:
    def scaled(i: Increment) -> Increment:
        return Increment(i.n, i.s * factor, None if i.q is None else i.q * factor**2)

    of = Settings(Kind.MEAN, sample_size=1_000)
    one = run(of, polls).result()
    other = run(of, [Poll(scaled(p.champion), scaled(p.challenger)) for p in polls]).result()
    assert (one.absolute is None) == (other.absolute is None)
    if one.absolute is not None:
        assert other.p_value == pytest.approx(one.p_value, rel=1e-6)
        assert other.absolute.effect == pytest.approx(one.absolute.effect * factor, rel=1e-6)
        width = one.absolute.upper - one.absolute.lower
        assert other.absolute.upper - other.absolute.lower == pytest.approx(width * factor)
        assert close(one.relative, other.relative)


@FAST
@given(binary_polls)
def test_the_other_goal_is_the_mirror_image(polls: list[Poll]) -> None:
    mirrored = [Poll(p.challenger, p.champion) for p in polls]
    of = {
        goal: Settings(
            Kind.PROPORTION,
            goal=goal,
            alternative=Alternative.ONE_SIDED,
            sample_size=2_000,
            baseline=0.5,
        )
        for goal in Goal
    }
    up = run(of[Goal.INCREASE], polls).result()
    down = run(of[Goal.DECREASE], mirrored).result()
    if up.p_value is not None:
        assert up.p_value == pytest.approx(down.p_value, rel=1e-6)


@FAST
@given(binary_polls, st.data())
def test_buckets_need_not_come_in_order(polls: list[Poll], data) -> None:
    of = Settings(Kind.PROPORTION, unit=Unit.USER, buckets=64)
    forward, backward = Comparison.start(of), Comparison.start(of)
    for index, poll in enumerate(polls):
        a = {(7 * index + k) % 64: poll.champion for k in range(40)}
        b = {(3 * index + k) % 64: poll.challenger for k in range(40)}
        totals = (sum(a.values(), Increment.zero()), sum(b.values(), Increment.zero()))
        forward = forward.observe(Poll(*totals, a, b))
        shuffle = data.draw(st.permutations(sorted(a)))
        backward = backward.observe(Poll(*totals, {k: a[k] for k in shuffle}, b))
    assert forward.to_state() == backward.to_state()
    state = json.loads(json.dumps(forward.to_state()))
    assert Comparison.from_state(of, state).to_state() == forward.to_state()


@FAST
@given(binary_polls)
def test_guardrails_remember_and_resume(polls: list[Poll]) -> None:
    for limit in (
        Limit(Kind.PROPORTION, maximum=0.4),
        Limit(Kind.PROPORTION, max_increase=Margin(relative=20)),
        Limit(Kind.RATE, max_increase=Margin(absolute=0.1)),
    ):
        test, last = GuardrailTest.start(limit), 1.0
        for poll in polls:
            test = test.observe(poll)
            assert 0 <= test.p_value <= last
            last = test.p_value
            state = json.loads(json.dumps(test.to_state()))
            again = GuardrailTest.from_state(limit, state)
            assert json.dumps(again.to_state()) == json.dumps(test.to_state())
            test = again


@FAST
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=10))
def test_sample_ratio_does_not_care_about_names_or_order(polls: list[tuple[int, int]]) -> None:
    one, other = SampleRatio.start({"a": 0.5, "b": 0.5}), SampleRatio.start({"a": 0.5, "b": 0.5})
    last = 1.0
    for a, b in polls:
        one, other = one.observe({"a": a, "b": b}), other.observe({"b": a, "a": b})
        assert one.p_value == pytest.approx(other.p_value)
        assert one.p_value <= last
        last = one.p_value
    state = json.loads(json.dumps(one.to_state()))
    assert SampleRatio.from_state(state).to_state() == one.to_state()
