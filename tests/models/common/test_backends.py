"""Saved model and ONNX backends are tested on real exports in tests/export, too."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from models.common.backends import GrpcBackend, OnnxBackend, newest_version
from protocol.messages import PredictResponse
from protocol.services import PREDICT, PREDICTION_SERVICE, service_handler
from protocol.tensors import to_ndarray, to_tensor_proto
from tests.protocol.tiny_translator import publish_tiny_translator


@pytest.fixture
def server():
    """A server that answers every text with its length, and remembers what was asked."""
    requests = []

    def predict(request, context):
        requests.append(request)
        lengths = np.array([len(text) for text in to_ndarray(request.inputs["text"])], np.int32)
        response = PredictResponse()
        response.outputs["tokens"].CopyFrom(to_tensor_proto(lengths, content=False))
        return response

    running = grpc.server(ThreadPoolExecutor(2))
    running.add_generic_rpc_handlers((service_handler(PREDICTION_SERVICE, {PREDICT: predict}),))
    port = running.add_insecure_port("localhost:0")
    running.start()
    yield f"localhost:{port}", requests
    running.stop(None)


def test_grpc_backend_asks_for_its_model_and_signature(server):
    target, requests = server
    backend = GrpcBackend(target, "sentiment", timeout_s=5.0)
    outputs = backend.run_signature({"text": np.array([b"good", b""], object)})
    np.testing.assert_array_equal(outputs["tokens"], [4, 0])
    assert requests[0].model_spec.name == "sentiment"
    assert requests[0].model_spec.signature_name == "serving_default"


def test_onnx_backend_opens_the_step_beside_the_model(tmp_path):
    publish_tiny_translator(tmp_path)
    texts = {"text": np.array([b"abc d", b""], object)}
    found = OnnxBackend(tmp_path).run_signature(texts)
    assert found["translation"][0]
    assert found["translation"][1] == b""
    attention = OnnxBackend(tmp_path, "attention").run_signature(texts)
    assert attention["translation"].tolist() == found["translation"].tolist()


def test_newest_version_is_the_highest_number(tmp_path):
    for name in ("2", "10", "9", "11.tmp", "latest"):
        (tmp_path / "m" / name).mkdir(parents=True)
    assert newest_version(tmp_path, "m").name == "10"


def test_missing_version_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="make publish MODEL=m"):
        newest_version(tmp_path, "m")
