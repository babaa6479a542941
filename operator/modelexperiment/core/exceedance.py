"""Quantiles: the share of observations above one edge of the histogram.

Two versions' quantiles are compared by how often their observations exceed an edge that is named
beforehand, the one nearest to the champion's quantile. The polls that name it are not compared:
what chose the question must not answer it. +Inf is no edge; where the quantile lies above the
last one, that one is taken, as `histogram_quantile` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec, Metric
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Arms, Cell, add_up, add_up_segments

Histogram = Mapping[float, float]
"""Counts up to each edge, +Inf among them."""

# So many of the champion's observations say roughly where its quantile is.
ENOUGH = 200.0


def edge_of(state: Any, metric: Metric) -> float | None:
    """The edge that a quantile metric is compared at; None while it is not named yet."""
    known: Mapping[str, Any] = (state or {}).get(metric.name, {})
    return known.get("edge")


def count_exceedances(
    spec: ExperimentSpec, state: Any, counted: Counted
) -> tuple[Counted, dict[str, Any]]:
    """The poll with its histograms as increments, and what is known of the edges after it.

    The state is ``{metric: {"edge": edge}}``, or ``{"seen": {edge: count}}`` before that. A poll
    without histograms may have its exceedances counted already.

    Raises:
        ValueError: a version's histogram lacks the edge.
    """
    edges: dict[str, Any] = dict(state or {})
    found = []
    for metric in spec.metrics:
        own = {c: h for c, h in counted.histograms.items() if c.metric == metric.name}
        if not own or metric.quantile is None:
            continue
        edge = edge_of(edges, metric)
        if edge is not None:
            where = f"spec.metrics[{metric.name}].quantile.histogram"
            found += [(cell, exceedances(cell, edge, h, where)) for cell, h in own.items()]
            continue
        edges[metric.name] = _look_for_edge(spec, edges.get(metric.name), metric, own)
    if not found:
        return counted, edges
    arms = counted.arms | add_up(found)
    segments = dict(counted.segments)
    for value, its in add_up_segments(found).items():
        segments[value] = segments.get(value, Arms()) | its
    taken = replace(counted, increments=arms.increments, buckets=arms.buckets, segments=segments)
    return taken, edges


def exceedances(cell: Cell, edge: float, histogram: Histogram, where: str) -> Increment:
    """All observations, and those above the edge; ValueError where a histogram lacks the edge."""
    missing = next((e for e in (edge, math.inf) if e not in histogram), None)
    if missing is not None:
        raise ValueError(
            f"{where}: {cell.version} has no bucket "
            f"le={_written(missing)}, which is compared; its versions must have the same edges"
        )
    total = histogram[math.inf]
    return Increment(total, total - histogram[edge])


def _look_for_edge(
    spec: ExperimentSpec, known: Any, metric: Metric, own: Mapping[Cell, Histogram]
) -> dict[str, Any]:
    """What is known of the edge after one more poll of the champion."""
    seen = {float(edge): count for edge, count in (known or {}).get("seen", {}).items()}
    total = merged([seen, *(h for c, h in own.items() if c.version == spec.champion_version)])
    common = [edge for edge in total if all(edge in h for h in own.values())]
    assert metric.quantile is not None
    edge = nearest_edge({e: total[e] for e in common}, metric.quantile.quantile)
    if edge is None or total[math.inf] < ENOUGH:
        return {"seen": {repr(e): n for e, n in sorted(total.items())}}
    return {"edge": edge}


def nearest_edge(histogram: Histogram, quantile: float) -> float | None:
    """The edge at which the share of observations is nearest to the quantile.

    Of edges that have observations on both sides, where there are any; of two as near, the lower
    one. None where nothing was observed, or there is no edge but +Inf.
    """
    total = histogram.get(math.inf, 0.0)
    finite = sorted(edge for edge in histogram if math.isfinite(edge))
    if not total or not finite:
        return None
    dividing = [edge for edge in finite if 0 < histogram[edge] < total]
    return min(dividing or finite, key=lambda edge: abs(histogram[edge] / total - quantile))


def merged(histograms: Iterable[Histogram]) -> dict[float, float]:
    """Their counts together, edge by edge."""
    total: dict[float, float] = {}
    for histogram in histograms:
        for edge, count in histogram.items():
            total[edge] = total.get(edge, 0.0) + count
    return total


def _written(edge: float) -> str:
    return f"{edge:g}" if math.isfinite(edge) else "+Inf"
