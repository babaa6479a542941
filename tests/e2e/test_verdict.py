"""Verdict and decision, as people read them."""

from __future__ import annotations

import pytest

from localcluster import Cluster
from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

EVEN = [{"modelVersion": "v1", "percent": 50}, {"modelVersion": "v2", "percent": 50}]


def test_a_better_challenger_wins_and_is_rolled_out(lab: Lab, cluster: Cluster) -> None:
    lab.servers["v2"].correct = 0.7
    rollout = {"onWin": "Gradual", "steps": [60, 80, 100], "stepDuration": "2s"}
    manifest = lab.experiment(traffic=EVEN, rollout=rollout)
    with Traffic(lab, 300):
        lab.apply(manifest)
        status = lab.wait_phase("RollingOut", timeout=60)
        assert status["verdict"] == "ChallengerBetter"
        assert status["decision"]["action"] == "GradualRollout"
        entry = status["analysis"][0]
        assert entry["significant"] and entry["correctedPValue"] <= 0.05
        assert entry["absolute"]["lower"] < entry["absolute"]["effect"] < entry["absolute"]["upper"]
        lab.wait_phase("Succeeded")
        cluster.kubectl(
            "wait", "mexp/fraud-v2", "-n", lab.namespace, "--for=condition=Complete", "--timeout=5s"
        )
        lab.gateway.wait_for_weights("predict", {"v2": 100})
    reasons = [reason for reason, _ in lab.events()]
    steps = [message for reason, message in lab.events() if reason == "RolloutStep"]
    assert steps == ["rollout: v1 40 / v2 60", "rollout: v1 20 / v2 80", "rollout: v1 0 / v2 100"]
    for reason in ("Started", "VerdictReached", "Promoted", "Completed"):
        assert reasons.count(reason) == 1, reasons
    line = cluster.kubectl("get", "mexp", "fraud-v2", "-n", lab.namespace).splitlines()
    assert line[0].split() == [
        "NAME",
        "PHASE",
        "SPLIT",
        "LIFT",
        "INTERVAL",
        "VERDICT",
        "ETA",
        "AGE",
    ]
    assert "Succeeded" in line[1] and "v1 0 / v2 100" in line[1] and "ChallengerBetter" in line[1]


def test_a_worse_challenger_is_not_kept(lab: Lab) -> None:
    lab.servers["v2"].correct = 0.4
    with Traffic(lab, 300):
        lab.apply(lab.experiment(traffic=EVEN))
        status = lab.wait_phase("ChampionKept", timeout=60)
        lab.gateway.wait_for_weights("predict", {"v1": 100})
    assert status["verdict"] == "ChampionBetter"
    assert status["decision"]["action"] == "KeepChampion"
    assert lab.condition("VerdictReached")["status"] == "True"


def test_stop_ends_it_at_once(lab: Lab) -> None:
    with Traffic(lab, 50):
        lab.apply(lab.experiment())
        lab.wait_phase("Running")
        lab.apply(lab.experiment(stop=True))
        lab.wait_phase("Stopped")
        lab.gateway.wait_for_weights("predict", {"v1": 100})


def test_the_time_is_up_without_a_verdict(lab: Lab) -> None:
    with Traffic(lab, 50):
        lab.apply(lab.experiment(analysis={"interval": "1s", "maxDuration": "6s"}))
        status = lab.wait_phase("ChampionKept")
    assert status["verdict"] == "Inconclusive"
    assert "no verdict within analysis.maxDuration" in status["decision"]["reason"]
    eventually(lambda: lab.destinations() == [("v1", 100), ("v2", 0)], "the champion's route")
