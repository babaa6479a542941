"""`modelexperiment report`: an experiment as one HTML page that needs nothing but a browser.

The experiment is read from the cluster, or from files: what `kubectl get mexp NAME -o yaml` gives,
or a manifest and the status that `modelexperiment replay` printed for it.
"""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelexperiment.commands.cluster import Experiments, add_options, on_cluster
from modelexperiment.commands.files import (
    InputError,
    checked_experiment,
    read_manifest,
    read_yaml,
)
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.status import ExperimentStatus

_MADE_BY = ("modelexperiment", "numpy", "scipy", "matplotlib")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("report", help="one HTML page: decision, effect, guardrails")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment in the cluster")
    add_options(parser)
    parser.add_argument(
        "-f", "--file", help="in place of NAME: the manifest, with its status in it; - for stdin"
    )
    parser.add_argument("--status", help="with -f: the status, as replay prints it; - for stdin")
    parser.add_argument("-o", "--output", help="the page; default: <name>.html; - for stdout")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    if bool(arguments.name) == bool(arguments.file):
        raise InputError("report: give either NAME or -f FILE")
    if arguments.status and not arguments.file:
        raise InputError("--status: needs -f, the manifest that it is the status of")
    if arguments.file:
        experiment, status = _from_files(arguments.file, arguments.status)
    else:
        experiment, status = _from_cluster(arguments)
    html = render(experiment, status)
    if arguments.output == "-":
        sys.stdout.write(html)
        return 0
    path = Path(arguments.output or f"{experiment.name}.html")
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output: {error.strerror}, got {path}") from None
    print(path)
    return 0


def render(experiment: Experiment, status: ExperimentStatus) -> str:
    """The page as HTML; InputError where the libraries that it needs are missing."""
    try:
        from modelexperiment.report import page
    except ModuleNotFoundError as error:
        needed = "pip install 'modelexperiment[report]'"
        raise InputError(f"report: {error.name} is missing: {needed}") from None
    made_by = {name: version(name) for name in _MADE_BY}
    return page(experiment, status, {**made_by, "Python": platform.python_version()})


def _from_files(manifest: str, status: str | None) -> tuple[Experiment, ExperimentStatus]:
    document = read_manifest(manifest)
    experiment = checked_experiment(manifest, document)
    if status is None:
        found = document.get("status")
        if not isinstance(found, dict):
            raise InputError(f"{manifest}: status: is not in it; name its file with --status")
        return experiment, _status(manifest, found)
    documents = read_yaml(status)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise InputError(f"{status}: must hold one status, not {len(documents)} documents")
    (found,) = documents
    return experiment, _status(status, found.get("status", found))


def _status(name: str, document: Any) -> ExperimentStatus:
    try:
        return ExperimentStatus.model_validate(document)
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in ("status", *first["loc"]))
        raise InputError(f"{name}: {where}: {first['msg'].lower()}") from None


def _from_cluster(arguments: argparse.Namespace) -> tuple[Experiment, ExperimentStatus]:
    """As it is in the cluster; Refusal where there is none of that name."""
    found: list[tuple[Experiment, ExperimentStatus]] = []

    async def work(experiments: Experiments) -> int:
        seen = await experiments.get(arguments.name)
        source = f"{experiments.namespace}/{arguments.name}"
        found.append((checked_experiment(source, seen), _status(source, seen.get("status") or {})))
        return 0

    on_cluster(arguments, work)
    return found[0]
