"""Experiments at different ends, with their courses, for pages to be made of."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from modelexperiment.core.snapshot import Counted, Reading
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Arms
from tests.core.builders import ACCURACY, ERRORS, Life, traffic
from tests.core.shadowed import CHALLENGER, Shadowed

LATENCY = {**ERRORS, "name": "latency-p95", "max": 0.2}
ROUGH = 'android <b title="x">$1$</b> & co'
"""A label's value that no page, drawing or formula may take for its own."""
CLICKS = {
    "name": "clicks",
    "goal": "Decrease",
    "proportion": {"successes": "clicks_total", "trials": "views_total"},
}


def _grown(draw: random.Random, life: Life, chance: float) -> dict[str, tuple[float, float]]:
    split = {arm.model_version: arm.percent for arm in life.status.routed}
    grown = {}
    for version, share in split.items():
        number = int(6 * share)
        p = 0.5 if version == "v1" else chance
        grown[version] = (float(number), float(sum(draw.random() < p for _ in range(number))))
    return grown


def _readings(draw: random.Random, life: Life, more: float = 0.0) -> tuple[Reading, ...]:
    return tuple(
        Reading(g.name, v, 0.01 + draw.random() * 0.006 + (more if v != "v1" else 0.0))
        for g in life.experiment.spec.guardrails
        for v in life.experiment.spec.versions
    )


def _run(chance: float, polls: int, breach_at: int | None = None, **fields: Any) -> Life:
    draw = random.Random(2)
    rollout = {"onWin": "Gradual", "stepDuration": "2m"}
    life = Life(**{"guardrails": [ERRORS, LATENCY], "rollout": rollout, **fields})
    life.start(readings=_readings(draw, life))
    for poll in range(polls):
        if life.status.phase.ended:
            break
        broken = 0.02 if breach_at is not None and poll >= breach_at else 0.0
        life.poll(_grown(draw, life, chance), readings=_readings(draw, life, broken))
    return life


def pending() -> Life:
    """Nothing has started."""
    life = Life()
    life.poll(counted=None)
    return life


def started() -> Life:
    """Traffic is split, and nothing counted."""
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    return life


def undecided() -> Life:
    """No verdict yet; users are held to their versions."""
    users = {"assignment": {"header": "x-user-id"}, "analysis": {"unit": "Request"}}
    return _run(0.505, 25, **users)


def won() -> Life:
    """The challenger has won and was rolled out."""
    return _run(0.55, 120)


def broken() -> Life:
    """A guardrail broke."""
    return _run(0.52, 60, breach_at=50)


def mismatch() -> Life:
    """The challenger lost a tenth of its requests."""
    life = Life()
    life.start()
    for _ in range(30):
        life.poll({"v1": (500, 250), "v2": (450, 230)})
    return life


def three() -> Life:
    """Two challengers, two metrics, two segments over days, one with a name full of traps."""
    draw = random.Random(5)
    life = Life(
        traffic=traffic(v1=60, v2=20, v3=20),
        segments=[{"name": "device", "label": "device", "values": ["ios", ROUGH]}],
        metrics=[ACCURACY, CLICKS],
        guardrails=[ERRORS],
    )
    life.start(errors=0.01)
    for _ in range(60):
        life.now += timedelta(hours=3)
        increments: dict[tuple[str, str], Increment] = {}
        segments: dict[tuple[str, str], Arms] = {}
        for device in ("ios", ROUGH):
            found = {
                (metric, version): Increment(n, sum(draw.random() < p for _ in range(n)))
                for version, n, p in (("v1", 120, 0.5), ("v2", 40, 0.51), ("v3", 40, 0.49))
                for metric in ("accuracy", "clicks")
            }
            segments["device", device] = Arms(found)
            for arm, its in found.items():
                sofar = increments.get(arm, Increment(0, 0))
                increments[arm] = Increment(sofar.n + its.n, sofar.s + its.s)
        since = life.status.counted_until
        assert since is not None
        counted = Counted(since, life.now, increments, segments=segments)
        life.decide(life.snapshot(counted=counted, readings=life.readings(0.012)))
    return life


def shadowing() -> Shadowed:
    """Not live: the challenger is compared with the champion first."""
    life = Shadowed(shadow={**CHALLENGER, "predictions": "score_bucket"})
    life.poll(after=timedelta(0))
    histograms = {"v1": {0.5: 60.0, math.inf: 90.0}, "v2": {0.5: 30.0, math.inf: 90.0}}
    life.compare(40, 1, histograms=histograms)
    return life


def never_live() -> Shadowed:
    """The challenger differed too often, and served nobody."""
    life = shadowing()
    life.compare(200, 60)
    return life


ALL: dict[str, Callable[[], Life]] = {
    made.__name__: made for made in (pending, started, undecided, won, broken, mismatch, three)
} | {made.__name__: made for made in (shadowing, never_live)}
