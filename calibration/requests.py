"""Requests as the unit: peeking, rare events, ramps with drift, skewed means, power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from calibration.report import Row
from modelexperiment.core.stats import (
    Kind,
    Margin,
    Method,
    Settings,
    Traffic,
    Truth,
    sample_size,
    simulate,
)
from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.design import design_of
from modelexperiment.core.stats.evidence import Evidence
from modelexperiment.core.stats.stratified import Counts

_CHUNK = 1_000


@dataclass(frozen=True)
class Outcome:
    """Rates at which each way of judging was wrong at any look."""

    naive: float
    sequence: float
    process: float


Polls = Callable[[np.random.Generator, int], Iterator[Counts]]


def play(settings: Settings, polls: Polls, effect: float, runs: int, seed: int) -> Outcome:
    """Judge runs at every poll: by a z-test of totals, by the interval, by the p-value.

    Args:
        settings: of the comparison.
        polls: yields each poll's counts of so many runs.
        effect: the true one; the interval is wrong when it misses it.
        runs: how many.
        seed: of the random numbers.
    """
    naive = sequence = process = 0
    for first in range(0, runs, _CHUNK):
        size = min(_CHUNK, runs - first)
        rng = np.random.default_rng([seed, first])
        wrong = _judge(settings, polls(rng, size), effect, size)
        naive, sequence = naive + int(wrong[0].sum()), sequence + int(wrong[1].sum())
        process += int(wrong[2].sum())
    return Outcome(naive / runs, sequence / runs, process / runs)


def _judge(settings: Settings, polls: Iterator[Counts], effect: float, runs: int) -> Array:
    design = design_of(settings)
    evidence = Evidence.start(design, (runs,))
    total, wrong = Counts.zeros((runs,)), np.zeros((3, runs), dtype=bool)
    for poll in polls:
        evidence, total = evidence.observe(design, poll), total + poll
        looked = evidence.look.number > 0
        _, low, high = evidence.look.absolute(design, evidence.scale, settings.alpha)
        wrong[1] |= looked & ((low > effect) | (high < effect))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total.s / total.n
            error = np.sqrt(total.mean_variance(settings.kind).sum(-1))
            z = np.abs(mean[:, 1] - mean[:, 0] - effect) / error
        wrong[0] |= looked & (z > 1.959964)
    wrong[2] = evidence.log_p <= np.log(settings.alpha)
    return wrong


def binomial(a: float, b: float, n: tuple[int, int], looks: int) -> Polls:
    """Constant success rates and sizes."""

    def polls(rng: np.random.Generator, runs: int) -> Iterator[Counts]:
        size = np.broadcast_to(np.array(n, dtype=float), (runs, 2))
        for _ in range(looks):
            s = rng.binomial(np.array(n), [a, b], (runs, 2)).astype(float)
            yield Counts(size, s, s)

    return polls


def ramped(base: float, swing: float, samples: int, looks: int) -> Polls:
    """A day's swing of the success rate and of traffic, while the split goes 10 to 25 to 50 %."""

    def polls(rng: np.random.Generator, runs: int) -> Iterator[Counts]:
        for look in range(looks):
            wave = np.sin(2 * np.pi * look / (looks / 2.5))
            share = (0.1, 0.25, 0.5)[min(3 * look // looks, 2)]
            total = rng.poisson(samples * (1 + 0.5 * wave), runs)
            challenger = rng.binomial(total, share)
            n = np.stack([total - challenger, challenger], axis=-1)
            s = rng.binomial(n, base * (1 + swing * wave)).astype(float)
            yield Counts(n.astype(float), s, s)

    return polls


def skewed(sigma: float, n: tuple[int, int], looks: int, squares: bool = True) -> Polls:
    """Log-normal observations of mean 1."""

    def polls(rng: np.random.Generator, runs: int) -> Iterator[Counts]:
        size = np.broadcast_to(np.array(n, dtype=float), (runs, 2))
        for _ in range(looks):
            arms = [rng.lognormal(-(sigma**2) / 2, sigma, (runs, m)) for m in n]
            s = np.stack([arm.sum(-1) for arm in arms], axis=-1)
            q = np.stack([np.square(arm).sum(-1) for arm in arms], axis=-1)
            yield Counts(size, s, q if squares else np.full_like(q, np.nan))

    return polls


def peeking() -> list[Row]:
    """A/A at 5 %, 1,000 looks; and coverage with an effect."""
    plan = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=10))
    name, runs = "A/A, p = .05, 1,000 looks of 100 + 100", 10_000
    out = play(plan, binomial(0.05, 0.05, (100, 100), 1_000), 0.0, runs, 1)
    rows = [
        Row(name, "false positives, z-test at every look", out.naive, runs=runs),
        Row(name, "false positives, interval", out.sequence, 0.055, runs=runs),
        Row(name, "false positives, p-value", out.process, 0.055, runs=runs),
    ]
    runs = 2_000
    out = play(plan, binomial(0.05, 0.06, (100, 100), 1_000), 0.01, runs, 2)
    name = "5 % against 6 %, 1,000 looks"
    return [*rows, Row(name, "coverage at all looks", 1 - out.sequence, at_least=0.95, runs=runs)]


