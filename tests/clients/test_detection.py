"""Images in, labelled boxes out, with both clients."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clients import (
    AsyncDetectionClient,
    ClientConfig,
    Detection,
    DetectionClient,
    DetectionResult,
)
from protocol import services
from protocol.errors import ContractError, InvalidRequestError
from protocol.tensors import to_ndarray, to_tensor_proto
from tests.clients.fake_models import png, red_box

Detect = Callable[..., list[DetectionResult]]


def detect_blocking(config: ClientConfig, images: Any, **options: Any) -> list[DetectionResult]:
    with DetectionClient(config) as client:
        return client.detect(images, **options)


def detect_async(config: ClientConfig, images: Any, **options: Any) -> list[DetectionResult]:
    async def run() -> list[DetectionResult]:
        async with AsyncDetectionClient(config) as client:
            return await client.detect(images, **options)

    return asyncio.run(run())


@pytest.fixture(params=[detect_blocking, detect_async], ids=["blocking", "async"])
def detect(request: pytest.FixtureRequest) -> Detect:
    """Detects with either client: detect(config, images, **options)."""
    function: Detect = request.param
    return function


def change_answer(server: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    """Lets the server answer with another array for one output."""
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.outputs[name].CopyFrom(to_tensor_proto(array))
        return response

    server.behaviours[services.PREDICT] = behave


def test_results(detect: Detect, config: ClientConfig) -> None:
    found, nothing = detect(config, [png(red_box()), np.zeros((9, 9), np.uint8)])
    assert found == DetectionResult(
        source="images[0]",
        detections=(Detection("red", 1, pytest.approx(0.9), (5.0, 4.0, 15.0, 10.0)),),
        model="detection",
        version=3,
    )
    assert found.counts == {"red": 1}
    assert nothing.detections == ()
    assert nothing.counts == {}


def test_nothing_to_detect(detect: Detect, server: Any, config: ClientConfig) -> None:
    assert detect(config, []) == []
    assert server.calls == []


def test_thresholds_are_sent_if_given(detect: Detect, server: Any, config: ClientConfig) -> None:
    detect(config, [red_box()])
    [result] = detect(config, [red_box()], score_threshold=0.95, iou_threshold=0.3)
    without, with_both = (call.request.inputs for call in server.calls)
    assert set(without) == {"image"}
    assert set(with_both) == {"image", "score_threshold", "iou_threshold"}
    threshold = to_ndarray(with_both["iou_threshold"])
    assert (threshold.dtype, threshold.shape) == (np.float32, ())
    assert threshold == np.float32(0.3)
    assert result.detections == ()


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_thresholds_out_of_range_are_refused_before_sending(
    detect: Detect, server: Any, config: ClientConfig, value: float
) -> None:
    with pytest.raises(InvalidRequestError, match="score_threshold: expected a number from 0 to 1"):
        detect(config, [red_box()], score_threshold=value)
    with pytest.raises(InvalidRequestError, match="iou_threshold"):
        detect(config, [red_box()], iou_threshold=value)
    assert server.calls == []


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_without_boxes_is_refused(
    detect: Detect, server: Any, config: ClientConfig, count: int
) -> None:
    change_answer(server, "num_detections", np.array([count], np.int32))
    with pytest.raises(ContractError, match=f"counts {count} detections.* room for"):
        detect(config, [red_box()])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("boxes_xyxy", np.zeros((1, 3, 5), np.float32)),
        ("boxes_xyxy", np.zeros((2, 3, 4), np.float32)),
        ("scores", np.zeros((1, 3), np.float64)),
        ("labels", np.zeros((1, 3), np.int32)),
    ],
)
def test_outputs_of_another_form_are_refused(
    detect: Detect, server: Any, config: ClientConfig, name: str, array: np.ndarray[Any, Any]
) -> None:
    change_answer(server, name, array)
    with pytest.raises(ContractError, match=name):
        detect(config, [red_box()])


def test_another_model_is_explained(detect: Detect, server: Any, config: ClientConfig) -> None:
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        del response.outputs["scores"]
        return response

    server.behaviours[services.PREDICT] = behave
    with pytest.raises(ContractError, match="without output 'scores'"):
        detect(config, [red_box()])


def test_detect_one(config: ClientConfig) -> None:
    with DetectionClient(config) as client:
        result = client.detect_one(red_box(), score_threshold=0.5, iou_threshold=0.5)
    assert (result.source, len(result.detections)) == ("image", 1)


async def test_detect_one_async(config: ClientConfig) -> None:
    async with AsyncDetectionClient(config) as client:
        assert (await client.detect_one(red_box())).counts == {"red": 1}
