from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.tiling import Tiling, predict_tiled


@given(st.integers(1, 300), st.integers(1, 64), st.data())
def test_tiles_cover_a_side_and_overlap_enough(size, tile, data):
    overlap = data.draw(st.integers(0, tile // 2))
    starts = Tiling(tile, overlap).starts(size)
    assert starts[0] == 0
    assert starts[-1] == max(0, size - tile)
    for first, second in pairwise(starts):
        assert first < second <= first + tile - overlap


@pytest.mark.parametrize(
    ("size", "expected"),
    [(5, [0]), (10, [0]), (11, [0, 1]), (18, [0, 8]), (19, [0, 8, 9]), (26, [0, 8, 16])],
)
def test_starts_by_hand(size, expected):
    assert Tiling(10, 2).starts(size) == expected


def test_window_rises_over_the_overlap():
    window = Tiling(8, 2).window(8, 5)
    rows = np.array([1, 2, 3, 3, 3, 3, 2, 1]) / 3
    columns = np.array([1, 2, 3, 2, 1]) / 3
    np.testing.assert_allclose(window, rows[:, None] * columns, rtol=1e-6)
    assert window.dtype == np.float32


def test_windows_of_neighbours_add_up_to_one():
    window = Tiling(8, 3).window(8, 8)[4]  # a row: the vertical weight is 1
    np.testing.assert_allclose(window[-3:] + window[:3], 1.0, rtol=1e-6)


def place_of(images):
    share = images[..., 0] / np.float32(255)
    return np.stack([share, 1 - share], axis=-1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_what_does_not_depend_on_the_tile_comes_out_unchanged(height, width, rows):
    random = np.random.default_rng(height * 41 + width)
    images = random.integers(0, 256, (rows, height, width, 3)).astype(np.uint8)
    found = predict_tiled(images, Tiling(16, 4), place_of)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, place_of(images), atol=1e-6)


def test_seams_are_blended_by_the_windows():
    """Two tiles that answer 0 and 1: the answer rises evenly over what they share."""
    answers = iter([0.0, 1.0])

    def constant(tile):
        return np.full((*tile.shape[:3], 1), next(answers), np.float32)

    found = predict_tiled(np.zeros((1, 1, 13, 3), np.uint8), Tiling(8, 3), constant)
    np.testing.assert_allclose(found[0, 0, :, 0], [0] * 5 + [0.25, 0.5, 0.75] + [1] * 5, rtol=1e-6)


def test_a_small_image_is_predicted_whole():
    shapes = []

    def remember(images):
        shapes.append(images.shape)
        return place_of(images)

    predict_tiled(np.zeros((2, 16, 9, 3), np.uint8), Tiling(16, 4), remember)
    predict_tiled(np.zeros((2, 9, 17, 3), np.uint8), Tiling(16, 4), remember)
    assert shapes == [(2, 16, 9, 3), (2, 9, 16, 3), (2, 9, 16, 3)]


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (8, 5), (8, -1)])
def test_sizes_that_cannot_work(tile, overlap):
    with pytest.raises(ValueError, match=f"got tile {tile} and overlap {overlap}"):
        Tiling(tile, overlap)
