import numpy as np
import pytest

from export.engines import FileBackend
from export.openvino import OpenVinoBackend

pytest.importorskip("openvino")

TEXTS = np.array([b"A wonderful little film .", b"so bored by a dull , dull plot"], dtype=object)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("text", [0, 1])
def test_it_answers_one_text_as_onnx_runtime_does(exported, text, threads):
    inputs = {"text": TEXTS[text : text + 1]}
    expected = FileBackend(exported, "onnx").run_signature(inputs)
    found = OpenVinoBackend(exported, "onnx", threads, "serving_default").run_signature(inputs)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-5)
    assert found["label"].tolist() == expected["label"].tolist()


def test_an_answer_stays_when_the_next_one_is_computed(exported):
    backend = OpenVinoBackend(exported, "onnx", 1, "serving_default")
    first = backend.run_signature({"text": TEXTS[:1]})["probability"]
    kept = first.copy()
    backend.run_signature({"text": TEXTS[1:]})
    np.testing.assert_array_equal(first, kept)
