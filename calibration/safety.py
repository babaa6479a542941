"""Guardrails and sample ratio: false alarms, and how soon a fault is found."""

from __future__ import annotations

import math

import numpy as np

from calibration.report import Row
from modelexperiment.core.stats import GuardrailTest, Increment, Kind, Limit, Margin, Poll
from modelexperiment.core.stats.sample_ratio import log_multinomial_evidence

_EQUAL = Limit(Kind.PROPORTION, max_increase=Margin(absolute=0.0))
_HALF_MORE = Limit(Kind.PROPORTION, max_increase=Margin(relative=50))
_ABSOLUTE = Limit(Kind.PROPORTION, maximum=0.01)


def delay(limit: Limit, bad: float, begins: int, polls: int, seed: int) -> float:
    """Polls of 450 + 50 requests with 1 % errors until the alarm, after ``bad`` begins."""
    rng = np.random.default_rng(seed)
    test = GuardrailTest.start(limit)
    for number in range(polls):
        rate = bad if number >= begins else 0.01
        champion, challenger = int(rng.binomial(450, 0.01)), int(rng.binomial(50, rate))
        test = test.observe(Poll(Increment(450, champion), Increment(50, challenger)))
        if test.breached(0.01):
            return number + 1 - begins
    return math.inf


def guardrails() -> list[Row]:
    """Delays and false alarms at alpha .01."""
    rows, runs = [], 400
    name = "guardrail alpha .01, 450 + 50 a poll, 1 % errors"
    for limit, bad, begins, bar, question in (
        (_EQUAL, 0.05, 0, 6, "median polls to find 5 %, no margin"),
        (_EQUAL, 0.02, 0, 34, "median polls to find 2 %, no margin"),
        (_EQUAL, 0.05, 300, 10.5, "median polls to find 5 % that begins at poll 300"),
        (_HALF_MORE, 0.05, 0, None, "median polls to find 5 %, margin of 50 %"),
        (_ABSOLUTE, 0.05, 0, 6, "median polls to find 5 %, limit 1 %"),
    ):
        count = 100 if begins or limit is _HALF_MORE else runs
        delays = [delay(limit, bad, begins, begins + 300, k) for k in range(count)]
        late = [d for d in delays if d > 0]
        rows.append(Row(name, question, float(np.median(late)), bar))
    for limit, label in ((_EQUAL, "no margin"), (_ABSOLUTE, "limit 1 %")):
        alarms = [delay(limit, 0.01, 0, 300, 5_000 + k) < math.inf for k in range(runs)]
        question = f"false alarms within 300 polls, {label}"
        # At most what a true rate of 1 % exceeds once in a hundred times.
        rows.append(Row(name, question, float(np.mean(alarms)), 0.0225, None, runs))
    return rows


def sample_ratio() -> list[Row]:
    """Requests at random: false alarms, and how many requests find 51 to 49."""
    half, level, step = np.array([0.5, 0.5]), math.log(1_000), 100
    rng = np.random.default_rng(11)

    def first_alarm(share: float, runs: int, looks: int) -> np.ndarray:
        seen, found = np.zeros((runs, 2)), np.full(runs, np.inf)
        for look in range(1, looks + 1):
            got = rng.binomial(step, share, runs)
            seen += np.stack([got, step - got], axis=-1)
            alarm = log_multinomial_evidence(seen, half) >= level
            found = np.where(alarm & np.isinf(found), look * step, found)
        return found

    false = float(np.isfinite(first_alarm(0.5, 20_000, 1_000)).mean())
    needed = float(np.median(first_alarm(0.51, 2_000, 2_000)))
    name = "sample ratio alpha .001, a look at every 100 requests"
    return [
        Row(name, "false alarms within 100,000 requests", false, 0.001, runs=20_000),
        Row(name, "median requests to find 51 to 49", needed, 42_000),
    ]
