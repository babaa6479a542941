"""Many questions at once.

Both corrections keep the chance of any false positive at alpha. On running-minimum anytime
p-values they hold at every look, since these are p-values whenever one stops.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def bonferroni(p: Mapping[K, float]) -> dict[K, float]:
    """Each p-value times the number of questions, at most 1."""
    return {name: min(1.0, len(p) * value) for name, value in p.items()}


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Holm's step-down adjustment; never larger than `bonferroni`.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979). (.01, .04, .03) become (.03, .06, .06).
    """
    adjusted: dict[K, float] = {}
    floor = 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p) - rank) * value))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p}
