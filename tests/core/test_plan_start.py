"""An experiment waits until it can be run whole, and writes nothing before."""

from __future__ import annotations

from typing import Any

import pytest

from modelexperiment.core.snapshot import Counted, Problem, Reading
from modelexperiment.core.status import Condition, ConditionStatus, Phase
from tests.core.builders import ERRORS, ORIGINAL, START, Life

NO_ROUTE = Problem("RouteNotFound", "VirtualService fraud has no http route predict")
UNSUPPORTED = Problem("NotSupported", "spec.shadow: not supported; leave it out")
DOWN = Problem("PrometheusUnreachable", "Prometheus can't be reached", bad_input=False)
SILENT = Counted(START, START, {}, silent=("spec.metrics[accuracy].proportion.trials: t",))
BAD_QUERY = Problem("BadQuery", "spec.guardrails[errors].query: parse error")

BLOCKERS = [
    pytest.param({"unsupported": UNSUPPORTED}, "RoutesReady", "NotSupported", id="unsupported"),
    pytest.param({"route": NO_ROUTE}, "RoutesReady", "RouteNotFound", id="no such route"),
    pytest.param({"holder": "other"}, "RoutesReady", "RouteHeld", id="a route that is held"),
    pytest.param({"counted": DOWN}, "MetricsReady", "PrometheusUnreachable", id="no Prometheus"),
    pytest.param({"counted": SILENT}, "MetricsReady", "NoSeries", id="no series"),
    pytest.param({"errors": BAD_QUERY, "champion": BAD_QUERY}, "MetricsReady", "BadQuery", id="q"),
    pytest.param({"errors": 0.1, "champion": "returns NaN"}, "MetricsReady", "NoData", id="NaN"),
]


def condition(life: Life, type_: str) -> Condition:
    found = life.status.condition(type_)
    assert found is not None
    return found


def blocked(life: Life, seen: dict[str, Any]) -> None:
    """Poll with something in the way."""
    seen = dict(seen)
    champion = seen.pop("champion", None)
    if champion is not None:
        answer = champion if isinstance(champion, str) else ""
        error = champion if isinstance(champion, Problem) else None
        seen.pop("errors")
        seen["readings"] = (Reading("errors", "v1", None, answer, error),)
    life.poll(**seen)


@pytest.mark.parametrize(("seen", "type_", "reason"), BLOCKERS)
def test_what_is_in_the_way_is_said_and_the_route_is_left_alone(
    seen: dict[str, Any], type_: str, reason: str
) -> None:
    life = Life(guardrails=[ERRORS])
    blocked(life, seen)

    assert life.plan is not None
    assert life.plan.split is None
    assert life.status.phase is Phase.PENDING
    assert (condition(life, type_).status, condition(life, type_).reason) == ("False", reason)
    assert life.status.summary.reason == reason
    assert condition(life, "Complete").message.startswith("not started: ")
    assert life.status.memory.original_route is None


@pytest.mark.parametrize(("seen", "type_", "reason"), BLOCKERS)
def test_it_is_told_once_and_the_experiment_starts_when_it_is_gone(
    seen: dict[str, Any], type_: str, reason: str
) -> None:
    life = Life(guardrails=[ERRORS])
    blocked(life, seen)
    assert life.events() == ["ConfigInvalid"]
    blocked(life, seen)
    assert life.events() == []

    life.poll(errors=0.01)

    assert life.status.phase is Phase.RUNNING
    assert life.events() == ["Started"]
    assert condition(life, type_).status is ConditionStatus.TRUE


def test_another_trouble_is_told_as_well() -> None:
    life = Life()
    life.poll(route=NO_ROUTE)
    life.poll(route=Problem("DestinationNotFound", "spec.traffic[v2]: no subset"))

    assert life.events() == ["ConfigInvalid", "ConfigInvalid"]


def test_without_a_poll_it_does_not_start() -> None:
    life = Life()
    life.decide(life.snapshot())

    assert life.status.phase is Phase.PENDING
    assert condition(life, "Complete").message == "not started: starts with the next poll"
    assert condition(life, "RoutesReady").message.startswith("route and destinations exist")


def test_the_start_remembers_the_route_and_splits_the_traffic() -> None:
    life = Life()

    plan = life.start()

    assert plan.split == {"v1": 50, "v2": 50}
    assert life.status.memory.original_route == ORIGINAL
    assert life.status.routed_split == plan.split
    assert life.status.start_time == life.status.counted_until == START
    assert life.status.summary.split == "v1 50 / v2 50"


def test_what_was_served_before_the_start_is_not_counted() -> None:
    life = Life()
    life.start(grown={"v1": (500, 400), "v2": (0, 0)})

    assert life.status.analysis == []
    life.poll({"v1": (10, 5), "v2": (12, 6)})
    assert life.status.analysis[0].champion.samples == 10
    assert life.status.analysis[0].challenger.samples == 12


def test_a_challenger_without_data_does_not_keep_a_guardrail_from_starting() -> None:
    # It gets no traffic before the start, so there is nothing to be read of it.
    life = Life(guardrails=[ERRORS])
    life.start(errors="returns nothing")

    assert life.status.phase is Phase.RUNNING


def test_every_status_says_for_which_generation_it_is() -> None:
    life = Life()
    life.start()
    life.edit(paused=True)
    life.poll()

    assert life.status.observed_generation == 2
    assert condition(life, "Complete").observed_generation == 2
