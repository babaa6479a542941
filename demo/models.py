"""The two versions of the model: v1 from the schedule alone, v2 also from weather and plane.

Both say how probable it is that a flight arrives late, and call it late where that is more
probable than the share of late flights they were trained on. At a threshold of one half nearly
every flight would be called punctual, and the two versions could hardly be told apart.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from demo import data, features
from demo.data import Flight
from demo.features import Encoder, FlightRequest, FullEncoder, ScheduleEncoder

VERSIONS = ("v1", "v2")


@dataclass(frozen=True)
class Model:
    """A trained version: how it sees a flight, its classifier, and where it calls a flight late."""

    version: str
    encoder: Encoder
    classifier: Any
    threshold: float

    def probabilities(self, requests: Iterable[FlightRequest]) -> np.ndarray[Any, Any]:
        """Probability that each flight arrives late, shape (n,)."""
        rows = np.array([self.encoder.encode(request) for request in requests], dtype=float)
        return np.asarray(self.classifier.predict_proba(rows)[:, 1])

    def predict(self, request: FlightRequest) -> tuple[float, bool]:
        """Probability that this flight arrives late, and whether the model calls it late."""
        probability = float(self.probabilities([request])[0])
        return probability, probability > self.threshold


@dataclass(frozen=True)
class Quality:
    """How well a model does on flights it has not seen: AUC and share of correct answers."""

    flights: int
    auc: float
    accuracy: float


def train(version: str, flights: Sequence[Flight]) -> Model:
    """Train one version; takes some seconds, and gives the same model every time.

    Raises ValueError for a version that there is none of.
    """
    requests = [flight.request for flight in flights]
    late = np.array([flight.late for flight in flights])
    encoder: Encoder
    if version == "v1":
        encoder = ScheduleEncoder.fit(requests)
        classifier = LogisticRegression(max_iter=500)
    elif version == "v2":
        encoder = FullEncoder.fit(requests)
        classifier = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=15,
            min_samples_leaf=100,
            categorical_features=list(FullEncoder.categorical),
            early_stopping=False,
            random_state=0,
        )
    else:
        raise ValueError(f"there is no model version {version!r}, only {', '.join(VERSIONS)}")
    rows = np.array([encoder.encode(request) for request in requests], dtype=float)
    return Model(version, encoder, classifier.fit(rows, late), float(late.mean()))


def evaluate(model: Model, flights: Sequence[Flight]) -> Quality:
    """AUC and accuracy of a model on these flights."""
    late = np.array([flight.late for flight in flights])
    probabilities = model.probabilities(flight.request for flight in flights)
    correct = (probabilities > model.threshold) == late
    return Quality(len(late), float(roc_auc_score(late, probabilities)), float(correct.mean()))


def trained(cache: Path) -> dict[str, Path]:
    """Files of all versions in a directory keyed by the code; what is missing is trained."""
    directory = cache / f"models-{_code_key()}"
    paths = {version: directory / f"{version}.pickle" for version in VERSIONS}
    missing = [version for version, path in paths.items() if not path.exists()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        flights = list(data.flights(data.TRAINING_MONTHS))
        for version in missing:
            _save(train(version, flights), paths[version])
    return paths


def load(path: Path) -> Model:
    """A model that `trained` has saved. Only for files of one's own: it unpickles."""
    model = pickle.loads(path.read_bytes())
    if not isinstance(model, Model):
        raise TypeError(f"{path} holds no model")
    return model


def _save(model: Model, path: Path) -> None:
    # Renamed when whole: an interrupted training leaves no half model behind.
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(pickle.dumps(model))
    unfinished.replace(path)


def _code_key() -> str:
    """Changes with whatever changes the models: this code, scikit-learn, Python."""
    key = hashlib.sha256(f"{sklearn.__version__} {np.__version__}".encode())
    key.update(platform.python_version().encode())
    for module in (__file__, data.__file__, features.__file__):
        key.update(Path(module).read_bytes())
    return key.hexdigest()[:16]
