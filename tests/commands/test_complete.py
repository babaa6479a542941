"""The shell's completion of `kubectl mexp`."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from modelexperiment.cli import kubectl_plugin
from modelexperiment.cli import main as run
from modelexperiment.commands.complete import NAMED, OTHERS, choices, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*NAMED, *OTHERS]),
        (["p"], ["pause", "promote", "plan"]),
        (["resu"], ["resume"]),
        (["plan", ""], []),
        (["status", "-"], []),
        (["status", "-n", ""], []),
    ],
)
def test_commands_are_offered(words: list[str], expected: list[str]) -> None:
    assert choices(words) == expected


def test_without_a_cluster_there_is_nothing_to_offer_and_nothing_to_complain_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--kubeconfig", str(tmp_path / "none"), "fr"]) == 0
    assert capsys.readouterr() == (":4\n", "")


def test_every_command_that_is_offered_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (*NAMED, *OTHERS):
        with pytest.raises(SystemExit) as ended:
            run([command, "--help"])
        assert ended.value.code == 0
        assert f"modelexperiment {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", NAMED)
def test_a_kubeconfig_that_is_none_is_bad_input_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none"

    assert run([command, "fraud-v2", "--kubeconfig", str(file)], "kubectl mexp") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kubectl mexp: KUBECONFIG: ")
    assert line.endswith(f"got {file}")


def test_every_console_script_has_its_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"modelexperiment", "kubectl-mexp", "kubectl_complete-mexp"}
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_plugin_speaks_of_itself_as_it_is_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kubectl-mexp", "pause"])

    with pytest.raises(SystemExit) as ended:
        kubectl_plugin()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("kubectl mexp pause: the following arguments")
