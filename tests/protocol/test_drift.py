import json

import numpy as np
import pytest

from protocol.drift import (
    FEWEST,
    WINDOW,
    Distribution,
    DriftWatch,
    Reference,
    distributions,
    stability_index,
)
from protocol.errors import ContractError


def test_the_index_is_the_published_formula():
    """Worked by hand: (0.2 - 0.1) ln 2 + (0.3 - 0.4) ln 0.75 + 0."""
    found = stability_index([0.1, 0.4, 0.5], [0.2, 0.3, 0.5])
    assert found == pytest.approx(0.1 * np.log(2) - 0.1 * np.log(0.75))
    assert stability_index([0.5, 0.5], [0.5, 0.5]) == 0
    assert np.isfinite(stability_index([1.0, 0.0], [0.0, 1.0]))


def test_numbers_are_split_into_deciles():
    distribution = Distribution.of(np.arange(1000))
    assert len(distribution.edges) == 11
    assert distribution.shares == pytest.approx([0, *[0.1] * 10, 0])
    assert distribution.places(np.array([-1, 0, 99, 100, 999, 1000])).tolist() == [
        0,
        1,
        1,
        2,
        10,
        11,
    ]


def test_a_constant_is_told_from_anything_else():
    distribution = Distribution.of(np.full(300, 7))
    assert distribution.shares == (0, 1, 0)
    assert distribution.places(np.array([6.9, 7, 7.1])).tolist() == [0, 1, 2]


def test_classes_are_counted_by_name():
    distribution = Distribution.of(np.array(["cat", "dog", "cat", "cat"]))
    assert distribution.classes == ("cat", "dog", "")
    assert distribution.shares == (0.75, 0.25, 0)
    assert distribution.places(np.array(["dog", "cow"])).tolist() == [1, 2]


def watch(**values):
    return DriftWatch(Reference(distributions([values])))


def test_the_same_traffic_has_no_drift_and_another_has():
    random = np.random.default_rng(0)
    watched = watch(x=random.normal(size=1000), kind=np.array(["a", "b"] * 500))
    watched.add({"x": random.normal(size=1000), "kind": np.array(["b", "a"] * 500), "other": [1]})
    x, kind = watched.report()
    assert (x.name, x.observations, x.shares) == ("x", 1000, {})
    assert x.index < 0.05
    assert x.mean == pytest.approx(0, abs=0.15)
    assert (kind.index, kind.mean) == (0, None)
    assert kind.shares == {"a": 0.5, "b": 0.5, "": 0}
    watched.add({"x": random.normal(1, size=WINDOW), "kind": np.array(["c"] * WINDOW)})
    x, kind = watched.report()
    assert x.observations == WINDOW
    assert x.index > 0.2
    assert kind.index > 0.2
    assert kind.shares == {"a": 0, "b": 0, "": 1}


def test_few_values_say_nothing():
    watched = watch(x=np.arange(1000))
    assert watched.report()[0].mean is None
    watched.add({"x": np.arange(FEWEST - 1)})
    assert watched.report()[0].index is None
    watched.add({"x": np.array([5])})
    assert watched.report()[0].index > 0


def test_a_reference_survives_json():
    features = distributions([{"x": np.arange(50), "kind": np.array(["a"] * 50)}])
    reference = Reference(features, (0.6, 0.8), 50)
    document = json.loads(json.dumps(reference.to_json()))
    assert Reference.from_json(document) == reference


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"examples": 1, "features": {"x": {"shares": [0.5, 0.2], "edges": [1]}}},
        {"examples": 1, "features": {"x": {"shares": [1.0], "edges": [1]}}},
        {"examples": 1, "features": {"x": {"shares": [0.5, 0, 0.5], "edges": [2, 1]}}},
        {"examples": 1, "features": {"x": {"shares": [1.0], "bins": [1]}}},
        {"examples": "many", "features": {}},
        {"examples": 1, "features": []},
    ],
)
def test_anything_else_is_refused(document):
    with pytest.raises(ContractError):
        Reference.from_json(document)
