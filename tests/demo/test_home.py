"""One demo at a time, and nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.errors import DemoError
from demo.home import Home

ROOT = Path(__file__).parents[2]
OCCUPY = """
import sys, signal, time
from pathlib import Path
from demo.home import Home
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with Home(Path(sys.argv[1])).occupied() as processes:
    processes.spawn("sleeper", ["/bin/sleep", "60"])
    print(processes.record("sleeper").pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "demo")


def occupy(home: Home) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, "-c", OCCUPY, str(home.directory)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def gone(pid: int) -> bool:
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def left(home: Home) -> list[str]:
    return sorted(path.name for path in home.directory.parent.iterdir())


def test_only_the_lock_stays(home: Home) -> None:
    with home.occupied() as processes:
        processes.spawn("sleeper", ["/bin/sleep", "60"])
        pid = processes.record("sleeper").pid
    assert gone(pid)
    assert left(home) == ["demo.lock"]


def test_a_second_demo_is_refused(home: Home) -> None:
    with (
        home.occupied(),
        pytest.raises(DemoError, match="a demo runs already"),
        Home(home.directory).occupied(),
    ):
        raise AssertionError("two at once")
    with home.occupied():
        pass


def test_down_ends_a_demo_that_runs(home: Home) -> None:
    process, sleeper = occupy(home)
    with process:
        home.down()
        assert process.wait(timeout=10) == 0
    assert gone(sleeper)
    assert left(home) == ["demo.lock"]


def test_down_clears_up_after_a_killed_demo(home: Home) -> None:
    process, sleeper = occupy(home)
    with process:
        process.kill()
    assert gone(sleeper)
    assert home.directory.exists()
    home.down()
    assert left(home) == ["demo.lock"]


def test_the_next_demo_clears_up_after_a_killed_one(home: Home) -> None:
    process, _ = occupy(home)
    with process:
        process.kill()
    with home.occupied() as processes:
        assert processes.names() == []
        assert (home.directory.parent / "demo.pid").read_text() == str(os.getpid())


def test_down_without_a_demo(home: Home) -> None:
    home.down()
    assert left(home) == ["demo.lock"]


def test_a_given_cluster_that_is_gone_needs_no_cleaning(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.directory.mkdir()
    note = '{"kubeconfig": "/nowhere/config", "environment": {}}'
    (home.directory / "given.json").write_text(note)
    home.down()
    assert "/nowhere/config is left as it is" in capsys.readouterr().err
    assert left(home) == ["demo.lock"]
