"""Write every file that is derived from another one, or check that none is out of date.

The resource is declared once, in operator/modelexperiment/core/{spec,status}. Derived from it are
the CustomResourceDefinition (crds/), its copy in the Helm chart, and docs/reference.md; from the
chart, in turn, manifests/install.yaml and docs/chart.md. docs/alert.schema.json is derived from
core/notices.py, docs/metrics.md from the operator's metrics, and the chart's dashboard from
scripts/dashboard.py. Helm is the one of localcluster's cache: where it is not built, the manifests
are left as they are, and that is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
# So that the script finds the checkout's packages wherever it is called from.
sys.path[:0] = [str(ROOT), str(ROOT / "operator"), str(ROOT / "scripts")]

from chart_reference import render_values  # noqa: E402
from dashboard import render_dashboard  # noqa: E402
from metrics_reference import render_metrics  # noqa: E402
from reference import render_reference  # noqa: E402

from localcluster import ClusterError, catalog  # noqa: E402
from modelexperiment.core import crd  # noqa: E402
from modelexperiment.core.notices import webhook_schema  # noqa: E402

CHART = ROOT / "helm" / "modelexperiment"
NAMESPACE = "modelexperiment-system"
# What only a release of Helm has.
_HELM_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")
_KEEP = "helm.sh/resource-policy"

_CHART_HEADER = """\
{{- /* Generated from core/crd.py by scripts/generate.py. Helm never upgrades what is in a chart's
crds/ folder, so the CustomResourceDefinition is a template, and is kept on uninstall. */}}
{{- if .Values.crds.install }}
"""
_INSTALL_HEADER = f"""\
# Generated from helm/modelexperiment by scripts/generate.py: the chart with its default values.
#   kubectl apply --server-side -f manifests/install.yaml
# Then name the Prometheus that experiments read:
#   kubectl -n {NAMESPACE} set env deployment/modelexperiment PROMETHEUS_URL=http://HOST:PORT
"""


@dataclass(frozen=True)
class Derived:
    """A derived file: its path from the checkout's root, and how its text is made."""

    path: str
    render: Callable[[], str]


class _Dumper(yaml.SafeDumper):
    """YAML without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)


def chart_crd() -> str:
    """The CRD as a template of the chart; braces in its texts are no template's."""
    document = crd.build_crd()
    document["metadata"]["annotations"] = {_KEEP: "keep"}
    text = _dump(document).replace("{{", '{{ "{{" }}')
    labels = '  labels:\n    {{- include "modelexperiment.labels" . | nindent 4 }}\n'
    return (
        _CHART_HEADER
        + text.replace("  annotations:\n", labels + "  annotations:\n", 1)
        + ("{{- end }}\n")
    )


def install_manifest() -> str:
    """The chart as plain manifests, its namespace included. ClusterError without Helm."""
    command = [str(catalog.program("helm")), "template", "modelexperiment", str(CHART)]
    options = ["--namespace", NAMESPACE, "--skip-tests"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"helm template: {done.stderr.strip()}")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    documents = [namespace, *(d for d in yaml.safe_load_all(done.stdout) if d)]
    return _INSTALL_HEADER + "---\n".join(_dump(_without_helm(d)) for d in documents)


def _without_helm(document: dict[str, Any]) -> dict[str, Any]:
    metadata = document["metadata"]
    for label in _HELM_LABELS:
        metadata.get("labels", {}).pop(label, None)
    if metadata.get("annotations", {}).pop(_KEEP, None) and not metadata["annotations"]:
        del metadata["annotations"]
    return document


DERIVED = (
    Derived("crds/modelexperiments.yaml", crd.render),
    Derived("helm/modelexperiment/templates/crd.yaml", chart_crd),
    Derived("docs/reference.md", lambda: render_reference(crd.build_crd())),
    Derived("docs/alert.schema.json", lambda: json.dumps(webhook_schema(), indent=2) + "\n"),
    Derived("docs/metrics.md", render_metrics),
    Derived("helm/modelexperiment/dashboards/modelexperiment.json", render_dashboard),
    Derived("docs/chart.md", lambda: render_values((CHART / "values.yaml").read_text())),
)
# In this order: the manifest is rendered from the chart, the CRD's template in it included.
FROM_CHART = (Derived("manifests/install.yaml", install_manifest),)


def outdated(files: tuple[Derived, ...]) -> Iterator[tuple[Path, str]]:
    """Yield each file that differs from what it is derived from, with the text it should have."""
    for file in files:
        path = ROOT / file.path
        text = file.render()
        if not path.is_file() or path.read_text() != text:
            yield path, text


def main(argv: list[str] | None = None) -> int:
    """Write what is out of date; with --check only tell of it. Gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of date")
    check = parser.parse_args(argv).check
    found = False
    try:
        for files in (DERIVED, FROM_CHART):
            for path, text in outdated(files):
                found = True
                if not check:
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text)
                said = "is out of date: run `make generate`" if check else "written"
                print(f"{path.relative_to(ROOT)} {said}")
    except ClusterError as error:
        print(f"generate: manifests/install.yaml was not looked at: {error}", file=sys.stderr)
        return int(found) if check else 1
    return int(found and check)


if __name__ == "__main__":
    sys.exit(main())
