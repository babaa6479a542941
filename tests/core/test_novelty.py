"""Novelty in the status: days or hours, of the primary metric, and never decided from."""

from __future__ import annotations

import random
from datetime import timedelta

from modelexperiment.core.entries import NoveltyReport
from modelexperiment.core.novelty import block_name
from tests.core.builders import ACCURACY, Life, experiment

HOUR = timedelta(hours=1)
BLIND = {**ACCURACY, "minimumEffect": {"relative": 0.01}}


def live(effects: list[float], draw: random.Random) -> Life:
    """An experiment of days with these effects, polled four times a day."""
    life = Life(metrics=[BLIND], rollout={"onWin": "Manual"}, analysis={"maxDuration": "60d"})
    life.start()
    for effect in effects:
        for _ in range(4):
            grown = {
                version: (4_000.0, float(sum(draw.random() < p for _ in range(4_000))))
                for version, p in (("v1", 0.3), ("v2", 0.3 + effect))
            }
            life.poll(grown, after=6 * HOUR)
    return life


def report(life: Life) -> NoveltyReport | None:
    return life.status.analysis[0].novelty


def test_an_effect_that_wears_off_is_told() -> None:
    found = report(live([0.15 * 0.6**day for day in range(8)], random.Random(1)))
    assert found
    assert (found.block, found.blocks, found.drift) == ("day", 8, "falling")
    assert found.p_value < 0.05


def test_a_lasting_effect_is_steady() -> None:
    found = report(live([0.02] * 6, random.Random(2)))
    assert found
    assert (found.blocks, found.drift) == (6, "steady")


def test_one_block_says_nothing() -> None:
    assert report(live([0.0], random.Random(3))) is None


def test_a_changed_metric_begins_its_blocks_anew() -> None:
    life = live([0.02] * 3, random.Random(4))
    assert report(life)
    life.edit(metrics=[{**BLIND, "goal": "Decrease"}])
    life.poll({"v1": (4_000, 1_200), "v2": (4_000, 1_300)}, after=HOUR)
    assert report(life) is None


def test_long_experiments_are_cut_into_days_and_short_ones_into_hours() -> None:
    assert block_name(experiment(analysis={"maxDuration": "7d"}).spec) == "day"
    assert block_name(experiment(analysis={"maxDuration": "6d"}).spec) == "hour"
