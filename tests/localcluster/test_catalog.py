from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from localcluster import catalog
from localcluster.catalog import PARTS, Part
from localcluster.errors import ClusterError


def part(name: str) -> Part:
    return next(part for part in PARTS if part.name == name)


def test_the_cache_is_where_the_environment_says() -> None:
    own = {"MODELEXPERIMENT_CACHE": "/own", "XDG_CACHE_HOME": "/shared"}
    assert catalog.cache_root(own) == Path("/own")
    assert catalog.cache_root({"XDG_CACHE_HOME": "/shared"}) == Path("/shared/modelexperiment")
    assert catalog.cache_root({}) == Path.home() / ".cache" / "modelexperiment"


def test_the_key_changes_with_everything_that_the_binary_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(catalog.MODULES / "etcd", tmp_path / "etcd")
    monkeypatch.setattr(catalog, "MODULES", tmp_path)
    etcd = part("etcd")
    keys = [catalog.cache_key(etcd), catalog.cache_key(etcd, machine="other")]
    keys.append(catalog.cache_key(dataclasses.replace(etcd, tags="other")))
    for name in ("go.mod", "go.sum"):
        with (tmp_path / "etcd" / name).open("a") as file:
            file.write("\n")
        keys.append(catalog.cache_key(etcd))
    assert len(set(keys)) == len(keys)
    assert catalog.cache_key(etcd) == keys[-1]


def test_kubernetes_is_stamped_with_the_version_that_its_go_mod_requires() -> None:
    version = catalog.required_version(
        catalog.MODULES / "kubernetes" / "go.mod", "k8s.io/kubernetes"
    )
    ldflags = part("kubernetes").build_flags()[-1]
    assert f"version.gitVersion={version}" in ldflags
    major, minor, _ = version.removeprefix("v").split(".")
    assert f"version.gitMajor={major}" in ldflags
    assert f"version.gitMinor={minor}" in ldflags


def test_a_module_that_is_not_required_is_an_error() -> None:
    with pytest.raises(ClusterError, match=r"requires no example\.com/none"):
        catalog.required_version(catalog.MODULES / "etcd" / "go.mod", "example.com/none")


def test_every_part_has_its_go_module_and_every_go_module_its_part() -> None:
    assert {path.name for path in catalog.MODULES.iterdir()} == {part.name for part in PARTS}
    assert all((part.module_directory / "go.sum").is_file() for part in PARTS)


def test_every_program_is_a_tool_of_its_go_module() -> None:
    for each in PARTS:
        words = (each.module_directory / "go.mod").read_text().split()
        assert all(binary.package in words for binary in each.binaries)


def test_what_is_not_built_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELEXPERIMENT_CACHE", str(tmp_path))
    assert catalog.missing_parts() == list(PARTS)
    with pytest.raises(ClusterError, match=r"etcd is not built yet: run .* build"):
        catalog.program("etcd")
    with pytest.raises(ClusterError, match=r"CRDs are not built yet: run .* build"):
        catalog.crd_files()


def test_a_built_part_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELEXPERIMENT_CACHE", str(tmp_path))
    directory = catalog.part_directory(part("etcd"))
    directory.mkdir(parents=True)
    (directory / "etcd").touch()
    assert catalog.program("etcd") == directory / "etcd"
    assert part("etcd") not in catalog.missing_parts()
