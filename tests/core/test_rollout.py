"""Which split the route is to have."""

from __future__ import annotations

from datetime import timedelta

import pytest

from modelexperiment.core.rollout import (
    Split,
    all_to,
    first_step,
    format_split,
    next_step,
    same_split,
    step_split,
    wanted_split,
)
from modelexperiment.core.status import ExperimentStatus, Phase, RolloutStatus
from tests.core.builders import START, spec, traffic

THREE = spec(traffic=traffic(v1=80, v2=10, v3=10))
HOUR = timedelta(hours=1)


def step(number: int, version: str = "v2") -> RolloutStatus:
    return RolloutStatus(model_version=version, step=number, since=START)


@pytest.mark.parametrize(
    ("phase", "rollout", "expected"),
    [
        (Phase.PENDING, None, None),
        (Phase.SHADOWING, None, {"v1": 100, "v2": 0, "v3": 0}),
        (Phase.RUNNING, None, {"v1": 80, "v2": 10, "v3": 10}),
        (Phase.PAUSED, None, {"v1": 80, "v2": 10, "v3": 10}),
        (Phase.PAUSED, step(1), {"v1": 50, "v2": 50, "v3": 0}),
        (Phase.ROLLING_OUT, step(0), {"v1": 75, "v2": 25, "v3": 0}),
        (Phase.SUCCEEDED, step(2), {"v1": 0, "v2": 100, "v3": 0}),
        (Phase.CHAMPION_KEPT, None, {"v1": 100, "v2": 0, "v3": 0}),
        (Phase.ROLLED_BACK, None, {"v1": 100, "v2": 0, "v3": 0}),
        (Phase.ROLLED_BACK, step(1), {"v1": 100, "v2": 0, "v3": 0}),
        (Phase.STOPPED, None, {"v1": 100, "v2": 0, "v3": 0}),
    ],
)
def test_each_phase_has_its_split(
    phase: Phase, rollout: RolloutStatus | None, expected: Split | None
) -> None:
    assert wanted_split(THREE, ExperimentStatus(phase=phase, rollout=rollout)) == expected


def test_all_versions_stay_listed_in_order() -> None:
    assert list(all_to(THREE, "v3").items()) == [("v1", 0), ("v2", 0), ("v3", 100)]


def test_a_step_with_decimals_leaves_the_exact_rest_to_the_champion() -> None:
    asked = spec(rollout={"steps": [33.33, 100]})

    assert step_split(asked, step(0)) == {"v1": 66.67, "v2": 33.33}


def test_a_step_beyond_an_edit_that_shortened_the_steps_is_the_last() -> None:
    assert step_split(spec(rollout={"steps": [100]}), step(2)) == {"v1": 0, "v2": 100}


@pytest.mark.parametrize(
    ("share", "expected"), [(10, 0), (25, 1), (60, 2), (100, 2)], ids=lambda value: str(value)
)
def test_a_rollout_begins_above_what_the_challenger_already_has(
    share: float, expected: int
) -> None:
    asked = spec(traffic=traffic(v1=100 - share, v2=share))

    assert first_step(asked, "v2", START).step == expected


def test_a_step_is_held_and_then_the_next_begins() -> None:
    assert next_step(THREE, step(0), START + HOUR - timedelta(seconds=1)) == step(0)

    following = next_step(THREE, step(0), START + HOUR)

    assert following == RolloutStatus(model_version="v2", step=1, since=START + HOUR)


def test_after_the_last_step_there_is_none() -> None:
    assert next_step(THREE, step(2), START + HOUR) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"v1": 90, "v2": 10}, {"v2": 10, "v1": 90}, True),
        ({"v1": 100}, {"v1": 100, "v2": 0}, True),
        ({"v1": 90, "v2": 10}, {"v1": 90.004, "v2": 9.996}, True),
        ({"v1": 90, "v2": 10}, {"v1": 90.01, "v2": 9.99}, False),
        ({"v1": 100}, {"v2": 100}, False),
    ],
)
def test_splits_are_the_same_to_a_hundredth_of_a_percent(
    one: Split, other: Split, same: bool
) -> None:
    assert same_split(one, other) is same


def test_a_split_is_written_the_way_kubectl_shows_it() -> None:
    assert format_split({"v1": 90.0, "v2": 9.5, "v3": 0.5}) == "v1 90 / v2 9.5 / v3 0.5"
