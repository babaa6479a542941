"""Small experiments, and what is seen of them, for tests that name only what they are about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from modelexperiment.core.counting import Reset
from modelexperiment.core.manifest import Experiment, parse_spec
from modelexperiment.core.plan import Plan, decide, routed
from modelexperiment.core.snapshot import Counted, Problem, Reading, RouteSeen, Snapshot
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import ExperimentStatus

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POLL = timedelta(seconds=15)
ORIGINAL = {"route": [{"destination": {"host": "fraud", "subset": "v1"}}]}

PROPORTION = {"successes": "correct_total", "trials": "labelled_total"}
ACCURACY = {
    "name": "accuracy",
    "role": "Primary",
    "proportion": PROPORTION,
    "minimumEffect": {"relative": 5},
}
ERRORS = {"name": "errors", "query": 'errors{version="{{version}}"}', "max": 0.02}
LEAST: dict[str, Any] = {
    "traffic": [{"modelVersion": "v1", "percent": 50}, {"modelVersion": "v2", "percent": 50}],
    "route": {"istio": {"virtualService": "fraud", "httpRoute": "predict", "host": "fraud"}},
    "metrics": [ACCURACY],
}


def traffic(**percents: float) -> list[dict[str, object]]:
    """Entries of traffic by version."""
    return [{"modelVersion": version, "percent": share} for version, share in percents.items()]


def spec(**fields: object) -> ExperimentSpec:
    """A spec of two versions, half and half, with these fields in place of its own."""
    return parse_spec({**LEAST, **fields})


def experiment(**fields: object) -> Experiment:
    """An experiment with that spec."""
    return Experiment("fraud", "fraud-v2", spec(**fields))


def through_json(status: ExperimentStatus) -> ExperimentStatus:
    """The status as it comes back from the API server."""
    return ExperimentStatus.model_validate(json.loads(json.dumps(status.dump())))


class Life:
    """An experiment from poll to poll: each step decides on a snapshot and then writes the route.

    Between two steps the status goes through JSON, as it does through the API server. Every step
    is decided a second time on the status that did not, and must come out the same.
    """

    def __init__(self, **fields: object) -> None:
        self.experiment = experiment(**fields)
        self.now = START
        self.generation = 1
        self.status = ExperimentStatus()
        self._unsaved = self.status
        self.route: RouteSeen | Problem = RouteSeen({"v1": 100.0, "v2": 0.0}, ORIGINAL)
        self.plan: Plan | None = None
        self.told: list[str] = []

    def edit(self, **fields: object) -> None:
        """Change the spec, as `kubectl apply` does."""
        self.experiment = Experiment(
            self.experiment.namespace,
            self.experiment.name,
            parse_spec({**self.experiment.spec.dump(), **fields}),
        )
        self.generation += 1

    def snapshot(self, **seen: Any) -> Snapshot:
        """What is seen now, with nothing new counted unless `seen` says otherwise."""
        seen.setdefault("route", self.route)
        return Snapshot(now=self.now, generation=self.generation, **seen)

    def counted(self, grown: Mapping[str, tuple[float, float]] | None = None) -> Counted:
        """A poll that reaches up to now; `grown` is (trials, successes) by version."""
        since = self.status.counted_until
        if since is None or self.status.phase.ended:
            since = self.now - timedelta(minutes=5)
        increments = {
            ("accuracy", version): Increment(n, s) for version, (n, s) in (grown or {}).items()
        }
        return Counted(since, self.now, increments, samples=bool(grown))

    def decide(self, snapshot: Snapshot) -> Plan:
        """Decide and route, and remember what was told."""
        plan = decide(self.experiment, self.status, snapshot)
        direct = decide(self.experiment, self._unsaved, snapshot)
        assert plan.status.dump() == direct.status.dump()
        assert (plan.split, plan.events) == (direct.split, direct.events)
        if plan.split is not None:
            plan = routed(plan, snapshot)
            self.route = seen_of(plan)
        self.told += [str(event.reason) for event in plan.events]
        self._unsaved, self.status = plan.status, through_json(plan.status)
        self.plan = plan
        return plan

    def poll(
        self,
        grown: Mapping[str, tuple[float, float]] | None = None,
        *,
        errors: float | str | Problem | None = None,
        after: timedelta = POLL,
        **seen: Any,
    ) -> Plan:
        """Let time pass and poll; `errors` is what the guardrail reads for every challenger."""
        self.now += after
        seen.setdefault("counted", self.counted(grown))
        if errors is not None:
            seen["readings"] = self.readings(errors)
        return self.decide(self.snapshot(**seen))

    def readings(self, answer: float | str | Problem) -> tuple[Reading, ...]:
        """Readings of the guardrail `errors`: the champion has 0.01, the challengers this."""
        spec = self.experiment.spec
        return (
            Reading("errors", spec.champion_version, 0.01),
            *(reading(version, answer) for version in spec.challengers),
        )

    def start(self, **seen: Any) -> Plan:
        """The first poll, after which the experiment runs."""
        plan = self.poll(after=timedelta(0), **seen)
        assert self.status.phase == "Running", self.status
        return plan

    def events(self) -> list[str]:
        """What has been told since this was asked last."""
        told, self.told = self.told, []
        return told


def seen_of(plan: Plan) -> RouteSeen:
    """The route as it is read after a plan was written."""
    routing = plan.routing
    if routing is None or routing.table is None:
        return RouteSeen(plan.split, ORIGINAL)
    copies = routing.copies_users
    return RouteSeen(plan.split, ORIGINAL, routing.segments, True, copies_users=copies)


def reading(version: str, answer: float | str | Problem) -> Reading:
    """A reading of the guardrail `errors`: a number, why there is none, or what went wrong."""
    if isinstance(answer, Problem):
        return Reading("errors", version, None, "", answer)
    if isinstance(answer, str):
        return Reading("errors", version, None, answer)
    return Reading("errors", version, answer)


def fell(before: float, after: float) -> Reset:
    """A counter that fell."""
    return Reset('labelled_total{model_version="v2"}', before, after)
