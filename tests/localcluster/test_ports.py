from __future__ import annotations

import random
import socket

import pytest

from localcluster import ports
from localcluster.errors import ClusterError


def test_ports_are_different_free_and_below_the_ephemeral_range() -> None:
    found = ports.free_ports(20)
    lowest_ephemeral = int(ports.EPHEMERAL_RANGE.read_text().split()[0])
    assert len(set(found)) == 20
    assert all(ports.LOWEST <= port < lowest_ephemeral for port in found)
    for port in found:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        taken = listener.getsockname()[1]
        monkeypatch.setattr(random, "sample", lambda candidates, count: [taken])
        with pytest.raises(ClusterError, match="no 1 free ports"):
            ports.free_ports(1)
