from __future__ import annotations

import socket
from pathlib import Path

import pytest

from localcluster import Cluster, startup
from localcluster.errors import ClusterError
from localcluster.processes import Processes


def test_a_directory_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ClusterError, match="not empty and holds no cluster"):
        startup.claim_directory(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_leftovers_of_an_ended_cluster_are_cleared(tmp_path: Path) -> None:
    (tmp_path / startup.STATE).write_text("{}")
    (tmp_path / "old.log").touch()
    startup.claim_directory(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_whose_cluster_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / startup.STATE).write_text("{}")
    processes = Processes(tmp_path, detach=False)
    processes.spawn("etcd", ["/bin/sleep", "60"])
    with pytest.raises(ClusterError, match=r"a cluster runs in .* \(etcd\)"):
        startup.claim_directory(tmp_path)
    processes.kill("etcd")


def test_a_part_that_ended_is_told_at_once_with_its_output(tmp_path: Path) -> None:
    processes = Processes(tmp_path, detach=False)
    processes.spawn("etcd", ["/bin/sh", "-c", "echo bad flag; exit 1"])
    with pytest.raises(ClusterError, match="etcd ended:\nbad flag"):
        startup.wait_ready(processes, "etcd", "http://127.0.0.1:1/")


def test_a_taken_port_is_told_apart(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        code = f"import socket; socket.create_server(('127.0.0.1', {port}))"
        processes = Processes(tmp_path, detach=False)
        processes.spawn("etcd", ["/usr/bin/env", "python3", "-c", code])
        with pytest.raises(startup.PortTakenError):
            startup.wait_ready(processes, "etcd", "http://127.0.0.1:1/")


def test_there_is_nothing_to_attach_to_in_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="there is no cluster"):
        Cluster.attach(tmp_path)
