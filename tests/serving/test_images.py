"""Images through a running server: any sizes, any company, and bad ones that harm nobody."""

import asyncio
import io
import threading
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from protocol import image_pipelines


@pytest.fixture
async def face(model_folders, start_server) -> Any:
    """A server with a model whose embedding is the image's mean, and with batching."""
    model_folders.face()
    config = model_folders.config_file("face")
    return await start_server(model_config_file=str(config), enable_batching=True)


def png(value: int, height: int = 8, width: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (value, value, value)).save(stream, "png")
    return stream.getvalue()


def files(items: Sequence[bytes]) -> dict[str, Any]:
    packed = np.empty(len(items), dtype=object)
    packed[:] = items
    return {"image_bytes": packed}


async def means(face: Any, *items: bytes) -> list[float]:
    outputs = await face.outputs("face", files(items))
    return outputs["embedding"][:, 0].tolist()


async def test_files_of_several_sizes_in_one_request(face) -> None:
    found = await means(face, png(10, 3, 9), png(20, 64, 2), png(30, 3, 9))
    assert found == [10, 20, 30]


async def test_pixels_and_files_are_answered_alike(face) -> None:
    pixels = np.full((2, 5, 7, 3), 40, np.uint8)
    outputs = await face.outputs("face", {"image": pixels}, signature="tensors")
    assert outputs["embedding"][:, 0].tolist() == [40, 40]
    assert await means(face, png(40, 5, 7)) == [40]


async def test_a_request_without_images(face) -> None:
    outputs = await face.outputs("face", files([]))
    assert outputs["embedding"].shape == (0, 128)
    assert outputs["threshold"].shape == (0, 2)


async def test_bad_images_fail_alone_among_many_callers(face) -> None:
    good = png(50)
    bad = {
        b"": "got no bytes",
        b"GIF89a....": "got a GIF file",
        good[:-20]: "PNG",
        good.replace(b"\0\0\0\x08", b"\0\1\0\0"): "expected sides",
    }
    requests = [[good], *([item] for item in bad)] * 8
    answers = await asyncio.gather(
        *(means(face, *items) for items in requests), return_exceptions=True
    )
    for (item,), answer in zip(requests, answers, strict=True):
        if item in bad:
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "image_bytes[0]" in answer.details()
            assert bad[item] in answer.details()
        else:
            assert answer == [50]


async def test_a_bad_image_is_named_by_its_row(face) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await means(face, png(1), png(2), b"text")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "image_bytes[2]" in failure.value.details()


@pytest.mark.parametrize(
    "inputs",
    [
        {"image_bytes": np.array(["one file"], dtype=object).reshape(1, 1)},
        {"image_bytes": np.zeros((1, 8, 8, 3), np.uint8)},
        {"image": np.zeros((1, 8, 8, 3), np.uint8)},
    ],
)
async def test_other_tensors_are_refused(face, inputs) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await face.outputs("face", inputs)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_even_small_files_are_decoded_off_the_event_loop(face, monkeypatch) -> None:
    threads = []
    decode = image_pipelines.decode_image

    def watched(data: bytes) -> np.ndarray[Any, Any]:
        threads.append(threading.current_thread())
        return decode(data)

    monkeypatch.setattr(image_pipelines, "decode_image", watched)
    assert await means(face, png(60)) == [60]
    assert threads
    assert threading.main_thread() not in threads
