"""The server answers clients made from the official `tensorflow-serving-api`."""

from pathlib import Path
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
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.saved_models import write_half_plus_two  # noqa: E402


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


# Examples, on a SavedModel of TensorFlow 1.


@pytest.fixture(scope="module")
def half_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_half_plus_two(tmp_path_factory.mktemp("half") / "1").parent


@pytest.fixture
async def examples(half_path: Path, start_server) -> Any:
    running = await start_server(model_name="half", model_base_path=str(half_path))
    return prediction_service_pb2_grpc.PredictionServiceStub(running.channel)


def example(**features: float) -> Any:
    listed = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=listed))


def fill(request: Any, signature: str, *listed: Any) -> Any:
    request.model_spec.name = "half"
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(listed)
    return request


async def test_classify(examples) -> None:
    request = fill(classification_pb2.ClassificationRequest(), "classify_both", example(x=2))
    response = await examples.Classify(request)
    [classes] = response.result.classifications
    assert [(each.label, each.score) for each in classes.classes] == [("c3", 3), ("c4", 4)]
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "classify_both"


async def test_regress_with_context(examples) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "half"
    request.model_spec.signature_name = "regress"
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(example(x=6))
    listed.examples.extend([tf.train.Example(), example(x=2)])
    response = await examples.Regress(request)
    assert [each.value for each in response.result.regressions] == [5, 3]


async def test_multi_inference(examples) -> None:
    request = inference_pb2.MultiInferenceRequest()
    for method in ("regress", "classify"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "half"
        task.model_spec.signature_name = method
    request.input.example_list.examples.append(example(x=2))
    first, second = (await examples.MultiInference(request)).results
    assert [each.value for each in first.regression_result.regressions] == [3]
    [classes] = second.classification_result.classifications
    assert [each.score for each in classes.classes] == [3, 4]
    assert second.model_spec.signature_name == "classify"
    assert second.model_spec.version.value == 1


async def test_examples_that_are_missing(examples) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await examples.Classify(fill(classification_pb2.ClassificationRequest(), "classify"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Input is empty."


async def test_predict_runs_signatures_of_examples_too(examples) -> None:
    request = predict_request("half", inputs=[example(x=2).SerializeToString()])
    request.model_spec.signature_name = "regress"
    response = await examples.Predict(request)
    assert list(response.outputs["outputs"].float_val) == [3]


async def test_the_rank_of_a_request_is_kept(examples) -> None:
    response = await examples.Predict(predict_request("half", x=[2.0, 4.0]))
    assert list(response.outputs["y"].float_val) == [3, 4]
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [2]


async def test_a_wrong_dtype_is_the_graphs_error(examples) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await examples.Predict(predict_request("half", x=[1, 2]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Expects arg[0] to be float but int32 is provided"
