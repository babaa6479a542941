"""The one error type of the demo: what went wrong, in words that say what to do."""

from __future__ import annotations


class DemoError(RuntimeError):
    """The demo can't go on; the message holds the cause."""
