"""Files that commands read, and the one-line errors that they end with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from modelexperiment.core.manifest import Experiment, ManifestError, parse_experiment
from modelexperiment.core.spec import ExperimentSpec


class InputError(ValueError):
    """Bad input: one line that names the field, row or option and its value. Exit code 2."""


def read_text(name: str) -> str:
    """The text of a file, or of standard input for "-"."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise InputError(f"{name}: {why}") from None


def baseline_of(spec: ExperimentSpec, option: float | None, purpose: str) -> float:
    """The champion's value to go by: the option `--baseline`, else the spec's."""
    baseline = spec.analysis.baseline if option is None else option
    if baseline is None:
        raise InputError(f"spec.analysis.baseline: is needed {purpose}, or --baseline")
    return baseline


def read_yaml(name: str) -> list[Any]:
    """The documents of a YAML (or JSON) file that are not empty."""
    try:
        return [d for d in yaml.safe_load_all(read_text(name)) if d is not None]
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "can't be read"
        raise InputError(f"{name}{line}: not YAML: {problem}") from None


def read_manifest(name: str) -> Any:
    """The one ModelExperiment of a manifest, unchecked; other documents in it are passed over."""
    documents = read_yaml(name)
    wanted = [d for d in documents if isinstance(d, dict) and d.get("kind") == "ModelExperiment"]
    if len(documents) == 1:
        wanted = documents
    if len(wanted) != 1:
        raise InputError(f"{name}: must hold one ModelExperiment, not {len(wanted)}")
    return wanted[0]


def read_experiment(name: str) -> Experiment:
    """The one ModelExperiment of a manifest."""
    return checked_experiment(name, read_manifest(name))


def checked_experiment(name: str, document: Any) -> Experiment:
    """The experiment that a document holds; `name` is where the document is from."""
    try:
        return parse_experiment(document)
    except ManifestError as error:
        raise InputError(f"{name}: {error}") from None
