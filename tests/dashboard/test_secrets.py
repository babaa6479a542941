"""An address may hold a key: nobody reads it in the dashboard."""

from __future__ import annotations

from copy import deepcopy

from modelexperiment.core.manifest import parse_experiment
from modelexperiment.dashboard.secrets import without_secrets
from tests.dashboard.objects import made


def test_keys_in_addresses_are_hidden() -> None:
    seen = made()
    seen["spec"] = {
        **seen["spec"],
        "alerts": [
            {"slack": {"url": "https://hooks.slack.com/services/T0/B0/secret"}},
            {"webhook": {"url": "https://example.com/?key=secret"}},
            {"alertmanager": {"url": "http://alertmanager:9093"}},
        ],
        "prometheus": {"url": "http://prometheus:9090/tenant?token=secret"},
        "tracking": {"mlflow": {"uri": "http://mlflow:5000"}},
    }
    before = deepcopy(seen)
    shown = without_secrets(seen)

    assert "secret" not in str(shown)
    assert shown["spec"]["alerts"][0]["slack"]["url"] == "https://hooks.slack.com/hidden"
    assert shown["spec"]["alerts"][2] == before["spec"]["alerts"][2]
    assert shown["spec"]["prometheus"]["url"] == "http://prometheus:9090/tenant?hidden"
    assert shown["spec"]["tracking"] == before["spec"]["tracking"]
    # It still is an experiment, and the one that was seen is as it was.
    assert parse_experiment(shown).name == "fraud-v2"
    assert seen == before
