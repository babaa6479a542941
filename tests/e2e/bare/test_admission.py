"""What the API server itself makes of ModelExperiments, by the table of tests/crds/cases.py."""

from __future__ import annotations

import json
import random
import re

import pytest

from localcluster import Cluster, ClusterError
from modelexperiment.core.manifest import parse_experiment
from tests.crds.cases import ACCEPTED, REFUSED, Manifest, Refused, arms, manifest

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("crd")]

APPLY = ("apply", "--dry-run=server", "-f", "-")


@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts_and_fills_in_the_defaults_of_the_models(cluster: Cluster, given: Manifest) -> None:
    stored = json.loads(cluster.kubectl(*APPLY, "-o", "json", input=json.dumps(given)))

    parsed = parse_experiment(given).spec
    assert parse_experiment(stored).spec == parsed
    durations = ("interval", "maxDuration", "washout")
    for name, value in parsed.dump().items():
        if name != "analysis" or not set(durations) & set(given["spec"].get(name, ())):
            assert stored["spec"][name] == value


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refuses_with_a_message_for_people(cluster: Cluster, case: Refused) -> None:
    with pytest.raises(ClusterError) as caught:
        cluster.kubectl(*APPLY, input=json.dumps(manifest(**case.spec)))

    told = [line for line in str(caught.value).splitlines() if case.field in line]
    assert any((case.server or case.says) in line for line in told), str(caught.value)


def test_agrees_with_the_parser_on_any_split_of_hundredths(cluster: Cluster) -> None:
    """Percents are no binary fractions: the sum must still be exact, on both sides."""
    draw = random.Random(20)
    splits = {}
    for number in range(120):
        cuts = sorted(draw.sample(range(1, 10_000), draw.randint(1, 7)))
        shares = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
        shares[0] += number % 3 - 1
        splits[f"split-{number}"] = [share / 100 for share in shares]
    given = []
    for name, percents in splits.items():
        document = manifest(traffic=arms(*percents))
        document["metadata"]["name"] = name
        given.append(json.dumps(document))

    said = cluster.kubectl(*APPLY, "-o", "name", input="\n---\n".join(given), check=False)

    accepted = set(re.findall(r"split-\d+", said))
    assert accepted == {f"split-{number}" for number in range(1, 120, 3)}


class TestRoute:
    """The route of an experiment that has started."""

    @pytest.fixture
    def stored(self, cluster: Cluster, namespace: str) -> Manifest:
        given = manifest()
        given["metadata"]["namespace"] = namespace
        cluster.kubectl("create", "-f", "-", input=json.dumps(given))
        return given

    @staticmethod
    def enter(cluster: Cluster, namespace: str, phase: str) -> None:
        patch = json.dumps({"status": {"phase": phase}})
        cluster.kubectl(
            *("patch", "mexp", "fraud-v2", "-n", namespace),
            *("--subresource=status", "--type=merge", "-p", patch),
        )

    def move(self, cluster: Cluster, stored: Manifest) -> None:
        stored["spec"]["route"]["istio"]["virtualService"] = "another"
        cluster.kubectl("replace", "-f", "-", input=json.dumps(stored))

    def test_may_change_before_the_start(
        self, cluster: Cluster, namespace: str, stored: Manifest
    ) -> None:
        self.enter(cluster, namespace, "Pending")
        self.move(cluster, stored)

    @pytest.mark.parametrize("phase", ["Running", "Paused", "RolledBack"])
    def test_stays_after_it(
        self, cluster: Cluster, namespace: str, stored: Manifest, phase: str
    ) -> None:
        self.enter(cluster, namespace, phase)
        with pytest.raises(ClusterError, match="immutable once the experiment has started"):
            self.move(cluster, stored)

    def test_does_not_hold_back_the_split(
        self, cluster: Cluster, namespace: str, stored: Manifest
    ) -> None:
        self.enter(cluster, namespace, "Running")
        stored["spec"]["traffic"] = arms(50, 50)
        cluster.kubectl("replace", "-f", "-", input=json.dumps(stored))


def test_explain_tells_what_a_field_means(cluster: Cluster) -> None:
    said = cluster.kubectl("explain", "modelexperiment.spec.traffic.percent")

    assert "<number>" in said
    assert "Its share of the requests in percent, with up to two decimals." in said


def test_columns(cluster: Cluster, namespace: str) -> None:
    given = manifest()
    given["metadata"]["namespace"] = namespace
    cluster.kubectl("create", "-f", "-", input=json.dumps(given))
    status = {
        "phase": "Running",
        "verdict": "Inconclusive",
        "summary": {
            "split": "v1 90 / v2 10",
            "lift": "+4.1 %",
            "interval": "-1.0 to +9.4 %",
            "pValue": "0.12",
            "samples": "900 / 100",
            "guardrails": "1 Pass",
            "eta": "2h5m",
            "reason": "ExtendTest",
        },
    }
    patch = json.dumps({"status": status})
    where = ("-n", namespace)
    cluster.kubectl(
        *("patch", "mexp", "fraud-v2", *where, "--subresource=status", "--type=merge", "-p", patch)
    )

    short = columns(cluster.kubectl("get", "mexp", *where))
    wide = columns(cluster.kubectl("get", "mexp", *where, "-o", "wide"))

    age = short.pop("AGE")
    assert re.fullmatch(r"\d+s", age)
    assert short == {
        "NAME": "fraud-v2",
        "PHASE": "Running",
        "SPLIT": "v1 90 / v2 10",
        "LIFT": "+4.1 %",
        "INTERVAL": "-1.0 to +9.4 %",
        "VERDICT": "Inconclusive",
        "ETA": "2h5m",
    }
    more = {"P-VALUE": "0.12", "SAMPLES": "900 / 100", "GUARDRAILS": "1 Pass"}
    assert {**short, **more, "REASON": "ExtendTest"}.items() <= wide.items()


def columns(table: str) -> dict[str, str]:
    """The only row of a table by the names of its columns."""
    header, row = (re.split(r" {2,}", line.strip()) for line in table.splitlines())
    return dict(zip(header, row, strict=True))
