"""Requests and responses without a transport."""

import numpy as np
import pytest

from clients.calls import (
    health_call,
    metadata_call,
    predict_call,
    read_health,
    read_metadata,
    read_prediction,
    read_status,
    status_call,
)
from protocol import messages, services
from protocol.contracts import SENTIMENT, check_signature, signature_def
from protocol.errors import InternalError, InvalidRequestError, InvalidTensorError
from protocol.tensors import to_ndarray, to_tensor_proto


def test_predict_request() -> None:
    call = predict_call(
        "face", {"image": np.zeros((2, 3), np.uint8)}, "tensors", version=0, outputs=["embedding"]
    )
    assert call.method is services.PREDICT
    assert call.model == "face"
    spec = call.request.model_spec
    assert (spec.name, spec.signature_name) == ("face", "tensors")
    assert spec.HasField("version")  # version 0 is a version
    assert spec.version.value == 0
    assert list(call.request.output_filter) == ["embedding"]
    assert to_ndarray(call.request.inputs["image"]).shape == (2, 3)


def test_version_is_left_to_the_server_by_default() -> None:
    spec = predict_call("face", {}).request.model_spec
    assert not spec.HasField("version")
    assert spec.version_label == ""
    assert spec.signature_name == "serving_default"


def test_label() -> None:
    assert metadata_call("face", label="canary").request.model_spec.version_label == "canary"


def test_version_and_label_exclude_each_other() -> None:
    with pytest.raises(InvalidRequestError, match="either a version or a label"):
        predict_call("face", {}, version=1, label="canary")


def test_model_must_have_a_name() -> None:
    with pytest.raises(InvalidRequestError, match="model"):
        status_call("")


@pytest.mark.parametrize(
    "value", [["a\0", "b"], [b"a\0", b"b"], np.array(["a\0", "b"], dtype=object)]
)
def test_strings_keep_every_byte(value: object) -> None:
    proto = predict_call("m", {"text": value}).request.inputs["text"]
    assert list(proto.string_val) == [b"a\0", b"b"]


def test_an_input_that_is_no_tensor_is_named() -> None:
    with pytest.raises(InvalidTensorError, match="input 'text'"):
        predict_call("m", {"text": [object()]})


@pytest.mark.parametrize("content", [True, False])
def test_prediction_from_both_encodings(content: bool) -> None:
    response = messages.PredictResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = 7
    response.outputs["x"].CopyFrom(to_tensor_proto(np.eye(2, dtype=np.float32), content=content))
    prediction = read_prediction(response)
    assert (prediction.model, prediction.version) == ("m", 7)
    assert prediction.signature == "serving_default"
    np.testing.assert_array_equal(prediction["x"], np.eye(2))


def test_unknown_outputs_are_told_what_exists() -> None:
    response = messages.PredictResponse()
    response.outputs["x"].CopyFrom(to_tensor_proto([1.0]))
    with pytest.raises(KeyError, match="outputs: x"):
        read_prediction(response)["y"]


def test_short_typed_fields_repeat_the_last_value() -> None:
    response = messages.PredictResponse()
    tensor = response.outputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=3)
    tensor.float_val.append(0.5)
    prediction = read_prediction(response)
    assert prediction["x"].tolist() == [0.5, 0.5, 0.5]
    assert prediction.version is None


def test_metadata_round_trip() -> None:
    expected = {spec.name: spec for spec in SENTIMENT.signatures}
    definitions = messages.SignatureDefMap()
    for name, spec in expected.items():
        definitions.signature_def[name].CopyFrom(signature_def(spec))
    definitions.signature_def["__saved_model_init_op"].SetInParent()
    response = messages.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(definitions)
    found = read_metadata(response).signatures
    assert found.keys() == expected.keys()
    for name, spec in expected.items():
        check_signature(spec, found[name])


def test_metadata_without_signatures() -> None:
    with pytest.raises(InternalError, match="got nothing"):
        read_metadata(messages.GetModelMetadataResponse())


def test_status_is_newest_first() -> None:
    response = messages.GetModelStatusResponse()
    for version, state in ((1, 50), (2, 30)):
        response.model_version_status.add(version=version, state=state)
    assert [(found.version, found.state) for found in read_status(response)] == [
        (2, "AVAILABLE"),
        (1, "END"),
    ]


def test_states_of_newer_servers_do_not_break_us() -> None:
    response = messages.GetModelStatusResponse()
    response.model_version_status.add(version=1, state=60)
    assert read_status(response)[0].state == "60"


def test_health() -> None:
    assert health_call("sentiment").request.service == "sentiment"
    assert read_health(messages.HealthCheckResponse(status=2)) == "NOT_SERVING"
