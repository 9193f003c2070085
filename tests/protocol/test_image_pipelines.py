import io

import numpy as np
import pytest
from PIL import Image

from protocol.contracts import DETECTION, FACE, SEGMENTATION
from protocol.errors import InvalidRequestError
from protocol.image_pipelines import (
    ImagePipeline,
    SegmentationPipeline,
    decode_images,
    group_by_size,
    stack_rows,
)
from protocol.images import MAX_PIXELS
from protocol.tiling import Tiling

BYTES = FACE.signature("serving_default")
PIXELS = FACE.signature("tensors")


def picture(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def files(*items):
    packed = np.empty(len(items), dtype=object)
    packed[:] = items
    return {"image_bytes": packed}


class Recorder:
    """A graph by hand: an image's mean and its size; remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, tensors, outputs):
        self.calls.append(tensors)
        image = tensors["image"]
        mean = image.reshape(len(image), -1).mean(axis=1).astype(np.float32)
        sizes = np.tile(np.array(image.shape[1:3], np.float32), (len(image), 1))
        known = {
            "embedding": np.stack([mean] * 128, axis=1),
            "threshold": sizes,
            "mask": image[..., 0] // 2,
            "probability": np.stack([image[..., 0] / 255.0] * 2, axis=-1).astype(np.float32),
        }
        return {name: known[name] for name in outputs}


def answer(pipeline, graph, *requests):
    """Merges all requests into one run and hands each its rows, as the server does."""
    prepared = [pipeline.prepare(request) for request in requests]
    outputs = pipeline.run(graph, pipeline.merge(prepared))
    results, start = [], 0
    for item in prepared:
        rows = {name: values[start : start + item.rows] for name, values in outputs.items()}
        results.append(pipeline.finish(rows, item))
        start += item.rows
    return results


def test_images_of_several_sizes_share_a_request_and_keep_their_order():
    graph = Recorder()
    images = [picture(4, 6, 10), picture(5, 5, 20), picture(4, 6, 30), picture(5, 5, 40)]
    (found,) = answer(ImagePipeline(BYTES), graph, files(*map(png, images)))
    assert found["embedding"][:, 0].tolist() == [10, 20, 30, 40]
    assert found["threshold"].tolist() == [[4, 6], [5, 5], [4, 6], [5, 5]]
    assert [len(call["image"]) for call in graph.calls] == [2, 2]


def test_requests_of_other_sizes_are_joined():
    graph = Recorder()
    one, two = files(png(picture(3, 3, 7))), files(png(picture(3, 3, 9)), png(picture(2, 8, 11)))
    first, second = answer(ImagePipeline(BYTES), graph, one, two)
    assert first["embedding"][:, 0].tolist() == [7]
    assert second["embedding"][:, 0].tolist() == [9, 11]
    assert len(graph.calls) == 2


def test_pixels_are_taken_as_they_are():
    stacked = np.stack([picture(3, 4, 1), picture(3, 4, 2)])
    (found,) = answer(ImagePipeline(PIXELS), Recorder(), {"image": stacked})
    assert found["embedding"][:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("spec", [BYTES, PIXELS])
def test_no_images_have_no_answers(spec):
    nothing = files() if spec is BYTES else {"image": np.zeros((0, 5, 5, 3), np.uint8)}
    (found,) = answer(ImagePipeline(spec), Recorder(), nothing)
    assert found["embedding"].shape == (0, 128)


def test_images_without_pixels_are_refused():
    with pytest.raises(InvalidRequestError, match="images of 0x5 pixels; expected at least 1x1"):
        ImagePipeline(PIXELS).prepare({"image": np.zeros((2, 0, 5, 3), np.uint8)})


def test_the_guilty_image_is_named():
    with pytest.raises(InvalidRequestError, match=r"image_bytes\[1\]: .*JPEG or PNG"):
        ImagePipeline(BYTES).prepare(files(png(picture(2, 2, 0)), b"GIF89a"))


def test_images_that_are_too_large_together_are_refused_before_they_are_decoded(monkeypatch):
    wide = png(np.zeros((1, 1), np.uint8))
    declares = wide.replace(b"\0\0\0\x01\0\0\0\x01", b"\0\0\x20\0\0\0\x10\0", 1)
    decoded = []

    def decode(data):
        decoded.append(data)
        return picture(1, 1, 0)

    monkeypatch.setattr("protocol.image_pipelines.decode_image", decode)
    count = MAX_PIXELS // (0x2000 * 0x1000)
    packed = files(*[declares] * (count + 1))["image_bytes"]
    with pytest.raises(InvalidRequestError, match=rf"image_bytes\[{count}\]: .*together"):
        decode_images(packed)
    assert len(decoded) == count


def test_parameters_go_to_the_graph_and_keep_requests_apart():
    pipeline = ImagePipeline(DETECTION.signature("serving_default"))
    image = files(png(picture(3, 3, 7)))
    plain = pipeline.prepare(image)
    strict = pipeline.prepare({**image, "score_threshold": np.array(0.9, np.float32)})
    alike = pipeline.prepare({**image, "score_threshold": np.array(0.9, np.float32)})
    assert plain.batch_key != strict.batch_key
    assert alike.batch_key == strict.batch_key
    merged = pipeline.merge([strict, alike])
    assert merged["score_threshold"] == np.float32(0.9)
    assert len(merged["image"]) == 2
    assert "score_threshold" not in pipeline.merge([plain])


def test_a_run_holds_few_large_images():
    images = np.empty(5, dtype=object)
    for row in range(5):
        images[row] = np.empty((1024, 2048, 3), np.uint8)
    assert list(group_by_size(images)) == [[0, 1], [2, 3], [4]]


def test_rows_of_several_shapes_stay_a_list():
    same = stack_rows([np.zeros((2, 3)), np.ones((2, 3))])
    assert same.shape == (2, 2, 3)
    mixed = stack_rows([np.zeros((2, 3)), np.ones((4, 1))])
    assert mixed.dtype == object
    assert [row.shape for row in mixed] == [(2, 3), (4, 1)]


LABELS = ("background", "nucleus")
TILING = Tiling(tile=16, overlap=4)


def test_masks_come_back_as_png_files_of_their_own_size():
    pipeline = SegmentationPipeline(SEGMENTATION.signature("serving_default"), LABELS, TILING)
    images = [picture(4, 6, 2), picture(7, 3, 4)]
    (found,) = answer(pipeline, Recorder(), files(*map(png, images)))
    assert list(found) == [spec.name for spec in pipeline.spec.outputs]
    masks = [np.asarray(Image.open(io.BytesIO(data))) for data in found["mask_png"]]
    np.testing.assert_array_equal(masks[0], np.full((4, 6), 1))
    np.testing.assert_array_equal(masks[1], np.full((7, 3), 2))
    assert found["width"].tolist() == [6, 3]
    assert found["height"].tolist() == [4, 7]
    assert found["class_names"].tolist() == [[b"background", b"nucleus"]] * 2


@pytest.mark.parametrize("name", ["tensors", "probability"])
def test_pixels_give_a_stack_of_masks(name):
    pipeline = SegmentationPipeline(SEGMENTATION.signature(name), LABELS, TILING)
    graph = Recorder()
    (found,) = answer(pipeline, graph, {"image": np.stack([picture(4, 6, 2)] * 3)})
    assert set(found) == {spec.name for spec in pipeline.spec.outputs}
    assert found["mask"].shape == (3, 4, 6)
    assert ("probability" in found) == (name == "probability")


def test_no_images_have_no_masks():
    pipeline = SegmentationPipeline(SEGMENTATION.signature("serving_default"), LABELS, TILING)
    (found,) = answer(pipeline, Recorder(), files())
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 0)
    assert found["class_names"].shape == (0, 2)


def test_large_images_are_cut_into_tiles_and_put_together_again():
    pipeline = SegmentationPipeline(SEGMENTATION.signature("probability"), LABELS, TILING)
    graph = Recorder()
    image = np.random.default_rng(1).integers(0, 256, (1, 40, 21, 3), np.uint8)

    def halves(tensors, outputs):
        graph(tensors, outputs)
        share = tensors["image"][..., 0] / np.float32(255)
        return {"probability": np.stack([1 - share, share], axis=-1)}

    (found,) = answer(pipeline, halves, {"image": image})
    assert {call["image"].shape for call in graph.calls} == {(1, 16, 16, 3)}
    np.testing.assert_allclose(found["probability"][..., 1], image[..., 0] / 255, atol=1e-6)
    np.testing.assert_array_equal(found["mask"], image[..., 0] > 127)
