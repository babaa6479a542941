from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.errors import ClusterError
from localcluster.processes import Processes, parse_stat, thread_states

SLEEP = ["/bin/sleep", "60"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    table = Processes(tmp_path, detach=False)
    yield table
    table.kill(*table.names())


def stat_line(name: str, state: str, threads: int, start_time: int) -> str:
    between = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"
    return f"42 ({name}) {state} {between} {threads} 0 {start_time} 99"


def test_a_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    state = parse_stat(stat_line("a) R (b", "S", threads=7, start_time=1234))
    assert (state.ended, state.start_time) == (False, 1234)


@pytest.mark.parametrize(("threads", "ended"), [(1, True), (2, False)])
def test_a_zombie_whose_threads_still_run_has_not_ended(threads: int, ended: bool) -> None:
    assert parse_stat(stat_line("x", "Z", threads=threads, start_time=1)).ended is ended


def test_the_stat_of_a_real_process_is_read(processes: Processes) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    processes.spawn("part", SLEEP)
    assert processes.record("part").start_time == pytest.approx(before, abs=200)


def test_a_killed_process_is_gone_and_can_be_started_again(processes: Processes) -> None:
    processes.spawn("part", SLEEP)
    first = processes.record("part").pid
    processes.kill("part")
    assert not processes.alive("part")
    assert not Path(f"/proc/{first}").exists()
    processes.respawn("part")
    assert processes.alive("part")
    assert processes.record("part").pid != first


def test_a_paused_process_is_alive_and_ends_when_killed(processes: Processes) -> None:
    processes.spawn("part", SLEEP)
    processes.pause("part")
    assert set(thread_states(processes.record("part").pid)) == {"T"}
    assert processes.alive("part")
    processes.kill("part")
    assert not processes.alive("part")


def test_a_resumed_process_runs_on(processes: Processes) -> None:
    processes.spawn("part", SLEEP)
    processes.pause("part")
    processes.resume("part")
    while "T" in thread_states(processes.record("part").pid):
        time.sleep(0.01)
    assert processes.alive("part")


def test_a_running_name_is_not_started_twice(processes: Processes) -> None:
    processes.spawn("part", SLEEP)
    with pytest.raises(ClusterError, match="part runs already"):
        processes.spawn("part", SLEEP)


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(processes: Processes) -> None:
    processes.spawn("part", SLEEP)
    record = processes.directory / "processes" / "part.json"
    original = record.read_text()
    record.write_text(original.replace('"start_time": ', '"start_time": 1'))
    assert not processes.alive("part")
    processes.kill("part")
    with pytest.raises(ClusterError, match="part does not run"):
        processes.pause("part")
    record.write_text(original)
    assert processes.alive("part")


def test_an_unknown_part_is_named_together_with_the_known_ones(processes: Processes) -> None:
    processes.spawn("etcd", SLEEP)
    with pytest.raises(ClusterError, match="no part 'ectd'; there are: etcd"):
        processes.kill("ectd")


def test_a_process_outlives_the_thread_that_started_it(processes: Processes) -> None:
    thread = threading.Thread(target=processes.spawn, args=("part", SLEEP))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert processes.alive("part")


def test_output_goes_to_the_log_and_the_environment_is_clean(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "the user's")
    processes.spawn("part", ["/usr/bin/env"], {"EXTRA": "1"})
    while processes.alive("part"):
        time.sleep(0.01)
    lines = processes.log("part").read_text().splitlines()
    assert "EXTRA=1" in lines
    assert f"HOME={processes.directory}" in lines
    assert not any(line.startswith("KUBECONFIG=") for line in lines)


@pytest.mark.parametrize("detach", [False, True])
def test_only_detached_processes_survive_a_killed_owner(tmp_path: Path, detach: bool) -> None:
    script = (
        "import sys, time; from pathlib import Path; from localcluster.processes import Processes\n"
        f"Processes(Path({str(tmp_path)!r}), detach={detach}).spawn('part', {SLEEP!r})\n"
        "print('started', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"started\n"
    time.sleep(0.3)
    processes = Processes(tmp_path, detach=True)
    assert processes.alive("part")
    owner.kill()
    owner.wait()
    owner.stdout.close()
    time.sleep(0.3)
    assert processes.alive("part") is detach
    processes.kill("part")
    assert not processes.alive("part")
