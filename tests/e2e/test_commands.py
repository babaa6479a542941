"""The commands as people use them: `kubectl mexp` by a real kubectl, and the same by the spec."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from localcluster import Cluster
from localcluster.catalog import kubectl
from modelexperiment.cli import main
from modelexperiment.commands.cluster import Experiments, on_cluster
from modelexperiment.commands.files import InputError
from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

EVEN = [{"modelVersion": "v1", "percent": 50}, {"modelVersion": "v2", "percent": 50}]
LAUNCHERS = {
    "kubectl-mexp": "modelexperiment.cli:kubectl_plugin",
    "kubectl_complete-mexp": "modelexperiment.commands.complete:main",
}


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


class Shell:
    """A user's shell with kubectl and the plugin on the PATH."""

    def __init__(self, cluster: Cluster, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        for name, target in LAUNCHERS.items():
            # What pip writes for a console script.
            module, function = target.split(":")
            script = folder / name
            script.write_text(
                f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\n"
                f"sys.exit({function}())\n"
            )
            script.chmod(0o755)
        path = f"{folder}{os.pathsep}{kubectl().parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig)}

    def run(self, line: str) -> Answer:
        """Run a command line: kubectl as a process, `mexp` in this one, which is quicker."""
        if line.startswith("mexp "):
            kubeconfig = self._environment["KUBECONFIG"]
            code = main([*shlex.split(line)[1:], "--kubeconfig", kubeconfig], "kubectl mexp")
            return Answer(code, *self._capsys.readouterr())
        done = subprocess.run(
            shlex.split(line),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def watches(self, line: str) -> tuple[str, int]:
        """The first line of a command that goes on until Ctrl-C, and its exit code after that."""
        with subprocess.Popen(
            shlex.split(line), env=self._environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            return first.rstrip("\n"), process.wait(timeout=30)

    def says(self, line: str) -> str:
        """What a command prints that must succeed."""
        answer = self.run(line)
        assert answer.code == 0, answer
        return answer.out.rstrip("\n")

    def refused(self, line: str, code: int = 1) -> str:
        """The one line of a command that must end with that exit code."""
        answer = self.run(line)
        assert (answer.code, answer.out) == (code, ""), answer
        # Of an exit code over 1, kubectl has nothing to say either.
        (text,) = answer.err.splitlines()
        return text


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(cluster, tmp_path, capsys)


def patch(lab: Lab, spec: object) -> None:
    """`kubectl patch` of the spec: what a commit in Git comes to."""
    lab.cluster.kubectl(
        "patch", "mexp", "fraud-v2", "-n", lab.namespace, "--type=merge", "-p",
        json.dumps({"spec": spec}),
    )  # fmt: skip


def test_pause_resume_and_stop_by_command_and_by_spec(lab: Lab, shell: Shell) -> None:
    here = f"-n {lab.namespace}"
    name = f"{lab.namespace}/fraud-v2"
    with Traffic(lab, 50):
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail()]))
        # The operator itself may still be starting.
        lab.wait_phase("Running", timeout=90)
        said = shell.says(f"mexp pause fraud-v2 {here}")
        assert said == f"{name}: Paused; v1 90 / v2 10"
        assert lab.fetch("mexp", "fraud-v2")["spec"]["paused"] is True
        patch(lab, {"paused": False})
        lab.wait_phase("Running")
        assert "is not paused (Running)" in shell.refused(f"mexp resume fraud-v2 {here}")
        patch(lab, {"paused": True})
        lab.wait_phase("Paused")
        said = shell.says(f"mexp resume fraud-v2 {here}")
        assert said == f"{name}: Running; v1 90 / v2 10"
        eventually(lambda: lab.guardrail_state("errors") == "Pass", "a reading")
        eventually(lambda: lab.status().get("sampleRatio", {}).get("expected"), "a sample ratio")

        page = shell.says(f"kubectl mexp status fraud-v2 {here}").splitlines()
        assert page[0].startswith(f"{name}  Running  v1 90 / v2 10  for ")
        assert any(line.startswith("  accuracy (Primary)  v2  ") for line in page), page
        assert any(line.split()[:2] == ["errors", "v2"] for line in page), page
        assert any(line.startswith("Sample ratio  ") for line in page), page
        assert not any("\033" in line for line in page)
        raw = json.loads(shell.says(f"mexp status fraud-v2 {here} -o json"))
        assert raw["phase"] == "Running" and raw["memory"]["purpose"]

        said = shell.says(f"mexp stop fraud-v2 {here}")
        assert said == f"{name}: Stopped; v1 100 / v2 0"
        lab.gateway.wait_for_weights("predict", {"v1": 100})
    shell.says(f"kubectl wait mexp/fraud-v2 {here} --for=condition=Complete --timeout=5s")
    for command in ("pause", "resume", "promote"):
        refusal = shell.refused(f"mexp {command} fraud-v2 {here}")
        assert f"{name}: has ended (Stopped)" in refusal


