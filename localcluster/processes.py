"""Starts, watches and ends processes by record, never by name.

Every process has a record on disk: its pid together with the kernel's start time of that pid and
the machine's boot. A pid alone may have been given to somebody else; pid, start time and boot
identify one process for ever. So whoever reads the records, also after a crash and in another
process, ends exactly what was started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from .errors import ClusterError
from .files import write_json

CHILD = Path(__file__).parent / "child.py"
SIGNAL_TIMEOUT = 15.0
NEVER = -1


@dataclass(frozen=True)
class Record:
    """One started process, and what is needed to start it again."""

    name: str
    pid: int
    start_time: int
    boot: str
    argv: list[str]
    environment: dict[str, str]

    def alive(self) -> bool:
        """Whether this very process runs still; one that ended as our child is collected."""
        if self.boot != boot_id():
            return False
        state = process_state(self.pid)
        if state is None or state.start_time != self.start_time:
            return False
        if state.ended:
            _reap(self.pid)
        return not state.ended


@dataclass(frozen=True)
class ProcessState:
    """What /proc/PID/stat says of a process; ``start_time`` in clock ticks since boot."""

    ended: bool
    start_time: int


@cache
def boot_id() -> str:
    """The kernel's identifier of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_state(pid: int) -> ProcessState | None:
    """The state of a pid, or None if there is none."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def thread_states(pid: int) -> str:
    """The state letters of all threads of a process, see proc(5)."""
    letters = ""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            letters += stat.read_text().rpartition(")")[2].split()[0]
    return letters


def parse_stat(stat: str) -> ProcessState:
    """Fields 3 (state), 20 (threads) and 22 (start time) of /proc/PID/stat, see proc(5).

    The second field is the program's name in parentheses and may itself hold spaces and
    parentheses, so fields are counted from the last one. A killed program has ended when it is a
    zombie of one thread: before, its other threads still hold its files and ports.
    """
    state, *rest = stat.rpartition(")")[2].split()
    return ProcessState(ended=state in "ZX" and int(rest[16]) <= 1, start_time=int(rest[18]))


@cache
def _spawner() -> ThreadPoolExecutor:
    """One thread that starts all processes and lives as long as this process.

    Linux delivers the parent-death signal when the *thread* that made the child ends, so a
    child must never be made in a short-lived thread.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="localcluster-spawner")


class Processes:
    """The processes of one directory: records in ``processes/``, output in ``NAME.log``."""

    def __init__(self, directory: Path, *, detach: bool) -> None:
        self.directory = directory
        self.detach = detach
        self._records = directory / "processes"

    def spawn(self, name: str, argv: list[str], environment: dict[str, str] | None = None) -> None:
        """Start a program under a name that is free.

        Raises ClusterError where a process of that name runs.
        """
        if self.alive(name):
            raise ClusterError(f"{name} runs already")
        self._records.mkdir(exist_ok=True)
        _spawner().submit(self._spawn, name, argv, environment or {}).result()

    def _spawn(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        # Started and recorded in the spawner's thread, which no Ctrl-C can interrupt in between.
        pid = self._posix_spawn(name, argv, environment)
        state = process_state(pid)
        started = state.start_time if state else NEVER
        record = Record(name, pid, started, boot_id(), argv, environment)
        write_json(self._path(name), asdict(record))

    def _posix_spawn(self, name: str, argv: list[str], environment: dict[str, str]) -> int:
        owner = 0 if self.detach else os.getpid()
        log = os.open(self.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(CHILD), str(owner), str(self.directory), *argv],
                base_environment(self.directory) | environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
            )
        finally:
            os.close(log)

    def names(self) -> list[str]:
        """Names of all processes with a record, running or not."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def record(self, name: str) -> Record:
        """The record of a process.

        Raises ClusterError for an unknown name.
        """
        try:
            return Record(**json.loads(self._path(name).read_text()))
        except FileNotFoundError:
            known = ", ".join(self.names())
            raise ClusterError(f"there is no part {name!r}; there are: {known}") from None

    def alive(self, name: str) -> bool:
        """Whether the process of that name runs."""
        if not self._path(name).exists():
            return False
        return self.record(name).alive()

    def pause(self, name: str) -> None:
        """Stop a process from running, and wait until none of its threads runs."""
        pid = self._signal(name, signal.SIGSTOP)
        deadline = time.monotonic() + SIGNAL_TIMEOUT
        while not all(letter in "TZX" for letter in thread_states(pid)):
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} (pid {pid}) does not stop")
            time.sleep(0.005)

    def resume(self, name: str) -> None:
        """Let a paused process run on."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> int:
        record = self.record(name)
        if not record.alive():
            raise ClusterError(f"{name} does not run")
        os.kill(record.pid, number)
        return record.pid

    def kill(self, *names: str) -> None:
        """End processes at once, paused ones too, and wait until they are gone."""
        records = [self.record(name) for name in names]
        for record in records:
            with suppress(ProcessLookupError):
                if record.alive():
                    os.kill(record.pid, signal.SIGKILL)
        deadline = time.monotonic() + SIGNAL_TIMEOUT
        for record in records:
            while record.alive():
                if time.monotonic() > deadline:
                    raise ClusterError(f"{record.name} (pid {record.pid}) does not end")
                time.sleep(0.01)

    def kill_all(self) -> None:
        """End every process of the directory, one that is being started too."""
        # At the interpreter's exit the spawner's thread is gone, and takes nothing more.
        with suppress(RuntimeError):
            _spawner().submit(_nothing).result()
        self.kill(*self.names())

    def respawn(self, name: str) -> None:
        """End a process if it runs, and start it again with the same arguments."""
        record = self.record(name)
        self.kill(name)
        self.spawn(name, record.argv, record.environment)

    def forget(self, name: str) -> None:
        """End a process and drop its record."""
        self.kill(name)
        self._path(name).unlink()

    def log(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.directory / f"{name}.log"

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines of a process's output."""
        path = self.log(name)
        if not path.exists():
            return "(no output)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

    def resident_bytes(self, name: str) -> int:
        """Resident memory of a process that runs, in bytes."""
        status = Path(f"/proc/{self.record(name).pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"


def _nothing() -> None:
    """Ends once everything given to the spawner before has ended."""


def base_environment(directory: Path) -> dict[str, str]:
    """What a part sees in place of the caller's environment.

    istiod takes any variable for a setting, and with a HOME of its own every program stays away
    from the user's kubeconfig, plugins and caches.
    """
    home = str(directory)
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "TMPDIR": home}


def _reap(pid: int) -> None:
    """Collect an ended child of this process, so that it does not stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
