"""Export of the segmentation model: SavedModel, ONNX and warm-up requests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.onnx_graph import count_operators, from_tensorflow
from export.parity import Parity, ParityError, check_parity
from export.samples import CALIBRATION_IMAGES, spread, write_samples
from export.saved_model import write_signatures
from models.common.backends import Backend
from models.common.run_folder import RunFolder
from models.common.splits import DEV, TEST, TRAIN
from models.segmentation.config import TINY
from models.segmentation.data import Example, load_source
from models.segmentation.evaluate import image_bytes, predict
from models.segmentation.metrics import Scores
from models.segmentation.signature import (
    SegmentationModel,
    load_model,
    make_module,
    most_probable,
)
from models.segmentation.synthetic import make_example, make_examples, make_source
from models.segmentation.train import train
from protocol.contracts import SEGMENTATION
from protocol.messages import ModelSpec, PredictRequest
from protocol.tensors import to_tensor_proto

# Share of pixels whose class may differ from Keras' answer.
TOLERANCE = 1e-3
METRIC_TOLERANCE = 0.002
# Sizes of the images made up to compare on: odd, smaller than any padding, larger than a tile.
SAMPLE_SIZES = ((64, 64), (37, 51), (1, 1), (3, 90), (130, 75))
DRAWN_SIZES = ((192, 192), (192, 256), (256, 192), (160, 160), (192, 192), (128, 256))
WARM_SIZES = ((256, 256), (240, 320), (101, 67))


def model_to_export(run: Path | None, scratch: Path) -> SegmentationModel:
    """Loads a run, else a TINY model trained here on made-up images.

    Args:
        run: run folder, or None.
        scratch: empty folder for the TINY run; must outlive the model.
    """
    if run is None:
        train(TINY, [make_source()], RunFolder(scratch))
    return load_model(run or scratch)


def sample_examples() -> list[Example]:
    """Returns made-up images of many sizes, to compare engines on where no data is given."""
    random = np.random.default_rng(11)
    odd = [make_example(random, f"{h}x{w}", h, w) for h, w in SAMPLE_SIZES]
    return [*odd, *make_examples(16, seed=12, size=96)]


def load_examples(data: Path, model: SegmentationModel) -> list[Example]:
    """Reads the test part of a data folder, else the dev part that training does not learn."""
    config = model.config
    fraction = config.training.dev_fraction
    splits = load_source(data, config.labels, config.void_value, fraction).splits
    return splits.get(TEST) or splits[DEV]


def calibration_images(data: Path, model: SegmentationModel) -> list[np.ndarray]:
    """Reads the training images of a data folder, uint8 [H, W, 3] each."""
    config = model.config
    fraction = config.training.dev_fraction
    examples = load_source(data, config.labels, config.void_value, fraction).splits[TRAIN]
    return [example.image for example in spread(examples, CALIBRATION_IMAGES)]


def sample_images(model: SegmentationModel) -> list[np.ndarray]:
    """Draws nuclei to calibrate on where no data is given."""
    return [example.image for example in make_examples(32, seed=14, size=96)]


def write_saved_model(model: SegmentationModel, folder: Path) -> None:
    """Writes `saved_model.pb` and variables to `folder`."""
    write_signatures(make_module(model), SEGMENTATION, folder)


def write_onnx(model: SegmentationModel, path: Path) -> None:
    """Writes the network as ONNX; see `onnx_model`.

    Raises:
        ValueError: if conversion left a loop in the graph.
    """
    graph = onnx_model(model)
    if count_operators(graph, "Loop"):
        raise ValueError("expected no Loop in the ONNX graph")
    onnx.save(graph, path)


def onnx_model(model: SegmentationModel) -> onnx.ModelProto:
    """Converts padding, network, softmax and argmax.

    Returns:
        `image` uint8 [N, H, W, 3] -> `mask` uint8 [N, H, W], `probability` float32 [N, H, W, C].
        Tiles, names of classes and files are the host's work.
    """
    import tensorflow as tf

    def classify(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probability = tf.nn.softmax(model.network(image, training=False)["logits"])
        return most_probable(probability), probability

    image = {"image": tf.TensorSpec([None, None, None, 3], tf.uint8)}
    return from_tensorflow(classify, image, ["mask", "probability"])


def write_assets(model: SegmentationModel, folder: Path) -> None:
    """Writes sample images; the graph and the manifest are enough otherwise."""
    write_samples(sample_files(model), folder)


def sample_files(model: SegmentationModel) -> dict[str, bytes]:
    """Draws nuclei, glowing and stained, of several sizes."""
    random = np.random.default_rng(5)
    examples = [make_example(random, str(n), *size) for n, size in enumerate(DRAWN_SIZES)]
    return {f"{example.name}.png": image_bytes(example) for example in examples}


def warmup_requests(model_name: str) -> list[PredictRequest]:
    """Returns requests of several sizes, as files and as pixels, so that no caller is the first."""
    random = np.random.default_rng(3)
    examples = [make_example(random, "warm-up", height, width) for height, width in WARM_SIZES]
    files = np.array([image_bytes(example) for example in examples], dtype=object)
    inputs = [("serving_default", "image_bytes", files[i : i + 1]) for i in range(len(files))]
    inputs.append(("serving_default", "image_bytes", files))
    inputs += [
        (signature, "image", examples[0].image[None]) for signature in ("tensors", "probability")
    ]
    requests = []
    for signature, name, values in inputs:
        spec = ModelSpec(name=model_name, signature_name=signature)
        request = PredictRequest(model_spec=spec)
        request.inputs[name].CopyFrom(to_tensor_proto(values))
        requests.append(request)
    return requests


def compare(
    model: SegmentationModel, backend: Backend, engine: str, examples: Sequence[Example]
) -> Parity:
    """Runs an engine and Keras on the same images.

    Raises:
        ParityError: if more than `TOLERANCE` of the pixels differ, or the mean IoU differs by
            more than `METRIC_TOLERANCE`.
    """
    of_keras, of_engine = predict(model, examples), predict(backend, examples)
    pixels = sum(mask.size for mask in of_keras)
    pairs = zip(of_keras, of_engine, strict=True)
    differing = sum(int(np.count_nonzero(a != b)) for a, b in pairs)
    parity = Parity(
        engine=engine,
        examples=len(examples),
        max_difference=differing / max(1, pixels),
        metric="mean_iou",
        metric_keras=mean_iou(model, examples, of_keras),
        metric_engine=mean_iou(model, examples, of_engine),
    )
    if not np.isfinite(parity.metric_engine):
        raise ParityError(f"{engine}: no mean IoU on {len(examples)} images")
    check_parity(parity, TOLERANCE, METRIC_TOLERANCE)
    return parity


def mean_iou(
    model: SegmentationModel, examples: Sequence[Example], masks: Sequence[np.ndarray]
) -> float:
    """Returns the mean IoU of masks, uint8 [H, W] each."""
    scores = Scores(model.labels)
    for example, mask in zip(examples, masks, strict=True):
        scores.add(example.mask, mask)
    return scores.metrics().mean_iou


def pipeline_parameters(model: SegmentationModel) -> Mapping[str, Any]:
    """Returns how the host cuts large images."""
    return {"tile": model.tiling.tile, "overlap": model.tiling.overlap}
