"""The shadow gate: how often it answers wrongly, and how many comparisons an answer takes."""

from __future__ import annotations

import math

import numpy as np

from calibration.report import Row
from modelexperiment.core.stats import mixture_log_evidence
from modelexperiment.core.stats.confidence_sequence import Array

_ALPHA = 0.05


def _answers(p: Array, limit: float, step: int, looks: int, seed: int) -> tuple[Array, Array]:
    """After how many comparisons each run passes, and diverges; infinite where it never does.

    Args:
        p: the chance that a comparison disagrees, by run; shape (runs,).
        limit: the accepted divergence.
        step: comparisons from look to look.
        looks: how many.
        seed: of the random numbers.
    """
    rng, level = np.random.default_rng(seed), -math.log(_ALPHA)
    runs = len(p)
    s, n = np.zeros(runs), 0.0
    passes, diverges = np.full(runs, np.inf), np.full(runs, np.inf)
    at = np.full(runs, limit)
    for _ in range(looks):
        n += step
        s += rng.binomial(step, p)
        beyond = mixture_log_evidence(np.full(runs, n), s, at, limit) >= level
        passes = np.where(beyond & (s < n * limit) & np.isinf(passes), n, passes)
        diverges = np.where(beyond & (s > n * limit) & np.isinf(diverges), n, diverges)
    return passes, diverges


def gate() -> list[Row]:
    """Wrong answers at the limit, and the comparisons needed away from it."""
    rows = []
    for limit, step in ((0.05, 1), (0.05, 20), (0.01, 20), (0.2, 20)):
        runs = 10_000
        passes, diverges = _answers(np.full(runs, limit), limit, step, 1_000, seed=21)
        name = f"shadow just at the limit of {100 * limit:g} %, 1,000 looks at every {step}"
        for question, found in (("passes", passes), ("diverges", diverges)):
            rate = float(np.isfinite(found).mean())
            rows.append(Row(name, f"{question}, alpha .05", rate, _ALPHA, None, runs))
    name = "shadow, limit 5 %, a look at every 20 comparisons"
    for share in (0.0, 0.01, 0.03):
        passes, _ = _answers(np.full(1_000, share), 0.05, 20, 1_000, seed=22)
        question = f"median comparisons to pass, {100 * share:g} % disagree"
        rows.append(Row(name, question, float(np.median(passes))))
    for share in (0.07, 0.1):
        _, diverges = _answers(np.full(1_000, share), 0.05, 20, 1_000, seed=23)
        question = f"median comparisons to diverge, {100 * share:g} % disagree"
        rows.append(Row(name, question, float(np.median(diverges))))
    return [*rows, _few_users()]


def _few_users() -> Row:
    """Comparisons of a few users again and again, who disagree each at a rate of their own."""
    rng, runs = np.random.default_rng(24), 2_000
    share = rng.beta(0.5, 9.5, (runs, 100)).mean(axis=1)
    passes, _ = _answers(share, 0.05, 20, 1_000, seed=25)
    name = "shadow just at the limit of 5 %, the same 100 users again and again"
    return Row(name, "passes", float(np.isfinite(passes).mean()), runs=runs)
