"""Alerts: each once, to whom the platform allows, whatever fails, and never in a rollback's way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from localcluster import Cluster
from modelexperiment.core.notices import WebhookBody
from tests.e2e import chart
from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually
from tests.e2e.receivers import Receiver

pytestmark = pytest.mark.e2e

SCRAPE, POLL = 1.0, 1.0
# No name server is asked for it, and it leads to 169.254.169.254 all the same.
METADATA = "http://0xa9fea9fe"
PATH = "/services/T0/hunter2"
# Broken from the first poll on.
BROKEN = {"name": "broken", "query": "vector(1)", "max": 0}
Alerts = list[dict[str, Any]]


@pytest.fixture(scope="module")
def receivers() -> Iterator[dict[str, Receiver]]:
    """Webhooks that the platform allows."""
    made = {name: Receiver() for name in ("webhook", "slack", "slow", "gone", "redirecting")}
    yield made
    for receiver in made.values():
        receiver.stop()


@pytest.fixture(scope="module")
def alertmanager(cluster: Cluster) -> str:
    """A real Alertmanager's URL."""
    return cluster.alertmanager()


@pytest.fixture(scope="module", autouse=True)
def allowed(
    cluster: Cluster,
    operator: OperatorProcess,
    receivers: dict[str, Receiver],
    alertmanager: str,
) -> Iterator[None]:
    """The session's operator, upgraded to call these receivers and to read Secrets by two names."""
    urls = [alertmanager, METADATA, *(receiver.url for receiver in receivers.values())]
    chart.upgrade(cluster, f"alerts.allowedUrls={{{','.join(urls)}}}", "alerts.timeout=2s")
    chart.upgrade(cluster, "alerts.secretNames={chat,elsewhere}", "log.level=debug")
    before = restarted(operator, chart.environment(cluster))
    yield
    restarted(operator, before)


def restarted(operator: OperatorProcess, environment: dict[str, str]) -> dict[str, str]:
    """Restart the operator with another environment; gives the one that it had."""
    operator.stop()
    before, written = operator.change(**environment), len(operator.log)
    operator.start()
    eventually(lambda: "leading as" in operator.log[written:], "the operator works again", 120)
    return before


def secret(lab: Lab, name: str, url: str, namespace: str = "") -> None:
    place = ("-n", namespace or lab.namespace)
    lab.cluster.kubectl("create", "secret", "generic", name, f"--from-literal=url={url}", *place)


def in_alertmanager(url: str, lab: Lab) -> Alerts:
    """The alerts of a lab that go on, in Alertmanager's own words."""
    with urlopen(f"{url}/api/v2/alerts?filter=namespace%3D%22{lab.namespace}%22") as answer:
        return list(json.load(answer))


def told(receiver: Receiver, lab: Lab) -> Alerts:
    """What a webhook has taken about a lab."""
    return [b for b in receiver.taken if b["experiment"]["namespace"] == lab.namespace]


def everything_shown(lab: Lab, operator: OperatorProcess) -> str:
    """Log, status, Events: wherever a secret could show."""
    status = json.dumps(lab.status())
    events = lab.cluster.kubectl("get", "events", "-n", lab.namespace, "-o", "json")
    return operator.log + status + events


def test_a_rollback_is_told_once_and_so_is_its_end(
    lab: Lab, operator: OperatorProcess, alertmanager: str, receivers: dict[str, Receiver]
) -> None:
    webhook, slack = receivers["webhook"], receivers["slack"]
    secret(lab, "chat", slack.url + PATH)
    to = [
        {"alertmanager": {"url": alertmanager}},
        {"slack": {"secretRef": {"name": "chat"}}},
        {"webhook": {"url": webhook.url + "/hook"}},
    ]
    manifest = lab.experiment(guardrails=[lab.error_guardrail()], alerts=to)
    with Traffic(lab, 200):
        lab.apply(manifest)
        lab.wait_phase("Running", timeout=90)
        assert in_alertmanager(alertmanager, lab) == []
        lab.servers["v2"].failing = 0.8
        lab.wait_phase("RolledBack", timeout=60)
        (alert,) = eventually(lambda: in_alertmanager(alertmanager, lab), "Alertmanager has it")
        (body,) = eventually(lambda: told(webhook, lab), "the webhook has it")
        eventually(lambda: slack.taken, "the chat has it")
        eventually(
            lambda: len(lab.status()["memory"]["alerts"][0]["delivered"]) == 3, "all have it"
        )
        lab.servers["v2"].failing = 0.0
        time.sleep(3)
        assert len(in_alertmanager(alertmanager, lab)) == len(told(webhook, lab)) == 1
        assert lab.condition("AlertsDelivered")["status"] == "True"
        manifest["spec"]["guardrails"][0]["max"] = 0.5
        lab.apply(manifest)
        lab.wait_phase("Running", timeout=90)
        eventually(lambda: in_alertmanager(alertmanager, lab) == [], "Alertmanager: resolved")
        eventually(lambda: len(told(webhook, lab)) == 2, "the webhook: resolved")
        eventually(lambda: lab.status()["memory"]["alerts"] == [], "nothing is left to tell")
    assert alert["labels"] == {
        "alertname": "GuardrailBreached",
        "severity": "critical",
        "namespace": lab.namespace,
        "experiment": "fraud-v2",
        "guardrail": "errors",
        "model_version": "v2",
    }
    assert "guardrail errors broke for v2" in alert["annotations"]["summary"]
    WebhookBody.model_validate(body)
    resolved = told(webhook, lab)[1]
    assert (body["version"], body["status"], body["endsAt"]) == ("1", "firing", None)
    assert (resolved["status"], resolved["id"]) == ("resolved", body["id"])
    assert resolved["startsAt"] == body["startsAt"] < resolved["endsAt"]
    assert {d.path for d in slack.deliveries} == {PATH}
    assert [b["text"].split("]")[0] for b in slack.taken] == ["[FIRING", "[RESOLVED"]
    shown = everything_shown(lab, operator)
    assert "hunter2" not in shown and slack.url not in shown


