"""Conditions as metav1.Condition."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelexperiment.core.conditions import ConditionType, condition, merge
from modelexperiment.core.status import Condition
from tests.core.builders import START

LATER = START + timedelta(minutes=5)


def made(status: bool | None, now: datetime = START, message: str = "well") -> Condition:
    return condition(ConditionType.ROUTES_READY, status, "Because", message, now)


def test_unknown_is_a_status_of_its_own() -> None:
    assert [made(status).status for status in (True, False, None)] == ["True", "False", "Unknown"]


def test_times_have_no_fraction_of_a_second() -> None:
    assert made(True, START.replace(microsecond=999_999)).last_transition_time == START


def test_another_message_is_no_transition() -> None:
    (merged,) = merge([made(False)], [made(False, LATER, "still not")], 1)

    assert (merged.last_transition_time, merged.message) == (START, "still not")


def test_another_status_is_one() -> None:
    (merged,) = merge([made(None)], [made(False, LATER)], 1)

    assert merged.last_transition_time == LATER


def test_each_says_for_which_generation_it_was_judged() -> None:
    untouched = condition(ConditionType.COMPLETE, False, "Running", "on", START)

    routes, complete = merge([untouched, made(True)], [made(True)], 7)

    assert (routes.observed_generation, complete.observed_generation) == (7, None)


def test_the_order_is_always_the_same() -> None:
    shuffled = [condition(type_, True, "Well", "", START) for type_ in reversed(ConditionType)]

    assert [c.type for c in merge(shuffled[:3], shuffled[3:], 1)] == list(ConditionType)
