"""Users as the unit: sticky traffic of users who differ in activity and in success."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calibration.report import Row
from modelexperiment.core.stats import Kind, Margin, SampleRatio, Settings, Unit
from modelexperiment.core.stats.clusters import DOMINATING_SHARE
from modelexperiment.core.stats.confidence_sequence import Array, Flags
from modelexperiment.core.stats.design import design_of
from modelexperiment.core.stats.evidence import Evidence
from modelexperiment.core.stats.stratified import Counts

USERS, POLLS, BUCKETS = 4_000, 200, 64
RUNS = 500
PLANNED = Margin(absolute=0.04)
_CHUNK = 50


@dataclass(frozen=True)
class Population:
    """One run's users.

    Attributes:
        activity: requests per poll of each, shape (U,).
        success: the probability of each, shape (U,).
        place: in the unit interval; below the challenger's share means the challenger.
        bucket: hash bucket.
    """

    activity: Array
    success: Array
    place: Array
    bucket: np.typing.NDArray[np.int64]

    @classmethod
    def draw(cls, rng: np.random.Generator, tail: float) -> Population:
        """Users whose activity is Pareto with this tail, a tenth of a request a poll on average."""
        activity = rng.pareto(tail, USERS) + 1.0
        return cls(
            activity=0.1 * activity / activity.mean(),
            success=rng.beta(2.0, 2.0, USERS),
            place=rng.random(USERS),
            bucket=rng.integers(0, BUCKETS, USERS),
        )

    def polls(self, rng: np.random.Generator, effect: float, loss: float) -> Iterator[Array]:
        """Samples and successes by arm and bucket, shape (2, 2, B), while the split ramps.

        Args:
            rng: of the requests.
            effect: added to the challenger's success.
            loss: the part of the challenger's requests that is lost.
        """
        for poll in range(POLLS):
            wave = np.sin(2 * np.pi * poll / 80)
            challenger = self.place < share_at(poll)
            rate = self.activity * (1 + 0.5 * wave) * np.where(challenger, 1 - loss, 1.0)
            n = rng.poisson(rate)
            seen = np.flatnonzero(n)
            n, arm = n[seen], challenger[seen]
            chance = self.success[seen] + 0.1 * wave + np.where(arm, effect, 0.0)
            s = rng.binomial(n, np.clip(chance, 0.0, 1.0))
            key = arm * BUCKETS + self.bucket[seen]
            counts = [np.bincount(key, weights=v, minlength=2 * BUCKETS) for v in (n, s)]
            yield np.array(counts, dtype=np.float64).reshape(2, 2, BUCKETS)


def share_at(poll: int) -> float:
    """The challenger's share."""
    return (0.1, 0.25, 0.5)[min(3 * poll // POLLS, 2)]


@dataclass(frozen=True)
class Outcome:
    """What each run ended with, arrays of shape (runs,).

    A verdict is shown unless a bucket dominates when it falls.
    """

    requests_found: Flags
    users_found: Flags
    users_shown: Flags
    dominated: Flags
    design_effect: Array
    ratio_p: Array


def play(seed: int, tail: float, runs: int, effect: float = 0.0, loss: float = 0.0) -> Outcome:
    """Experiments judged at every poll by both units, and by sample ratio at every tenth."""
    parts = [
        _chunk(seed + first, tail, min(_CHUNK, runs - first), effect, loss)
        for first in range(0, runs, _CHUNK)
    ]
    fields = [f.name for f in dataclasses.fields(Outcome)]
    return Outcome(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def _chunk(seed: int, tail: float, runs: int, effect: float, loss: float) -> Outcome:
    rngs = [np.random.default_rng(seed + k) for k in range(runs)]
    worlds = [Population.draw(rng, tail).polls(rng, effect, loss) for rng in rngs]
    by_request = design_of(Settings(Kind.PROPORTION, minimum_effect=PLANNED))
    by_user = design_of(
        Settings(Kind.PROPORTION, unit=Unit.USER, buckets=BUCKETS, minimum_effect=PLANNED)
    )
    requests, users = Evidence.start(by_request, (runs,)), Evidence.start(by_user, (runs,))
    ratios = Ratios(runs)
    found, level = np.zeros((2, runs), dtype=bool), np.log(0.05)
    for number, tables in enumerate(zip(*worlds, strict=True)):
        table = np.stack(tables)
        totals = table.sum(-1)
        counts = Counts(totals[:, 0], totals[:, 1], totals[:, 1])
        requests = requests.observe(by_request, counts)
        users = users.observe(by_user, counts, table)
        dominated = np.asarray((users.clusters.largest_share > DOMINATING_SHARE).any(-1))
        found |= np.array([users.log_p <= level, (users.log_p <= level) & ~dominated])
        ratios.observe(number, table[:, 0])
    within, whole = users.strata.summary(), users.summary(by_user)
    return Outcome(
        requests.log_p <= level,
        found[0],
        found[1],
        dominated,
        whole.variance.sum(-1) / within.variance.sum(-1),
        ratios.p_values,
    )


class Ratios:
    """The sample ratio of many runs, looked at after every ten polls and before a ramp's step."""

    def __init__(self, runs: int) -> None:
        start = SampleRatio.start({"a": 0.9, "b": 0.1}, BUCKETS)
        self._ratios, self._seen, self._share = [start] * runs, np.zeros((runs, 2, BUCKETS)), 0.1

    def observe(self, poll: int, requests: Array) -> None:
        """With requests by run, arm and bucket."""
        if share_at(poll) != self._share:
            self._look()
            self._share = share_at(poll)
            split = {"a": 1 - self._share, "b": self._share}
            self._ratios = [ratio.new_phase(split) for ratio in self._ratios]
        self._seen = self._seen + requests
        if poll % 10 == 9:
            self._look()

    def _look(self) -> None:
        self._ratios = [
            ratio.observe_buckets(
                {arm: dict(enumerate(row)) for arm, row in zip("ab", seen, strict=True)}
            )
            for ratio, seen in zip(self._ratios, self._seen, strict=True)
        ]
        self._seen = np.zeros_like(self._seen)

    @property
    def p_values(self) -> Array:
        """Of each run."""
        return np.array([ratio.p_value for ratio in self._ratios])


def column(tail: float) -> list[Row]:
    """False positives and sample ratio of one kind of population."""
    name = f"{USERS:,} sticky users, activity Pareto {tail}, {POLLS} looks, ramp and swing"
    out = play(1_000, tail, RUNS)

    def row(question: str, hits: Flags, bar: float | None = None) -> Row:
        return Row(name, question, float(hits.mean()), bar, None, RUNS)

    # Bars of rates are what the promised rate exceeds by chance once in twenty times.
    return [
        Row(name, "median design effect", round(float(np.median(out.design_effect)), 1)),
        row("false positives, requests as the unit", out.requests_found),
        row("false positives, 64 buckets as clusters", out.users_found, 0.068),
        row("the same, without verdicts that are withheld", out.users_shown, 0.055),
        row("withheld at the end, for a dominating bucket", out.dominated),
        row("sample ratio alarms at .01", out.ratio_p <= 0.01, 0.018),
        row("sample ratio alarms at .001", out.ratio_p <= 0.001, 0.004),
    ]


def heavy() -> list[Row]:
    """Few users make most of the requests."""
    return column(1.2)


def moderate() -> list[Row]:
    """Users differ less; and what is found when there is something to find."""
    name, runs = f"{USERS:,} sticky users, activity Pareto 2.5", 200
    better = play(90_000, 2.5, runs, effect=0.04).users_shown
    lossy = play(80_000, 2.5, runs, loss=0.2).ratio_p <= 0.001
    return [
        *column(2.5),
        Row(name, "effect of 4 points found", float(better.mean()), None, 0.7, runs),
        Row(name, "20 % of an arm lost, found at .001", float(lossy.mean()), None, 0.5, runs),
    ]
