"""Free TCP ports on the loopback address.

They are drawn below the kernel's ephemeral range: out of that range any connection of any program
may take a port between the moment it was found free and the moment the part listens on it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from .config import LOOPBACK
from .errors import ClusterError

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 20000
ATTEMPTS = 2000


def free_ports(count: int) -> list[int]:
    """As many different ports as asked for, on which nobody listens now.

    Raises ClusterError where none can be found.
    """
    highest = int(EPHEMERAL_RANGE.read_text().split()[0]) - 1
    candidates = range(LOWEST, highest) if highest - LOWEST > ATTEMPTS else range(LOWEST, 65535)
    found: list[int] = []
    for port in random.sample(candidates, min(ATTEMPTS, len(candidates))):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise ClusterError(f"no {count} free ports on {LOOPBACK} between {candidates[0]} and 65535")


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        try:
            attempt.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
