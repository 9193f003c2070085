import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from clients.instances import label_instances
from protocol.errors import InvalidRequestError

SIDES = st.integers(1, 14)
MASKS = arrays(np.uint8, st.tuples(SIDES, SIDES), elements=st.integers(0, 1))


def disc(shape, row, column, radius):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_nothing_is_no_object():
    found = label_instances(np.zeros((4, 5), np.uint8))
    assert found.count == 0
    assert found.labels.shape == (4, 5)
    assert found.labels.dtype == np.int32
    assert found.areas.shape == (0,)
    assert found.boxes_xyxy.shape == (0, 4)


def test_objects_are_numbered_from_the_top():
    mask = np.zeros((30, 40), np.uint8)
    mask[20:26, 2:9] = 1
    mask[3:9, 30:36] = 1
    mask[3:8, 4:10] = 1
    found = label_instances(mask)
    assert found.count == 3
    assert [found.labels[5, 6], found.labels[5, 32], found.labels[22, 5]] == [1, 2, 3]
    assert found.areas.tolist() == [30, 36, 42]
    assert found.boxes_xyxy.tolist() == [[4, 3, 10, 8], [30, 3, 36, 9], [2, 20, 9, 26]]


def test_touching_discs_are_told_apart():
    shape = (40, 60)
    left, right = disc(shape, 20, 20, 10), disc(shape, 20, 36, 10)
    assert (left & right).any()
    found = label_instances((left | right).astype(np.uint8))
    assert found.count == 2
    first, second = found.labels[20, 20], found.labels[20, 36]
    assert first != second
    assert np.mean(found.labels[left & ~right] == first) > 0.98
    assert np.mean(found.labels[right & ~left] == second) > 0.98


def test_depth_decides_what_counts_as_a_waist():
    shape = (40, 60)
    mask = (disc(shape, 20, 22, 10) | disc(shape, 20, 32, 10)).astype(np.uint8)
    assert label_instances(mask, depth=0.4).count == 2
    assert label_instances(mask, depth=4).count == 1


def test_an_object_cut_by_the_border_stays_whole():
    mask = disc((40, 40), 0, 20, 12).astype(np.uint8)
    assert label_instances(mask).count == 1
    assert label_instances(np.ones((20, 20), np.uint8)).areas.tolist() == [400]


def test_small_specks_are_left_out():
    mask = np.zeros((10, 10), np.uint8)
    mask[2, 2:5] = 1
    assert label_instances(mask).count == 0
    assert label_instances(mask, min_area=3).count == 1


def test_other_classes_do_not_count():
    mask = np.zeros((12, 24), np.uint8)
    mask[2:9, 2:9] = 1
    mask[2:9, 9:20] = 2
    assert label_instances(mask, 1).areas.tolist() == [49]
    assert label_instances(mask, 2).areas.tolist() == [77]
    assert label_instances(mask, 3).count == 0


def test_doubt_splits_what_the_shape_does_not():
    mask = np.zeros((15, 41), np.uint8)
    mask[3:12, 2:39] = 1
    assert label_instances(mask).count == 1
    probability = np.ones(mask.shape, np.float32)
    probability[:, 19:22] = 0.55
    assert label_instances(mask, probability=probability).count == 2


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1))
)
def test_objects_partition_the_class_and_each_is_connected(mask):
    found = label_instances(mask, min_area=1)
    np.testing.assert_array_equal(found.labels > 0, mask == 1)
    _, components = ndimage.label(mask, np.ones((3, 3)))
    assert found.count >= components
    assert set(np.unique(found.labels)) - {0} == set(range(1, found.count + 1))
    for number in range(1, found.count + 1):
        assert ndimage.label(found.labels == number, np.ones((3, 3)))[1] == 1


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))
)
def test_without_splitting_it_finds_the_connected_components(mask):
    found = label_instances(mask, depth=1000, min_area=1)
    expected, components = ndimage.label(mask, np.ones((3, 3)))
    assert found.count == components
    np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.zeros((2, 2, 1), np.uint8)}, r"mask must be \[H, W\]"),
        (
            {"mask": np.zeros((2, 2), np.uint8), "probability": np.zeros((2, 3), np.float32)},
            r"\[2, 2\], got \[2, 3\]",
        ),
        ({"mask": np.zeros((2, 2), np.uint8), "depth": 0}, "above 0 pixels, got 0"),
    ],
)
def test_arguments_that_cannot_work(arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        label_instances(**arguments)


@pytest.mark.data("seg_dsb2018")
def test_counts_of_real_nuclei_are_close(data_dir):
    """True masks of the shared set against its instance labels, every fortieth image."""
    from PIL import Image

    true_counts, counts = [], []
    for path in sorted((data_dir / "seg_dsb2018" / "labels").iterdir())[::40]:
        labels = np.asarray(Image.open(path))
        _, areas = np.unique(labels[labels > 0], return_counts=True)
        true_counts.append(int((areas >= 8).sum()))
        counts.append(label_instances((labels > 0).astype(np.uint8)).count)
    assert abs(sum(counts) - sum(true_counts)) < 0.1 * sum(true_counts)
