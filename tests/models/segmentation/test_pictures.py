import numpy as np
from PIL import Image

from models.segmentation.config import CAMVID, VOID
from models.segmentation.pictures import (
    class_colours,
    draw_class_bars,
    draw_confusion_matrix,
    draw_panels,
    draw_training_batch,
    errors,
    overlay,
    paint,
)
from models.segmentation.synthetic import make_examples


def test_every_class_has_its_own_colour():
    for classes in (2, 3, 11, 20):
        assert len({tuple(colour) for colour in class_colours(classes)}) == classes


def test_background_and_void_stay_clear():
    image = np.full((1, 3, 3), 102, np.uint8)
    found = overlay(image, np.array([[0, 1, VOID]], np.uint8), 2)
    np.testing.assert_allclose(found[0, [0, 2]], 0.4)
    assert not np.allclose(found[0, 1], 0.4)
    assert paint(np.array([[VOID]], np.uint8), 2).tolist() == [[[0, 0, 0]]]


def test_errors_are_marked_and_void_is_none():
    image = np.full((1, 3, 3), 102, np.uint8)
    found = errors(image, np.array([[0, 1, VOID]], np.uint8), np.array([[0, 0, 1]], np.uint8))
    np.testing.assert_allclose(found[0, 0], found[0, 2])
    assert not np.allclose(found[0, 1], found[0, 0])


def test_pictures_are_written(tmp_path):
    examples = make_examples(3, seed=1)
    masks = [example.mask for example in examples]
    labels = ("background", "nucleus")
    draw_panels(examples, masks, labels, tmp_path / "panels.png", ["a", "b", "c"])
    images = np.stack([example.image for example in examples])
    draw_training_batch(images, np.stack(masks), labels, tmp_path / "batch.png")
    draw_confusion_matrix(np.eye(11) * 5, CAMVID.labels, tmp_path / "matrix.png")
    draw_class_bars({"IoU": {"sky": 0.9}}, CAMVID.labels, tmp_path / "bars.png")
    for name in ("panels", "batch", "matrix", "bars"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 200
