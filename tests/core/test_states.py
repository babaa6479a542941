"""The states of comparisons, as they stand in the status."""

from __future__ import annotations

import json

from modelexperiment.core.states import from_state, to_state
from modelexperiment.core.stats import Comparison, Increment, Kind, Poll, Settings, Unit

BUCKETS = 64
RATE = Settings(Kind.RATE, unit=Unit.USER, buckets=BUCKETS)
SHARE = Settings(Kind.PROPORTION, unit=Unit.USER, buckets=BUCKETS)


def users(n: float, added: int) -> dict[int, Increment]:
    return {bucket: Increment(n, bucket % 3 + added) for bucket in range(BUCKETS)}


def observed(settings: Settings, *, n: float) -> Comparison:
    comparison, nothing = Comparison.start(settings), Increment.zero()
    for added in range(30):
        sides = users(n, added % 2), users(n, added % 3)
        comparison = comparison.observe(Poll(nothing, nothing, *sides))
    return comparison


def test_equal_exposures_are_written_once_and_all_comes_back_bit_for_bit() -> None:
    settings = RATE
    comparison = observed(settings, n=14.997 / 64)

    state = json.loads(json.dumps(to_state({"clicks/v2": comparison})))["clicks/v2"]
    back = from_state(settings, state)

    assert len(state["bucketSamples"]) == 2
    assert len(json.dumps(state)) < len(json.dumps(comparison.to_state()))
    assert back.to_state() == comparison.to_state()
    assert (
        back.evidence.clusters.samples.tobytes() == comparison.evidence.clusters.samples.tobytes()
    )


def test_buckets_of_different_size_are_written_each() -> None:
    comparison, nothing = Comparison.start(SHARE), Increment.zero()
    sides = {0: Increment(9, 3), 1: Increment(5, 2)}, {0: Increment(9, 3), 1: Increment(5, 2)}
    comparison = comparison.observe(Poll(nothing, nothing, *sides))

    assert to_state(comparison) == comparison.to_state()


def test_a_comparison_that_was_not_written_yet_takes_new_settings() -> None:
    edited = Settings(Kind.RATE, unit=Unit.USER, buckets=BUCKETS, alpha=0.01)

    taken = from_state(edited, observed(RATE, n=0.5))

    assert taken.settings is edited
    assert taken.to_state() == observed(RATE, n=0.5).to_state()


def test_json_stays_as_it_is() -> None:
    assert to_state({"a/v2": {"version": 1}}) == {"a/v2": {"version": 1}}
    assert to_state(None) is None
