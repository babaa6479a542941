"""The manifests that stand in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "demo/README.md"]
_FENCE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, the object) of every Kubernetes object in a block of YAML."""
    for page in PAGES:
        for found in _FENCE.finditer(page.read_text()):
            line = page.read_text()[: found.start()].count("\n") + 2
            for document in yaml.safe_load_all(found.group(1)):
                if isinstance(document, dict) and {"apiVersion", "kind"} <= document.keys():
                    yield f"{page.relative_to(ROOT)}:{line}", document
