"""What Prometheus scrapes: jobs in its configuration file, changed while it runs.

Discovery is compiled out of this Prometheus, so targets are static: a change rewrites the file and
asks for a reload, which Prometheus answers once the new jobs are in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .errors import ClusterError
from .files import write_yaml
from .locks import file_lock
from .web import request

Configuration = Mapping[str, Any]


def with_scrape_job(
    configuration: Configuration,
    job: str,
    targets: Sequence[str],
    *,
    labels: Mapping[str, str],
    interval: str,
    path: str,
) -> dict[str, Any]:
    """The same configuration with a job added, or replaced where the name exists.

    ``targets`` are host:port; ``interval`` is a Prometheus duration, the timeout too.
    """
    others = [entry for entry in configuration["scrape_configs"] if entry["job_name"] != job]
    added = {
        "job_name": job,
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "metrics_path": path,
        "static_configs": [{"targets": list(targets), "labels": dict(labels)}],
    }
    return {**configuration, "scrape_configs": [*others, added]}


def without_targets(configuration: Configuration, job: str) -> dict[str, Any]:
    """The same configuration with a job's targets gone; unchanged where there is no such job.

    The job itself stays: Prometheus ends the series of a target that goes (a staleness marker), as
    it does for a pod's, but not those of a job that goes: they would show for five minutes more.
    """
    jobs = [
        {**entry, "static_configs": []} if entry["job_name"] == job else entry
        for entry in configuration["scrape_configs"]
    ]
    return {**configuration, "scrape_configs": jobs}


def change(directory: Path, url: str, edit: Callable[[Configuration], Configuration]) -> None:
    """Rewrite the configuration in ``directory`` and let the Prometheus at ``url`` reload it.

    Raises ClusterError with Prometheus' own words where it refuses the result; the file is then as
    it was before.
    """
    path = directory / "prometheus.yml"
    with file_lock(directory / "prometheus.lock"):
        before = yaml.safe_load(path.read_text())
        write_yaml(path, edit(before))
        try:
            request(f"{url}/-/reload", method="POST", timeout=30.0)
        except ClusterError:
            write_yaml(path, before)
            raise
