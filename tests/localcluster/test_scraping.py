from __future__ import annotations

from typing import Any

from localcluster.config import prometheus_config
from localcluster.scraping import Configuration, with_scrape_job, without_targets


def with_job(configuration: Configuration, job: str, *targets: str) -> dict[str, Any]:
    return with_scrape_job(
        configuration, job, targets, labels={"team": "fraud"}, interval="2s", path="/metrics"
    )


def test_a_job_holds_targets_labels_and_interval() -> None:
    [job] = with_job(prometheus_config("1s"), "models", "127.0.0.1:1")["scrape_configs"]
    assert job == {
        "job_name": "models",
        "scrape_interval": "2s",
        "scrape_timeout": "2s",
        "metrics_path": "/metrics",
        "static_configs": [{"targets": ["127.0.0.1:1"], "labels": {"team": "fraud"}}],
    }


def test_a_job_of_the_same_name_is_replaced_and_others_stay() -> None:
    configuration = with_job(prometheus_config("1s"), "a", "old:1")
    configuration = with_job(configuration, "b", "b:1")
    configuration = with_job(configuration, "a", "new:1", "new:2")
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in configuration["scrape_configs"]
    }
    assert targets == {"a": ["new:1", "new:2"], "b": ["b:1"]}
    assert len(configuration["scrape_configs"]) == 2


def test_a_job_loses_its_targets_and_the_original_is_not_touched() -> None:
    before = with_job(prometheus_config("1s"), "a", "a:1")
    after = without_targets(before, "a")
    [job] = after["scrape_configs"]
    assert (job["job_name"], job["static_configs"]) == ("a", [])
    assert before["scrape_configs"][0]["static_configs"]
    assert without_targets(before, "b") == before
