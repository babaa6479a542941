"""Which users are asked for, and what their answers prove."""

from __future__ import annotations

from collections import Counter

import pytest

from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.assignment import user_slots
from modelexperiment.core.proof import judge, questions, route_id
from tests.core.builders import experiment

EXPERIMENT = experiment(assignment={"header": "x-user-id"})


@pytest.mark.parametrize(
    ("split", "buckets"),
    [
        ({"v1": 50.0, "v2": 50.0}, 64),
        ({"v1": 99.9, "v2": 0.1}, 0),
        ({"v1": 10.0, "v2": 10.0, "v3": 80.0}, 128),
    ],
)
def test_as_many_users_of_each_version_are_asked_for(split: dict[str, float], buckets: int) -> None:
    table = SegmentTable.initial(split, "v1", buckets)
    asked = questions(EXPERIMENT, table.segments)

    assert set(Counter(asked.values()).values()) == {-(-20 // len(split))}
    slots = user_slots([user.encode() for user in asked], EXPERIMENT.salt, table.total)
    assert table.versions_of(slots).tolist() == list(asked.values())


def test_a_mirror_is_no_other_route_to_prove() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 64)

    assert route_id("x", table.mirrored(30.0)) == route_id("x", table.segments)
    assert route_id("x", table.mirrored(30.0)) != route_id("x", table.everything_to("v1").segments)


def test_every_answer_must_be_as_predicted() -> None:
    expected = {"a": "v1", "b": "v2", "c": "v2"}

    proof = judge("x", expected, {"a": ["v1", "v1"], "b": ["v2", "v1"], "c": [None, "v2"]})

    assert (proof.asked, len(proof.wrong)) == (3, 2)
    assert proof.wrong[0] == "b got v2 and v1 instead of v2"
    assert judge("x", {"a": "v1"}, {"a": ["v1", "v1"]}).wrong == ()
