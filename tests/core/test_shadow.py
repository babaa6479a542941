"""What is counted of a shadow beside the experiment, and what the status says of it."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from modelexperiment.core.measures import shadow_parts
from modelexperiment.core.snapshot import Counted, Problem
from modelexperiment.core.stats import jensen_shannon, stability_index
from modelexperiment.core.status import Phase, ShadowState
from tests.core.builders import POLL, START, Life, fell, spec
from tests.core.shadowed import AGREES, BESIDE, CHALLENGER, DIFFERS, Shadowed

SOME = {"v1": (100.0, 50.0), "v2": (100.0, 52.0)}
PREDICTIONS = {"modelVersion": "v3", "predictions": "score_bucket"}


def started(**fields: object) -> Shadowed:
    life = Shadowed(**{"shadow": BESIDE, **fields})
    life.start()
    return life


def test_a_shadow_beside_the_experiment_holds_nothing_back() -> None:
    life = started()

    assert life.status.phase is Phase.RUNNING
    assert life.status.routed_split == {"v1": 50, "v2": 50}
    assert (life.shadow.model_version, life.shadow.since) == ("v3", START)
    assert (life.shadow.comparisons, life.shadow.state) == (0, ShadowState.INSUFFICIENT_DATA)
    assert life.condition("ShadowAgrees").status == "Unknown"


def test_comparisons_add_up_to_an_answer_with_its_bounds() -> None:
    life = started()
    life.compare(50, 1, counted=life.counted(SOME))
    assert life.shadow.state is ShadowState.INSUFFICIENT_DATA
    life.compare(950, 9)

    found = life.shadow
    assert (found.comparisons, found.disagreements, found.limit) == (1_000, 10, 0.05)
    assert found.divergence == 0.01
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < 0.01 < found.upper <= 0.05
    assert found.state is ShadowState.PASS
    assert life.events() == ["Started", "ShadowPassed"]
    agrees = life.condition("ShadowAgrees")
    assert (agrees.status, agrees.reason) == ("True", "Agrees")
    assert agrees.message.startswith(
        "v3 agrees with the champion: 10 of 1,000 comparisons disagree, 1 % (at every look "
    )
    assert agrees.message.endswith("; limit 5 %")
    # The experiment itself goes on as without a shadow.
    assert life.status.analysis[0].champion.samples == 100
    assert life.status.phase is Phase.RUNNING


def test_a_shadow_that_differs_is_told_and_holds_nothing_back_either() -> None:
    life = started()
    life.compare(*DIFFERS)

    assert life.shadow.state is ShadowState.DIVERGES
    assert life.status.phase is Phase.RUNNING
    assert life.events() == ["Started", "ShadowDiverged"]
    found = life.condition("ShadowAgrees")
    assert (found.status, found.reason) == ("False", "Diverges")
    assert found.message.endswith("look at where the two differ, or raise maxDivergence")
    life.compare(*DIFFERS)
    assert life.events() == []


def test_a_poll_is_counted_once_and_one_that_does_not_follow_on_is_not() -> None:
    life = started()
    stale = Counted(START - POLL, START + POLL, {})
    life.poll(shadowed=stale)
    assert life.status.memory.shadow_until == START

    life.compare(10, 0)
    assert life.status.memory.shadow_until == START + 2 * POLL
    life.poll(shadowed=None)
    assert life.shadow.comparisons == 10


def test_a_poll_without_samples_moves_the_time_on_seldom() -> None:
    life = started()
    life.compare(0, 0)
    assert life.status.memory.shadow_until == START
    life.compare(0, 0, after=timedelta(minutes=10))
    assert life.status.memory.shadow_until == life.now


def test_a_counter_that_is_missing_lets_nothing_pass() -> None:
    life = started()
    silent = ("spec.shadow.disagreements: disagreed_total{}",)
    life.compare(*AGREES, silent=silent)

    assert (life.shadow.comparisons, life.shadow.state) == (0, ShadowState.INSUFFICIENT_DATA)
    found = life.condition("ShadowAgrees")
    assert (found.status, found.reason) == ("Unknown", "NoSeries")
    assert found.message.startswith(
        'spec.shadow.disagreements: disagreed_total{} matches no series with model_version="v3": '
    )
    assert found.message.endswith("a counter that has not counted yet must be exposed as 0")
    life.compare(*AGREES)
    assert (life.shadow.comparisons, life.shadow.state) == (200, ShadowState.PASS)


def test_a_histogram_that_is_missing_keeps_the_gate_from_nothing() -> None:
    life = started(shadow={**BESIDE, "predictions": "score_bucket"})
    life.compare(*AGREES, silent=("spec.shadow.predictions: score_bucket",))

    assert (life.shadow.comparisons, life.shadow.state) == (200, ShadowState.PASS)
    assert life.shadow.distribution is None


def test_what_keeps_prometheus_from_answering_is_said() -> None:
    life = started()
    life.poll(shadowed=Problem("BadQuery", "many-to-many matching", bad_input=True))

    found = life.condition("ShadowAgrees")
    assert (found.status, found.reason) == ("Unknown", "BadQuery")
    assert life.status.phase is Phase.RUNNING


def test_a_restart_of_who_compares_and_a_lost_history_are_told_once() -> None:
    life = started()
    life.events()
    life.compare(10, 0, resets=(fell(20, 10),))
    assert life.events() == ["CounterReset"]
    life.compare(10, 0, history_lost=START)
    assert life.events() == ["HistoryLost"]
    life.compare(10, 0, history_lost=START)
    assert life.events() == []
    assert life.status.memory.history_lost == START


def test_more_disagreements_than_comparisons_are_no_divergence() -> None:
    life = started()
    life.compare(10, 20)

    assert (life.shadow.state, life.shadow.divergence) == (ShadowState.INSUFFICIENT_DATA, None)
    assert "10 comparisons, and 20 disagreements; limit 5 %" in (
        life.condition("ShadowAgrees").message
    )


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        ({"percent": 10}, 200),
        ({"maxDivergence": 0.2}, 200),
        ({"comparisons": "others_total"}, 0),
        ({"versionLabel": "version"}, 0),
        ({"modelVersion": "v4"}, 0),
    ],
)
def test_an_edit_of_what_is_counted_counts_anew(edit: dict[str, object], kept: int) -> None:
    life = started()
    life.compare(*AGREES)
    life.events()
    life.edit(shadow={**BESIDE, **edit})
    life.poll()

    assert life.shadow.comparisons == kept
    assert ("MetricRestarted" in life.events()) is (kept == 0)
    life.compare(100, 0)
    assert life.shadow.comparisons == kept + 100


def test_a_shadow_that_an_edit_brings_is_counted_from_then_on() -> None:
    life = Shadowed()
    life.start()
    life.edit(shadow=BESIDE)
    life.poll(SOME)

    assert (life.shadow.since, life.shadow.comparisons) == (life.now, 0)
    assert life.events() == ["Started"]
    life.compare(*AGREES)
    assert life.shadow.state is ShadowState.PASS


def test_another_limit_is_judged_at_once() -> None:
    life = started()
    life.compare(*DIFFERS)
    life.edit(shadow={**BESIDE, "maxDivergence": 0.5})
    life.decide(life.snapshot())

    assert (life.shadow.limit, life.shadow.state) == (0.5, ShadowState.PASS)
    assert life.condition("ShadowAgrees").status == "True"


def test_without_a_gate_nothing_is_said() -> None:
    life = started()
    life.compare(*AGREES)
    life.edit(shadow={"modelVersion": "v3"})
    life.poll()

    assert life.status.shadow is not None
    life.edit(shadow=None)
    life.poll()
    assert life.status.shadow is None
    assert life.status.condition("ShadowAgrees") is None


def test_a_shadow_without_anything_to_compare_has_no_status() -> None:
    life = Life(shadow={"modelVersion": "v3"})
    life.start()

    assert life.status.shadow is None
    assert life.status.condition("ShadowAgrees") is None


def test_the_count_ends_with_the_experiment_and_begins_anew_with_the_next() -> None:
    life = started()
    life.compare(*AGREES)
    life.edit(stop=True)
    life.poll()
    assert (life.status.phase, life.shadow.comparisons) == (Phase.STOPPED, 200)

    life.edit(stop=False)
    life.poll()
    assert (life.status.phase, life.shadow.comparisons) == (Phase.RUNNING, 0)
    assert life.shadow.since == life.now


def test_the_distributions_of_predictions_are_reported() -> None:
    life = started(shadow=PREDICTIONS)
    assert life.status.condition("ShadowAgrees") is None
    assert life.shadow.distribution is None
    half = {"v1": {0.5: 10.0, math.inf: 40.0}, "v3": {0.5: 20.0, math.inf: 30.0, 0.7: 25.0}}
    life.compare(0, 0, histograms=half)
    life.compare(0, 0, histograms=half)

    found = life.shadow.distribution
    assert found is not None
    # Twice the counts; the edge that only one of them has is left out.
    one, other = np.array([20.0, 60]), np.array([40.0, 20])
    assert found.samples == 60
    assert found.jensen_shannon == pytest.approx(jensen_shannon(one, other), rel=1e-3)
    assert found.psi == pytest.approx(stability_index(one, other), rel=1e-3)
    assert (life.shadow.state, life.shadow.comparisons) == (None, None)


@pytest.mark.parametrize(
    "histograms",
    [
        {"v1": {0.5: 10.0, math.inf: 40.0}},
        {"v1": {0.5: 10.0, math.inf: 40.0}, "v3": {0.7: 10.0, math.inf: 40.0}},
        {"v1": {0.5: 10.0, math.inf: 40.0}, "v3": {0.5: 0.0, math.inf: 0.0}},
        {"v1": {0.5: 10.0, math.inf: 40.0}, "v3": {0.5: 50.0, math.inf: 40.0}},
        {"v1": {0.5: 10.0, 0.7: 40.0}, "v3": {0.5: 10.0, 0.7: 40.0}},
    ],
)
def test_histograms_that_can_not_be_compared_say_nothing(
    histograms: dict[str, dict[float, float]],
) -> None:
    life = started(shadow=PREDICTIONS)
    life.compare(0, 0, histograms=histograms)

    assert life.shadow.distribution is None


def test_the_counters_are_asked_for_the_shadows_version() -> None:
    parts = shadow_parts(
        spec(shadow={**CHALLENGER, "predictions": "score_bucket", "versionLabel": "version"})
    )

    assert [part.field for part in parts] == [
        "spec.shadow.comparisons",
        "spec.shadow.disagreements",
        "spec.shadow.predictions",
    ]
    assert parts[0].query(["v2"], 60) == 'compared_total{version=~"v2"}[60000ms]'
    assert shadow_parts(spec()) == []
