import numpy as np

from models.segmentation.synthetic import make_example, make_examples, make_source


def test_same_seed_same_images():
    for a, b in zip(make_examples(3, seed=4), make_examples(3, seed=4), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.mask, b.mask)


def test_images_hold_both_classes_and_show_them():
    for example in make_examples(20, seed=5):
        assert example.image.shape == (64, 64, 3)
        assert set(np.unique(example.mask)) == {0, 1}
        light = example.image.astype(float).mean(axis=2)
        inside, outside = light[example.mask == 1].mean(), light[example.mask == 0].mean()
        assert abs(inside - outside) > 10


def test_any_size():
    example = make_example(np.random.default_rng(0), "x", 1, 5)
    assert example.image.shape == (1, 5, 3)
    assert example.mask.shape == (1, 5)


def test_source_has_all_splits():
    source = make_source(20)
    assert {name: len(part) for name, part in source.splits.items()} == {
        "train": 14,
        "dev": 3,
        "test": 3,
    }
