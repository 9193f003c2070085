import hashlib

import numpy as np
import pytest
from PIL import Image

from models.common.splits import DataError, in_held_out_part
from models.segmentation.config import VOID, AugmentationConfig
from models.segmentation.data import (
    CropSequence,
    Example,
    class_frequencies,
    class_ids_of,
    find_splits,
    load_source,
    look_shares,
)
from models.segmentation.synthetic import make_examples

LABELS = ("ground", "cell")


def write(folder, name, image, mask):
    for kind, array in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        if array is not None:
            Image.fromarray(array).save(folder / kind / f"{name}.png")


def image(height=6, width=8):
    return np.full((height, width, 3), 50, np.uint8)


def mask(value=1, height=6, width=8):
    return np.full((height, width), value, np.uint8)


def load(folder, labels=LABELS, void_value=None):
    return load_source(folder, labels, void_value, dev_fraction=0.2)


def test_flat_folder_is_split_by_a_hash_of_the_names(tmp_path):
    for n in range(20):
        write(tmp_path, f"i{n}", image(), mask())
    source = load(tmp_path)
    dev = {f"i{n}" for n in range(20) if in_held_out_part(f"i{n}", 0.2)}
    assert dev
    assert {e.name for e in source.splits["dev"]} == dev
    assert len(source.splits["train"]) == 20 - len(dev)
    assert source.stated_splits == []


@pytest.mark.parametrize("name", ["val", "dev", "valid"])
def test_split_folders(tmp_path, name):
    write(tmp_path / "train", "a", image(), mask())
    write(tmp_path / name, "b", image(), mask())
    source = load(tmp_path)
    assert {s: [e.name for e in part] for s, part in source.splits.items()} == {
        "train": ["a"],
        "dev": ["b"],
    }
    assert source.stated_splits == list(source.splits)


def test_digest_covers_every_file(tmp_path):
    write(tmp_path, "a", image(), mask())
    before = load(tmp_path).digest
    assert load(tmp_path).digest == before
    write(tmp_path, "a", None, mask(0))
    assert load(tmp_path).digest != before


def test_a_grey_image_becomes_three_channels(tmp_path):
    write(tmp_path, "a", mask(9), mask())
    example = [*load(tmp_path).splits["train"], *load(tmp_path).splits["dev"]][0]
    assert example.image.shape == (6, 8, 3)
    assert (example.image == 9).all()


@pytest.mark.parametrize(
    ("values", "labels", "void_value", "expected"),
    [
        ([0, 1], LABELS, None, [0, 1]),
        ([0, 255], LABELS, None, [0, 1]),
        ([0, 1, 255], LABELS, 255, [0, 1, VOID]),
        ([0, 2, 11], tuple("abc"), 11, [0, 2, VOID]),
        ([2, 0, 1], tuple("abc"), 0, [2, VOID, 1]),
    ],
)
def test_values_become_class_ids(values, labels, void_value, expected):
    found = class_ids_of(np.array([values], np.uint8), labels, void_value)
    assert found.tolist() == [expected]


def spoil_image(folder):
    (folder / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")


def spoil_mask(folder):
    (folder / "masks" / "a.png").write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_image, r"images/a\.png"),
        (spoil_mask, r"masks/a\.png cannot be read as a mask"),
        (lambda f: write(f, "a", None, mask(1, 5, 8)), r"masks/a\.png: the mask is 8x5 .* 8x6"),
        (
            lambda f: write(f, "a", None, mask(7)),
            r"masks/a\.png: value 7 is no class; expected 0 ground, 1 cell",
        ),
        (lambda f: (f / "masks" / "a.png").unlink(), r"a\.png: its mask .*a\.png is missing"),
        (lambda f: write(f, "b", None, mask()), r"masks/b\.png: there is no image"),
        (
            lambda f: (f / "images" / "a.jpg").write_bytes(b""),
            "several images are called a",
        ),
    ],
)
def test_a_bad_file_is_named(tmp_path, spoil, message):
    write(tmp_path, "a", image(), mask())
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        find_splits(tmp_path / "missing")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="found: pictures"):
        find_splits(tmp_path)
    write(tmp_path / "val", "a", image(), mask())
    write(tmp_path / "dev", "a", image(), mask())
    with pytest.raises(DataError, match="two folders for dev"):
        find_splits(tmp_path)


def test_class_frequencies_count_only_images_that_hold_the_class(tmp_path):
    write(tmp_path / "train", "a", image(1, 4), np.array([[0, 0, 0, 1]], np.uint8))
    write(tmp_path / "train", "b", image(1, 4), np.array([[0, 0, 9, 9]], np.uint8))
    write(tmp_path / "val", "c", image(1, 4), np.array([[0, 0, 0, 0]], np.uint8))
    source = load(tmp_path, (*LABELS, "never"), void_value=9)
    found = class_frequencies(source.splits["train"], 3)
    np.testing.assert_allclose(found, [5 / 6, 1 / 4, 0])


def test_batches_keep_their_shape_and_change_by_epoch():
    batches = CropSequence(make_examples(5, seed=1), AugmentationConfig(crop=32), 4, 2, seed=3)
    assert len(batches) == 3  # 10 crops, the last batch filled up
    for n in range(3):
        images, targets, weights = batches[n]
        assert images.shape == (4, 32, 32, 3)
        assert images.dtype == np.uint8
        assert targets["logits"].shape == (4, 32, 32)
        assert targets["logits"].dtype == np.int32
        assert weights["logits"].tolist() == [1.0] * 4
    before = batches._order.copy()
    batches.on_epoch_end()
    assert before.tolist() != batches._order.tolist()


def test_rare_looks_are_drawn_more_often():
    dark, coloured = np.full((4, 4, 3), 9, np.uint8), np.full((4, 4, 3), 9, np.uint8)
    coloured[..., 0] = 200
    bright = np.full((4, 4, 3), 250, np.uint8)
    images = [*[dark] * 16, *[coloured] * 4, bright]
    examples = [Example(str(n), i, np.zeros((4, 4), np.uint8)) for n, i in enumerate(images)]
    shares = look_shares(examples, 0.5)
    np.testing.assert_allclose(shares, [1] * 16 + [2] * 4 + [4])
    assert set(look_shares(examples, 0.0)) == {1.0}
    batches = CropSequence(examples, AugmentationConfig(crop=16), 4, 40, seed=1, shares=shares)
    drawn = np.bincount(batches._order, minlength=21) / 40
    np.testing.assert_allclose(drawn, shares / shares.mean(), rtol=0.1)


@pytest.mark.data("seg_dsb2018")
def test_shared_nuclei(data_dir):
    source = load(data_dir / "seg_dsb2018")
    assert {name: len(part) for name, part in source.splits.items()} == {"train": 429, "dev": 103}
    assert len(source.digest) == len(hashlib.sha256().hexdigest())
