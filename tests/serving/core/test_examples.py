"""Classify, Regress and MultiInference over a SavedModel of TensorFlow 1."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol import messages
from protocol.contracts import CLASSIFY_METHOD, REGRESS_METHOD
from protocol.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    UnimplementedError,
)
from serving.core.data_plane import DataPlane
from serving.core.examples import (
    Classifications,
    ExamplesCall,
    InferenceTask,
    MultiInferenceCall,
    Regressions,
    classify,
    multi_inference,
    regress,
)
from serving.core.manager import ModelChoice

pytest.importorskip("tensorflow")

from tests.serving.saved_models import write_half_plus_two


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_half_plus_two(tmp_path_factory.mktemp("half") / "1").parent


@pytest.fixture
async def server(base_path: Path, start_server) -> Any:
    return await start_server(model_name="half", model_base_path=str(base_path))


@pytest.fixture
def data_plane(server) -> DataPlane:
    return server.server.data_plane


def example(x: float) -> bytes:
    made = messages.Example()
    made.features.feature["x"].float_list.value.append(x)
    return made.SerializeToString()


TWO = [example(2), example(4)]


def call(signature: str = "", examples: Any = TWO, **values: Any) -> ExamplesCall:
    return ExamplesCall(values.pop("model", ModelChoice("half")), examples, signature, **values)


def tasks(*tasks: tuple[str, str], examples: Any = TWO, **values: Any) -> MultiInferenceCall:
    made = [InferenceTask("half", method, signature) for method, signature in tasks]
    return MultiInferenceCall(ModelChoice("half"), values.get("tasks", made), examples)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("classify", [[("", 3.0), ("", 4.0)], [("", 4.0), ("", 5.0)]]),
        ("classify_names", [[("c3", 0.0), ("c4", 0.0)], [("c4", 0.0), ("c5", 0.0)]]),
        ("classify_both", [[("c3", 3.0), ("c4", 4.0)], [("c4", 4.0), ("c5", 5.0)]]),
    ],
)
async def test_classify(data_plane: DataPlane, signature: str, expected: Any) -> None:
    found = await classify(data_plane, call(signature))
    assert found == Classifications(("half", 1), signature, expected)


async def test_method_names_are_checked_on_request(base_path: Path, start_server) -> None:
    server = await start_server(
        model_name="half",
        model_base_path=str(base_path),
        enable_signature_method_name_check=True,
    )
    data_plane = server.server.data_plane
    assert (await classify(data_plane, call("classify"))).results
    assert (await regress(data_plane, call("regress"))).results
    text = f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: "
    with pytest.raises(InvalidRequestError, match=text + REGRESS_METHOD):
        await classify(data_plane, call("regress"))
    assert await server.predict("half", {"x": np.float32([1.0])})


@pytest.mark.parametrize("signature", ["regress", "regress_flat"])
async def test_regress(data_plane: DataPlane, signature: str) -> None:
    assert await regress(data_plane, call(signature)) == Regressions(
        ("half", 1), signature, [3.0, 4.0]
    )


@pytest.mark.parametrize(
    ("method", "signature", "text"),
    [
        (classify, "no", "No signature was found with the name: no"),
        (regress, "no", "No signature was found with the name: no"),
        (classify, "two_inputs", "Expected one input Tensor."),
        (regress, "two_inputs", "Expected one input Tensor."),
        (classify, "three_outputs", "Expected one or two output Tensors, found 3"),
        (regress, "classify_both", "Expected one output Tensor."),
        (
            classify,
            "other_input_scores",
            "No classification inputs found in SignatureDef: inputs {",
        ),
        (classify, "", "No classification inputs found in SignatureDef: "),
        (
            classify,
            "regress",
            'Expected classification signature outputs to contain at least one of "classes" or "s',
        ),
        (regress, "other_input", "No regression inputs found in SignatureDef: inputs {"),
        (regress, "other_output", "No regression outputs found in SignatureDef: inputs {"),
        (
            regress,
            "wide",
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,",
        ),
        (regress, "whole", "Expected output Tensor of DT_FLOAT. Got: DT_INT32"),
        (regress, "short", "Input batch size did not match output batch size: 2 vs. 1"),
        (
            classify,
            "flat_scores",
            "Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        (classify, "whole_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_INT32"),
        (classify, "number_classes", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        (classify, "short_scores", "Expected scores output batch size of 2. Got: 1"),
        (classify, "uneven", "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
    ],
)
async def test_what_does_not_fit(data_plane: DataPlane, method: Any, signature, text) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await method(data_plane, call(signature))
    assert caught.value.message.startswith(text)


@pytest.mark.parametrize("method", [classify, regress])
async def test_mistakes_of_the_caller(data_plane: DataPlane, method: Any) -> None:
    signature = method.__name__
    with pytest.raises(InvalidRequestError, match=r"^Input is empty\.$"):
        await method(data_plane, call(signature, []))
    with pytest.raises(NotFoundError, match=r"Latest\(halb\)"):
        await method(data_plane, call(signature, model=ModelChoice("halb")))
    with pytest.raises(InvalidRequestError, match="Could not parse example input"):
        await method(data_plane, call(signature, [b"no example"]))
    past = asyncio.get_running_loop().time() - 1
    with pytest.raises(DeadlineExceededError):
        await method(data_plane, call(signature, deadline=past))


async def test_metrics_tell_the_api(data_plane: DataPlane, server) -> None:
    await classify(data_plane, call("classify"))
    await regress(data_plane, call("regress", entrypoint="REST"))
    with pytest.raises(InvalidRequestError):
        await regress(data_plane, call("wide"))
    await multi_inference(data_plane, tasks((REGRESS_METHOD, "regress")))
    page = server.server.metrics.render().decode()
    series = ":tensorflow:serving:"
    for line in (
        f'{series}request_count{{model_name="half",status="OK"}} 2',
        f'{series}request_count{{model_name="half",status="INVALID_ARGUMENT"}} 1',
        f'{series}request_latency_count{{model_name="half",API="Classify",entrypoint="GRPC"}} 1',
        f'{series}request_latency_count{{model_name="half",API="regress",entrypoint="REST"}} 1',
        f'{series}runtime_latency_count{{model_name="half",API="Classify",runtime="TF1"}} 1',
        f'{series}runtime_latency_count{{model_name="half",API="Regress",runtime="TF1"}} 2',
        f'{series}runtime_latency_count{{model_name="half",API="MultiInference",runtime="TF1"}} 1',
        f'{series}request_example_count_total{{model="half"}} 2',
        f'{series}request_example_counts_count{{model="half"}} 1',
    ):
        assert f"{line}\n" in page


# MultiInference.


async def test_multi_inference_keeps_the_order_of_its_tasks(data_plane: DataPlane) -> None:
    found = await multi_inference(
        data_plane, tasks((REGRESS_METHOD, "regress"), (CLASSIFY_METHOD, "classify"))
    )
    assert found == [
        Regressions(("half", 1), "regress", [3.0, 4.0]),
        Classifications(("half", 1), "classify", [[("", 3.0), ("", 4.0)], [("", 4.0), ("", 5.0)]]),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"tasks": [InferenceTask("half", REGRESS_METHOD, "regress"), InferenceTask("", "x")]},
            InvalidRequestError,
            "Found ModelSpec with an empty model name.",
        ),
        (
            {
                "tasks": [
                    InferenceTask("half", REGRESS_METHOD, "regress"),
                    InferenceTask("third", REGRESS_METHOD, "regress"),
                ]
            },
            InvalidRequestError,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            {"tasks": [InferenceTask("half", REGRESS_METHOD, "regress")] * 2},
            InvalidRequestError,
            "Duplicate evaluation of signature: regress",
        ),
        (
            {"tasks": [InferenceTask("half", REGRESS_METHOD, "no")]},
            InvalidRequestError,
            "Requested signature not found in model graph: no",
        ),
        (
            {"tasks": [InferenceTask("half", "tensorflow/serving/predict")]},
            UnimplementedError,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            {"tasks": [InferenceTask("half", CLASSIFY_METHOD, "regress")]},
            InvalidRequestError,
            "Expected classification signature outputs",
        ),
        (
            {"tasks": [InferenceTask("half", REGRESS_METHOD, "regress")], "examples": []},
            InvalidRequestError,
            "Input is empty.",
        ),
        (
            {
                "tasks": [
                    InferenceTask("half", REGRESS_METHOD, "regress"),
                    InferenceTask("half", REGRESS_METHOD, "wide"),
                ]
            },
            InvalidRequestError,
            "Expected output Tensor shape to be either",
        ),
    ],
)
async def test_tasks_that_do_not_go(data_plane: DataPlane, arguments, error, text) -> None:
    with pytest.raises(error) as caught:
        await multi_inference(data_plane, tasks(**arguments))
    assert caught.value.message.startswith(text)


async def test_multi_inference_lets_the_version_go(data_plane: DataPlane) -> None:
    await multi_inference(data_plane, tasks((REGRESS_METHOD, "regress")))
    assert data_plane.pin(ModelChoice("half")).users == 0
