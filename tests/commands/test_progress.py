"""The progress bar: shown to people, never written into a file."""

from __future__ import annotations

import sys

import pytest

from modelexperiment.commands import progress
from modelexperiment.commands.progress import Progress


class Terminal(list[str]):
    """A terminal that keeps what is written to it."""

    write = list.append

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand: its last entry is the time."""
    times = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_a_terminal_sees_part_and_time_left_and_an_empty_line_at_the_end(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    with Progress(4, "experiments") as bar:
        clock.append(10.0)
        bar.step()
        bar.step()
        clock.append(20.0)
        bar.reach(0.5)

    assert terminal == [
        "\r[########......................] 1 of 4 experiments, 30s left  ",
        "\r[###############...............] 2 of 4 experiments, 20s left  ",
        "\r\033[K",
    ]


def test_a_file_sees_nothing(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with Progress(1, "experiments") as bar:
        clock.append(10.0)
        bar.step()

    assert capsys.readouterr().err == ""
