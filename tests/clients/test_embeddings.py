"""Distances of faces and the thresholds they are held against."""

import dataclasses

import numpy as np
import pytest

from clients.embeddings import (
    FALSE_ACCEPT_RATES,
    chosen_threshold,
    compare,
    squared_distances,
    thresholds_of,
)
from protocol.errors import FailedPreconditionError, InvalidRequestError
from tests.clients.faces import THRESHOLDS, face, random_faces


def test_distances_are_squared_euclidean() -> None:
    faces = random_faces(50)
    matrix = np.stack([found.vector for found in faces])
    expected = np.square(matrix - matrix[7]).sum(axis=1)
    assert squared_distances(matrix, matrix[7]) == pytest.approx(expected, abs=1e-5)


def test_distances_stay_in_their_range() -> None:
    vector = face().vector * np.float32(1.0005)
    assert squared_distances(np.stack([vector, -vector]), vector).tolist() == [0, 4]


@pytest.mark.parametrize(
    ("angle", "far", "same"),
    [(0.1, 0.001, True), (np.pi / 3 - 0.01, 0.01, True), (1.0, 0.001, False), (2.0, 0.01, False)],
)
def test_compare(angle: float, far: float, same: bool) -> None:
    answer = compare(face(0), face(angle), far=far)
    assert answer.same is same
    assert answer.distance == pytest.approx(2 - 2 * np.cos(angle), abs=1e-6)
    assert (answer.threshold, answer.far) == (THRESHOLDS[far], far)


def test_the_threshold_itself_still_counts() -> None:
    distance = compare(face(0), face(1)).distance
    assert compare(face(0), face(1), threshold=distance).same
    assert not compare(face(0), face(1), threshold=np.nextafter(distance, 0)).same


def test_a_threshold_of_ones_own_has_no_rate() -> None:
    assert chosen_threshold(THRESHOLDS, 0.01, 0.7) == (0.7, None)


@pytest.mark.parametrize("threshold", [-0.1, 4.1, float("nan")])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(InvalidRequestError, match="a squared distance from 0 to 4"):
        compare(face(), face(), threshold=threshold)


def test_unknown_rates() -> None:
    with pytest.raises(InvalidRequestError, match=r"far: expected one of 0\.01, 0\.001, got 0\.5"):
        compare(face(), face(), far=0.5)


@pytest.mark.parametrize("changes", [{"version": 2}, {"model": "other"}])
def test_different_versions_do_not_compare(changes: dict[str, object]) -> None:
    other = dataclasses.replace(face(), **changes)  # type: ignore[arg-type]
    with pytest.raises(FailedPreconditionError, match="cannot be compared") as caught:
        compare(face(), other)
    assert face().origin in str(caught.value)
    assert other.origin in str(caught.value)


def test_thresholds_by_rate() -> None:
    thresholds = thresholds_of(np.array([1.25, 0.5], np.float32))
    assert thresholds == dict(zip(FALSE_ACCEPT_RATES, (1.25, 0.5), strict=True))
