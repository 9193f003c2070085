"""The server answers clients made from the official `tensorflow-serving-api`."""

from typing import Any

import grpc
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")

from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)


@pytest.fixture
def prediction(running) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(running.channel)


@pytest.fixture
def models(running) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(running.channel)


def predict_request(model: str, **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


async def test_predict_numbers(prediction) -> None:
    response = await prediction.Predict(predict_request("half", x=[[1.0, 2.0, 3.0]]))
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 3.5]
    assert tf.make_ndarray(response.outputs["z"]).tolist() == [[-1, -2, -3]]
    assert response.model_spec.version.value == 1


async def test_predict_text(prediction) -> None:
    response = await prediction.Predict(predict_request("sentiment", text=["good", "bad", "x"]))
    assert tf.make_ndarray(response.outputs["label"]).tolist()[:2] == [b"positive", b"negative"]
    assert tf.make_ndarray(response.outputs["truncated"]).dtype == np.bool_
    assert tf.make_ndarray(response.outputs["tokens"]).dtype == np.int32


async def test_metadata(prediction) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "sentiment"
    response = await prediction.GetModelMetadata(request)
    described = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(described)
    signature = described.signature_def["serving_default"]
    assert signature.inputs["text"].dtype == tf.string.as_datatype_enum
    assert [dim.size for dim in signature.inputs["text"].tensor_shape.dim] == [-1]


async def test_status_and_reload(models, model_folders) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    response = await models.GetModelStatus(request)
    [entry] = response.model_version_status
    assert entry.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert entry.status.error_code == 0
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(
        name="half", base_path=str(model_folders.model("half")), model_platform="tensorflow"
    )
    response = await models.HandleReloadConfigRequest(reload)
    assert response.status.error_code == 0


async def test_errors_say_what_is_served(prediction) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prediction.Predict(predict_request("default", x=[[1.0]]))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    # The word that TensorFlow Serving's own tests wait for.
    assert "Servable" in (caught.value.details() or "")


async def test_classify_is_not_served(prediction) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "half"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prediction.Classify(request)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
