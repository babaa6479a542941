"""What the events of a rate are held against."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.exposure import of_one_split, with_exposure
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import ExperimentStatus, Memory, Phase, RolloutStatus, RoutedArm
from modelexperiment.core.tally import Arms
from tests.core.builders import ACCURACY, START, spec

CLICKS = {"name": "clicks", "rate": {"events": "clicks_total"}}
V1, V2 = ("clicks", "v1"), ("clicks", "v2")
MINUTE = timedelta(minutes=1)
USERS = {"header": "x-user-id", "buckets": 32, "bucketLabel": "bucket"}


def status(phase: Phase = Phase.RUNNING, **split: float) -> ExperimentStatus:
    arms = [
        RoutedArm(model_version=v, percent=p) for v, p in (split or {"v1": 90, "v2": 10}).items()
    ]
    memory = Memory(split=arms, split_since=START)
    return ExperimentStatus(phase=phase, start_time=START, memory=memory)


def in_a_rollout(phase: Phase) -> ExperimentStatus:
    step = RolloutStatus(model_version="v2", step=0, since=START)
    return status(phase).model_copy(update={"rollout": step})


def poll(after: timedelta = MINUTE, **fields: Any) -> Counted:
    events = {V1: Increment(0, 50), V2: Increment(0, 4), ("accuracy", "v1"): Increment(10, 5)}
    fields.setdefault("increments", events)
    return Counted(START + after, START + after + timedelta(seconds=20), **fields)


def test_exposure_is_the_versions_share_of_the_polls_seconds() -> None:
    found = with_exposure(spec(metrics=[ACCURACY, CLICKS]), status(), poll())

    assert found.increments == {
        V1: Increment(18, 50),
        V2: Increment(2, 4),
        ("accuracy", "v1"): Increment(10, 5),
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (status(), timedelta(seconds=4)),
        (in_a_rollout(Phase.ROLLING_OUT), MINUTE),
        (in_a_rollout(Phase.PAUSED), MINUTE),
    ],
    ids=["of two splits", "in a rollout", "in a rollout that is paused"],
)
def test_where_the_share_is_not_known_events_are_not_compared(
    before: ExperimentStatus, after: timedelta
) -> None:
    found = with_exposure(spec(metrics=[ACCURACY, CLICKS]), before, poll(after))

    assert found.increments == {("accuracy", "v1"): Increment(10, 5)}


def test_a_version_without_traffic_or_without_series_has_no_exposure() -> None:
    asked = spec(metrics=[ACCURACY, CLICKS])
    alone = poll(increments={V1: Increment(0, 50)})

    assert V2 not in with_exposure(asked, status(v1=100, v2=0), poll()).increments
    assert with_exposure(asked, status(), alone).increments == {V1: Increment(18, 50)}


def test_the_washout_is_no_exposure() -> None:
    asked = spec(metrics=[ACCURACY, CLICKS], analysis={"washout": "70s"})

    assert with_exposure(asked, status(), poll()).increments[V1] == Increment(9, 50)


def test_a_poll_that_brings_its_own_exposure_keeps_it() -> None:
    other = {"name": "errors", "rate": {"events": "errors_total"}}
    asked = spec(metrics=[ACCURACY, CLICKS, other])
    own = {V1: Increment(500, 50), ("errors", "v1"): Increment(0, 3)}

    found = with_exposure(asked, status(), poll(increments=own))

    assert found.increments == {V1: Increment(500, 50), ("errors", "v1"): Increment(18, 3)}


def test_without_a_rate_nothing_changes() -> None:
    plain = poll()

    assert with_exposure(spec(), status(), plain) is plain


def test_every_bucket_of_users_has_the_same_part_of_the_exposure() -> None:
    asked = spec(metrics=[ACCURACY, CLICKS], assignment=USERS)
    buckets = {V1: {3: Increment(0, 50)}}

    found = with_exposure(asked, status(), poll(buckets=buckets))

    assert len(found.buckets[V1]) == 32
    assert found.buckets[V1][3] == Increment(18 / 32, 50)
    assert found.buckets[V1][4] == Increment(18 / 32, 0)
    assert V2 not in found.buckets


def test_a_segments_value_is_held_against_the_same_split() -> None:
    segments = {("device", "ios"): Arms({V1: Increment(0, 20), V2: Increment(0, 1)})}

    found = with_exposure(spec(metrics=[ACCURACY, CLICKS]), status(), poll(segments=segments))

    assert found.segments["device", "ios"].increments == {
        V1: Increment(18, 20),
        V2: Increment(2, 1),
    }


@pytest.mark.parametrize(
    ("seconds", "whole"), [(-10, False), (0, False), (4.9, False), (5, True), (60, True)]
)
def test_a_poll_is_of_one_split_once_proxies_have_it(seconds: float, whole: bool) -> None:
    assert of_one_split(status().memory, poll(timedelta(seconds=seconds))) is whole
    assert of_one_split(Memory(), poll(timedelta(seconds=seconds)))