def test_a_manual_winner_waits_for_the_command_that_it_names(lab: Lab, shell: Shell) -> None:
    lab.servers["v2"].correct = 0.75
    rollout = {"onWin": "Manual", "steps": [60, 80, 100], "stepDuration": "2s"}
    with Traffic(lab, 300):
        lab.apply(lab.experiment(traffic=EVEN, rollout=rollout))
        status = eventually(
            lambda: (s := lab.status()).get("verdict") == "ChallengerBetter" and s, "a verdict", 60
        )
        assert (status["phase"], status["summary"]["reason"]) == ("Running", "WaitsForPromote")
        assert lab.destinations() == [("v1", 50), ("v2", 50)]
        command = status["decision"]["nextSteps"][0].split(": ")[1].split(" (")[0]
        assert command == f"kubectl mexp promote fraud-v2 -n {lab.namespace}"
        said = shell.says(command)
        assert "RollingOut; v1 40 / v2 60" in said or "v2 80" in said, said
        status = lab.wait_phase("Succeeded")
        lab.gateway.wait_for_weights("predict", {"v2": 100})
    shell.says(
        f"kubectl wait mexp/fraud-v2 -n {lab.namespace} --for=condition=Complete --timeout=5s"
    )
    assert status["decision"]["reason"].startswith("rollout.promote asks for v2, which has won")
    assert "v1's deployment can be removed" in status["decision"]["nextSteps"][2]
    steps = [message for reason, message in lab.events() if reason == "RolloutStep"]
    assert steps == ["rollout: v1 40 / v2 60", "rollout: v1 20 / v2 80", "rollout: v1 0 / v2 100"]


def test_a_breach_in_a_promoted_step_rolls_back_for_good(lab: Lab, shell: Shell) -> None:
    here = f"-n {lab.namespace}"
    guardrail = lab.error_guardrail()
    with Traffic(lab, 200):
        lab.apply(lab.experiment(guardrails=[guardrail], rollout={"onWin": "Manual"}))
        lab.wait_phase("Running")
        patch(lab, {"paused": True, "rollout": {"promote": "v2"}})
        lab.wait_phase("Paused")
        assert (
            "promote v2 waits until the experiment is resumed"
            in lab.condition("Complete")["message"]
        )
        said = shell.says(f"mexp promote fraud-v2 {here} --to v2")
        assert said.startswith(f"{lab.namespace}/fraud-v2: Paused; v1 90 / v2 10; rollout.promote")
        patch(lab, {"paused": False})
        status = lab.wait_phase("RollingOut")
        assert "without a verdict for it" in status["decision"]["reason"]
        lab.gateway.wait_for_weights("predict", {"v1": 75, "v2": 25})
        lab.servers["v2"].failing = 0.8
        lab.wait_phase("RolledBack")
        lab.gateway.wait_for_weights("predict", {"v1": 100})
        lab.servers["v2"].failing = 0.0
        assert "has ended (RolledBack)" in shell.refused(f"mexp promote fraud-v2 {here}")
        # Asked something else it starts again, and the old word is not followed a second time.
        patch(lab, {"guardrails": [{**guardrail, "max": 2}]})
        lab.wait_phase("Running")
        eventually(
            lambda: "is of before this run" in lab.condition("Complete")["message"], "a word of it"
        )
        eventually(lambda: lab.guardrail_state("errors") == "Pass", "a pass")
        assert lab.destinations() == [("v1", 90), ("v2", 10)]
        said = shell.says(f"mexp promote fraud-v2 {here}")
        assert "RollingOut; v1 75 / v2 25" in said