def test_dead_slow_and_failing_receivers_delay_nothing_and_a_kill_loses_nothing(
    lab: Lab, operator: OperatorProcess, receivers: dict[str, Receiver]
) -> None:
    webhook, slow, challenger = receivers["webhook"], receivers["slow"], lab.servers["v2"]
    webhook.deliveries.clear()
    webhook.answer, slow.delay = 500, 5.0
    gone = receivers["gone"]
    gone.stop()
    to = [{"webhook": {"url": receiver.url}} for receiver in (webhook, slow, gone)]
    with Traffic(lab, 200):
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail()], alerts=to))
        lab.wait_phase("Running", timeout=90)
        eventually(lambda: lab.guardrail_state("errors") == "Pass", "a pass first")
        challenger.failing = 0.8
        eventually(lambda: challenger.first_failure, "a bad response")
        lab.gateway.wait_for_weights("predict", {"v1": 100}, timeout=15)
        seconds = time.time() - (challenger.first_failure or 0.0)
        lab.wait_phase("RolledBack", timeout=60)
    assert seconds <= SCRAPE + POLL + 2
    found = eventually(
        lambda: (c := lab.condition("AlertsDelivered")).get("status") == "False" and c, "it is said"
    )
    assert found["reason"] == "NotDelivered"
    assert "spec.alerts[" in found["message"] and "http" not in found["message"]
    eventually(lambda: "AlertNotDelivered" in dict(lab.events()), "it is told")
    operator.kill()
    (key,) = {d.key for d in webhook.deliveries}
    webhook.answer, slow.delay = 200, 0.0
    operator.start()
    eventually(lambda: told(webhook, lab), "delivered after all")
    eventually(
        lambda: len(lab.status()["memory"]["alerts"][0]["delivered"]) == 2,
        "and to the one that was slow, and not to the one that is gone",
    )
    eventually(
        lambda: "spec.alerts[2].webhook: refuses" in lab.condition("AlertsDelivered")["message"],
        "it is said which one is still not told",
    )
    assert len(told(webhook, lab)) == 1
    assert {d.key for d in webhook.deliveries} == {key}
    assert len({d.key for d in slow.deliveries}) == 1
    assert [reason for reason, _ in lab.events()].count("AlertNotDelivered") == 1


def test_nothing_leads_to_an_address_that_is_not_allowed(
    lab: Lab, operator: OperatorProcess, receivers: dict[str, Receiver]
) -> None:
    redirecting, slack, slow = receivers["redirecting"], receivers["slack"], receivers["slow"]
    redirecting.answer, redirecting.location = 302, f"{slow.url}/stolen"
    slack.deliveries.clear()
    slow.deliveries.clear()
    other = f"{lab.namespace}-other"
    lab.cluster.kubectl("create", "namespace", other)
    secret(lab, "elsewhere", f"{slack.url}/hunter2", other)
    secret(lab, "chat", f"http://127.0.0.1:1{PATH}")
    secret(lab, "locked", f"{slack.url}/hunter2")
    to = [
        {"webhook": {"url": redirecting.url}},
        {"webhook": {"url": f"{METADATA}/latest/meta-data"}},
        {"webhook": {"secretRef": {"name": "chat"}}},
        {"webhook": {"secretRef": {"name": "elsewhere"}}},
        {"webhook": {"secretRef": {"name": "chat", "key": "nope"}}},
        {"webhook": {"secretRef": {"name": "locked"}}},
    ]
    since = len(operator.log)
    lab.apply(lab.experiment(guardrails=[BROKEN], alerts=to))
    lab.wait_phase("RolledBack", timeout=60)
    wanted = [
        "spec.alerts[0].webhook: alerts are not delivered: answered 302, and redirects are not",
        "spec.alerts[1].webhook: alerts are not delivered: its name leads to an address that is "
        "link-local",
        "spec.alerts[2].webhook: alerts are not delivered: its address is not allowed by",
        "spec.alerts[3].webhook: alerts are not delivered: there is no Secret elsewhere",
        "spec.alerts[4].webhook: alerts are not delivered: the Secret chat has no key nope",
        "spec.alerts[5].webhook: alerts are not delivered: the Secret locked can't be read: API "
        "server: 403",
    ]
    for line in wanted:
        eventually(lambda line=line: line in operator.log[since:], line)
    assert slow.deliveries == slack.deliveries == []
    shown = everything_shown(lab, operator)[since:]
    assert "hunter2" not in shown and "127.0.0.1:1/" not in shown
    lab.cluster.kubectl("delete", "namespace", other, "--wait=false")


def test_a_manifest_whose_receiver_is_not_allowed_does_not_start(lab: Lab) -> None:
    lab.apply(lab.experiment(alerts=[{"slack": {"url": "http://169.254.169.254/hunter2"}}]))

    found = eventually(
        lambda: (c := lab.condition("RoutesReady")).get("status") == "False" and c, "it is said"
    )

    assert found["reason"] == "AlertsNotAllowed"
    assert found["message"] == (
        "spec.alerts[0].slack: its url is not allowed by the operator's ALERTS_ALLOWED_URLS"
    )
    assert lab.status()["phase"] == "Pending"
