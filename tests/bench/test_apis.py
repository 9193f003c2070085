"""Requests are built as the protocols say, and answers are read and compared."""

import base64
import json

import numpy as np
import pytest

from protocol.messages import PredictRequest
from protocol.predict_wire import write_response
from protocol.tensors import to_ndarray
from tests.bench.apis import (
    ModelInferApi,
    PredictApi,
    RowsApi,
    _v2_message,
    answer_size,
    difference,
)
from tests.bench.rivals.servers.job import Tensor
from tests.bench.rivals.servers.raw_tensors import from_raw, to_raw
from tests.bench.rivals.servers.steps import as_column, as_input

IDS = {"token_ids": np.arange(3, dtype=np.int32)[None]}
TEXT = {"text": np.array([b"d\xc3\xa9j\xc3\xa0"], dtype=object)}
OUTPUTS = {
    "label": np.array([b"positive"], dtype=object),
    "probability": np.array([[0.25, 0.75]], np.float32),
}
DECLARED = (Tensor("label", "object", (1,)), Tensor("probability", "float32", (2,)))


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, -2], [3, 4]], np.int32),
        np.array([[True, False]]),
        np.array([[b"", b"a"], [b"\x00\xff", b"bcd"]], dtype=object),
    ],
)
def test_raw_values_there_and_back(array):
    found = from_raw(to_raw(array), array.dtype, array.shape)
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


def test_raw_strings_begin_with_their_length():
    assert to_raw(np.array([b"ab", b""], dtype=object)) == b"\x02\0\0\0ab\0\0\0\0"


def test_columns_and_inputs():
    assert as_column(TEXT["text"]).shape == (1, 1)
    assert as_column(IDS["token_ids"]) is IDS["token_ids"]
    assert as_input(as_column(TEXT["text"])).shape == (1,)
    assert as_input(IDS["token_ids"]) is IDS["token_ids"]


def test_a_predict_request():
    call = PredictApi().call("light", IDS)
    request = PredictRequest.FromString(call.message)
    assert call.path == "/tensorflow.serving.PredictionService/Predict"
    assert call.body[:5] == b"\0" + len(call.message).to_bytes(4, "big")
    assert request.model_spec.name == "light"
    assert to_ndarray(request.inputs["token_ids"]).tolist() == [[0, 1, 2]]


def test_a_predict_answer():
    answer = write_response("light", 1, "serving_default", OUTPUTS, content=False)
    assert difference(OUTPUTS, PredictApi().read(answer, DECLARED)) == ""


def test_a_v2_request():
    call = ModelInferApi().call("sentiment", TEXT)
    request = _v2_message("ModelInferRequest").FromString(call.message)
    assert call.path == "/inference.GRPCInferenceService/ModelInfer"
    assert (request.inputs[0].name, request.inputs[0].datatype) == ("text", "BYTES")
    assert list(request.inputs[0].shape) == [1, 1]
    assert request.raw_input_contents[0] == b"\x06\0\0\0d\xc3\xa9j\xc3\xa0"


def test_a_v2_answer():
    response = _v2_message("ModelInferResponse")(model_name="sentiment")
    for name, datatype, shape in (("label", "BYTES", [1, 1]), ("probability", "FP32", [1, 2])):
        response.outputs.add(name=name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(to_raw(OUTPUTS[name]))
    assert difference(OUTPUTS, ModelInferApi().read(response.SerializeToString(), DECLARED)) == ""


def test_a_request_in_json():
    call = RowsApi().call("light", IDS)
    (row,) = json.loads(call.body)["rows"]
    assert not call.is_grpc
    assert np.frombuffer(base64.b64decode(row), np.int32).tolist() == [0, 1, 2]


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_answer_in_json(wrapped):
    row = base64.b64encode(b"".join(map(to_raw, OUTPUTS.values()))).decode()
    answer = json.dumps({"rows": [row]} if wrapped else [row]).encode()
    assert difference(OUTPUTS, RowsApi().read(answer, DECLARED)) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "expected the outputs"),
        ({**OUTPUTS, "probability": np.zeros((1, 3), np.float32)}, r"expected the shape \(1, 2\)"),
        ({**OUTPUTS, "probability": np.zeros((1, 2), np.float32)}, "probability: other values"),
        ({**OUTPUTS, "label": np.array([b"negative"], dtype=object)}, "label: other values"),
    ],
)
def test_wrong_answers_are_told(found, words):
    with pytest.raises(ValueError, match=words):
        raise ValueError(difference(OUTPUTS, found))


def test_rounding_is_no_difference():
    found = {**OUTPUTS, "probability": OUTPUTS["probability"] + np.float32(1e-4)}
    assert difference(OUTPUTS, found) == ""


def test_the_prefix_of_grpc_counts_as_data():
    assert answer_size(PredictApi().call("light", IDS), b"1234") == 9
    assert answer_size(RowsApi().call("light", IDS), b"1234") == 4
