"""Quantile guardrails: which edge of the histogram stands for the bound.

That a quantile is at most T says that at most a share of 1 - quantile of the observations lies
above T. So the share above an edge is tested: for `max` the first edge from T up, for `min` the
last edge up to T. With `maxIncrease`, T is the champion's quantile over its first observations and
what may be added to it, and the champion's own share above that edge may move meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelexperiment.core import exceedance
from modelexperiment.core.exceedance import ENOUGH, Histogram, merged
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import Effect, ExperimentSpec, Guardrail
from modelexperiment.core.tally import Arms, Cell, add_up

State = Mapping[str, Any]
"""``{"edge": edge, "margin": share}``, or ``{"seen": {edge: count}}`` before it is named."""


def exceedances(
    spec: ExperimentSpec, guardrail: Guardrail, bound: str, state: State | None, seen: Counted
) -> tuple[State | None, Arms | None]:
    """What is known of the edge after one more poll, and the poll's observations above it.

    None in place of the observations in polls that still look for the edge.

    Raises:
        ValueError: no edge stands for the bound, or a version's histogram lacks it.
    """
    own = {c: h for c, h in seen.histograms.items() if c.metric == guardrail.name}
    named = state is not None and "edge" in state
    if not own:
        return state, Arms() if named else None
    if not named:
        state = _look(spec, guardrail, bound, state, own)
        if "edge" not in state or bound == "maxIncrease":
            # What chose the question must not answer it.
            return state, None
    assert state is not None
    where = f"spec.guardrails[{guardrail.name}].quantile.histogram"
    edge = state["edge"]
    found = [(cell, exceedance.exceedances(cell, edge, h, where)) for cell, h in own.items()]
    return state, add_up(found)


def _look(
    spec: ExperimentSpec,
    guardrail: Guardrail,
    bound: str,
    state: State | None,
    own: Mapping[Cell, Histogram],
) -> State:
    common = sorted(e for e in set.intersection(*map(set, own.values())) if math.isfinite(e))
    if bound == "min":
        return {
            "edge": _named(
                guardrail, bound, [e for e in reversed(common) if e <= _of(guardrail.min)]
            )
        }
    if bound == "max":
        return {"edge": _named(guardrail, bound, [e for e in common if e >= _of(guardrail.max)])}
    before = {float(e): n for e, n in ((state or {}).get("seen") or {}).items()}
    champion = [h for c, h in own.items() if c.version == spec.champion_version]
    total = merged([before, *champion])
    if total.get(math.inf, 0.0) < ENOUGH:
        return {"seen": {repr(e): n for e, n in sorted(total.items())}}
    assert guardrail.quantile is not None and guardrail.max_increase is not None
    quantile = guardrail.quantile.quantile
    allowed = increased(quantile_of(total, quantile), guardrail.max_increase)
    edge = _named(guardrail, bound, [e for e in common if e >= allowed])
    above = 1 - total.get(edge, 0.0) / total[math.inf]
    return {"edge": edge, "margin": max(0.0, 1 - quantile - above)}


def _of(value: float | None) -> float:
    assert value is not None
    return value


def _named(guardrail: Guardrail, bound: str, edges: list[float]) -> float:
    if not edges:
        raise ValueError(
            f"spec.guardrails[{guardrail.name}].{bound}: the histogram has no edge beyond it that "
            "all versions share; give a bound within its edges"
        )
    return edges[0]


def increased(value: float, by: Effect) -> float:
    """The value with the increase that is allowed."""
    if by.relative is not None:
        return value + abs(value) * by.relative / 100
    return value + (by.absolute or 0.0)


def quantile_of(histogram: Histogram, quantile: float) -> float:
    """The quantile, interpolated within its bucket as PromQL's `histogram_quantile` does."""
    rank, below, lower = quantile * histogram[math.inf], 0.0, 0.0
    edges = sorted(histogram)
    for edge in edges:
        count = histogram[edge]
        if count >= rank:
            if not math.isfinite(edge):
                return lower
            inside = count - below
            return lower + (edge - lower) * ((rank - below) / inside if inside else 1.0)
        below, lower = count, edge
    return lower
