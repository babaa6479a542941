"""Each pair of versions is compared once for a request, whatever the order, retries and losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from modelexperiment.comparer.agreement import answer
from modelexperiment.comparer.pairing import Pair, Pairing, Unpaired
from modelexperiment.comparer.predictions import Prediction

WINDOW = 10
Told = Counter[tuple[str, ...]]


def predicted(request: str, version: str, model: str = "m") -> Prediction:
    return Prediction(request, model, version, answer(0.5))


def told(decided: Iterable[Pair | Unpaired]) -> Told:
    found: Told = Counter()
    for one in decided:
        if isinstance(one, Pair):
            found["pair", one.model, *sorted((one.one.version, one.other.version))] += 1
        else:
            found[one.reason, one.model, one.given.version] += 1
    return found


def test_a_pair_within_the_window() -> None:
    pairing = Pairing(WINDOW, 10)
    assert pairing.add(predicted("a", "v1"), 0, "first") == []
    (pair,) = pairing.add(predicted("a", "v2"), WINDOW, "second")
    assert isinstance(pair, Pair)
    assert (pair.one.token, pair.other.token) == ("first", "second")
    assert pairing.expire(99) == [] and len(pairing) == 0


def test_after_the_window_both_are_alone() -> None:
    pairing = Pairing(WINDOW, 10)
    pairing.add(predicted("a", "v1"), 0)
    late = pairing.add(predicted("a", "v2"), WINDOW + 0.1)
    assert told(late) == {("expired", "m", "v1"): 1}
    assert told(pairing.expire(99)) == {("expired", "m", "v2"): 1}


def test_a_retry_is_a_duplicate_before_and_after_the_pair() -> None:
    pairing = Pairing(WINDOW, 10)
    decided = [
        one
        for version in ("v1", "v1", "v2", "v2", "v1")
        for one in pairing.add(predicted("a", version), 0)
    ]
    assert told(decided) == {
        ("pair", "m", "v1", "v2"): 1,
        ("duplicate", "m", "v1"): 2,
        ("duplicate", "m", "v2"): 1,
    }


def test_three_versions_are_three_pairs_and_models_do_not_mix() -> None:
    pairing = Pairing(WINDOW, 10)
    decided = [
        one
        for version, model in (("v1", "m"), ("v2", "n"), ("v2", "m"), ("v3", "m"))
        for one in pairing.add(predicted("a", version, model), 0)
    ]
    assert told(decided) == {
        ("pair", "m", "v1", "v2"): 1,
        ("pair", "m", "v1", "v3"): 1,
        ("pair", "m", "v2", "v3"): 1,
    }


def test_the_oldest_makes_room() -> None:
    pairing = Pairing(WINDOW, 2)
    for request in ("a", "b"):
        pairing.add(predicted(request, "v1"), 0)
    pairing.add(predicted("a", "v2"), 1)
    # Of a request that was compared nothing is lost but that a retry would be known.
    assert pairing.add(predicted("c", "v1"), 2) == []
    assert told(pairing.add(predicted("d", "v1"), 2)) == {("evicted", "m", "v1"): 1}
    assert len(pairing) == 2


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from("abc"),
        st.sampled_from(("v1", "v2", "v3")),
        st.sampled_from("mn"),
    ),
    max_size=60,
)


def reference(arrivals: list[tuple[int, str, str, str]]) -> Told:
    """The same by definition: the arrivals of a request, cut where the window has passed."""
    found: Told = Counter()
    for model, request in {(model, request) for _, request, _, model in arrivals}:
        mine = [(at, version) for at, r, version, m in arrivals if (r, m) == (request, model)]
        while mine:
            since = mine[0][0]
            now = [version for at, version in mine if at - since <= WINDOW]
            mine = mine[len(now) :]
            first = sorted(set(now))
            for version, number in Counter(now).items():
                if number > 1:
                    found["duplicate", model, version] += number - 1
            for index, one in enumerate(first):
                for other in first[index + 1 :]:
                    found["pair", model, one, other] += 1
            if len(first) == 1:
                found["expired", model, first[0]] += 1
    return found


@given(ARRIVALS)
def test_counts_are_those_of_the_definition(steps: list[tuple[int, str, str, str]]) -> None:
    at, arrivals = 0, []
    for step, *rest in steps:
        at += step
        arrivals.append((at, *rest))
    pairing = Pairing(WINDOW, 1000)
    found: Told = Counter()
    for at, request, version, model in arrivals:
        found += told(pairing.add(predicted(request, version, model), at))
    found += told(pairing.expire(at + WINDOW + 1))
    assert found == reference(arrivals)
    assert len(pairing) == 0


@given(ARRIVALS, st.integers(1, 4))
def test_every_prediction_has_one_end_however_little_room(
    steps: list[tuple[int, str, str, str]], most: int
) -> None:
    pairing, at = Pairing(WINDOW, most), 0
    ends: Counter[str] = Counter()
    compared: set[str] = set()
    for index, (step, request, version, model) in enumerate(steps):
        at += step
        for one in pairing.add(predicted(request, version, model), at, str(index)):
            if isinstance(one, Pair):
                assert one.one.version != one.other.version
                compared |= {one.one.token, one.other.token}
            else:
                ends[one.given.token] += 1
        assert len(pairing) <= most
    ends.update(one.given.token for one in pairing.expire(at + WINDOW + 1))
    assert set(ends.values()) <= {1}
    assert compared.isdisjoint(ends)
    assert compared | ends.keys() == {str(index) for index in range(len(steps))}
