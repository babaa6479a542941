"""Records what independent implementations say, for the tests to compare with.

Each of them needs an environment of its own (gbstats wants numpy below 2, savvi brings a solver):

    python -m venv gb && gb/bin/pip install gbstats==0.8.0 "numpy<2"
    gb/bin/python tests/oracles/record.py gbstats
    python -m venv sv && sv/bin/pip install savvi==0.3.1 matplotlib
    sv/bin/python tests/oracles/record.py savvi

Each call writes tests/oracles/<name>.json: a list of cases, each with its input and the output.
"""

import importlib.metadata
import json
import random
import sys
from pathlib import Path
from typing import Any


def means(seed: int) -> tuple[list[float], list[float]]:
    """Count, sum and sum of squares of two arms, drawn from a fixed seed."""
    rng = random.Random(seed)
    arms = []
    for mean in (10.0, 10.0 + 0.2 * seed):
        values = [rng.gammavariate(2.0, mean / 2.0) for _ in range(300 * seed)]
        arms.append([len(values), sum(values), sum(v * v for v in values)])
    return arms[0], arms[1]


def record_gbstats() -> list[dict[str, Any]]:
    """GrowthBook's sequential t-test and Welch's t-test."""
    from gbstats.frequentist import tests
    from gbstats.models.statistics import ProportionStatistic, SampleMeanStatistic

    cases = []
    for seed in range(1, 6):
        a, b = means(seed)
        stat_a, stat_b = (SampleMeanStatistic(n=n, sum=s, sum_squares=q) for n, s, q in (a, b))
        tuning = 1000.0 * seed
        sequential = tests.SequentialTwoSidedTTest(
            stat_a,
            stat_b,
            tests.SequentialConfig(difference_type="absolute", sequential_tuning_parameter=tuning),
        )
        welch = tests.TwoSidedTTest(
            stat_a, stat_b, tests.FrequentistConfig(difference_type="absolute")
        )
        for name, test in (("sequential", sequential), ("welch", welch)):
            cases.append({"test": name, "a": a, "b": b, "tuning": tuning} | outcome(test))
    stat_a = ProportionStatistic(n=10000, sum=500)
    stat_b = ProportionStatistic(n=10000, sum=580)
    config = tests.SequentialConfig(difference_type="absolute", sequential_tuning_parameter=20000.0)
    test = tests.SequentialTwoSidedTTest(stat_a, stat_b, config)
    case = {"test": "proportion", "a": [10000, 500], "b": [10000, 580], "tuning": 20000.0}
    return [*cases, case | outcome(test)]


def outcome(test: Any) -> dict[str, Any]:
    """Effect, interval and p-value of one of gbstats' tests."""
    lower, upper = (float(end) for end in test.confidence_interval)
    return {
        "effect": float(test.point_estimate),
        "lower": lower,
        "upper": upper,
        "p": float(test.p_value),
    }


def record_savvi() -> list[dict[str, Any]]:
    """The anytime-valid multinomial test, cumulated over several updates."""
    import numpy as np
    from savvi.multinomial import Multinomial

    cases = []
    for k, shares, counts in (
        (100, [0.5, 0.5], [[1560, 1440]]),
        (100, [0.5, 0.5], [[1560, 1440], [545, 455]]),
        (1000, [0.9, 0.1], [[905, 95], [880, 120], [901, 99]]),
        (1000, [0.5, 0.25, 0.25], [[520, 230, 250], [480, 300, 220]]),
    ):
        test = Multinomial(0.05, np.array(shares), k)
        for update in counts:
            test.update(np.array(update))
        total = np.sum(counts, axis=0).tolist()
        cases.append({"k": k, "shares": shares, "counts": total, "e": float(test.odds)})
    return cases


if __name__ == "__main__":
    name = sys.argv[1]
    recorded = {"gbstats": record_gbstats, "savvi": record_savvi}[name]()
    version = importlib.metadata.version(name)
    text = json.dumps({"package": name, "version": version, "cases": recorded}, indent=1)
    Path(__file__).with_name(f"{name}.json").write_text(text + "\n")
