"""The `modelexperiment` command.

Exit codes: 0 fine, 1 the answer is no, 2 bad input; an error is one line on standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from modelexperiment.commands import (
    assign,
    compare,
    dashboard,
    plan,
    replay,
    report,
    simulate,
    status,
    steer,
)
from modelexperiment.commands.cluster import Refusal
from modelexperiment.commands.files import InputError
from modelexperiment.settings import SettingsError, read_settings


def _run(_: argparse.Namespace) -> int:
    # Imported here: the other commands need no client of Kubernetes.
    from modelexperiment.operate import operate

    return operate(read_settings())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description="A/B tests between versions of a machine-learning model on Kubernetes.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the operator; settings come from the environment")
    run.set_defaults(do=_run)
    for command in (plan, assign, replay, simulate, report, status, dashboard, steer, compare):
        command.add(commands)
    return parser


def kubectl_plugin() -> int:
    """The same commands as `kubectl mexp`: kubectl calls `kubectl-mexp` on the PATH."""
    return main(prog="kubectl mexp")


def main(argv: Sequence[str] | None = None, prog: str = "modelexperiment") -> int:
    """Run a command; gives the exit code."""
    arguments = _parser(prog).parse_args(argv)
    try:
        return int(arguments.do(arguments))
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Refusal as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except (SettingsError, InputError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
