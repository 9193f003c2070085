import numpy as np
from PIL import Image

from models.detection.metrics import Curve, Truth
from models.detection.nms import Detections
from models.detection.pictures import (
    COLUMNS,
    TILE,
    draw_batch,
    draw_boxes,
    draw_comparison,
    plot_f1,
    plot_precision_recall,
)

GREY = np.full((50, 100, 3), 128, np.uint8)
FOUND = Detections(np.array([[10, 10, 60, 40.0]]), np.array([0.5]), np.array([0]))


def test_boxes_are_drawn_at_the_scaled_place():
    drawn = np.asarray(draw_boxes(GREY, FOUND, ["cat"]))
    assert drawn.shape == (160, 320, 3)
    assert (drawn[32, 100] != 128).any()  # top edge
    assert (drawn[100, 100] == 128).all()  # inside


def test_batches_fill_rows(tmp_path):
    draw_batch([GREY] * 5, [FOUND] * 5, ["cat"], tmp_path / "batch.png")
    assert Image.open(tmp_path / "batch.png").size == (COLUMNS * TILE, 2 * 160)


def test_comparison_holds_two_tiles_an_image(tmp_path):
    truth = Truth(FOUND.boxes_xyxy, FOUND.class_ids, np.zeros(1, bool))
    draw_comparison([GREY] * 2, [truth] * 2, [FOUND] * 2, ["cat"], tmp_path / "pairs.png")
    assert Image.open(tmp_path / "pairs.png").size == (COLUMNS * TILE, 160)


def test_curves_are_written(tmp_path):
    points = Curve(np.array([0.9, 0.5]), np.array([1, 0.5]), np.array([0.5, 0.5]))
    plot_precision_recall({"cat": points}, tmp_path / "pr.png")
    plot_f1({"cat": points}, 0.25, tmp_path / "f1.png")
    assert (tmp_path / "pr.png").stat().st_size > 1000
    assert (tmp_path / "f1.png").stat().st_size > 1000
