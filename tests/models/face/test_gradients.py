import keras
import numpy as np
import pytest
import scipy.ndimage

from models.face.gradients import OrientedGradients, blur_matrix, neighbour_matrix, pyramid_matrix

FLAT = np.full((1, 32, 32, 3), 90, np.float32)


def describe(images, scales=(1.0,), bins=8, cell=5):
    layer = OrientedGradients(scales, bins, cell)
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(images)))


def ramp(angle_degrees):
    """A picture that gets brighter in one direction."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    angle = np.deg2rad(angle_degrees)
    values = 100 + 2 * (np.cos(angle) * (x - 16) + np.sin(angle) * (y - 16))
    return np.repeat(values[None, ..., None], 3, axis=3)


def test_there_is_a_number_for_each_cell_scale_and_direction():
    assert describe(FLAT, scales=(0.8, 1.6)).shape == (1, 5, 5, 2 * 8)


def test_a_flat_picture_has_no_directions():
    assert np.ptp(describe(FLAT)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("direction", range(8))
def test_the_direction_of_an_edge_gets_the_votes(direction):
    cells = describe(ramp(45 * direction)).reshape(-1, 8)
    middle = cells.reshape(5, 5, 8)[2, 2]
    assert middle.argmax() == direction
    assert middle[(direction + 4) % 8] == pytest.approx(0.01, abs=1e-3)


def test_brightness_does_not_count():
    image = ramp(30)
    np.testing.assert_allclose(describe(image), describe(image + 40), atol=1e-4)


def test_a_mirrored_picture_has_mirrored_directions():
    # 29 pixels of votes: five cells fill them exactly, so both pictures have the same cells.
    image = np.random.default_rng(0).uniform(0, 255, (1, 31, 31, 3)).astype(np.float32)
    cells = describe(image).reshape(5, 5, 8)
    mirrored = describe(image[:, :, ::-1]).reshape(5, 5, 8)[:, ::-1]
    np.testing.assert_allclose(mirrored[..., [4, 3, 2, 1, 0, 7, 6, 5]], cells, atol=1e-3)


@pytest.mark.parametrize("deviation", [0.8, 1.6, 3.0])
def test_the_blur_is_a_gaussian(deviation):
    line = np.random.default_rng(2).uniform(0, 255, 40)
    radius = int(np.ceil(3 * deviation))
    expected = scipy.ndimage.gaussian_filter1d(line, deviation, mode="mirror", radius=radius)
    np.testing.assert_allclose(blur_matrix(40, deviation) @ line, expected, rtol=1e-5)


def test_neighbours_are_averaged():
    line = np.random.default_rng(3).uniform(0, 9, 12)
    expected = scipy.ndimage.uniform_filter1d(line, 3, mode="mirror")
    np.testing.assert_allclose(neighbour_matrix(12) @ line, expected, rtol=1e-5)


def test_cells_overlap_by_half():
    cells = pyramid_matrix(29, 5)
    assert cells.shape == (5, 29)
    np.testing.assert_allclose(cells.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(cells[1, 5:14] * 25, [1, 2, 3, 4, 5, 4, 3, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(cells[:, 9:20].sum(axis=0), 1 / 5, rtol=1e-6)


def test_it_changes_smoothly_with_the_picture():
    image = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    assert np.abs(describe(image + 1e-3) - describe(image)).max() < 1e-3


def test_it_can_be_made_again_from_its_configuration():
    layer = OrientedGradients((0.8, 1.6), 6, 4)
    copy = OrientedGradients.from_config(layer.get_config())
    assert (copy.scales, copy.bins, copy.cell) == ((0.8, 1.6), 6, 4)
