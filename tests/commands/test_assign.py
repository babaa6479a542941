"""`modelexperiment assign`: what it prints, and what it refuses."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from modelexperiment.cli import main
from modelexperiment.commands import assign
from modelexperiment.core.assignment import user_hashes

SLOTS = 10_000
Manifest = Callable[..., str]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Writes a manifest whose spec has these fields besides what it must have."""

    def write(**fields: object) -> str:
        spec = {
            "traffic": [
                {"modelVersion": "v1", "percent": 80},
                {"modelVersion": "v2", "percent": 15.5},
                {"modelVersion": "v3", "percent": 4.5},
            ],
            "route": {"istio": {"virtualService": "fraud", "host": "fraud"}},
            "assignment": {"header": "x-user-id"},
            "metrics": [
                {
                    "name": "accuracy",
                    "role": "Primary",
                    "proportion": {"successes": "right_total", "trials": "all_total"},
                }
            ],
            **fields,
        }
        document = {
            "apiVersion": "experiments.mlops.dev/v1alpha1",
            "kind": "ModelExperiment",
            "metadata": {"name": "fraud-v2", "namespace": "fraud"},
            "spec": {name: value for name, value in spec.items() if value is not None},
        }
        path = tmp_path / "exp.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return write


def type_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))


def expected(user: str, salt: str = "fraud/fraud-v2", buckets: int = 64) -> tuple[str, int, int]:
    """(version, bucket, hash bucket), by counting along the route's list as Envoy does."""
    left = drawn = int(user_hashes([user.encode()], salt)[0]) % (max(1, buckets) * SLOTS)
    route = [("v2", 1_550), ("v3", 450), ("v1", 8_000)] * max(1, buckets)
    for version, weight in route:
        if left < weight:
            return version, drawn % SLOTS, drawn // SLOTS
        left -= weight
    raise AssertionError(f"{drawn} is beyond the route's total weight")


USERS = [f"customer-{i}" for i in range(300)]


