"""Statistical guardrails, poll by poll: pass, breach, or not enough data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from modelexperiment.core import statistical
from modelexperiment.core.snapshot import Counted, Guarded, Problem
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import GuardrailStatus, Phase
from modelexperiment.core.tally import Cell
from tests.core.builders import Life, spec

COUNTERS = {"successes": "errors_total", "trials": "requests_total"}
ERRORS = {"name": "errors", "proportion": COUNTERS, "max": 0.05}
STEP = timedelta(seconds=5)
Grown = Mapping[str, tuple[float, float]]
"""(trials, successes) by version."""


class Watched(Life):
    """An experiment with statistical guardrails, whose counters settle two steps late."""

    def __init__(self, *guardrails: dict[str, Any], **fields: Any) -> None:
        super().__init__(guardrails=list(guardrails), **fields)
        self.steps: list[Grown] = []
        self.start()

    def counts(self, since: Any, until: Any, grown: Grown, name: str = "errors") -> Counted:
        increments = {(name, v): Increment(n, s) for v, (n, s) in grown.items()}
        return Counted(since, until, increments, samples=any(n or s for n, s in grown.values()))

    def watch(self, grown: Grown, **seen: Any) -> GuardrailStatus:
        """One more poll, of which the last two steps are not settled yet."""
        self.steps.append(grown)
        self.now += STEP
        since = self.status.memory.guarded_until
        assert since is not None
        late = self.steps[-2:]
        settled = self.steps[-3] if len(self.steps) > 2 else {}
        until = max(since, self.now - 2 * STEP)
        tail = tuple(
            self.counts(until + k * STEP, until + (k + 1) * STEP, g) for k, g in enumerate(late)
        )
        seen.setdefault("guarded", Guarded(self.counts(since, until, settled), tail))
        self.decide(self.snapshot(**seen))
        return self.status.guardrails[0]


def healthy(rng: np.random.Generator, rate: float = 0.01, size: int = 100) -> Grown:
    return {"v1": (900, int(rng.binomial(900, 0.01))), "v2": (size, int(rng.binomial(size, rate)))}


def test_before_the_least_samples_it_does_not_say_that_all_is_well() -> None:
    life = Watched({**ERRORS, "minSamples": 250})

    states = [str(life.watch({"v1": (900, 9), "v2": (100, 1)}).state) for _ in range(3)]

    assert states == ["InsufficientData", "InsufficientData", "Pass"]
    found = life.status.guardrails[0]
    assert (found.value, found.limit, found.breaches) == (0.01, 0.05, 0)


def test_what_is_not_settled_is_judged_at_once() -> None:
    rng, life = np.random.default_rng(1), Watched(ERRORS)
    for _ in range(100):
        life.watch(healthy(rng))
    assert life.status.phase is Phase.RUNNING

    found = life.watch(healthy(rng, 0.3))

    assert life.status.phase is Phase.ROLLED_BACK
    assert found.breach is not None
    assert found.value is not None
    assert found.value > found.limit == 0.05
    assert "lately is over the limit of 0.05 (p = " in str(found.message)
    assert found.breach.query == (
        'sum(rate(errors_total{model_version="v2"}[1m])) / '
        'sum(rate(requests_total{model_version="v2"}[1m]))'
    )


def test_what_settles_otherwise_than_it_looked_counts_as_it_settled() -> None:
    life = Watched(ERRORS)
    for _ in range(3):
        life.watch({"v1": (900, 9), "v2": (100, 1)})
    tests = life.status.memory.guardrail_tests
    life.steps[-1] = {"v1": (900, 9), "v2": (100, 3)}
    for _ in range(2):
        life.watch({"v1": (900, 9), "v2": (100, 1)})

    known = life.status.memory.guardrail_tests["errors/v2/max"]["test"]["seen"]
    assert tests["errors/v2/max"]["test"]["seen"][1] == 100
    # Three steps are settled: champion and challenger, trials first, then successes.
    assert known[:4] == [300, 300, 5, 5]


def test_against_the_champion_its_own_bad_day_is_no_breach() -> None:
    rng, life = (
        np.random.default_rng(2),
        Watched({"name": "errors", "proportion": COUNTERS, "maxIncrease": {"relative": 50}}),
    )
    for k in range(150):
        rate = 0.01 if k < 50 else 0.2
        grown = {v: (n, int(rng.binomial(n, rate))) for v, n in (("v1", 900), ("v2", 100))}
        life.watch(grown)
    assert life.status.phase is Phase.RUNNING
    assert life.status.guardrails[0].state == "Pass"
    for _ in range(40):
        life.watch({"v1": (900, 180), "v2": (100, 50)})
    assert life.status.phase is Phase.ROLLED_BACK
    assert life.status.guardrails[0].limit == pytest.approx(0.3, rel=0.1)


def test_alpha_is_divided_by_all_tests() -> None:
    two = {"name": "amount", "proportion": COUNTERS, "max": 0.5, "min": 0.001, "alpha": 0.03}
    found = spec(
        guardrails=[ERRORS, two],
        traffic=[
            {"modelVersion": "v1", "percent": 50},
            {"modelVersion": "v2", "percent": 25},
            {"modelVersion": "v3", "percent": 25},
        ],
    )

    levels = [statistical.alpha_of(found, g) for g in found.guardrails]

    assert levels == pytest.approx([0.01 / 6, 0.03 / 6])


def test_a_challenger_without_traffic_is_neither_well_nor_broken() -> None:
    life = Watched(ERRORS)
    for _ in range(5):
        life.watch({"v1": (900, 9), "v2": (100, 1)})
    assert life.status.guardrails[0].state == "Pass"
    for _ in range(15):
        found = life.watch({"v1": (900, 9), "v2": (0, 0)})
    assert (found.state, life.status.phase) == ("InsufficientData", Phase.RUNNING)
    assert str(found.message).startswith("has had no samples for 1m")
    for _ in range(60):
        life.watch({"v1": (900, 9), "v2": (0, 0)})
    assert life.status.phase is Phase.ROLLED_BACK


def test_where_nobody_is_served_nobody_is_blamed() -> None:
    life = Watched(ERRORS)
    for _ in range(5):
        life.watch({"v1": (900, 9), "v2": (100, 1)})
    for _ in range(100):
        found = life.watch({"v1": (0, 0), "v2": (0, 0)})
    assert (found.state, life.status.phase) == ("InsufficientData", Phase.RUNNING)


def test_missing_data_is_a_breach_only_where_the_manifest_says_so() -> None:
    life = Watched({**ERRORS, "noData": "Fail"})
    for _ in range(15):
        life.watch({"v1": (900, 9), "v2": (0, 0)})
    assert life.status.phase is Phase.ROLLED_BACK
    assert life.status.guardrails[0].message == "has had no samples for 1m (noData: Fail)"


@pytest.mark.parametrize("no_data", ["Wait", "Fail"])
def test_an_error_of_prometheus_is_neither_pass_nor_breach(no_data: str) -> None:
    life = Watched({**ERRORS, "noData": no_data})
    for _ in range(5):
        life.watch({"v1": (900, 9), "v2": (100, 1)})
    down = Problem("PrometheusUnreachable", "Prometheus can't be reached", bad_input=False)
    before = life.status.memory
    found = life.watch({}, guarded=down)
    assert (found.state, found.message) == ("InsufficientData", "Prometheus can't be reached")
    assert life.status.memory.dump() == before.dump()
    assert life.status.phase is Phase.RUNNING


def test_a_poll_that_counts_from_elsewhere_changes_nothing() -> None:
    life = Watched(ERRORS)
    life.watch({"v1": (900, 9), "v2": (100, 1)})
    before = life.status.dump()
    now = life.now
    bad = life.counts(now, now + STEP, {"v2": (100, 100)})
    life.decide(life.snapshot(guarded=Guarded(bad)))
    assert life.status.dump() == before


def test_an_edit_of_the_bound_starts_the_test_anew() -> None:
    life = Watched(ERRORS)
    for _ in range(5):
        life.watch({"v1": (900, 9), "v2": (100, 1)})
    life.edit(guardrails=[{**ERRORS, "max": 0.06}])
    life.watch({"v1": (900, 9), "v2": (100, 1)})
    assert life.status.memory.guardrail_tests["errors/v2/max"]["test"]["seen"][1] == 100


def histogram(name: str, version: str, counts: Mapping[float, float]) -> tuple[Cell, Any]:
    return Cell(name, version), counts


def latencies(life: Watched, share: float, guardrail: str = "p95") -> GuardrailStatus:
    """A poll of 1,000 + 100 observations, of which v2 has so many above 0.2 s."""
    life.now += STEP
    since = life.status.memory.guarded_until
    assert since is not None
    v1 = {0.1: 800.0, 0.2: 970.0, 0.4: 999.0, math.inf: 1000.0}
    v2 = {
        0.1: 60.0,
        0.2: 100 - 100 * share,
        0.4: 100.0 if share < 0.1 else 100 - 50 * share,
        math.inf: 100.0,
    }
    seen = Counted(
        since,
        since + STEP,
        {},
        histograms=dict([histogram(guardrail, "v1", v1), histogram(guardrail, "v2", v2)]),
    )
    life.decide(life.snapshot(guarded=Guarded(seen)))
    return life.status.guardrails[0]


P95: dict[str, Any] = {"name": "p95", "quantile": {"histogram": "seconds_bucket", "quantile": 0.95}}


@pytest.mark.parametrize(
    ("bound", "healthy_share", "broken_share"),
    [
        ({"max": 0.2}, 0.03, 0.3),
        ({"max": 0.15}, 0.03, 0.3),
        ({"min": 0.15}, 0.9, 0.9),
        ({"maxIncrease": {"relative": 25}}, 0.03, 0.5),
        ({"maxIncrease": {"absolute": 0.05}}, 0.03, 0.5),
    ],
    ids=lambda value: str(value),
)
def test_a_quantile_is_tested_at_an_edge_of_the_histogram(
    bound: dict[str, Any], healthy_share: float, broken_share: float
) -> None:
    life = Watched({**P95, **bound})
    for _ in range(20):
        latencies(life, healthy_share)
    assert life.status.guardrails[0].state == "Pass", life.status.guardrails
    if "min" in bound:
        return
    for _ in range(20):
        latencies(life, broken_share)
    assert life.status.phase is Phase.ROLLED_BACK
    assert "of the observations above" in str(life.status.guardrails[0].message)


def test_a_bound_beyond_all_edges_is_told() -> None:
    life = Watched({**P95, "max": 3})
    found = latencies(life, 0.03)
    assert found.state == "InsufficientData"
    assert "spec.guardrails[p95].max: the histogram has no edge beyond it" in str(found.message)


def test_a_rate_is_held_against_the_versions_share() -> None:
    life = Watched(
        {"name": "errors", "rate": {"events": "crashes_total"}, "maxIncrease": {"relative": 100}}
    )
    for k in range(40):
        late = k >= 30
        life.now += STEP
        since = life.status.memory.guarded_until
        assert since is not None
        grown = {"v1": (0, 5), "v2": (0, 40 if late else 5)}
        life.decide(life.snapshot(guarded=Guarded(life.counts(since, since + STEP, grown))))
        if not late:
            assert life.status.phase is Phase.RUNNING
    assert life.status.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize(
    ("guardrail", "message"),
    [
        (
            {"proportion": COUNTERS, "max": 1.5},
            "spec.guardrails[x].max: maximum is 1.5, not between 0 and 1",
        ),
        (
            {"rate": {"events": "e"}, "max": -1},
            "spec.guardrails[x].max: maximum is -1.0, not above 0",
        ),
        (
            {"mean": {"sum": "s", "count": "n"}, "max": 1},
            "spec.guardrails[x].mean.sumSquares: is needed",
        ),
    ],
)
def test_a_bound_that_cannot_be_is_refused(guardrail: dict[str, Any], message: str) -> None:
    found = statistical.unreadable(spec(guardrails=[{"name": "x", **guardrail}]))

    assert str(found).startswith(message)


USERS = {"header": "x-user-id", "buckets": 64, "bucketLabel": "bucket"}


def by_bucket(life: Watched, rng: np.random.Generator, rate: float) -> GuardrailStatus:
    """A poll of users in 64 buckets: 30 requests of each at the champion, 10 at the challenger."""
    life.now += STEP
    since = life.status.memory.guarded_until
    assert since is not None
    buckets = {
        ("errors", version): {b: Increment(n, int(rng.binomial(n, p))) for b in range(64)}
        for version, n, p in (("v1", 30, 0.02), ("v2", 10, rate))
    }
    whole = {
        arm: Increment(sum(i.n for i in its.values()), sum(i.s for i in its.values()))
        for arm, its in buckets.items()
    }
    life.decide(
        life.snapshot(guarded=Guarded(Counted(since, since + STEP, whole, buckets=buckets)))
    )
    return life.status.guardrails[0]


@pytest.mark.parametrize("bound", [{"max": 0.05}, {"maxIncrease": {"relative": 50}}], ids=str)
def test_users_are_compared_by_their_buckets(bound: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    life = Watched({"name": "errors", "proportion": COUNTERS, **bound}, assignment=USERS)
    for _ in range(20):
        by_bucket(life, rng, 0.02)
    found = life.status.guardrails[0]
    assert (found.state, found.message) == ("Pass", None)
    for _ in range(20):
        by_bucket(life, rng, 0.3)
    assert life.status.phase is Phase.ROLLED_BACK
    assert len(json.dumps(life.status.memory.guardrail_tests)) < 6_000


def test_without_the_buckets_label_alpha_is_not_promised() -> None:
    life = Watched(ERRORS, assignment={"header": "x-user-id"})
    for _ in range(4):
        found = life.watch({"v1": (900, 9), "v2": (100, 1)})

    assert found.state == "Pass"
    assert found.message is not None
    assert "alpha is not promised without spec.assignment.bucketLabel" in found.message


def test_a_guardrail_that_an_edit_adds_counts_from_the_last_poll_on() -> None:
    life = Life()
    life.start()
    for _ in range(5):
        life.poll({"v1": (1_000, 500), "v2": (1_000, 500)})
    life.edit(guardrails=[ERRORS])
    since = life.status.counted_until
    assert since is not None
    increments = {("errors", v): Increment(1_000, 10) for v in ("v1", "v2")}
    life.now += STEP
    life.decide(life.snapshot(guarded=Guarded(Counted(since, since + STEP, increments))))

    assert life.status.guardrails[0].state == "Pass"
    assert life.status.memory.guarded_until == since + STEP


def test_the_state_of_a_guardrail_that_an_edit_removes_is_forgotten() -> None:
    life = Watched(ERRORS, {**ERRORS, "name": "others"})
    for _ in range(5):
        life.watch({"v1": (900, 9), "v2": (100, 1)})
    assert set(life.status.memory.guardrail_tests) == {"errors/v2/max", "others/v2/max"}
    life.edit(guardrails=[ERRORS])
    life.watch({"v1": (900, 9), "v2": (100, 1)})
    assert set(life.status.memory.guardrail_tests) == {"errors/v2/max"}
