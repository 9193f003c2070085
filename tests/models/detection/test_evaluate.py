import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.common.splits import DataError
from models.detection.config import TINY
from models.detection.data import read_served_bytes
from models.detection.evaluate import (
    BATCH_SIZE,
    evaluate,
    load_images_to_evaluate,
    predict,
)
from models.detection.synthetic import LABELS, make_sample, write_coco, write_source


class ExactBackend:
    """Answers what is labelled, and counts the requests."""

    def __init__(self, images):
        self.truth = {read_served_bytes(image.path): image for image in images}
        self.batches = []

    def run_signature(self, inputs):
        files = inputs["image_bytes"]
        self.batches.append(len(files))
        rows = TINY.max_detections
        outputs = {
            "boxes_xyxy": np.zeros((len(files), rows, 4), np.float32),
            "scores": np.zeros((len(files), rows), np.float32),
            "class_ids": np.full((len(files), rows), -1, np.int32),
            "num_detections": np.zeros(len(files), np.int32),
        }
        for row, file in enumerate(files):
            image = self.truth[file]
            count = len(image.class_ids)
            outputs["boxes_xyxy"][row, :count] = image.boxes_xyxy
            outputs["scores"][row, :count] = 0.9
            outputs["class_ids"][row, :count] = image.class_ids
            outputs["num_detections"][row] = count
        return outputs


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("shapes"), train=1, dev=9).splits["dev"]


def test_exact_answers_score_one_and_pictures_are_written(images, tmp_path):
    backend = ExactBackend(images)
    report = evaluate(backend, images, TINY, tmp_path, "dev")
    assert backend.batches == [BATCH_SIZE, 1]
    assert report.metrics.map50 == pytest.approx(1)
    assert report.f1 == {"disc": 1, "square": 1}
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json",
        "precision_recall.png",
        "f1.png",
        "confusion_matrix.png",
        "predictions.png",
        "worst_misses.png",
    }
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == report.as_dict()
    assert {"map50", "map", "map75", "voc07", "voc", "split"} <= set(written)


def test_an_absent_class_is_null_in_json(images, tmp_path):
    config = replace(TINY, labels=(*TINY.labels, "triangle"))
    report = evaluate(ExactBackend(images), images, config, tmp_path)
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert json.loads(text)["ap50_by_class"]["triangle"] is None


def test_order_is_kept(images):
    files = [read_served_bytes(image.path) for image in images]
    found = predict(ExactBackend(images), files, 0.1)
    for image, detections in zip(images, found, strict=True):
        np.testing.assert_array_equal(detections.class_ids, image.class_ids)


def test_other_formats_are_sent_as_png(tmp_path):
    Image.new("RGB", (5, 4), "red").save(tmp_path / "a.bmp")
    assert read_served_bytes(tmp_path / "a.bmp").startswith(b"\x89PNG")


class TestSplits:
    @pytest.fixture
    def samples(self):
        return [make_sample(np.random.default_rng(seed)) for seed in range(10)]

    def count(self, folder, split):
        name, images = load_images_to_evaluate(folder, LABELS, split, 0.3)
        return name, len(images)

    def test_folder_without_splits(self, samples, tmp_path):
        write_coco(tmp_path / "pictures", samples)
        assert self.count(tmp_path, None) == ("all", 10)
        name, held_out = self.count(tmp_path, "dev")
        assert name == "dev"
        assert 0 < held_out < 10
        assert self.count(tmp_path, "train") == ("train", 10 - held_out)
        with pytest.raises(DataError, match="has no test split"):
            self.count(tmp_path, "test")

    def test_folder_with_a_train_split_only(self, samples, tmp_path):
        write_coco(tmp_path / "train", samples)
        assert self.count(tmp_path, None)[0] == "dev"

    def test_test_split_comes_first(self, samples, tmp_path):
        write_coco(tmp_path / "test", samples[:4])
        write_coco(tmp_path / "valid", samples[4:])
        assert self.count(tmp_path, None) == ("test", 4)
        assert self.count(tmp_path, "val") == ("dev", 6)
        assert self.count(tmp_path, "all") == ("all", 10)
