"""Waiting for CustomResourceDefinitions."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import ClusterError


def wait_established(kubectl: Callable[..., str], *names: str, seconds: float = 60.0) -> None:
    """Wait until these definitions are served, or all that there are where none is named.

    Raises ClusterError where they are not in time. Right after one was made, `kubectl wait` does
    not wait but fails, since there are no conditions yet.
    """
    deadline = time.monotonic() + seconds
    which = names or ("--all",)
    while True:
        left = max(1, round(deadline - time.monotonic()))
        try:
            kubectl("wait", "--for=condition=Established", "crd", *which, f"--timeout={left}s")
            return
        except ClusterError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)
