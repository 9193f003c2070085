"""Images in, masks out, with both clients."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clients import AsyncSegmentationClient, ClientConfig, SegmentationClient, SegmentationResult
from protocol import services
from protocol.errors import ContractError, InvalidRequestError
from protocol.tensors import to_tensor_proto
from tests.clients.fake_models import png, red_box

Segment = Callable[..., list[SegmentationResult]]


def segment_blocking(
    config: ClientConfig, images: Any, method: str = "segment"
) -> list[SegmentationResult]:
    with SegmentationClient(config) as client:
        results: list[SegmentationResult] = getattr(client, method)(images)
        return results


def segment_async(
    config: ClientConfig, images: Any, method: str = "segment"
) -> list[SegmentationResult]:
    async def run() -> list[SegmentationResult]:
        async with AsyncSegmentationClient(config) as client:
            results: list[SegmentationResult] = await getattr(client, method)(images)
            return results

    return asyncio.run(run())


@pytest.fixture(params=[segment_blocking, segment_async], ids=["blocking", "async"])
def segment(request: pytest.FixtureRequest) -> Segment:
    """Segments with either client: segment(config, images, method)."""
    function: Segment = request.param
    return function


def change_answer(server: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    """Lets the server answer with another array for one output."""
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.outputs[name].CopyFrom(to_tensor_proto(array))
        return response

    server.behaviours[services.PREDICT] = behave


@pytest.mark.parametrize("form", [png, lambda pixels: pixels], ids=["bytes", "array"])
def test_results(segment: Segment, config: ClientConfig, form: Callable[..., Any]) -> None:
    [result] = segment(config, [form(red_box(20, 30, (5, 4, 15, 10)))])
    expected = np.zeros((20, 30), np.uint8)
    expected[4:10, 5:15] = 1
    assert np.array_equal(result.mask, expected)
    assert result.mask.dtype == np.uint8
    assert (result.width, result.height) == (30, 20)
    assert result.class_names == ("background", "nucleus")
    assert result.shares == {"background": 0.9, "nucleus": 0.1}
    assert (result.source, result.model, result.version) == ("images[0]", "segmentation", 3)
    assert result.probability is None


def test_sizes_may_differ(segment: Segment, config: ClientConfig) -> None:
    results = segment(config, [png(red_box(20, 30)), png(red_box(15, 40))])
    assert [result.mask.shape for result in results] == [(20, 30), (15, 40)]


def test_probabilities(segment: Segment, server: Any, config: ClientConfig) -> None:
    [result] = segment(config, [red_box()], "probabilities")
    assert result.probability is not None
    assert result.probability.shape == (20, 30, 2)
    assert np.array_equal(result.probability.argmax(axis=-1), result.mask)
    assert server.calls[0].request.model_spec.signature_name == "probability"


def test_probabilities_need_pixels(segment: Segment, server: Any, config: ClientConfig) -> None:
    with pytest.raises(InvalidRequestError, match=r"images\[1\]: probabilities need pixels"):
        segment(config, [red_box(), png(red_box())], "probabilities")
    assert server.calls == []


def test_classes_without_names_are_refused(
    segment: Segment, server: Any, config: ClientConfig
) -> None:
    change_answer(server, "class_names", np.array([[b"background"]], object))
    with pytest.raises(ContractError, match="names 1 classes, but its mask holds class 1"):
        segment(config, [red_box()])


def test_a_mask_of_another_size_is_refused(
    segment: Segment, server: Any, config: ClientConfig
) -> None:
    change_answer(server, "width", np.array([31], np.int32))
    with pytest.raises(ContractError, match=r"shape \[20, 31\], but it has \[20, 30\]"):
        segment(config, [png(red_box())])


def test_a_mask_that_is_no_png_is_refused(
    segment: Segment, server: Any, config: ClientConfig
) -> None:
    change_answer(server, "mask_png", np.array([b"nothing"], object))
    with pytest.raises(ContractError, match="expected a mask as an 8-bit grey PNG"):
        segment(config, [png(red_box())])


def test_segment_one(config: ClientConfig) -> None:
    with SegmentationClient(config) as client:
        assert client.segment_one(png(red_box())).shares["nucleus"] == 0.1


async def test_segment_one_async(config: ClientConfig) -> None:
    async with AsyncSegmentationClient(config) as client:
        assert (await client.segment_one(red_box())).shares["nucleus"] == 0.1


def result(class_names: tuple[str, ...]) -> SegmentationResult:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 5:15] = mask[20:35, 30:50] = 1
    return SegmentationResult("image", mask, class_names, "segmentation", 1)


def test_instances() -> None:
    two_classes, three_classes = result(("none", "cell")), result(("none", "cell", "wall"))
    assert two_classes.instances().count == 2
    assert three_classes.instances("cell").labels.max() == 2
    assert three_classes.instances("wall").count == 0


def test_instances_of_what_the_model_is_sure_of() -> None:
    sure = result(("none", "cell"))
    probability = np.eye(2, dtype=np.float32)[sure.mask]
    assert dataclasses.replace(sure, probability=probability).instances().count == 2


@pytest.mark.parametrize("name", [None, "celll"])
def test_instances_of_an_unclear_class(name: str | None) -> None:
    with pytest.raises(InvalidRequestError, match="expected one of none, cell, wall"):
        result(("none", "cell", "wall")).instances(name)
