"""Images of all kinds as requests: what is refused, what goes together, whose answer is whose."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clients import AsyncDetectionClient, ClientConfig, DetectionClient
from clients.images import EncodedImage, PixelImage, image_files, open_image, open_images
from clients.typed import TaskSpec
from protocol import services
from protocol.contracts import DETECTION
from protocol.errors import InvalidRequestError
from protocol.tensors import to_ndarray
from tests.clients.fake_models import png, red_box


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    file.write_bytes(png(red_box()))
    return file


def declaring(height: int, width: int) -> bytes:
    """Returns a PNG file whose header is changed to declare another size."""
    data = bytearray(png(red_box()))
    data[16:24] = width.to_bytes(4) + height.to_bytes(4)
    return bytes(data)


def sent_rows(server: Any) -> list[tuple[str, int]]:
    """Returns input and number of rows of each request."""
    return [
        (name, len(to_ndarray(call.request.inputs[name])))
        for call in server.calls
        if call.method is services.PREDICT
        for name in call.request.inputs
    ]


def test_a_file_is_sent_as_it_is(photo: Path) -> None:
    for path in (photo, str(photo)):
        source = open_image(path)
        assert isinstance(source, EncodedImage)
        assert source.name == str(photo)
        assert source.read() == photo.read_bytes()
        assert source.size_bytes == photo.stat().st_size


def test_a_file_that_goes_is_named(photo: Path) -> None:
    source = open_image(photo)
    assert isinstance(source, EncodedImage)
    photo.unlink()
    with pytest.raises(InvalidRequestError, match=r"photo\.png: No such file"):
        source.read()


def test_grey_arrays_get_three_equal_channels() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    source = open_image(grey)
    assert isinstance(source, PixelImage)
    assert np.array_equal(source.pixels, np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_pillow_images_are_sent_as_rgb(mode: str) -> None:
    image = Image.fromarray(red_box()).convert(mode)
    source = open_image(image)
    assert isinstance(source, PixelImage)
    assert source.pixels.dtype == np.uint8
    assert np.array_equal(source.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nothing.png", r"images\[1\]: nothing\.png: No such file"),
        ("zero\0byte", r"images\[1\]: .*null"),
        (b"", r"images\[1\]: image must be a JPEG or PNG file, got no bytes"),
        (b"GIF89a..", r"images\[1\]: image must be a JPEG or PNG file, got a GIF file"),
        (png(red_box())[:20], r"images\[1\]: image of 20 bytes is not a whole PNG file"),
        (declaring(9000, 9000), r"images\[1\]: image declares 9000 x 9000 pixels"),
        (np.zeros((2, 2, 3), np.float32), r"images\[1\]: expected uint8 .* got float32"),
        (np.zeros((2, 2, 4), np.uint8), r"images\[1\]: .* got uint8 of shape \[2, 2, 4\]"),
        (np.zeros((2, 2, 3, 1), np.uint8), r"images\[1\]: .* shape \[2, 2, 3, 1\]"),
        (np.zeros((0, 2, 3), np.uint8), r"images\[1\]: expected pixels, got shape \[0, 2, 3\]"),
        (Image.new("I;16", (2, 2)), r"images\[1\]: a Pillow image of mode 'I;16'"),
        (Image.new("F", (2, 2)), r"images\[1\]: a Pillow image of mode 'F'"),
        (None, r"images\[1\]: expected a path, bytes, .* got NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        open_images([red_box(), image])


def test_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InvalidRequestError, match=r"empty\.png: .*got no bytes"):
        open_image(tmp_path / "empty.png")
    with pytest.raises(InvalidRequestError, match=r"text\.png: image must be a JPEG or PNG"):
        open_image(tmp_path / "text.png")
    with pytest.raises(InvalidRequestError, match="is a folder; give it alone"):
        open_images([tmp_path])


@pytest.mark.parametrize(
    "image", [red_box(), png(red_box()), Image.new("L", (2, 2)), "photo.png", Path("photo.png")]
)
def test_one_image_is_no_list(image: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"expected a list of images or a folder"):
        open_images(image)


def test_an_array_of_images_is_a_list() -> None:
    sources = open_images(np.zeros((3, 4, 5, 3), np.uint8))
    assert [source.name for source in sources] == ["images[0]", "images[1]", "images[2]"]


def test_the_images_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.jpeg", "notes.txt"):
        (tmp_path / name).write_bytes(png(red_box()))
    (tmp_path / "deeper.png").mkdir()
    names = [Path(source.name).name for source in open_images(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "c.jpeg"]
    assert open_images(str(tmp_path))[0].name == str(tmp_path / "a.jpg")


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="no image files; expected names ending in"):
        image_files(tmp_path)
    with pytest.raises(InvalidRequestError, match="expected a folder of images"):
        image_files(tmp_path / "nothing")


def mixed_images(photo: Path) -> Iterator[tuple[Any, float]]:
    """Yields images of all kinds and sizes, and the left edge of the box in each."""
    for left in range(9):
        pixels = red_box(20 + left % 2, 30, (left, 4, 20, 10))
        yield [pixels, png(pixels), Image.fromarray(pixels)][left % 3], left
    yield photo, 5


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_answers_keep_the_order(
    server: Any, config: ClientConfig, photo: Path, batch_size: int
) -> None:
    images, edges = zip(*mixed_images(photo), strict=True)
    with DetectionClient(config, batch_size=batch_size) as client:
        results = client.detect(images)
    assert [result.detections[0].box_xyxy[0] for result in results] == list(edges)
    assert [result.source for result in results[:2]] == ["images[0]", "images[1]"]
    assert results[-1].source == str(photo)
    if batch_size == 100:  # bytes of any size together, arrays by size
        assert sorted(sent_rows(server)) == [("image", 2), ("image", 4), ("image_bytes", 4)]


async def test_answers_keep_the_order_async(config: ClientConfig, photo: Path) -> None:
    images, edges = zip(*mixed_images(photo), strict=True)
    async with AsyncDetectionClient(config) as client:
        results = await client.detect(images)
    assert [result.detections[0].box_xyxy[0] for result in results] == list(edges)


def test_requests_stay_below_the_limit_in_bytes(server: Any, config: ClientConfig) -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)  # 30,000 bytes
    limited = ClientConfig(config.target, max_message_bytes=(64 << 10) + 65_000)
    with DetectionClient(limited, batch_size=100) as client:
        client.detect([pixels] * 5)
    assert sent_rows(server) == [("image", 2), ("image", 2), ("image", 1)]


def test_an_image_above_the_limit_is_refused_before_sending(
    server: Any, config: ClientConfig
) -> None:
    limited = ClientConfig(config.target, max_message_bytes=100_000)
    big = np.zeros((200, 200, 3), np.uint8)
    with (
        DetectionClient(limited) as client,
        pytest.raises(InvalidRequestError, match=r"images\[1\]: 120000 bytes do not fit"),
    ):
        client.detect([red_box(), big])
    assert server.calls == []


def test_the_image_that_the_server_refuses_is_named(
    server: Any, config: ClientConfig, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(png(red_box()))
    bad.write_bytes(png(red_box())[:50])
    with (
        DetectionClient(config) as client,
        pytest.raises(InvalidRequestError, match=r"bad\.png: "),
    ):
        client.detect([good, bad, good])
    assert sent_rows(server) == [("image_bytes", 3), ("image_bytes", 1), ("image_bytes", 1)]


def test_a_refusal_that_is_nobodys_fault_is_passed_on(server: Any, config: ClientConfig) -> None:
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        if len(request.inputs["image"].tensor_content) > red_box().nbytes:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too many rows")
        return answer(request, context)

    server.behaviours[services.PREDICT] = behave
    with (
        DetectionClient(config) as client,
        pytest.raises(InvalidRequestError, match=r"^too many rows"),
    ):
        client.detect([red_box()] * 3)


@given(
    sizes=st.lists(st.integers(1, 50), max_size=30),
    batch_size=st.integers(1, 8),
    request_bytes=st.integers(1, 120),
)
def test_every_image_is_sent_once_within_the_limits(
    sizes: list[int], batch_size: int, request_bytes: int
) -> None:
    from clients.images import _chunks
    from clients.typed import ServedModel

    served = ServedModel(DETECTION, "m", batch_size=batch_size, request_bytes=request_bytes)
    sources = [EncodedImage(str(size), b"", size, 1) for size in sizes]
    chunks = list(_chunks(served, sources))
    assert [index for chunk in chunks for index in chunk] == list(range(len(sizes)))
    for chunk in chunks:
        assert 1 <= len(chunk) <= batch_size
        assert len(chunk) == 1 or sum(sizes[index] for index in chunk) <= request_bytes


def test_requests_stay_below_the_limit_in_pixels(server: Any, config: ClientConfig) -> None:
    large = declaring(4096, 4096)  # a quarter of what the server decodes for one request
    with DetectionClient(config) as client, pytest.raises(InvalidRequestError):
        client.detect([png(red_box()), *[large] * 5])
    assert sent_rows(server)[0] == ("image_bytes", 4)


def test_a_header_behind_much_metadata(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    Image.fromarray(red_box()).save(file)
    data = file.read_bytes()
    comment = b"\xff\xfe\xff\xff" + bytes(65_533)
    file.write_bytes(data[:2] + comment * 5 + data[2:])
    source = open_image(file)
    assert source.pixel_count == 600
    assert source.size_bytes == len(data) + 5 * 65_537


def test_task_spec_of_the_clients() -> None:
    assert DetectionClient.spec == AsyncDetectionClient.spec == TaskSpec(DETECTION, 8)
