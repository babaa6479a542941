"""The trained models: what they use, and how good they are on flights they have not seen."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from demo import models
from demo.data import Flight
from demo.features import FlightRequest


def test_quality_on_the_rest_of_the_year(
    loaded: dict[str, models.Model], replayed: list[Flight]
) -> None:
    v1 = models.evaluate(loaded["v1"], replayed)
    v2 = models.evaluate(loaded["v2"], replayed)
    assert v1.flights == v2.flights == 221_871
    assert v1.auc == pytest.approx(0.643, abs=0.01)
    assert v2.auc == pytest.approx(0.687, abs=0.01)
    assert v1.accuracy == pytest.approx(0.603, abs=0.01)
    assert v2.accuracy == pytest.approx(0.674, abs=0.015)


def test_threshold_is_the_share_of_late_flights_in_training(
    loaded: dict[str, models.Model],
) -> None:
    assert [round(model.threshold, 4) for model in loaded.values()] == [0.2417, 0.2417]


def changed(request: FlightRequest, section: str) -> FlightRequest:
    other = copy.deepcopy(request)
    if section == "weather":
        other["weather"] |= {"humidity": 99.0, "precipitation": 0.5, "visibility": 0.25}
    else:
        other["plane"] |= {"age": 40.0, "seats": 400.0}
    return other


@pytest.mark.parametrize("section", ["weather", "plane"])
def test_v1_knows_the_schedule_alone_and_v2_more(
    loaded: dict[str, models.Model], replayed: list[Flight], section: str
) -> None:
    before = [flight.request for flight in replayed[:500]]
    after = [changed(request, section) for request in before]
    moved = {
        version: abs(model.probabilities(after) - model.probabilities(before)).max()
        for version, model in loaded.items()
    }
    assert moved["v1"] == 0
    assert moved["v2"] > 0.01


def test_v1_follows_the_schedule(
    loaded: dict[str, models.Model], request_body: FlightRequest
) -> None:
    morning = {**request_body, "schedule": {**request_body["schedule"], "hour": 6}}
    evening = {**request_body, "schedule": {**request_body["schedule"], "hour": 20}}
    early, late = loaded["v1"].probabilities([morning, evening])  # type: ignore[list-item]
    assert early + 0.1 < late


def test_training_again_gives_the_same_model(
    loaded: dict[str, models.Model], flights: list[Flight], replayed: list[Flight]
) -> None:
    training = [f for f in flights if f.request["schedule"]["month"] <= 4]
    again = models.train("v1", training)
    sample = [flight.request for flight in replayed[:100]]
    assert again.probabilities(sample) == pytest.approx(loaded["v1"].probabilities(sample))


def test_trained_models_are_kept(trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def not_again(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(models, "train", not_again)
    directory = trained["v1"].parent
    assert models.trained(directory.parent) == trained
    assert sorted(path.name for path in directory.iterdir()) == ["v1.pickle", "v2.pickle"]


def test_another_release_of_scikit_learn_trains_anew(
    trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.sklearn, "__version__", "0")
    assert f"models-{models._code_key()}" != trained["v1"].parent.name


def test_unknown_version_is_refused(replayed: list[Flight]) -> None:
    with pytest.raises(ValueError, match="no model version 'v3', only v1, v2"):
        models.train("v3", replayed[:10])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps({"version": "v1"}))
    with pytest.raises(TypeError, match="holds no model"):
        models.load(path)
