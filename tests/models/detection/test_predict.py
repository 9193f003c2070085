import numpy as np

from models.detection.config import TINY
from models.detection.letterbox import Letterbox
from models.detection.network import build_network
from models.detection.nms import Detections
from models.detection.predict import Predictor, detect, to_original


def test_boxes_return_to_the_original_image():
    letterbox = Letterbox.of(480, 640, 64, 64)  # 48 x 64
    found = Detections(np.array([[8, 12, 70, 24]], np.float32), np.ones(1), np.zeros(1, int))
    boxes = to_original(found, letterbox, (480, 640)).boxes_xyxy
    np.testing.assert_allclose(boxes, [[80, 120, 640, 240]])


def test_batches_do_not_change_the_answers():
    network = build_network(TINY)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.float32)
    together = Predictor(network, TINY, batch_size=8)(images)
    apart = Predictor(network, TINY, batch_size=2)(images)
    for a, b in zip(together, apart, strict=True):
        assert len(a) == 5
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_detections_are_limited_and_lie_in_the_image():
    network = build_network(TINY)
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    sizes = [(64, 64), (32, 48)]
    for found, (height, width) in zip(
        detect(Predictor(network, TINY), images, sizes, TINY, 0.0), sizes, strict=True
    ):
        assert len(found) <= TINY.max_detections
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [width, height, width, height]).all()
