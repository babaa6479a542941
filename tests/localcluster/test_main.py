from __future__ import annotations

from pathlib import Path

import pytest

from localcluster.__main__ import main


def test_down_without_a_cluster_says_so_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELEXPERIMENT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").touch()
    assert main(["down", "--dir", str(tmp_path / "data")]) == 1
    assert "there is no cluster in" in capsys.readouterr().err
    assert (tmp_path / "data" / "thesis.tex").exists()


def test_up_without_built_parts_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELEXPERIMENT_CACHE", str(tmp_path / "cache"))
    assert main(["up", "--dir", str(tmp_path / "cluster")]) == 1
    assert "run `python -m localcluster build`" in capsys.readouterr().err
    assert not (tmp_path / "cluster").exists()


def test_the_default_directory_is_outside_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELEXPERIMENT_CACHE", str(tmp_path))
    assert main(["down"]) == 1
    assert str(tmp_path / "cluster") in capsys.readouterr().err