def rare() -> list[Row]:
    """Rare events with an uneven split."""
    plan, rows, runs = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=50)), [], 4_000
    for p in (0.0005, 0.005):
        name = f"rare, p = {p}, 900 + 100, 1,000 looks"
        out = play(plan, binomial(p, p, (900, 100), 1_000), 0.0, runs, 3)
        rows += [
            Row(name, "false positives, p-value", out.process, 0.055, runs=runs),
            Row(name, "coverage at all looks", 1 - out.sequence, at_least=0.95, runs=runs),
        ]
    name = "2 % against .05 %, 900 + 100, 400 looks"
    out = play(plan, binomial(0.02, 0.0005, (900, 100), 400), -0.0195, runs, 3)
    return [*rows, Row(name, "coverage at all looks", 1 - out.sequence, at_least=0.95, runs=runs)]


def drift() -> list[Row]:
    """A ramp while rates and traffic swing by the hour."""
    plan, runs = Settings(Kind.PROPORTION, minimum_effect=Margin(relative=10)), 2_000
    name = "ramp 10, 25, 50 % with a 60 % daily swing, 500 looks"
    out = play(plan, ramped(0.05, 0.6, 400, 500), 0.0, runs, 4)
    return [
        Row(name, "false positives, z-test of totals", out.naive, runs=runs),
        Row(name, "false positives, interval", out.sequence, 0.055, runs=runs),
        Row(name, "false positives, p-value", out.process, 0.055, runs=runs),
    ]


def means() -> list[Row]:
    """Skewed means, with and without the sum of squares."""
    rows, runs = [], 2_000
    plan = Settings(Kind.MEAN, minimum_effect=Margin(relative=5))
    for sigma in (1.0, 1.5):
        for squares in (True, False):
            source = "with" if squares else "without"
            name = f"log-normal means, sigma {sigma}, 80 + 20, 200 looks, {source} squares"
            out = play(plan, skewed(sigma, (80, 20), 200, squares), 0.0, runs, 5)
            rows.append(Row(name, "false positives", out.process, 0.055, runs=runs))
    return rows


def power() -> list[Row]:
    """The chance of finding the effect that was planned for."""
    effect, looks, rows = 0.02, 200, []
    plan = Settings(Kind.MEAN, minimum_effect=Margin(absolute=effect))
    fixed = sample_size(effect=effect, champion_variance=1.0).champion
    for factor, bar in ((1.0, 0.53), (1.5, 0.75), (2.0, 0.88)):
        traffic = Traffic(round(2 * fixed * factor / looks), looks)
        out = simulate(plan, Truth(1.0, 1.0 + effect), traffic, runs=4_000, seed=6)
        question = f"power at {factor:g} times the fixed sample"
        # The bar is a rounded number: what is within sampling error of it keeps it.
        rows.append(Row("a mean, planned effect", question, out.rate, None, bar - 0.015, 4_000))
    size = sample_size(effect=effect, champion_variance=1.0, method=Method.SEQUENTIAL)
    traffic = Traffic(round(2 * size.champion / 1_000), 1_000)
    out = simulate(plan, Truth(1.0, 1.0 + effect), traffic, runs=2_000, seed=7)
    question = "power at the planned sequential sample, 1,000 looks"
    rows.append(Row("a mean, planned effect", question, out.rate, None, 0.77, 2_000))
    return rows


def horizons() -> list[Row]:
    """Tests with a known end."""
    rows, runs = [], 10_000
    for method, looks, name in (
        (Method.GROUP_SEQUENTIAL, None, "O'Brien-Fleming, continuous"),
        (Method.GROUP_SEQUENTIAL, 5, "Lan-DeMets, 5 looks"),
        (Method.FIXED_HORIZON, None, "fixed horizon"),
    ):
        plan = Settings(Kind.PROPORTION, method, sample_size=9_900, looks=looks)
        out = simulate(plan, Truth(0.1, 0.1), Traffic(200, 100), runs=runs, seed=8)
        rows.append(Row(f"A/A, {name}", "false positives", out.rate, 0.055, runs=runs))
    margin = Settings(Kind.PROPORTION, margin=Margin(relative=10), sample_size=20_000)
    out = simulate(margin, Truth(0.2, 0.18), Traffic(400, 100), runs=2_000, seed=9)
    name = "not worse than 10 %, at the margin"
    return [*rows, Row(name, "false positives", out.rate, 0.055, runs=2_000)]
