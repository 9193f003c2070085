import csv
import json

import numpy as np
import pytest
from PIL import Image

from models.common.splits import DataError
from models.segmentation.config import TINY
from models.segmentation.evaluate import evaluate, image_bytes, load_examples_to_evaluate, predict
from models.segmentation.synthetic import make_examples
from protocol.images import encode_png

LABELS = TINY.labels


class Oracle:
    """Knows the masks of the images it is shown, and can be told to err."""

    def __init__(self, examples, change=lambda mask: mask):
        self.answers = {image_bytes(e): encode_png(change(e.mask)) for e in examples}

    def run_signature(self, inputs):
        found = [self.answers[data] for data in inputs["image_bytes"]]
        return {"mask_png": np.array(found, dtype=object)}


def write(folder, count):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for example in make_examples(count, seed=1):
        Image.fromarray(example.image).save(folder / "images" / f"{example.name}.png")
        Image.fromarray(example.mask).save(folder / "masks" / f"{example.name}.png")


def test_perfect_answers_score_one(tmp_path):
    examples = make_examples(10, seed=3)
    report = evaluate(Oracle(examples), examples, LABELS, tmp_path / "out")
    assert report.metrics.dice == report.metrics.mean_iou == report.boundary_f1 == 1.0
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == [
        "classes.png",
        "confusion_matrix.png",
        "images.csv",
        "images.png",
        "metrics.json",
        "predictions.png",
        "worst.png",
    ]
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored == report.as_dict()
    assert {"dice", "mean_iou", "pixel_accuracy", "boundary_f1", "iou", "n"} <= set(stored)


def test_worst_image_comes_first(tmp_path):
    examples = make_examples(3, seed=3)
    answers = Oracle(examples)
    bad = examples[1]
    answers.answers[image_bytes(bad)] = encode_png(1 - bad.mask)
    report = evaluate(answers, examples, LABELS, tmp_path)
    assert 0 < report.metrics.dice < 1
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["image"] == bad.name
    assert float(rows[0]["mean_iou"]) == 0.0


def test_a_mask_of_another_size_is_refused():
    examples = make_examples(1, seed=3)
    with pytest.raises(DataError, match=r"cells_3_000: the answer is a mask of shape \[32, 64\]"):
        predict(Oracle(examples, lambda mask: mask[:32]), examples)


def test_flat_folder_is_evaluated_whole_unless_a_part_is_asked_for(tmp_path):
    write(tmp_path / "cells", 12)
    sizes = {}
    for split in (None, "dev", "train", "all"):
        name, examples = load_examples_to_evaluate(tmp_path / "cells", TINY, split)
        sizes[split] = len(examples)
        assert name == (split or "all")
    assert sizes[None] == sizes["all"] == 12
    assert sizes["dev"] + sizes["train"] == 12
    assert sizes["dev"] > 0


def test_folder_with_splits_is_evaluated_on_test_else_dev(tmp_path):
    write(tmp_path / "train", 3)
    write(tmp_path / "val", 2)
    assert load_examples_to_evaluate(tmp_path, TINY, None)[0] == "dev"
    write(tmp_path / "test", 1)
    assert load_examples_to_evaluate(tmp_path, TINY, None)[0] == "test"
    with pytest.raises(DataError, match="unknown split 'half'"):
        load_examples_to_evaluate(tmp_path, TINY, "half")


def test_files_are_sent_as_they_are_and_others_as_png(tmp_path):
    write(tmp_path, 2)
    _, (example, _) = load_examples_to_evaluate(tmp_path, TINY, None)
    assert image_bytes(example) == example.path.read_bytes()
    made_up = make_examples(1, seed=1)[0]
    assert image_bytes(made_up).startswith(b"\x89PNG")
