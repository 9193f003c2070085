import numpy as np
import pytest

from export.parity import Parity, ParityError, check_parity, largest_difference

ANSWER = {"label": np.array([b"a", b"b"], object), "score": np.array([0.25, 0.5], np.float32)}


def test_difference_of_floats():
    other = {**ANSWER, "score": np.array([0.25, 0.53], np.float32)}
    assert largest_difference(ANSWER, other, "onnx") == pytest.approx(0.03, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([b"a", b"c"], object)}, "label differs in 1 of 2 places"),
        ({"score": np.zeros(3, np.float32)}, r"score has shape \(3,\), expected \(2,\)"),
        ({"score": np.array([np.nan, 0.5], np.float32)}, "score holds NaN"),
        ({"extra": np.zeros(1)}, r"outputs \['extra', 'label', 'score'\], expected"),
    ],
)
def test_other_answers_do_not_count(change, message):
    with pytest.raises(ParityError, match=message):
        largest_difference(ANSWER, {**ANSWER, **change}, "onnx")


def test_tolerances():
    parity = Parity("onnx", 10, 2e-3, "accuracy", 0.9, 0.9)
    check_parity(parity, 1e-2, 0.002)
    with pytest.raises(ParityError, match=r"outputs differ from Keras by 0\.002, allowed 0\.0001"):
        check_parity(parity, 1e-4, 0.002)
    with pytest.raises(ParityError, match=r"accuracy 0\.8900 against Keras 0\.9000"):
        check_parity(Parity("onnx", 10, 0.0, "accuracy", 0.9, 0.89), 1e-4, 0.002)
