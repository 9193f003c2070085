import numpy as np
import pytest

from protocol.contracts import CONTRACTS
from protocol.drift import Reference
from protocol.errors import InvalidRequestError
from protocol.features import feature_reader
from protocol.images import encode_png
from protocol.tokenizer import WordTokenizer
from protocol.version_folder import Manifest
from tests.protocol.tiny_translator import make_tokenizer


def reader(task, folder, **reference):
    manifest = Manifest(task=task, model_name=task, created="now")
    found = feature_reader(folder, manifest, Reference(**reference))
    assert found is not None
    return found


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def png(height, width, level):
    return encode_png(np.full((height, width, 3), level, np.uint8))


IMAGES = objects(png(4, 5, 10), png(100, 80, 200))


def test_texts_and_classes(tmp_path):
    WordTokenizer(["good", "bad"], [(r"\s", " ")], 9, 5).save(tmp_path / "assets")
    features = reader("sentiment", tmp_path)(
        {"text": objects(b"good bad good film", b"")},
        {
            "probability": np.float32([[0.1, 0.9], [0.6, 0.4]]),
            "label": objects(b"positive", b"negative"),
        },
    )
    assert features["words"].tolist() == [4, 0]
    assert features["unknown"].tolist() == [0.25, 0]
    assert features["score"].tolist() == pytest.approx([0.9, 0.6])
    assert features["class"].tolist() == ["positive", "negative"]


def test_translations(tmp_path):
    make_tokenizer().save(tmp_path / "assets")
    features = reader("translation", tmp_path)(
        {"text": objects(b"abcd", b"")},
        {"translation": objects("\u00e9t".encode(), b"x"), "score": np.float32([-0.5, -1])},
    )
    assert features["length_ratio"].tolist() == [0.5, 1]
    assert features["score"].tolist() == [-0.5, -1]
    assert len(features["words"]) == len(features["unknown"]) == 2


def test_embeddings(tmp_path):
    read = reader("face", tmp_path, mean_embedding=(0.6, 0.8))
    features = read({"image_bytes": IMAGES}, {"embedding": np.float32([[0.6, 0.8], [0.8, -0.6]])})
    assert features["embedding"] == pytest.approx([1, 0], abs=1e-6)
    assert features["pixels"].tolist() == [20, 8000]
    assert features["brightness"].tolist() == [10, 200]
    without = reader("face", tmp_path)({"image_bytes": IMAGES}, {})
    assert set(without) == {"pixels", "brightness"}


def test_detections(tmp_path):
    features = reader("detection", tmp_path)(
        {"image_bytes": IMAGES},
        {
            "num_detections": np.int32([2, 0]),
            "scores": np.float32([[0.9, 0.5], [0, 0]]),
            "labels": np.array([[b"cell", b"plate"], [b"", b""]], object),
        },
    )
    assert features["detections"].tolist() == [2, 0]
    assert features["score"].tolist() == [np.float32(0.9), 0.5]
    assert features["class"].tolist() == ["cell", "plate"]


def test_masks(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 48:] = 1
    features = reader("segmentation", tmp_path)(
        {"image_bytes": objects(png(64, 64, 7))},
        {
            "mask_png": objects(encode_png(mask)),
            "class_names": np.array([[b"sky", b"road"]], object),
        },
    )
    names, counts = np.unique(features["class"], return_counts=True)
    assert names.tolist() == ["road", "sky"]
    assert (counts / counts.sum()).tolist() == [0.25, 0.75]


def test_an_image_that_is_none_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError):
        reader("face", tmp_path)({"image_bytes": objects(b"no image")}, {})


def test_every_task_has_features(tmp_path):
    WordTokenizer(["a"], [(r"\s", " ")], 9, 5).save(tmp_path / "assets")
    make_tokenizer().save(tmp_path / "assets")
    for task in CONTRACTS:
        assert reader(task, tmp_path)
