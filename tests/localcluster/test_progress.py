from __future__ import annotations

import io

import pytest

from localcluster.progress import PRIOR_SECONDS, Progress, duration, remaining_seconds

TYPICAL = [40.0, 200.0, 100.0]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_first_the_rest_is_the_typical_time() -> None:
    assert remaining_seconds(TYPICAL, [], elapsed=0) == 340


def test_the_current_step_counts_down() -> None:
    assert remaining_seconds(TYPICAL, [], elapsed=30) == 310


def test_a_machine_half_as_fast_doubles_the_rest_as_evidence_grows() -> None:
    after_one = remaining_seconds(TYPICAL, [80], elapsed=0)
    after_two = remaining_seconds(TYPICAL, [80, 400], elapsed=0)
    assert after_one == pytest.approx(300 * (80 + PRIOR_SECONDS) / (40 + PRIOR_SECONDS))
    assert after_two == pytest.approx(100 * (480 + PRIOR_SECONDS) / (240 + PRIOR_SECONDS))
    assert 100 < after_two < 200


def test_a_step_that_overruns_never_gives_less_than_nothing() -> None:
    assert remaining_seconds(TYPICAL, [], elapsed=1000) == pytest.approx(100 + 300)


def test_nothing_is_left_at_the_end() -> None:
    assert remaining_seconds(TYPICAL, [1, 1, 1], elapsed=5) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "5 s"), (42, "40 s"), (89, "90 s"), (90, "2 min"), (720, "12 min"), (3900, "1 h 05 min")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_a_line_per_step_and_one_every_fifteen_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(TYPICAL, stream, clock)
    with progress.step("etcd"):
        for clock.now in range(32):
            progress.tick()
    with progress.step("helm"):
        pass
    assert stream.getvalue().splitlines() == [
        "[1/3] etcd; about 6 min left in all",
        "[1/3] etcd, 15 s so far; about 5 min left in all",
        "[1/3] etcd, 30 s so far; about 5 min left in all",
        "[2/3] helm; about 5 min left in all",
    ]


def test_a_terminal_gets_one_line_that_is_rewritten() -> None:
    clock, stream = Clock(), Terminal()
    progress = Progress([10.0], stream, clock)
    with progress.step("etcd"):
        progress.tick()
    assert stream.getvalue().count("\r\x1b[K") == 2
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")
