"""`modelexperiment report`: from files to one HTML page."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelexperiment.commands.report import render
from tests.commands.conftest import Desk, polls
from tests.report import examples


def saved(desk: Desk, name: str = "won") -> str:
    """What `kubectl get mexp -o yaml` gives of an example."""
    life = examples.ALL[name]()
    path = desk.folder / "stored.yaml"
    document = yaml.safe_load(Path(desk.manifest(**life.experiment.spec.dump())).read_text())
    path.write_text(yaml.safe_dump({**document, "status": life.status.dump()}))
    return str(path)


@pytest.fixture
def drawing() -> None:
    pytest.importorskip("matplotlib", reason="pip install modelexperiment[report]")


@pytest.mark.usefixtures("drawing")
class TestPage:
    def test_an_experiment_with_its_status(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(desk.folder)
        answer = desk.run("report", "-f", saved(desk))

        assert (answer.code, answer.out, answer.err) == (0, "fraud-v2.html\n", "")
        html = (desk.folder / "fraud-v2.html").read_text()
        assert "v2 won and serves everybody" in html
        assert "matplotlib " in html

    @pytest.mark.parametrize("output", ["yaml", "json"])
    def test_a_manifest_and_a_replay(self, desk: Desk, output: str) -> None:
        data = desk.rows(polls(20, v1=(100, 50), v2=(100, 70)))
        status = desk.folder / "status"
        replayed = desk.run("replay", "-f", desk.manifest(), "--data", data, "-o", output)
        status.write_text(replayed.out)

        answer = desk.run("report", "-f", desk.manifest(), "--status", str(status), "-o", "-")

        assert answer.code == 0
        assert "v2 is better" in answer.out or "v2 won" in answer.out
        assert 'aria-label="Effect over time.' in answer.out

    def test_one_line_of_a_replay_of_many(self, desk: Desk) -> None:
        status = desk.folder / "status"
        dumped = examples.undecided().status.dump()
        status.write_text(json.dumps({"experiment": "a", "status": dumped}))
        answer = desk.run("report", "-f", desk.manifest(), "--status", str(status), "-o", "-")
        assert answer.code == 0
        assert "keep testing" in answer.out


def test_bad_input_is_one_line(desk: Desk) -> None:
    manifest = desk.manifest()
    assert desk.refused("report") == "modelexperiment: report: give either NAME or -f FILE"
    assert "either NAME or -f" in desk.refused("report", "fraud-v2", "-f", manifest)
    assert "--status: needs -f" in desk.refused("report", "fraud-v2", "--status", "x")
    assert "status: is not in it" in desk.refused("report", "-f", manifest)

    bad = desk.text("phase: Sleeping\n")
    line = desk.refused("report", "-f", manifest, "--status", bad)
    assert "polls.csv: status.phase: " in line and "'Pending'" in line.replace("pending", "Pending")

    two = desk.text("phase: Running\n---\nphase: Running\n")
    assert "must hold one status, not 2" in desk.refused("report", "-f", manifest, "--status", two)


@pytest.mark.usefixtures("drawing")
def test_an_output_that_can_t_be_written(desk: Desk) -> None:
    line = desk.refused("report", "-f", saved(desk), "-o", "/no/such/folder/x.html")
    assert line.startswith("modelexperiment: --output: No such file or directory")


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "modelexperiment.report":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    life = examples.pending()
    with pytest.raises(ValueError, match=r"matplotlib is missing: pip install 'modelexperiment\["):
        render(life.experiment, life.status)


def test_a_cluster_that_is_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(desk.folder / "none"))
    assert "KUBECONFIG" in desk.refused("report", "fraud-v2")
