"""However many versions are named, a bounded number is known."""

from __future__ import annotations

import pytest

from modelexperiment.comparer.versions import (
    MAX_OF_MODEL,
    MAX_VERSIONS,
    RETIRE_AFTER,
    TooManyVersionsError,
    Version,
    Versions,
)


def named(number: int, model: str = "m") -> list[Version]:
    return [Version(model, f"v{index}") for index in range(number)]


def test_versions_of_a_model_are_bounded_and_nothing_is_half_taken() -> None:
    versions = Versions()
    full = named(MAX_OF_MODEL)
    assert versions.admit(full, 0) == (full, [])
    with pytest.raises(TooManyVersionsError, match="8 versions of m are known already, got new of"):
        versions.admit([Version("n", "v1"), Version("m", "new")], 1)
    assert versions.of("n") == []
    assert versions.admit(full, 2) == ([], [])


def test_versions_of_all_models_are_bounded() -> None:
    versions = Versions()
    for index in range(MAX_VERSIONS // MAX_OF_MODEL):
        versions.admit(named(MAX_OF_MODEL, f"m{index}"), 0)
    with pytest.raises(TooManyVersionsError, match="64 versions of all models are known"):
        versions.admit([Version("one-more", "v1")], 1)


def test_the_one_unseen_for_longest_makes_room_and_none_that_is_in_use() -> None:
    versions = Versions()
    full = named(MAX_OF_MODEL)
    versions.admit(full, 0)
    versions.admit(full[1:], 1)
    versions.admit(full[2:], 5)
    new = Version("m", "new")
    with pytest.raises(TooManyVersionsError):
        versions.admit([new], RETIRE_AFTER - 1)
    # The oldest is in the same post, so it is the next one that goes.
    assert versions.admit([full[0], new], RETIRE_AFTER + 1) == ([new], [full[1]])
