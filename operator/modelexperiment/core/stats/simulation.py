"""How a test of these settings would behave: false positives, power, time to a verdict.

Thousands of experiments run at once through the very code that judges the real one, with arrays
that have one more axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from scipy import stats

from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.design import design_of
from modelexperiment.core.stats.evidence import Evidence
from modelexperiment.core.stats.model import Kind, Settings, Unit, require
from modelexperiment.core.stats.stratified import Counts

# Large enough that numpy's work outweighs Python's, small enough for a core's cache.
_CHUNK = 1_000


@dataclass(frozen=True)
class Truth:
    """What is really so in a simulated experiment.

    Attributes:
        champion: the champion's probability, rate or mean.
        challenger: the challenger's.
        spread: standard deviation of one observation; only of means.
        bucket_spread: standard deviation of the values of users' hash buckets; only with users as
            the unit.
    """

    champion: float
    challenger: float
    spread: float = 1.0
    bucket_spread: float = 0.0


@dataclass(frozen=True)
class Traffic:
    """How much arrives.

    Attributes:
        samples: of both arms together at each look.
        looks: how often is looked.
        share: the challenger's share of the samples.
    """

    samples: int
    looks: int
    share: float = 0.5


@dataclass(frozen=True)
class Simulation:
    """What came out.

    Attributes:
        runs: number of experiments.
        rejections: in how many the null was rejected by the last look.
        wrong_direction: in how many of these the estimate then had the wrong sign.
        rate: rejections per run; false positives without an effect, power with one.
        lower: end of the 95 % Clopper-Pearson interval of the rate.
        upper: its other end.
        mean_looks: expected looks until the rejection, or until the last look.
        median_looks: half of the experiments are decided by then; None where they are not.
    """

    runs: int
    rejections: int
    wrong_direction: int
    rate: float
    lower: float
    upper: float
    mean_looks: float
    median_looks: float | None


def clopper_pearson(hits: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a probability from its hits."""
    tail = (1.0 - level) / 2.0
    lower = float(stats.beta.ppf(tail, hits, runs - hits + 1)) if hits else 0.0
    upper = float(stats.beta.isf(tail, hits + 1, runs - hits)) if hits < runs else 1.0
    return lower, upper


def simulate(
    settings: Settings,
    truth: Truth,
    traffic: Traffic,
    *,
    runs: int = 1_000,
    seed: int = 0,
    threads: int = 2,
    progress: Callable[[float], None] | None = None,
) -> Simulation:
    """Run many experiments of these settings.

    Args:
        settings: of the comparison.
        truth: the arms' real values.
        traffic: how much arrives and how often is looked.
        runs: how many experiments.
        seed: the same seed gives the same result, whatever the number of threads.
        threads: numpy leaves the interpreter's lock, so that threads use cores.
        progress: called with the part of runs that is done, from 0 to 1.

    Raises:
        ValueError: a number is out of its range.
    """
    require(runs >= 1, "runs", runs, "not from 1 up")
    require(traffic.samples >= 1, "samples", traffic.samples, "not from 1 up")
    require(traffic.looks >= 1, "looks", traffic.looks, "not from 1 up")
    require(0 < traffic.share < 1, "share", traffic.share, "not between 0 and 1")
    sizes = [min(_CHUNK, runs - first) for first in range(0, runs, _CHUNK)]
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    decided, wrong, done = [], 0, 0
    with ThreadPoolExecutor(threads) as pool:
        waiting = [
            pool.submit(_chunk, settings, truth, traffic, size, child)
            for size, child in zip(sizes, seeds, strict=True)
        ]
        for future in as_completed(waiting):
            looks, mistaken = future.result()
            decided.append(looks)
            wrong, done = wrong + mistaken, done + len(looks)
            if progress is not None:
                progress(done / runs)
    return _summarise(np.concatenate(decided), wrong, traffic.looks)


def _summarise(decided: Array, wrong: int, looks: int) -> Simulation:
    """``decided`` is the look of each run's rejection, infinite without one."""
    runs, hits = len(decided), int(np.isfinite(decided).sum())
    median = float(np.median(decided)) if 2 * hits > runs else None
    return Simulation(
        runs,
        hits,
        wrong,
        hits / runs,
        *clopper_pearson(hits, runs),
        mean_looks=float(np.minimum(decided, looks).mean()),
        median_looks=median,
    )


def _chunk(
    settings: Settings, truth: Truth, traffic: Traffic, runs: int, seed: np.random.SeedSequence
) -> tuple[Array, int]:
    """The look of each run's rejection, and how many were in the wrong direction."""
    design = design_of(settings)
    evidence = Evidence.start(design, (runs,))
    decided, wrong = np.full(runs, np.inf), 0
    level = np.log(settings.alpha)
    for look, (counts, buckets) in enumerate(_polls(settings, truth, traffic, runs, seed), 1):
        evidence = evidence.observe(design, counts, buckets)
        new = (evidence.log_p <= level) & np.isinf(decided)
        if new.any():
            decided[new] = look
            mean = evidence.strata.summary().mean[new]
            estimate, real = mean[:, 1] - mean[:, 0], truth.challenger - truth.champion
            wrong += int((np.sign(estimate) == -np.sign(real)).sum()) if real else 0
            if np.isfinite(decided).all():
                break
    return decided, wrong


def _polls(
    settings: Settings, truth: Truth, traffic: Traffic, runs: int, seed: np.random.SeedSequence
) -> Iterator[tuple[Counts, Array | None]]:
    rng = np.random.default_rng(seed)
    values = np.array([truth.champion, truth.challenger])
    if settings.unit is Unit.USER:
        # Users of a bucket in one arm are others than those in the other arm.
        noise = rng.standard_normal((runs, 2, settings.buckets))
        values = values[:, None] + truth.bucket_spread * noise
        if settings.kind.is_binary:
            values = np.clip(values, 0.0, 1.0)
    for _ in range(traffic.looks):
        challenger = rng.binomial(traffic.samples, traffic.share, runs)
        n = np.stack([traffic.samples - challenger, challenger], axis=-1)
        if settings.unit is Unit.REQUEST:
            yield _draw(rng, settings.kind, n, values, truth.spread), None
            continue
        n = rng.multinomial(n, np.full(settings.buckets, 1.0 / settings.buckets))
        table = _draw(rng, settings.kind, n, values, truth.spread)
        totals = Counts(table.n.sum(-1), table.s.sum(-1), table.q.sum(-1))
        yield totals, np.stack([table.n, table.s], axis=-3)


def _draw(
    rng: np.random.Generator, kind: Kind, n: np.typing.NDArray[np.int64], values: Array, sd: float
) -> Counts:
    """Sums of n samples with these values, and their squares."""
    size = n.astype(np.float64)
    if kind.is_binary:
        s = rng.binomial(n, np.broadcast_to(values, n.shape)).astype(np.float64)
        return Counts(size, s, s)
    if kind is Kind.RATE:
        s = rng.poisson(size * values).astype(np.float64)
        return Counts(size, s, s)
    s = rng.normal(size * values, sd * np.sqrt(size))
    residual = sd * sd * rng.chisquare(np.maximum(size - 1.0, 1e-9)) * (size > 1)
    return Counts(size, s, residual + np.square(s) / np.maximum(size, 1.0))
