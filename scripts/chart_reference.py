"""docs/chart.md: the chart's values, from the comments in values.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_HEADER = """\
# The chart's values

<!-- Generated from helm/modelexperiment/values.yaml by scripts/generate.py. -->

`values.schema.json` refuses every value that is not listed here, and every one of a wrong type.
What to set them to, and how to upgrade and uninstall: [Operations](operations.md).

| value | default | meaning |
| --- | --- | --- |
"""
_KEY = re.compile(r"^( *)([A-Za-z]+):")


def render_values(text: str) -> str:
    """Give the page for the text of a values.yaml."""
    values = yaml.safe_load(text)
    rows = (
        f"| `{path}` | `{json.dumps(_at(values, path))}` | {meaning} |"
        for path, meaning in documented(text)
    )
    return _HEADER + "\n".join(row.replace('`""`', "empty") for row in rows) + "\n"


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Yield each value that a comment `# --` stands above, as (path, comment)."""
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        found = _KEY.match(line)
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif found:
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment:
                yield ".".join(path), " ".join(comment)
            comment = []


def _at(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found
