"""Becomes a part: prepares the process, then replaces itself by the program.

Runs as a script: ``python -I -S child.py OWNER DIRECTORY PROGRAM ARGUMENTS...``. OWNER is the pid
of the process whose end shall end the part too, or 0 for a part that outlives everybody. This is a
script of its own because Python code between fork and exec (``preexec_fn``) may deadlock in a
process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(owner: int, directory: str, argv: list[str]) -> None:
    """Take the place of ``argv`` in a session of its own, bound to ``owner`` unless that is 0."""
    # A session of its own: Ctrl-C at the terminal reaches the owner only, which stops in order.
    os.setsid()
    if owner:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != owner:
            sys.exit("the owner ended first")
    # Python ignores SIGPIPE, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.chdir(directory)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
