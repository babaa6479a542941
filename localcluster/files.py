"""Files that are written in one step: whoever reads one sees the old or the new content, whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    draft = path.with_name(f".{path.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML file."""
    write_private(path, yaml.safe_dump(dict(content), sort_keys=False))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    write_private(path, json.dumps(content, indent=1) + "\n")
