"""`kubectl_complete-mexp`: what kubectl asks for the shell's completion of `kubectl mexp`.

kubectl calls it with the words so far, the last one perhaps empty, and reads one choice a line. The
last line is a colon and a number; 4 says that a file's name is no choice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from modelexperiment.commands.cluster import Experiments, Refusal, add_options, on_cluster
from modelexperiment.commands.files import InputError
from modelexperiment.settings import SettingsError

NAMED = ("status", "pause", "resume", "stop", "promote", "report")
OTHERS = ("plan", "assign", "replay", "simulate")
_NO_FILES = ":4"


def choices(words: Sequence[str]) -> list[str]:
    """What may stand in place of the last word."""
    if len(words) <= 1:
        return [command for command in (*NAMED, *OTHERS) if command.startswith("".join(words))]
    if words[0] not in NAMED or words[-1].startswith("-") or words[-2].startswith("-"):
        return []
    return [name for name in _names(words[1:-1]) if name.startswith(words[-1])]


def _names(options: Sequence[str]) -> list[str]:
    """The experiments' names; none where the cluster does not say: completion never complains."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    add_options(parser)
    found: list[str] = []

    async def work(experiments: Experiments) -> int:
        found.extend(str(item["metadata"]["name"]) for item in await experiments.list())
        return 0

    try:
        on_cluster(parser.parse_known_args(options)[0], work)
    except (argparse.ArgumentError, Refusal, InputError, SettingsError):
        return []
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the choices."""
    for choice in choices(sys.argv[1:] if argv is None else argv):
        print(choice)
    print(_NO_FILES)
    return 0
