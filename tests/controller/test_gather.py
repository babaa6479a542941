"""What is seen of the world, and what is not even asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from modelexperiment.controller.gather import Gatherer
from modelexperiment.controller.queue import Key
from modelexperiment.core.manifest import Experiment, parse_experiment
from modelexperiment.core.snapshot import Counted, Problem, Snapshot
from modelexperiment.core.starting import purpose
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.ports import QueryError, Readiness, UnavailableError
from modelexperiment.settings import Settings
from tests.controller.fakes import KEY, URL, FakeProduction, FakeRouter, FakeStore, Journal
from tests.core.builders import ACCURACY, ERRORS, LEAST

SPEC = {**LEAST, "guardrails": [ERRORS]}
RUNNING = {"phase": "Running", "startTime": "2026-03-01T12:00:00Z"}


class World:
    """The ports, and an experiment that looks at them."""

    def __init__(self, **fields: Any) -> None:
        self.store = FakeStore(Journal())
        self.router = FakeRouter(self.store.journal)
        self.production = FakeProduction()
        self.settings = Settings(prometheus_url=URL)
        self.readiness: Readiness | None = None
        self.store.create(KEY, {**SPEC, **fields})

    def look(self, *, poll: bool = True, status: dict[str, Any] | None = None) -> Snapshot:
        seen = self.store.objects[KEY]
        if status:
            seen["status"] = status
        gatherer = Gatherer(
            self.store,
            self.router,
            self.production,
            self.settings,
            readiness=self.readiness,
        )
        found = ExperimentStatus.model_validate(seen.get("status", {}))
        return asyncio.run(gatherer.snapshot(parse_experiment(seen), found, seen, poll=poll))


def problem(found: object) -> Problem:
    assert isinstance(found, Problem)
    return found


def test_a_waiting_experiment_is_looked_at_whole() -> None:
    snapshot = World().look()

    assert isinstance(snapshot.counted, Counted)
    assert snapshot.counted.silent == ()
    assert [(r.guardrail, r.model_version, r.value) for r in snapshot.readings] == [
        ("errors", "v1", 0.0),
        ("errors", "v2", 0.0),
    ]
    assert snapshot.generation == 1


def test_without_a_poll_only_the_route_is_read() -> None:
    world = World()

    snapshot = world.look(poll=False, status=RUNNING)

    assert (snapshot.counted, snapshot.readings, world.production.asked) == (None, (), [])


NO_SELECTOR = {"modelVersion": "v3", "comparisons": "sum(a)", "disagreements": "b"}


def test_a_spec_that_is_not_supported_asks_for_nothing() -> None:
    world = World(shadow=NO_SELECTOR)

    snapshot = world.look()

    assert problem(snapshot.route).reason == "BadSelector"
    assert world.production.asked == []


def test_an_unsupported_edit_of_a_running_experiment_keeps_its_guardrails_on() -> None:
    snapshot = World(shadow=NO_SELECTOR).look(status=RUNNING)

    assert problem(snapshot.counted).reason == "BadSelector"
    assert len(snapshot.readings) == 2


@pytest.mark.parametrize(
    ("prometheus", "settings", "says"),
    [
        (None, Settings(), "the operator has no Prometheus"),
        ({"url": "http://elsewhere"}, Settings(prometheus_url=URL), "elsewhere is not allowed"),
        (
            {"url": f"{URL}.evil.example.com"},
            Settings(prometheus_url=URL, prometheus_allowed_urls=(URL,)),
            "is not allowed",
        ),
    ],
)
def test_only_a_prometheus_that_the_platform_allows_is_asked(
    prometheus: dict[str, str] | None, settings: Settings, says: str
) -> None:
    world = World(**({"prometheus": prometheus} if prometheus else {}))
    world.settings = settings

    found = problem(world.look().counted)

    assert found.reason == "PrometheusNotAllowed"
    assert says in found.message
    assert world.production.asked == []


@pytest.mark.parametrize("written", [URL, f"{URL}/"])
def test_an_allowed_prometheus_is_asked(written: str) -> None:
    world = World(prometheus={"url": written})
    world.settings = Settings(prometheus_allowed_urls=(URL,))

    assert isinstance(world.look().counted, Counted)


def test_a_counter_that_is_not_there_is_named_as_in_the_manifest() -> None:
    missing = {
        **ACCURACY,
        "proportion": {"successes": "x_total{a='b'}", "trials": "labelled_total"},
    }

    counted = World(metrics=[missing]).look().counted

    assert isinstance(counted, Counted)
    assert counted.silent == ("spec.metrics[accuracy].proportion.successes: x_total{a='b'}",)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (UnavailableError("Prometheus can't be reached"), "PrometheusUnreachable"),
        (QueryError("parse error"), "PrometheusNotAllowed"),
    ],
)
def test_a_failure_of_the_first_question_is_what_was_seen(failure: Exception, reason: str) -> None:
    world = World()
    world.production.failure = failure

    assert problem(world.look().counted).reason == reason


@pytest.mark.parametrize("failure", [UnavailableError("down"), QueryError("not allowed")])
def test_a_prometheus_that_can_not_be_asked_is_no_data_for_every_guardrail(
    failure: Exception,
) -> None:
    world = World()
    world.production.failure = failure

    readings = world.look().readings

    assert [r.error.message for r in readings if r.error] == [str(failure)] * 2


class Failing(FakeProduction):
    """Fails for queries that hold a word."""

    def __init__(self, word: str, failure: Exception) -> None:
        super().__init__()
        self.word, self.failing_with = word, failure

    async def _ask(self, query: str) -> None:
        await super()._ask(query)
        if self.word in query:
            raise self.failing_with


@pytest.mark.parametrize(
    ("failure", "reason", "bad_input"),
    [
        (QueryError("parse error"), "BadQuery", True),
        (UnavailableError("answered 500"), "PrometheusUnreachable", False),
    ],
)
def test_a_failing_guardrail_is_told_apart_from_the_counters(
    failure: Exception, reason: str, bad_input: bool
) -> None:
    world = World()
    world.production = Failing("errors", failure)

    snapshot = world.look()

    assert isinstance(snapshot.counted, Counted)
    error = snapshot.readings[0].error
    assert error is not None
    assert (error.reason, error.bad_input) == (reason, bad_input)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(QueryError("parse error"), "BadQuery"), (UnavailableError("500"), "PrometheusUnreachable")],
)
def test_failing_counters_are_told_apart_from_the_guardrails(
    failure: Exception, reason: str
) -> None:
    world = World()
    world.production = Failing("correct_total", failure)

    snapshot = world.look()

    assert problem(snapshot.counted).reason == reason
    assert [reading.value for reading in snapshot.readings] == [0.0, 0.0]


def test_a_guardrail_without_a_number_says_why() -> None:
    world = World()
    world.production.errors["v2"] = "returns NaN"

    assert world.look().readings[1].missing == "returns NaN"


def test_an_unknown_placeholder_is_the_guardrails_own_trouble() -> None:
    error = World(guardrails=[{**ERRORS, "query": "errors{{ver}}"}]).look().readings[0].error

    assert error is not None
    assert error.message.startswith("spec.guardrails[errors].query: has the unknown placeholder")


def other(**fields: Any) -> World:
    """A world with a second experiment, which was created later."""
    world = World()
    world.store.create(Key("fraud", "other"), {**SPEC, **fields})
    return world


def route(**fields: Any) -> dict[str, Any]:
    return {"route": {"istio": {**LEAST["route"]["istio"], **fields}}}


def test_whoever_came_first_holds_the_route() -> None:
    world = other()
    world.store.objects[KEY]["metadata"]["creationTimestamp"] = "2026-03-01T13:00:00Z"

    assert world.look().holder == "other"


def test_whoever_came_later_does_not() -> None:
    assert other().look().holder is None


def test_whoever_has_started_holds_the_route_even_if_it_came_later() -> None:
    world = other()
    world.store.objects[Key("fraud", "other")]["status"] = RUNNING

    assert world.look().holder == "other"


def test_whoever_only_shadows_holds_the_route_as_well() -> None:
    world = other()
    world.store.objects[Key("fraud", "other")]["status"] = {"phase": "Shadowing"}

    assert world.look().holder == "other"


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        (route(virtualService="another"), False),
        (route(httpRoute="another"), False),
        (route(httpRoute=None), True),
        ({"route": {"gatewayAPI": {"httpRoute": "fraud"}}}, False),
        ({"traffic": []}, False),
    ],
    ids=["another object", "another route", "the only route", "another kind", "unreadable"],
)
def test_only_the_same_route_is_held(fields: dict[str, Any], holds: bool) -> None:
    istio = fields.get("route", {}).get("istio", {})
    if istio.get("httpRoute", "") is None:
        del istio["httpRoute"]
    world = other(**fields)
    world.store.objects[Key("fraud", "other")]["status"] = RUNNING

    assert (world.look().holder is not None) is holds


@pytest.mark.parametrize(
    ("name", "rule", "holds"),
    [("fraud", "predict", True), ("fraud", None, True), ("fraud", "a", False), ("b", None, False)],
)
def test_a_rule_of_an_http_route_is_held_as_well(name: str, rule: str | None, holds: bool) -> None:
    def on(route: str, part: str | None) -> dict[str, Any]:
        return {"gatewayAPI": {"httpRoute": route, **({"rule": part} if part else {})}}

    world = other(route=on("fraud", "predict"))
    world.store.objects[KEY]["spec"]["route"] = on(name, rule)
    world.store.objects[Key("fraud", "other")]["status"] = RUNNING

    assert (world.look().holder is not None) is holds


def test_a_running_experiment_holds_its_route_itself() -> None:
    world = other()
    world.store.objects[Key("fraud", "other")]["status"] = RUNNING

    assert world.look(status=RUNNING).holder is None


def test_an_ended_experiment_is_not_polled_unless_it_is_to_start_again() -> None:
    world = World()
    ended = {**RUNNING, "phase": "RolledBack", "endTime": "2026-03-01T13:00:00Z"}
    assert isinstance(world.look(status=ended).counted, Counted)

    asked = parse_experiment(world.store.objects[KEY]).spec
    same = {**ended, "memory": {"purpose": purpose(asked)}}
    assert world.look(status=same).counted is None


class Endpoints:
    """A Readiness that answers with this, or fails."""

    def __init__(self, answer: Mapping[str, str] | UnavailableError) -> None:
        self.answer = answer

    async def not_ready(self, experiment: Experiment) -> Mapping[str, str]:
        if isinstance(self.answer, UnavailableError):
            raise self.answer
        return self.answer


def test_versions_that_are_not_ready_are_seen() -> None:
    world = World()
    world.readiness = Endpoints({"v2": "no Pod"})

    assert world.look().not_ready == {"v2": "no Pod"}


def test_readiness_that_cannot_be_read_stays_as_it_was_and_everything_else_is_read() -> None:
    world = World()
    world.readiness = Endpoints(UnavailableError("403 pods is forbidden"))

    snapshot = world.look(status={**RUNNING, "memory": {"notReady": ["v2"]}})

    assert snapshot.not_ready == {"v2": "it was not when it was last seen"}
    assert snapshot.readiness_error == "403 pods is forbidden"
    assert len(snapshot.readings) == 2