def test_what_makes_no_sense_is_refused_in_one_line(lab: Lab, shell: Shell) -> None:
    here = f"-n {lab.namespace}"
    arms = [{"modelVersion": v, "percent": p} for v, p in (("v1", 80), ("v2", 10), ("v3", 10))]
    # v3 has no subset: it stays Pending.
    lab.apply(lab.experiment(traffic=arms))
    lab.wait_phase("Pending")
    assert shell.refused(f"kubectl mexp status nobody {here}") == (
        f"kubectl mexp: {lab.namespace}/nobody: there is no such ModelExperiment"
    )
    assert "no ModelExperiment in namespace default" in shell.refused("mexp status")
    assert "name one by --to (v2, v3)" in shell.refused(f"mexp promote fraud-v2 {here}")
    assert "got v1" in shell.refused(f"mexp promote fraud-v2 {here} --to v1", 2)
    assert "got 5 minutes" in shell.refused(f"mexp stop fraud-v2 {here} --timeout '5 minutes'", 2)
    assert "context nowhere" in shell.refused(f"mexp status {here} --context nowhere", 2)
    listed = shell.says(f"mexp status {here}").splitlines()
    assert listed[0].split()[:3] == ["NAME", "PHASE", "SPLIT"]
    assert listed[1].split()[:2] == ["fraud-v2", "Pending"]
    (found,) = yaml.safe_load(shell.says(f"mexp status {here} -o yaml"))
    assert (found["name"], found["status"]["phase"]) == ("fraud-v2", "Pending")
    assert "subset" in shell.says(f"mexp status fraud-v2 {here}")
    watched, code = shell.watches(f"kubectl mexp status fraud-v2 {here} --watch")
    assert (watched, code) == (f"{lab.namespace}/fraud-v2  Pending", 0)
    completed = shell.says(f'kubectl __complete mexp status {here} ""')
    assert completed.splitlines()[0] == "fraud-v2"
    written = shell.says(f"mexp promote fraud-v2 {here} --to v3 --no-wait")
    assert written.endswith("spec.rollout.promote v3 is written")
    assert lab.fetch("mexp", "fraud-v2")["spec"]["rollout"]["promote"] == "v3"


def test_a_spec_that_somebody_has_changed_since_is_not_written_over(lab: Lab) -> None:
    lab.apply(lab.experiment())
    where = Namespace(namespace=lab.namespace, context=None, kubeconfig=str(lab.cluster.kubeconfig))
    pause = [{"op": "add", "path": "/spec/paused", "value": True}]

    async def work(experiments: Experiments) -> int:
        seen = await experiments.get("fraud-v2")
        patch(lab, {"rollout": {"stepDuration": "2h"}})
        assert await experiments.patch(seen, pause) is None
        seen = await experiments.get("fraud-v2")
        assert "paused" not in seen["spec"] or not seen["spec"]["paused"]
        nobody = [{"op": "add", "path": "/spec/rollout/promote", "value": "v9"}]
        with pytest.raises(InputError, match=r"rollout\.promote must be one of the challengers"):
            await experiments.patch(seen, nobody)
        written = await experiments.patch(seen, pause)
        assert written is not None and written["spec"]["paused"] is True
        return 0

    assert on_cluster(where, work) == 0
