import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detection.letterbox import GREY, Letterbox, place

length = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((480, 640), (216, 288)),
        ((640, 480), (224, 168)),
        ((224, 288), (224, 288)),
        ((10, 10), (224, 224)),
        ((1, 5000), (1, 288)),
    ],
)
def test_sizes_by_hand(size, inner):
    letterbox = Letterbox.of(*size, 224, 288)
    assert (letterbox.height, letterbox.width) == inner
    assert letterbox.scale_y == pytest.approx(inner[0] / size[0])
    assert letterbox.scale_x == pytest.approx(inner[1] / size[1])


@given(length, length)
@settings(max_examples=100, deadline=None)
def test_the_image_fits_and_one_side_fills_the_frame(height, width):
    letterbox = Letterbox.of(height, width, 224, 288)
    assert 1 <= letterbox.height <= 224
    assert 1 <= letterbox.width <= 288
    assert letterbox.height == 224 or letterbox.width == 288


def test_placed_at_the_top_left_on_grey():
    placed = place(np.full((2, 3, 3), 7, np.uint8), 4, 5)
    assert placed.shape == (4, 5, 3)
    assert (placed[:2, :3] == 7).all()
    assert (placed[2:] == GREY).all()
    assert (placed[:, 3:] == GREY).all()
