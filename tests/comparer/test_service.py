"""The comparer as a process: what it takes, refuses and exposes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelexperiment.cli import main
from tests.comparer.processes import ComparerProcess, comparing, eventually, prediction

V1_V2, V2_V1 = ("fraud", "v1", "v2"), ("fraud", "v2", "v1")


@pytest.fixture
def comparer(tmp_path: Path) -> Iterator[ComparerProcess]:
    with comparing(tmp_path / "log", "--tolerance", "0.1", "--window", "2s") as running:
        yield running


def test_counts_in_both_directions_from_zero(comparer: ComparerProcess) -> None:
    assert comparer.post(prediction("a", "v1", 0.5), prediction("b", "v1", 0.5))[0] == 202
    assert comparer.samples("comparisons_total") == {}
    # As soon as there are two versions, both counters are there, before they count.
    assert comparer.post(prediction("c", "v2", 0.5)) == (202, "")
    assert comparer.samples("comparisons_total") == {V1_V2: 0, V2_V1: 0}
    assert comparer.samples("disagreements_total") == {V1_V2: 0, V2_V1: 0}

    assert comparer.post(prediction("a", "v2", 0.5625), prediction("b", "v2", 0.75))[0] == 202

    assert comparer.samples("comparisons_total") == {V1_V2: 2, V2_V1: 2}
    assert comparer.samples("disagreements_total") == {V1_V2: 1, V2_V1: 1}
    assert comparer.samples("difference_sum") == {V1_V2: 0.3125, V2_V1: 0.3125}
    assert comparer.samples("difference_count") == {V1_V2: 2, V2_V1: 2}
    assert comparer.samples("predictions_total") == {("fraud", "v1"): 2, ("fraud", "v2"): 3}
    assert comparer.samples("remembered") == {(): 3}


def test_what_is_not_paired_is_counted_by_reason(comparer: ComparerProcess) -> None:
    twice = [prediction("a", "v1"), prediction("a", "v1"), prediction("a", "v2")]
    assert comparer.post(*twice, prediction("alone", "v2"))[0] == 202
    eventually(
        lambda: comparer.samples("unpaired_total")["fraud", "v2", "expired"] == 1, "it expires"
    )
    assert comparer.samples("unpaired_total") == {
        ("fraud", version, reason): float((version, reason) in (("v1", "duplicate"), expired))
        for expired in [("v2", "expired")]
        for version in ("v1", "v2")
        for reason in ("expired", "evicted", "duplicate")
    }
    assert comparer.samples("comparisons_total")[V1_V2] == 1
    assert comparer.samples("remembered") == {(): 0}


def test_a_post_is_taken_whole_or_not_at_all(comparer: ComparerProcess) -> None:
    status, told = comparer.post(prediction("a", "v1"), prediction("a", "v2", None))
    assert (status, told) == (
        400,
        "[1].prediction: must be a number, a string, a bool or a list, got null\n",
    )
    nine = [prediction("a", f"v{number}") for number in range(9)]
    status, told = comparer.post(*nine)
    assert (status, told) == (
        400,
        "modelVersion: 8 versions of fraud are known already, got v8 of fraud\n",
    )
    status, told = comparer.get("/v1/predictions", b" " * ((1 << 20) + 1))
    assert (status, told) == (413, "body: must have at most 1,048,576 bytes\n")
    assert comparer.samples("predictions_total") == {}
    assert comparer.samples("rejected_total") == {
        ("malformed",): 1,
        ("too_large",): 1,
        ("versions",): 1,
        ("unavailable",): 0,
    }


def test_memory_is_bounded(tmp_path: Path) -> None:
    with comparing(tmp_path / "log", "--max-pending", "10") as comparer:
        assert comparer.post(*[prediction(str(n), "v1") for n in range(1000)])[0] == 202
        assert comparer.samples("remembered") == {(): 10}
        assert comparer.samples("unpaired_total")["fraud", "v1", "evicted"] == 990
        assert comparer.post(*[prediction(str(n), "v2") for n in range(990, 1000)])[0] == 202
        assert comparer.samples("comparisons_total")[V1_V2] == 10


def test_classes_by_a_threshold(tmp_path: Path) -> None:
    with comparing(tmp_path / "log", "--threshold", "0.5") as comparer:
        for request, other in (("a", 0.75), ("b", 0.25)):
            comparer.post(prediction(request, "v1", 0.5), prediction(request, "v2", other))
        assert comparer.samples("disagreements_total")[V1_V2] == 1
        assert comparer.samples("difference_sum")[V1_V2] == 0.5
        assert comparer.stop() == 0
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert log[0]["message"] == f"comparing on port {comparer.port}"


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelexperiment", *arguments]
    return subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "0"], "--port: must be a whole number from 1 to 65535, got 0"),
        (["--window", "1w"], '--window: must be a duration such as "30s"'),
        (["--window", "2h"], "--window: must be over 0s and at most 1h, got 2h"),
        (["--tolerance", "-1"], "--tolerance: must be a number from 0 up, got -1"),
        (["--threshold", "nan"], "--threshold: must be a number, got nan"),
        (["--max-pending", "many"], "--max-pending: must be a whole number from 1 to"),
        (["--redis", "http://:secret@x"], "--redis: must be redis://HOST:PORT or rediss://"),
        (["--tolerance", "1", "--threshold", "1"], "not allowed with argument --tolerance"),
    ],
)
def test_bad_options_end_with_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["compare", *options])
    except SystemExit as ended:
        code = ended.code
    told = capsys.readouterr().err
    assert code == 2
    assert said in told
    assert told.count("\n") == 1
    assert "secret" not in told


def test_a_port_that_is_taken(comparer: ComparerProcess) -> None:
    done = run("compare", "--port", str(comparer.port))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--port: " in done.stderr
    assert f"address already in use, got {comparer.port}" in done.stderr


def test_lines_of_a_log_are_sent(comparer: ComparerProcess) -> None:
    lines = [
        json.dumps({"time": "12:00", **prediction(str(n), version, n)})
        for n in range(500)
        for version in ("v1", "v2")
    ]
    # One that the comparer refuses takes none of the others with it.
    bad = json.dumps(prediction("x" * 300, "v1"))
    done = run("compare-send", comparer.url, given="\n".join(["starting", *lines, bad, "{}"]))
    why, counts = done.stderr.splitlines()
    assert "400 requestId: must be a string of 1 to 200" in why
    assert counts == "1000 posted, 2 lines passed over, 1 lost"
    assert done.returncode == 1
    assert comparer.samples("comparisons_total") == {V1_V2: 500, V2_V1: 500}
    assert comparer.samples("disagreements_total") == {V1_V2: 0, V2_V1: 0}


def test_lines_need_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare-send", "comparer:8080"]) == 2
    told = capsys.readouterr().err
    assert told == (
        "modelexperiment: url: must be http://HOST:PORT or https://..., got comparer:8080\n"
    )
