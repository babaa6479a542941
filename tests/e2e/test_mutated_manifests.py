"""Wrong manifests by the thousand: each is refused or explained, and nothing else happens."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config

from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from tests.crds.mutations import mutants
from tests.e2e.lab import HOST, Lab, OperatorProcess, eventually

pytestmark = pytest.mark.e2e

NUMBER = 2_000
BATCH = 250
SEED = 20261125


@pytest.fixture
def api(lab: Lab) -> Iterator[client.CustomObjectsApi]:
    """A client, since two thousand calls of kubectl take minutes."""
    with config.new_client_from_config(str(lab.cluster.kubeconfig)) as connection:
        yield client.CustomObjectsApi(connection)


def test_each_is_refused_or_explained(
    lab: Lab, operator: OperatorProcess, api: client.CustomObjectsApi
) -> None:
    before = lab.fetch("virtualservice", HOST)
    log = len(operator.log)
    where: Any = (GROUP, VERSION, lab.namespace, PLURAL)
    outcomes: Counter[str] = Counter()
    given_ones = mutants(NUMBER, SEED)
    while batch := list(itertools.islice(given_ones, BATCH)):
        stored = 0
        for number, given in enumerate(batch):
            given["metadata"] = {"name": f"mutant-{number}", "namespace": lab.namespace}
            try:
                api.create_namespaced_custom_object(*where, given, field_validation="Strict")
            except client.ApiException as refused:
                assert refused.status in (400, 422), refused.body
                said = json.loads(refused.body or "{}")["message"]
                assert "spec" in said, said
                outcomes["refused"] += 1
            else:
                stored += 1

        def explained(number: int = stored) -> list[dict[str, Any]] | None:
            found = api.list_namespaced_custom_object(*where)["items"]
            done = [m for m in found if m.get("status", {}).get("conditions")]
            return done if len(done) == number else None

        for mutant in eventually(explained, "every one that was stored has conditions", 120):
            outcomes[why_it_waits(mutant)] += 1
        api.delete_collection_namespaced_custom_object(*where)

    print(f"\n{dict(outcomes)}")
    assert outcomes["refused"] > NUMBER / 4
    assert outcomes.total() - outcomes["refused"] > NUMBER / 10
    assert lab.fetch("virtualservice", HOST) == before
    assert "Traceback" not in operator.log[log:]
    assert "unexpected failure" not in operator.log[log:]


def why_it_waits(mutant: dict[str, Any]) -> str:
    """The reason that its conditions give, which each names with a message."""
    status = mutant["status"]
    assert status["phase"] == "Pending", mutant
    bad = [c for c in status["conditions"] if c["status"] == "False" and c["type"] != "Complete"]
    assert bad, mutant
    assert all(c["message"] for c in bad)
    return str(bad[0]["reason"])
