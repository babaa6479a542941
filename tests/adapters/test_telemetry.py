"""The series that a Prometheus gets to see."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import aiohttp
import pytest
from kubernetes.aio import client
from prometheus_client.exposition import generate_latest

from localcluster.ports import free_ports
from modelexperiment.adapters import web
from modelexperiment.adapters.experiment_series import FAMILIES, most_series
from modelexperiment.adapters.kubernetes import _kind_of, _WatchedClient
from modelexperiment.adapters.telemetry import API_ERRORS, Telemetry
from modelexperiment.adapters.web import Health
from modelexperiment.core.status import ExperimentStatus, Memory
from modelexperiment.ports import QueryError, UnavailableError
from tests.adapters.statuses import full_status

KEY = ("fraud", "fraud-v2")


def exposed(telemetry: Telemetry, **without: str) -> dict[str, float]:
    """The operator's own series that have the labels `without`, which are left out."""
    found = {}
    for family in telemetry.registry.collect():
        for sample in family.samples:
            own = sample.name.startswith("modelexperiment_") and "_created" not in sample.name
            if own and without.items() <= sample.labels.items():
                labels = [f'{n}="{v}"' for n, v in sample.labels.items() if n not in without]
                shown = f"{{{','.join(labels)}}}" if labels else ""
                found[f"{sample.name}{shown}"] = sample.value
    return found


def about(telemetry: Telemetry, key: tuple[str, str] = KEY) -> dict[str, float]:
    """The series of one experiment, without the labels that name it."""
    return exposed(telemetry, namespace=key[0], experiment=key[1])


@pytest.fixture
def telemetry() -> Telemetry:
    found = Telemetry()
    found.lead()
    return found


def test_all_that_a_status_says(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, full_status(), "v1")

    effect = 'metric="accuracy",role="Primary",model_version="v2"'
    guardrail = 'guardrail="errors",model_version="v2"'
    assert about(telemetry) == {
        'modelexperiment_phase{phase="RolledBack"}': 1,
        'modelexperiment_verdict{verdict="ChallengerBetter"}': 1,
        'modelexperiment_decision{action="Rollback",risk_level="critical"}': 1,
        'modelexperiment_condition{condition="RoutesReady",status="True"}': 1,
        'modelexperiment_condition{condition="GuardrailsHealthy",status="False"}': 1,
        "modelexperiment_start_timestamp_seconds": 1772366400,
        'modelexperiment_split_ratio{model_version="v1"}': 0.905,
        'modelexperiment_split_ratio{model_version="v2"}': 0.095,
        'modelexperiment_sample_share_expected_ratio{model_version="v1"}': 0.9,
        'modelexperiment_sample_share_expected_ratio{model_version="v2"}': 0.1,
        'modelexperiment_sample_share_observed_ratio{model_version="v1"}': 0.8,
        'modelexperiment_sample_share_observed_ratio{model_version="v2"}': 0.2,
        "modelexperiment_sample_ratio_p_value": 1e-9,
        "modelexperiment_sample_ratio_mismatch": 1,
        'modelexperiment_samples{metric="accuracy",model_version="v1"}': 9000,
        'modelexperiment_samples{metric="accuracy",model_version="v2"}': 1000,
        'modelexperiment_estimate{metric="accuracy",model_version="v1"}': 0.6,
        'modelexperiment_estimate{metric="accuracy",model_version="v2"}': 0.63,
        f"modelexperiment_relative_effect_ratio{{{effect}}}": pytest.approx(0.05),
        f"modelexperiment_relative_effect_lower_ratio{{{effect}}}": pytest.approx(0.01),
        f"modelexperiment_relative_effect_upper_ratio{{{effect}}}": pytest.approx(0.09),
        f"modelexperiment_absolute_effect{{{effect}}}": 0.03,
        f"modelexperiment_absolute_effect_lower{{{effect}}}": 0.006,
        f"modelexperiment_absolute_effect_upper{{{effect}}}": 0.054,
        f"modelexperiment_p_value{{{effect}}}": 0.001,
        f"modelexperiment_corrected_p_value{{{effect}}}": 0.002,
        f"modelexperiment_significant{{{effect}}}": 1,
        "modelexperiment_samples_needed": 5800,
        "modelexperiment_eta_timestamp_seconds": 1772370000,
        f'modelexperiment_guardrail_state{{{guardrail},state="Pass"}}': 0,
        f'modelexperiment_guardrail_state{{{guardrail},state="Breach"}}': 1,
        f'modelexperiment_guardrail_state{{{guardrail},state="InsufficientData"}}': 0,
        f"modelexperiment_guardrail_value{{{guardrail}}}": 0.3,
        f"modelexperiment_guardrail_limit{{{guardrail}}}": 0.02,
        f"modelexperiment_guardrail_breaches{{{guardrail}}}": 2,
        'modelexperiment_shadow_divergence_ratio{model_version="v3"}': 0.01,
        'modelexperiment_shadow_divergence_lower_ratio{model_version="v3"}': 0.004,
        'modelexperiment_shadow_divergence_upper_ratio{model_version="v3"}': 0.021,
        'modelexperiment_shadow_divergence_limit_ratio{model_version="v3"}': 0.05,
    }


def test_every_family_is_shown_at_work(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, full_status(), "v1")
    telemetry.observe(("fraud", "other"), full_status(phase="Running"), "v1")

    names = {name.split("{")[0] for name in exposed(telemetry)}
    assert {family.name for family in FAMILIES} <= names


def test_series_of_an_experiment_are_as_many_as_documented(telemetry: Telemetry) -> None:
    versions, metrics, guardrails = 2, 1, 1
    telemetry.observe(KEY, full_status(phase="Running"), "v1")

    most = most_series(versions, metrics, guardrails)
    # It says two conditions of seven.
    assert len(about(telemetry)) == most - 5


