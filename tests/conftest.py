"""For all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let Ctrl-C mean what it does at a terminal, for the tests that send it to what they start.

    A shell without job control starts background jobs with SIGINT ignored, and a process hands
    that on to all that it starts.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
