from dataclasses import replace

import numpy as np
import pytest

from models.detection.augmentation import Sample
from models.detection.batches import TrainingBatches, load_sample, pad_labels
from models.detection.config import TINY
from models.detection.synthetic import make_sample

EIGHT = replace(TINY, training=replace(TINY.training, batch_size=8, passes_per_epoch=4))


@pytest.fixture
def batches():
    random = np.random.default_rng(0)
    return TrainingBatches([make_sample(random) for _ in range(10)], EIGHT)


def test_item_is_images_and_padded_labels(batches):
    images, labels = batches[0]
    assert images.shape == (8, 64, 64, 3)
    assert images.dtype == np.uint8
    rows = labels["predictions"]
    assert rows.shape == (8, 16, 5)
    assert rows.dtype == np.float32
    assert set(np.unique(rows[..., 4])) <= {-1, 0, 1}
    assert (rows[..., 2:4] >= rows[..., :2]).all()


def test_an_epoch_shows_every_sample_equally_often(batches):
    assert len(batches) == 4 * 10 // 8
    chosen = np.concatenate([batches._chosen(i) for i in range(len(batches))])
    assert np.bincount(chosen).tolist() == [4] * 10


def test_batches_depend_on_epoch_and_number_alone(batches):
    first = batches[2][0]
    batches[0]
    np.testing.assert_array_equal(batches[2][0], first)
    batches.epoch = 1
    assert (batches[2][0] != first).any()


def test_closing_epochs_are_plain(batches):
    batches.epoch = EIGHT.training.epochs - 1
    originals = [sample.image_u8 for sample in batches.samples]
    mirrored = [
        image[::down, ::across] for image in originals for down in (1, -1) for across in (1, -1)
    ]
    shown = batches[0][0][0]
    assert any((shown == image).all() for image in mirrored)


def test_few_samples_fill_a_batch():
    training = replace(EIGHT.training, passes_per_epoch=1)
    sample = make_sample(np.random.default_rng(0))
    batches = TrainingBatches([sample], replace(TINY, training=training))
    assert len(batches) == 1
    assert len(batches[0][0]) == 8


def test_surplus_boxes_are_cut():
    sample = Sample(np.zeros((4, 4, 3), np.uint8), np.ones((3, 4), np.float32), np.arange(3))
    assert pad_labels(sample, 2)[:, 4].tolist() == [0, 1]
    assert pad_labels(sample, 4)[:, 4].tolist() == [0, 1, 2, -1]


def test_sample_is_scaled_to_the_network(shapes):
    image = shapes.splits["train"][0]
    sample = load_sample(image, replace(TINY, height=96, width=128))
    assert sample.image_u8.shape == (96, 96, 3)
    np.testing.assert_allclose(sample.boxes_xyxy, image.boxes_xyxy * 1.5)
