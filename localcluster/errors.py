"""The one error type of this package: what went wrong, in words that say what to do."""

from __future__ import annotations


class ClusterError(RuntimeError):
    """A part could not be built, started or reached; the message holds the cause."""
