"""The comparer: there only when asked for, confined as the operator, and told what is set."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from modelexperiment import cli
from modelexperiment.commands import compare
from modelexperiment.comparer import service
from tests.helm.conftest import CHART, Document, Helm, Render
from tests.helm.test_objects import of_kind

pytestmark = pytest.mark.e2e

NAME = "ab-modelexperiment-comparer"
SHARED = {"redis": {"url": "redis://redis:6379/0"}}


def made(render: Render, comparer: Document, **values: Any) -> dict[str, Document]:
    """The comparer's own objects by kind."""
    documents = render(comparer={"enabled": True, **comparer}, **values)
    return {d["kind"]: d for d in documents if d["metadata"]["name"] == NAME}


def container(deployment: Document) -> Document:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def options(
    render: Render, comparer: Document, monkeypatch: pytest.MonkeyPatch, **values: Any
) -> service.Options:
    """What the command makes of the arguments and the environment of the chart's container."""
    found = container(made(render, comparer, **values)["Deployment"])
    for variable in found.get("env", []):
        monkeypatch.setenv(variable["name"], variable["value"])
    given: list[service.Options] = []
    monkeypatch.setattr(service, "run_service", given.append)
    monkeypatch.setattr("modelexperiment.logs.configure_logs", lambda *_: None)
    assert cli.main(found["args"]) == 0
    return given[0]


def test_it_is_there_only_when_asked_for(render: Render) -> None:
    assert not [d for d in render() if "comparer" in d["metadata"]["name"]]
    assert made(render, {}).keys() == {"Deployment", "Service"}
    everything = made(
        render, {"serviceMonitor": {"enabled": True}}, networkPolicy={"enabled": True}
    )
    assert everything.keys() == {"Deployment", "Service", "ServiceMonitor", "NetworkPolicy"}


def test_defaults_are_the_commands_own(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    assert options(render, {}, monkeypatch) == service.Options()


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        ({"port": 9000}, "port", 9000),
        ({"window": "5m"}, "window", 300.0),
        ({"tolerance": 0.25}, "rule", service.Rule(tolerance=0.25)),
        ({"threshold": 0}, "rule", service.Rule(threshold=0.0)),
        ({"threshold": 0.5}, "rule", service.Rule(threshold=0.5)),
        ({"maxPending": 5000000}, "most", 5_000_000),
        ({"redis": {"partitions": 3}}, "partitions", 3),
        ({"redis": {"streamLength": 7}}, "stream_length", 7),
        (SHARED, "redis", "redis://redis:6379/0"),
    ],
)
def test_each_value_arrives(
    render: Render,
    monkeypatch: pytest.MonkeyPatch,
    values: Document,
    field: str,
    expected: object,
) -> None:
    assert getattr(options(render, values, monkeypatch), field) == expected


def test_the_pod_is_as_confined_as_the_operators(render: Render) -> None:
    documents = render(comparer={"enabled": True})
    operator, comparer = sorted(
        of_kind(documents, "Deployment"), key=lambda d: len(d["metadata"]["name"])
    )
    pod = comparer["spec"]["template"]["spec"]
    confined = operator["spec"]["template"]["spec"]
    assert pod["securityContext"] == confined["securityContext"]
    assert container(comparer)["securityContext"] == container(operator)["securityContext"]
    assert container(comparer)["image"] == container(operator)["image"]
    assert pod["automountServiceAccountToken"] is False
    assert "memory" in container(comparer)["resources"]["limits"]
    probes = [container(comparer)[probe] for probe in ("livenessProbe", "readinessProbe")]
    assert [probe["httpGet"] for probe in probes] == [
        {"path": "/healthz", "port": "http"},
        {"path": "/readyz", "port": "http"},
    ]


def test_neither_is_taken_for_the_other(render: Render) -> None:
    """By no Service, policy, budget or monitor."""
    documents = render(
        comparer={"enabled": True, "serviceMonitor": {"enabled": True}},
        metrics={"serviceMonitor": {"enabled": True}},
        networkPolicy={"enabled": True},
    )

    def matches(selector: Document, labels: Document) -> bool:
        return selector.items() <= labels.items()

    pods = {
        d["metadata"]["name"]: d["spec"]["template"]["metadata"]["labels"]
        for d in of_kind(documents, "Deployment")
    }
    services = {
        d["metadata"]["name"]: d["metadata"]["labels"] for d in of_kind(documents, "Service")
    }
    for document in of_kind(documents, "Service", "NetworkPolicy", "PodDisruptionBudget"):
        spec = document["spec"]
        selector = spec["selector"] if "selector" in spec else spec["podSelector"]
        selector = selector.get("matchLabels", selector)
        found = [name for name, labels in pods.items() if matches(selector, labels)]
        assert found == [document["metadata"]["name"]]
    for document in of_kind(documents, "ServiceMonitor"):
        selector = document["spec"]["selector"]["matchLabels"]
        found = [name for name, labels in services.items() if matches(selector, labels)]
        assert found == [document["metadata"]["name"]]


def test_a_policy_lets_posts_in_and_out_only_to_redis(render: Render) -> None:
    callers = [{"namespaceSelector": {"matchLabels": {"team": "fraud"}}}]
    alone = made(render, {"networkPolicy": {"from": callers}}, networkPolicy={"enabled": True})
    policy = alone["NetworkPolicy"]["spec"]
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}], "from": callers}]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []

    shared = made(render, SHARED, networkPolicy={"enabled": True})["NetworkPolicy"]["spec"]
    assert [[port["port"] for port in rule["ports"]] for rule in shared["egress"]] == [
        [53, 53],
        [6379],
    ]


def test_with_redis_there_may_be_several(render: Render) -> None:
    deployment = made(render, {"replicas": 3, **SHARED})["Deployment"]
    assert deployment["spec"]["replicas"] == 3
    assert "strategy" not in deployment["spec"]
    # In memory, an old and a new pod would each see half of the predictions.
    assert made(render, {})["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}

    secret = made(render, {"redis": {"secret": "redis-login"}})["Deployment"]
    assert container(secret)["env"] == [
        {
            "name": "COMPARER_REDIS_URL",
            "valueFrom": {"secretKeyRef": {"name": "redis-login", "key": "url"}},
        }
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("comparer.replicas=2", "comparer.replicas: more than one needs comparer.redis.url or"),
        (
            "comparer.redis.url=redis://r,comparer.redis.secret=s",
            "comparer.redis.secret: can't be used together with comparer.redis.url",
        ),
        ("comparer.redis.url=http://r", "at '/comparer/redis/url'"),
        ("comparer.redis.url=redis://:password@r", "at '/comparer/redis/url'"),
        ("comparer.window=soon", "at '/comparer/window'"),
        ("comparer.tolerance=-1", "at '/comparer/tolerance'"),
        ("comparer.threshold=high", "at '/comparer/threshold'"),
        ("comparer.replica=1", "additional properties 'replica' not allowed"),
    ],
)
def test_what_is_refused(helm: Helm, values: str, said: str) -> None:
    done = helm("template", "ab", str(CHART), "--set", f"comparer.enabled=true,{values}")
    assert done.returncode != 0
    assert said in done.stderr


def test_the_commands_options_are_all_in_the_chart(render: Render) -> None:
    parser = argparse.ArgumentParser()
    compare.add(parser.add_subparsers())
    given = (
        container(made(render, {})["Deployment"])["args"]
        + container(made(render, {"threshold": 1})["Deployment"])["args"]
    )
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    known = {
        option
        for action in commands.choices["compare"]._actions
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--redis")
    }
    assert {argument.partition("=")[0] for argument in given} - {"compare"} == known
