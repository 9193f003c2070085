import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from models.common.images import find_images, read_image, read_mask, resize_image
from models.common.splits import DataError
from protocol.images import decode_image, encode_png


@pytest.fixture(name="picture")
def picture_fixture():
    return np.random.default_rng(3).integers(0, 256, (21, 34, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tif"])
def test_lossless_files_come_back_as_they_were(tmp_path, picture, name):
    Image.fromarray(picture).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), picture)


def test_grey_files_become_three_channels(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.pgm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), picture[..., :1].repeat(3, 2))


def test_jpeg_is_read_as_a_server_decodes_it(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    expected = decode_image((tmp_path / "a.jpg").read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0broken"])
def test_unreadable_files_are_named(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.jpg cannot be read as"):
            read(tmp_path / "a.jpg")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")


def test_masks_keep_values_and_palette_indices(tmp_path):
    values = np.array([[0, 1, 2], [7, 254, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    palette = Image.fromarray(values, "P")
    palette.putpalette([9, 9, 9] * 256)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.stack([values] * 3, axis=-1)).save(tmp_path / "equal.png")
    for name in ("grey.png", "palette.png", "equal.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), values)


def test_bits_become_0_and_255(tmp_path):
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[0, 255], [255, 0]])


def test_coloured_masks_are_refused(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="this one has colours"):
        read_mask(tmp_path / "a.png")


def test_folders_are_listed_by_name(tmp_path, picture):
    for name in ("b.png", "a.JPG", "notes.txt"):
        Image.fromarray(picture).save(tmp_path / name, "png")
    assert [path.name for path in find_images(tmp_path)] == ["a.JPG", "b.png"]
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "holds no images"), ("gone", "is not a folder")):
        with pytest.raises(DataError, match=message):
            find_images(tmp_path / folder)


@pytest.mark.parametrize("size", [(10, 17), (7, 50), (40, 11), (21, 34), (1, 1)])
def test_resizing_is_that_of_the_served_graph_up_to_rounding(picture, size):
    expected = tf.image.resize(picture, size, antialias=True).numpy()
    np.testing.assert_allclose(resize_image(picture, *size), expected, atol=1.01)
    grey = resize_image(picture[..., 0], *size)
    np.testing.assert_array_equal(grey, resize_image(picture, *size)[..., 0])


def test_png_round_trip(picture):
    np.testing.assert_array_equal(decode_image(encode_png(picture)), picture)
