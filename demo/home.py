"""What a demo leaves on disk while it runs, and how to clean up after one that was killed.

Processes that the demo starts end with it, even when it is killed. What may stay behind are its
directories and, on a cluster that was given, its objects.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo import platforms, routes
from demo.errors import DemoError
from demo.parts import CRD, OPERATOR_NAMESPACE, RELEASE, crd_owner
from demo.platforms import Platform
from localcluster import ClusterError, catalog
from localcluster.locks import file_lock
from localcluster.processes import Processes
from localcluster.startup import discard

FINALIZERS_WITHIN = "20s"
TIMEOUT = "--timeout=90s"


@dataclass(frozen=True)
class Home:
    """The places of one user's demo, in the cache: only one demo runs at a time."""

    directory: Path

    @classmethod
    def default(cls) -> Home:
        """In the cache outside the checkout."""
        return cls(catalog.cache_root() / "demo")

    @property
    def cluster(self) -> Path:
        """The directory of the demo's own cluster."""
        return self.directory.with_name("demo-cluster")

    @property
    def lock(self) -> Path:
        """Held by the demo that runs."""
        return self.directory.with_name("demo.lock")

    @property
    def _owner(self) -> Path:
        return self.directory.with_name("demo.pid")

    @property
    def _given(self) -> Path:
        return self.directory / "given.json"

    @contextmanager
    def occupied(self) -> Iterator[Processes]:
        """Take the place for this process. Raises DemoError where another demo runs."""

        def refuse() -> None:
            raise DemoError("a demo runs already: end it with Ctrl-C, or by make demo-down")

        with file_lock(self.lock, on_wait=refuse):
            self._owner.write_text(str(os.getpid()))
            self._clear()
            self.directory.mkdir(mode=0o700)
            try:
                yield Processes(self.directory, detach=False)
            finally:
                discard(Processes(self.directory, detach=True))
                self._owner.unlink()

    @contextmanager
    def on_given_cluster(
        self, kubeconfig: Path, environment: Mapping[str, str]
    ) -> Iterator[Platform]:
        """Use a cluster that is there already, and take the demo out of it at the end."""
        platform = platforms.given(kubeconfig, environment, self.directory)
        kept = {name: environment[name] for name in platforms.VARIABLES if name in environment}
        note = {"kubeconfig": str(kubeconfig.absolute()), "environment": kept}
        self._given.write_text(json.dumps(note))
        remove(platform)
        _require_free(platform)
        try:
            yield platform
        finally:
            remove(platform)

    def down(self) -> None:
        """End the demo if one runs, and remove what a killed one has left behind."""
        with file_lock(self.lock, on_wait=self._ask_to_end):
            self._clear()
            self._owner.unlink(missing_ok=True)

    def _ask_to_end(self) -> None:
        # The lock is held, so the process that has written this number runs.
        os.kill(int(self._owner.read_text()), signal.SIGTERM)

    def _clear(self) -> None:
        if self._given.exists():
            note = json.loads(self._given.read_text())
            try:
                scratch = self.directory
                remove(platforms.given(Path(note["kubeconfig"]), note["environment"], scratch))
            except (ClusterError, DemoError) as error:
                # A cluster that is gone needs no cleaning.
                print(f"demo: {note['kubeconfig']} is left as it is: {error}", file=sys.stderr)
        for directory in (self.directory, self.cluster):
            discard(Processes(directory, detach=True))


def remove(platform: Platform) -> None:
    """Take the demo out of a cluster; what is not there is no error."""
    platform.scrape_no_more()
    if platform.kubectl("get", "namespaces", "-l", routes.OWN, "-o", "name"):
        _delete_experiment(platform)
    platform.helm("uninstall", RELEASE, "-n", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait")
    platform.kubectl("delete", "namespaces", "-l", routes.OWN, TIMEOUT)
    platform.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found", TIMEOUT)
    # The chart leaves the CRD, for experiments' sake; the demo's own goes when there are none.
    if crd_owner(platform) == RELEASE and not platform.kubectl("get", CRD, "-A", "-o", "name"):
        platform.kubectl("delete", "crd", CRD, TIMEOUT)


def _delete_experiment(platform: Platform) -> None:
    """Delete the experiment; without an operator nobody else would drop its finalizer."""
    if crd_owner(platform) is None:
        return
    name = (CRD, "flight-delays", "-n", routes.NAMESPACE)
    if not platform.kubectl("get", *name, "--ignore-not-found", "-o", "name"):
        return
    try:
        platform.kubectl("delete", *name, f"--timeout={FINALIZERS_WITHIN}")
    except ClusterError:
        patch = '{"metadata": {"finalizers": null}}'
        platform.kubectl("patch", *name, "--type=merge", "-p", patch)


def _require_free(platform: Platform) -> None:
    """Raise DemoError where the demo's namespace is somebody else's."""
    name = ("namespace", routes.NAMESPACE, "--ignore-not-found", "-o", "name")
    if platform.kubectl("get", *name):
        raise DemoError(f"the cluster has a namespace {routes.NAMESPACE}, which is not the demo's")