def test_an_empty_status_says_only_its_phase(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, ExperimentStatus(), "v1")

    assert about(telemetry) == {'modelexperiment_phase{phase="Pending"}': 1}


def test_how_far_it_is_counted_is_told_while_it_counts(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, full_status(phase="Running"), "v1")
    name = "modelexperiment_counted_until_timestamp_seconds"
    assert about(telemetry)[name] == datetime(2026, 3, 1, 12, 30, tzinfo=UTC).timestamp()

    telemetry.observe(KEY, full_status(phase="Stopped"), "v1")
    assert name not in about(telemetry)


def test_series_of_a_deleted_experiment_vanish(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, full_status(), "v1")
    telemetry.observe(("fraud", "other"), full_status(), "v1")

    telemetry.forget(KEY)

    assert about(telemetry) == {}
    assert len(about(telemetry, ("fraud", "other"))) > 30
    assert exposed(telemetry)['modelexperiment_experiments{phase="RolledBack"}'] == 1


def test_a_challenger_that_is_gone_from_the_status_is_gone(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, full_status(), "v1")
    telemetry.observe(KEY, ExperimentStatus(), "v1")

    assert len(about(telemetry)) == 1


def test_a_follower_says_nothing_of_experiments(telemetry: Telemetry) -> None:
    telemetry.observe(KEY, full_status(), "v1")
    assert exposed(telemetry)["modelexperiment_leader"] == 1

    telemetry.follow()

    found = exposed(telemetry)
    assert found["modelexperiment_leader"] == 0
    assert [name for name in found if "experiment=" in name or "phase=" in name] == []
    assert exposed(Telemetry()).keys() == found.keys()
    assert not telemetry.knows(KEY)


def test_a_rollback_counts_where_it_was_seen_to_happen(telemetry: Telemetry) -> None:
    def rollbacks() -> float:
        return exposed(telemetry)["modelexperiment_rollbacks_total"]

    # What is first seen rolled back was so before this process started.
    telemetry.observe(KEY, full_status(), "v1")
    assert rollbacks() == 0
    telemetry.observe(KEY, full_status(phase="Running"), "v1")
    telemetry.observe(KEY, full_status(), "v1")
    telemetry.observe(KEY, full_status(), "v1")
    assert rollbacks() == 1


def test_every_counter_begins_at_zero() -> None:
    found = exposed(Telemetry())

    for kind in API_ERRORS:
        assert found[f'modelexperiment_api_errors_total{{kind="{kind}"}}'] == 0
    assert found['modelexperiment_route_writes_total{result="failed"}'] == 0
    assert found["modelexperiment_rollback_seconds_count"] == 0


def test_queries_are_timed_and_their_failures_counted(telemetry: Telemetry) -> None:
    for error in (QueryError("bad"), UnavailableError("gone"), UnavailableError("gone")):
        with pytest.raises(type(error)), telemetry.query():
            raise error
    with telemetry.query():
        pass

    found = exposed(telemetry)
    assert found["modelexperiment_prometheus_query_seconds_count"] == 4
    assert found['modelexperiment_prometheus_errors_total{kind="bad_query"}'] == 1
    assert found['modelexperiment_prometheus_errors_total{kind="unavailable"}'] == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (404, None),
        (409, "conflict"),
        (422, "conflict"),
        (403, "forbidden"),
        (401, "forbidden"),
        (429, "throttled"),
        (400, "other"),
        (500, "server"),
        (503, "server"),
    ],
)
def test_an_answer_of_the_api_server_by_kind(status: int, kind: str | None) -> None:
    assert _kind_of(status) == kind
    assert kind is None or kind in API_ERRORS


def test_an_api_server_that_is_not_there_is_counted(telemetry: Telemetry) -> None:
    async def ask() -> None:
        configuration = client.Configuration(host=f"http://127.0.0.1:{free_ports(1)[0]}")
        async with _WatchedClient(configuration, telemetry.api_error) as api_client:
            with pytest.raises(aiohttp.ClientError):
                await client.CoreV1Api(api_client).list_namespace(_request_timeout=5)

    asyncio.run(ask())

    assert exposed(telemetry)['modelexperiment_api_errors_total{kind="unreachable"}'] == 1


def test_probes_answer_in_words() -> None:
    states = {"well": Health(True, "ok"), "ready": Health(False, "the watch is not open yet")}

    async def ask() -> list[tuple[int, str]]:
        (port,) = free_ports(1)
        telemetry = Telemetry()
        runner = await web.serve(
            port, telemetry.registry, lambda: states["well"], lambda: states["ready"]
        )
        found = []
        async with aiohttp.ClientSession() as session:
            for path in ("healthz", "readyz", "metrics"):
                async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                    found.append((answer.status, await answer.text()))
        await runner.cleanup()
        return found

    healthz, readyz, metrics = asyncio.run(ask())
    assert healthz == (200, "ok\n")
    assert readyz == (503, "the watch is not open yet\n")
    assert metrics[0] == 200
    assert "modelexperiment_leader 0.0" in metrics[1]
    assert "process_cpu_seconds_total" in metrics[1]


def test_a_thousand_experiments_are_exposed_in_a_few_seconds(telemetry: Telemetry) -> None:
    status = full_status().model_copy(update={"memory": Memory()})
    for number in range(1000):
        telemetry.observe(("fraud", f"experiment-{number}"), status, "v1")

    began = time.monotonic()
    text = generate_latest(telemetry.registry)

    assert time.monotonic() - began < 10
    assert text.count(b"\nmodelexperiment_phase{") == 1000
