"""One holder at a time, across processes."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _nothing() -> None:
    """The default of ``on_wait``."""


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] = _nothing) -> Iterator[None]:
    """Hold an exclusive lock; the kernel drops it when the holder ends, however it ends.

    ``on_wait`` is called once where somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
