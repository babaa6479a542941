"""A command as a user runs it: a manifest and data in files, output and exit code."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelexperiment.cli import main
from tests.core.builders import LEAST


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


class Desk:
    """A folder with a manifest and data, and commands run on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def manifest(self, **fields: Any) -> str:
        """A manifest of two versions, half and half, with these fields in place of its own."""
        metadata = {"name": "fraud-v2", "namespace": "fraud"}
        document = {
            "apiVersion": "experiments.mlops.dev/v1alpha1",
            "kind": "ModelExperiment",
            "metadata": metadata,
            "spec": {**LEAST, **fields},
        }
        path = self.folder / "experiment.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return str(path)

    def text(self, text: str) -> str:
        """A data file with this text."""
        path = self.folder / "polls.csv"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def rows(self, rows: Sequence[Mapping[str, object]]) -> str:
        """A data file with these rows; the columns are the first row's."""
        path = self.folder / "polls.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return str(path)

    def run(self, *arguments: str) -> Answer:
        """Run the command."""
        code = main(arguments)
        out, err = self._capsys.readouterr()
        return Answer(code, out, err)

    def refused(self, *arguments: str) -> str:
        """Run the command, which must end with exit code 2 and one line; gives the line."""
        answer = self.run(*arguments)
        assert (answer.code, answer.out) == (2, "")
        (line,) = answer.err.splitlines()
        return line


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


MakeRows = Callable[..., list[dict[str, object]]]
FIRST = 1_772_366_400


def polls(
    number: int,
    *,
    metric: str = "accuracy",
    v1: tuple[float, float] = (100, 50),
    v2: tuple[float, float] = (100, 50),
) -> list[dict[str, object]]:
    """So many polls in which the versions' counters grew by (count, sum)."""
    return [
        {
            "time": FIRST + 15 * index,
            "metric": metric,
            "modelVersion": version,
            "count": count,
            "sum": total,
        }
        for index in range(number)
        for version, (count, total) in (("v1", v1), ("v2", v2))
    ]


def by_bucket(
    rows: Iterable[Mapping[str, object]], buckets: int, spread: Callable[[int], int]
) -> list[dict[str, object]]:
    """The same rows once for every hash bucket, with that much added to its successes."""
    return [
        {**row, "bucket": bucket, "sum": int(str(row["sum"])) + spread(bucket)}
        for row in rows
        for bucket in range(buckets)
    ]
