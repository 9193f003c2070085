import numpy as np
import pytest

from export import judges
from export.formats import Gate
from export.judges import check_gate, make_judge
from export.parity import Parity, ParityError
from models.detection.nms import Detections


def parity(difference=0.0, engine=0.9, keras=0.9):
    return Parity("onnx-int8", 10, difference, "accuracy", keras, engine)


def test_a_gate_lets_gains_through_and_losses_not():
    gate = Gate(difference=0.1, drop=0.01)
    check_gate(parity(0.1, engine=0.8901), gate)
    check_gate(parity(engine=0.99), gate)
    with pytest.raises(ParityError, match=r"allowed drop 0\.01"):
        check_gate(parity(engine=0.88), gate)
    with pytest.raises(ParityError, match=r"differs from Keras by 0\.11"):
        check_gate(parity(0.11), gate)
    for broken in (parity(difference=np.nan), parity(engine=np.nan)):
        with pytest.raises(ParityError):
            check_gate(broken, gate)


def detections(*rows, score=0.9):
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    classes = np.array([row[4] for row in rows], np.int32)
    return Detections(boxes, np.full(len(rows), score, np.float32), classes)


def test_a_detection_has_a_partner_of_its_class_that_covers_it():
    some = detections((0, 0, 10, 10, 0), (20, 20, 30, 30, 1))
    assert judges._without_partner(some, some) == 0
    moved = detections((0.4, 0, 10.4, 10, 0), (20, 20, 30, 30, 2))
    assert judges._without_partner(some, moved) == 1
    assert judges._without_partner(some, detections((1, 0, 11, 10, 0), (20, 20, 30, 30, 1))) == 1
    surer = detections((0, 0, 10, 10, 0), (20, 20, 30, 30, 1), score=0.96)
    assert judges._without_partner(some, surer) == 2
    assert judges._without_partner(some, detections()) == 2
    assert judges._without_partner(detections(), some) == 0


def test_keras_differs_from_itself_by_nothing(tiny_model):
    found = make_judge("sentiment", tiny_model, None).judge(tiny_model, "keras")
    assert found.max_difference == 0
    assert found.metric_engine == found.metric_keras
    assert found.examples == 126