def test_a_line_for_each_user(manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assign", "-f", manifest(), *USERS]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [[user, *map(str, expected(user)[:2])] for user in USERS]
    assert {line[1] for line in lines} == {"v1", "v2", "v3"}


def test_json_has_exactly_these_keys(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["assign", "-f", manifest(), "-o", "json", *USERS]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [list(entry) for entry in found] == [["user", "bucket", "modelVersion"]] * len(USERS)
    for entry, user in zip(found, USERS, strict=True):
        version, bucket, _ = expected(user)
        assert entry == {"user": user, "bucket": bucket, "modelVersion": version}


@pytest.mark.parametrize("buckets", [32, 64, 128])
def test_wide_adds_the_hash_bucket(
    manifest: Manifest, capsys: pytest.CaptureFixture[str], buckets: int
) -> None:
    path = manifest(assignment={"header": "x-user-id", "buckets": buckets})
    assert main(["assign", "-f", path, "-o", "json", "--wide", *USERS]) == 0
    found = [entry["hashBucket"] for entry in json.loads(capsys.readouterr().out)]
    assert found == [expected(user, buckets=buckets)[2] for user in USERS]
    assert main(["assign", "-f", path, "--wide", USERS[0]]) == 0
    assert capsys.readouterr().out.split("\t")[3] == f"{found[0]}\n"


def test_without_buckets_there_is_no_hash_bucket(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(assignment={"cookie": "uid", "buckets": 0})
    assert main(["assign", "-f", path, "--wide", USERS[0]]) == 0
    version, bucket, _ = expected(USERS[0], buckets=0)
    assert capsys.readouterr().out == f"{USERS[0]}\t{version}\t{bucket}\t-\n"
    assert main(["assign", "-f", path, "--wide", "-o", "json", USERS[0]]) == 0
    assert json.loads(capsys.readouterr().out)[0]["hashBucket"] is None


def test_the_salt_of_the_manifest_is_used(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(assignment={"header": "x-user-id", "salt": "second/draw"})
    assert main(["assign", "-f", path, *USERS]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines] == [expected(user, "second/draw")[0] for user in USERS]
    assert [line[1] for line in lines] != [expected(user)[0] for user in USERS]


def test_users_on_standard_input_in_any_number_of_blocks(
    manifest: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest()
    assert main(["assign", "-f", path, "-o", "json", *USERS]) == 0
    from_arguments = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(assign, "_BLOCK", 500)
    type_in(monkeypatch, "\n".join(USERS).encode())
    assert main(["assign", "-f", path, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == from_arguments


def test_white_space_around_a_user_is_none_of_the_user(
    manifest: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"u1\r\n \tu1 \nu1")
    assert main(["assign", "-f", manifest()]) == 0
    version, bucket, _ = expected("u1")
    assert capsys.readouterr().out == f"u1\t{version}\t{bucket}\n" * 3


def test_no_users_no_answers(
    manifest: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"")
    assert main(["assign", "-f", manifest(), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_bytes_that_are_no_utf8_are_a_user_as_in_envoy_but_not_in_json(
    manifest: Manifest, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest()
    type_in(monkeypatch, b"abc\n\xe9")
    assert main(["assign", "-f", path]) == 0
    assert capfdbinary.readouterr().out.splitlines()[1].startswith(b"\xe9\tv")
    type_in(monkeypatch, b"abc\n\xe9")
    assert main(["assign", "-f", path, "-o", "json"]) == 2
    assert b"line 2: is not UTF-8" in capfdbinary.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["assign", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_without_assignment_nobody_has_a_version(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(assignment=None)
    assert "spec.assignment: is needed" in refused(capsys, "-f", path, "u1")


@pytest.mark.parametrize("output", ["text", "json"])
def test_an_empty_user_is_none(
    manifest: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    output: str,
) -> None:
    path = manifest()
    monkeypatch.setattr(assign, "_BLOCK", 10)
    type_in(monkeypatch, b"u1\nu2\nu3\nu4\nu5\n \t\nu7\n")
    error = refused(capsys, "-f", path, "-o", output)
    assert "standard input, line 6: is empty, which is no user" in error
    assert "USER 2: is empty" in refused(capsys, "-f", path, "-o", output, "u1", "")


def test_what_envoy_answers_with_400_is_no_user(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "-f", manifest(), "u1", "u\x1b[2J")
    assert r"USER 2: has a control character, which no header can carry, got 'u\x1b[2J'" in error
    assert main(["assign", "-f", manifest(), "a\tb"]) == 0


def test_manifest_and_users_can_not_both_be_on_standard_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "can't both be on standard input" in refused(capsys, "-f", "-")


def with_status(path: str, **status: object) -> str:
    document = yaml.safe_load(Path(path).read_text())
    document["status"] = status
    Path(path).write_text(yaml.safe_dump(document))
    return path


TABLE = {
    "header": "x-user-id",
    "salt": "other",
    "buckets": 0,
    "champion": "v1",
    "layout": [{"modelVersion": "v3", "slots": 9_000}, {"modelVersion": "v1", "slots": 1_000}],
}


def test_the_table_in_a_status_is_what_counts(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_status(manifest(), phase="Running", assignment=TABLE)
    users = [f"u{i}" for i in range(50)]
    assert main(["assign", "-f", path, "-o", "json", "--wide", *users]) == 0

    found = json.loads(capsys.readouterr().out)
    slots = (user_hashes([u.encode() for u in users], "other") % SLOTS).tolist()
    assert [one["bucket"] for one in found] == slots
    wanted = ["v3" if slot < 9_000 else "v1" for slot in slots]
    assert [one["modelVersion"] for one in found] == wanted
    assert {one["hashBucket"] for one in found} == {None}


def test_an_ended_experiment_has_one_version_for_everybody(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    routed = [{"modelVersion": "v1", "percent": 100}, {"modelVersion": "v3", "percent": 0}]
    path = with_status(manifest(), phase="RolledBack", assignment=TABLE, routed=routed)
    assert main(["assign", "-f", path, *(f"u{i}" for i in range(50))]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert {line.split("\t")[1] for line in lines} == {"v1"}


def test_a_status_that_is_no_table_is_refused(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {**TABLE, "layout": [{"modelVersion": "v1", "slots": 1}]}
    path = with_status(manifest(), phase="Running", assignment=broken)

    assert main(["assign", "-f", path, "u"]) == 2
    assert "status: layout: slots must be positive" in capsys.readouterr().err


def test_a_live_experiment_needs_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = ("--kubeconfig", "/nowhere")
    assert main(["assign", "--live", "fraud-v2", *nowhere, "u"]) == 2
    assert "KUBECONFIG" in capsys.readouterr().err
