"""Export of the detector: SavedModel, ONNX, assets and warm-up requests.

TensorFlow's converter turns the network and its decoding into ONNX. What stands around them,
letterbox and suppression, is written here node by node, because it depends on sizes and
thresholds that are only known when a request comes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.onnx_fusions import fuse_first_convolution
from export.onnx_graph import Dimensions, Part, from_tensorflow, join, small_model
from export.parity import Parity, ParityError, check_parity
from export.samples import CALIBRATION_IMAGES, spread, write_samples
from export.saved_model import add_defaults, write_signatures
from models.common.backends import Backend
from models.common.images import encode_jpeg, read_image
from models.common.run_folder import RunFolder
from models.common.splits import ALL, TRAIN
from models.detection.config import TINY
from models.detection.data import load_source, read_served_bytes
from models.detection.evaluate import (
    load_images_to_evaluate,
    predict,
)
from models.detection.letterbox import GREY
from models.detection.metrics import SCORING_THRESHOLD, Truth, map50
from models.detection.network import Decoder
from models.detection.nms import Detections
from models.detection.signature import NO_DETECTION, DetectionModel, load_model, make_module
from models.detection.synthetic import LABELS as SHAPES
from models.detection.synthetic import draw_smear, make_sample, write_source
from models.detection.train import train
from protocol.contracts import DETECTION
from protocol.images import encode_png
from protocol.messages import ModelSpec, PredictRequest
from protocol.tensors import to_tensor_proto

BOX_TOLERANCE = 0.5
"""Pixels by which an engine's boxes may differ from Keras'."""
SCORE_TOLERANCE = 2e-3
METRIC_TOLERANCE = 0.002
# Detections that only one side has: two boxes overlap by the IoU threshold almost exactly, or a
# score lies on the score threshold.
UNPAIRED_TOLERANCE = 0.005

SAMPLE_SIDES = (64, 64, 64, 64, 97, 160)

Values = Mapping[str, tuple[int, Dimensions]]
FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


def model_to_export(run: Path | None, scratch: Path) -> DetectionModel:
    """Loads a run, else a TINY model trained here on drawn shapes.

    Args:
        run: run folder, or None.
        scratch: empty folder for the TINY run; must outlive the model.
    """
    if run is None:
        train(TINY, write_source(scratch / "shapes"), RunFolder(scratch / "run"))
    return load_model(run or scratch / "run")


@dataclass(frozen=True)
class Example:
    """An image file and what is in it."""

    file: bytes
    truth: Truth


def sample_examples() -> list[Example]:
    """Returns drawn images of several sizes, to compare engines on where no data is given."""
    random = np.random.default_rng(11)
    samples = [make_sample(random, side) for side in SAMPLE_SIDES]
    return [
        Example(
            encode_png(sample.image_u8),
            Truth(sample.boxes_xyxy, sample.class_ids, np.zeros(len(sample.class_ids), bool)),
        )
        for sample in samples
    ]


def load_examples(data: Path, model: DetectionModel) -> list[Example]:
    """Reads the test or dev images of a data folder."""
    fraction = model.config.training.dev_fraction
    _, images = load_images_to_evaluate(data, model.labels, None, fraction)
    return [Example(read_served_bytes(image.path), image.truth) for image in images]


def calibration_images(data: Path, model: DetectionModel) -> list[np.ndarray]:
    """Reads the training images of a data folder, uint8 [H, W, 3] each."""
    source = load_source(data, model.labels, model.config.training.dev_fraction)
    images = source.splits.get(TRAIN, source.splits[ALL])
    return [read_image(image.path) for image in spread(images, CALIBRATION_IMAGES)]


def sample_images(model: DetectionModel) -> list[np.ndarray]:
    """Draws what the model was made for, to calibrate on where no data is given."""
    random = np.random.default_rng(31)
    if tuple(model.labels) == SHAPES:
        return [make_sample(random, side).image_u8 for side in SAMPLE_SIDES * 4]
    return [draw_smear(random) for _ in range(16)]


def write_saved_model(model: DetectionModel, folder: Path) -> None:
    """Writes `saved_model.pb` and its variables to `folder`; the thresholds are optional."""
    write_signatures(make_module(model), DETECTION, folder)
    for spec in DETECTION.signatures:
        add_defaults(folder, spec.name, model.defaults)


def write_onnx(model: DetectionModel, path: Path) -> None:
    """Writes the signature `tensors` as one ONNX graph."""
    onnx.save(onnx_model(model), path)


def onnx_model(model: DetectionModel) -> onnx.ModelProto:
    """Builds the ONNX model: letterbox, network, suppression.

    The thresholds are inputs with initial values, which a caller may override or leave out.
    """
    between = {name: name for name in ("placed", "scales", "limits", "boxes", "class_scores")}
    outputs = _answer(model.config.max_detections)
    letterbox = Part(
        "letterbox",
        letterbox_model(model.config.height, model.config.width),
        {"image": "image"},
        between,
    )
    network = Part("network", network_model(model), between, between)
    suppress = Part(
        "suppress",
        suppression_model(model.labels, model.config.max_detections, model.defaults),
        between | {name: name for name in model.defaults},
        {name: name for name in outputs},
    )
    return join(
        [letterbox, network, suppress],
        {"image": (TensorProto.UINT8, ["N", "H", "W", 3]), **_thresholds(model.defaults)},
        outputs,
        name="detection",
    )


def _answer(rows: int) -> Values:
    return {
        "boxes_xyxy": (FLOAT, ["N", rows, 4]),
        "scores": (FLOAT, ["N", rows]),
        "class_ids": (INT32, ["N", rows]),
        "labels": (TensorProto.STRING, ["N", rows]),
        "num_detections": (INT32, ["N"]),
    }


def _thresholds(defaults: Mapping[str, Any]) -> Values:
    return {name: (FLOAT, []) for name in defaults}


def network_model(model: DetectionModel) -> onnx.ModelProto:
    """Converts network and decoding.

    Input `placed` float32 [N, height, width, 3]. Outputs: `boxes` float32 [N, P, 4], pixels of
    that image, and `class_scores` float32 [N, P, C].
    """
    import tensorflow as tf

    config, decoder = model.config, Decoder(model.config)

    def predict_boxes(placed: Any) -> tuple[Any, Any]:
        raw = model.network(placed, training=False)["predictions"]
        return decoder.boxes(raw), decoder.scores(raw)

    shape = [None, config.height, config.width, 3]
    inputs = {"placed": tf.TensorSpec(shape, tf.float32)}
    return fuse_first_convolution(from_tensorflow(predict_boxes, inputs, ["boxes", "class_scores"]))


def letterbox_model(height: int, width: int) -> onnx.ModelProto:
    """Scales images of one size into the network's, as `models.detection.letterbox` does.

    Input `image` uint8 [N, H, W, 3]. Outputs: `placed` float32 [N, height, width, 3], `scales`
    float32 [4] (factors from original to network pixels, x y x y), `limits` float32 [4] (W H W H).
    """
    node = helper.make_node
    constants: dict[str, np.ndarray] = {
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "third": np.array([2], np.int64),
        "fourth": np.array([3], np.int64),
        "frame": np.array([height, width], np.float32),
        "whole_frame": np.array([height, width], np.int64),
        "half": np.array(0.5, np.float32),
        "one_pixel": np.array(1, np.float32),
        "six_zeros": np.zeros(6, np.int64),
        "grey": np.array(GREY, np.float32),
        "x_y_x_y": np.array([1, 0, 1, 0], np.int64),
    }
    nodes = [
        node("Shape", ["image"], ["shape"]),
        node("Slice", ["shape", "second", "fourth"], ["whole_size"]),
        node("Cast", ["whole_size"], ["size"], to=FLOAT),  # H, W
        # inner = clip(floor(size * min(frame / size) + 0.5), 1, frame)
        node("Div", ["frame", "size"], ["ratios"]),
        node("ReduceMin", ["ratios"], ["ratio"]),
        node("Mul", ["size", "ratio"], ["exact"]),
        node("Add", ["exact", "half"], ["shifted"]),
        node("Floor", ["shifted"], ["rounded"]),
        node("Max", ["rounded", "one_pixel"], ["at_least_one"]),
        node("Min", ["at_least_one", "frame"], ["inner"]),
        node("Cast", ["inner"], ["whole_inner"], to=INT64),
        node("Cast", ["image"], ["pixels"], to=FLOAT),
        node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        node("Shape", ["planes"], ["planes_shape"]),
        node("Slice", ["planes_shape", "first", "third"], ["rows_and_channels"]),
        node("Concat", ["rows_and_channels", "whole_inner"], ["sizes"], axis=0),
        node(
            "Resize",
            ["planes", "", "", "sizes"],
            ["scaled"],
            mode="linear",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        ),
        node("Sub", ["whole_frame", "whole_inner"], ["margin"]),
        node("Concat", ["six_zeros", "margin"], ["pads"], axis=0),
        node("Pad", ["scaled", "pads", "grey"], ["framed"]),
        node("Transpose", ["framed"], ["placed"], perm=[0, 2, 3, 1]),
        node("Div", ["inner", "size"], ["scales_y_x"]),
        node("Gather", ["scales_y_x", "x_y_x_y"], ["scales"]),
        node("Gather", ["size", "x_y_x_y"], ["limits"]),
    ]
    inputs: Values = {"image": (TensorProto.UINT8, ["N", "H", "W", 3])}
    outputs: Values = {
        "placed": (FLOAT, ["N", height, width, 3]),
        "scales": (FLOAT, [4]),
        "limits": (FLOAT, [4]),
    }
    return small_model("letterbox", nodes, inputs, outputs, constants)


def suppression_model(
    labels: Sequence[str], rows: int, defaults: Mapping[str, np.float32]
) -> onnx.ModelProto:
    """Picks detections as `models.detection.nms` does, and names them.

    Inputs: `boxes` float32 [N, P, 4], `class_scores` float32 [N, P, C], `scales` and `limits`
    float32 [4], the thresholds float32 []. Outputs: those of the signature.
    """
    node = helper.make_node
    constants: dict[str, np.ndarray] = {
        **{name: np.asarray(value) for name, value in defaults.items()},
        "second": np.array([1], np.int64),
        "third": np.array([2], np.int64),
        "class_range": np.arange(len(labels), dtype=np.int64)[None, :, None],
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "rows": np.array([rows], np.int64),
        "row_and_place": np.array([0, 2], np.int64),
        "no_class": np.array(NO_DETECTION, np.int64),
        "last_label": np.array(len(labels), np.int64),
        "label_table": np.array([*labels, ""], dtype=object),
    }
    nodes = [
        # Each prediction has one class.
        node("ReduceMax", ["class_scores", "third"], ["best"], keepdims=0),  # (N, P)
        node("ArgMax", ["class_scores"], ["best_class"], axis=2, keepdims=0),
        node("Unsqueeze", ["best_class", "second"], ["best_class_row"]),
        node("Equal", ["best_class_row", "class_range"], ["is_best"]),  # (N, C, P)
        node("Transpose", ["class_scores"], ["by_class"], perm=[0, 2, 1]),
        node("Where", ["is_best", "by_class", "zero"], ["own_scores"]),
        # Suppression within each class and image: (S, 3) of image, class, prediction.
        node("Clip", ["iou_threshold", "zero", "one"], ["most_overlap"]),
        node("Clip", ["score_threshold", "zero", "one"], ["least_score"]),
        node(
            "NonMaxSuppression",
            ["boxes", "own_scores", "rows", "most_overlap", "least_score"],
            ["selected"],
        ),
        # A table of the kept scores, zero elsewhere, and the best rows of it.
        node("Gather", ["selected", "row_and_place"], ["places"], axis=1),
        node("GatherND", ["best", "places"], ["selected_scores"]),
        node("Sub", ["best", "best"], ["zeros"]),
        node("ScatterND", ["zeros", "places", "selected_scores"], ["kept"]),
        node("TopK", ["kept", "rows"], ["scores", "chosen"], axis=1),  # (N, K)
        node("Greater", ["scores", "zero"], ["present"]),
        node("Cast", ["present"], ["counted"], to=INT32),
        node("ReduceSum", ["counted", "second"], ["num_detections"], keepdims=0),
        # Boxes in the pixels of the original image, and classes by name.
        node("Unsqueeze", ["chosen", "third"], ["chosen_places"]),
        node("GatherND", ["boxes", "chosen_places"], ["chosen_boxes"], batch_dims=1),
        node("Div", ["chosen_boxes", "scales"], ["original_boxes"]),
        node("Max", ["original_boxes", "zero"], ["inside_low"]),
        node("Min", ["inside_low", "limits"], ["inside"]),
        node("Unsqueeze", ["present", "third"], ["present_column"]),
        node("Where", ["present_column", "inside", "zero"], ["boxes_xyxy"]),
        node("GatherND", ["best_class", "chosen_places"], ["chosen_class"], batch_dims=1),
        node("Where", ["present", "chosen_class", "no_class"], ["long_class_ids"]),
        node("Cast", ["long_class_ids"], ["class_ids"], to=INT32),
        node("Where", ["present", "chosen_class", "last_label"], ["label_places"]),
        node("Gather", ["label_table", "label_places"], ["labels"]),
    ]
    inputs: Values = {
        "boxes": (FLOAT, ["N", "P", 4]),
        "class_scores": (FLOAT, ["N", "P", len(labels)]),
        "scales": (FLOAT, [4]),
        "limits": (FLOAT, [4]),
        **_thresholds(defaults),
    }
    return small_model("suppress", nodes, inputs, _answer(rows), constants)


def write_assets(model: DetectionModel, folder: Path) -> None:
    """Writes `labels.json`, the names of the classes by id, and sample images."""
    write_samples(sample_files(model), folder)
    text = json.dumps(list(model.labels), indent=2)
    (folder / "labels.json").write_text(text + "\n", encoding="utf-8")


def sample_files(model: DetectionModel) -> dict[str, bytes]:
    """Draws what the model was made for: shapes for a model of shapes, else blood smears."""
    random = np.random.default_rng(21)
    if tuple(model.labels) == SHAPES:
        images = [make_sample(random, 160).image_u8 for _ in range(4)]
    else:
        images = [draw_smear(random) for _ in range(4)]
    return {f"{number}.jpg": encode_jpeg(image) for number, image in enumerate(images)}


def warmup_requests(model_name: str) -> list[PredictRequest]:
    """Returns requests of several sizes and batch sizes, so that no caller is the first."""
    files = [example.file for example in sample_examples()]
    requests = []
    for batch in (files[:1], files, files[:1] * 8):
        spec = ModelSpec(name=model_name, signature_name="serving_default")
        request = PredictRequest(model_spec=spec)
        values = np.array(batch, dtype=object)
        request.inputs["image_bytes"].CopyFrom(to_tensor_proto(values))
        requests.append(request)
    return requests


def compare(
    model: DetectionModel, backend: Backend, engine: str, examples: Sequence[Example]
) -> Parity:
    """Runs an engine and Keras on the same images, weak detections included.

    Raises:
        ParityError: if scores differ by more than `SCORE_TOLERANCE`, boxes by more than
            `BOX_TOLERANCE`, the metric by more than `METRIC_TOLERANCE`, or if more than
            `UNPAIRED_TOLERANCE` of the detections are found by one side only.
    """
    files, truths = [e.file for e in examples], [e.truth for e in examples]
    expected = predict(model, files, SCORING_THRESHOLD)
    found = predict(backend, files, SCORING_THRESHOLD)
    pairs = [pair_detections(a, b) for a, b in zip(expected, found, strict=True)]
    unpaired = sum(pair.unpaired for pair in pairs)
    total = sum(map(len, expected)) + sum(map(len, found))
    if unpaired > UNPAIRED_TOLERANCE * total:
        raise ParityError(
            f"{engine}: {unpaired} of {total} detections of Keras and the engine have no partner "
            f"within {BOX_TOLERANCE} pixels and {SCORE_TOLERANCE} of the score"
        )
    parity = Parity(
        engine=engine,
        examples=len(examples),
        max_difference=max((pair.score_difference for pair in pairs), default=0.0),
        metric="map50",
        metric_keras=mean_precision(truths, expected, model),
        metric_engine=mean_precision(truths, found, model),
    )
    check_parity(parity, SCORE_TOLERANCE, METRIC_TOLERANCE)
    return parity


def mean_precision(
    truths: Sequence[Truth], found: Sequence[Detections], model: DetectionModel
) -> float:
    """Returns mAP50, 0 where nothing is labelled."""
    return float(np.nan_to_num(map50(truths, found, len(model.labels))))


@dataclass(frozen=True)
class Pairing:
    """How two answers for one image agree.

    Attributes:
        unpaired: detections on either side without a partner on the other.
        score_difference: the largest between partners.
    """

    unpaired: int
    score_difference: float


def pair_detections(expected: Detections, found: Detections) -> Pairing:
    """Pairs detections of the same class whose boxes and scores agree within the tolerances."""
    free = np.ones(len(found), bool)
    worst, paired = 0.0, 0
    rows = zip(expected.boxes_xyxy, expected.scores, expected.class_ids, strict=True)
    for box, score, class_id in rows:
        off_box = np.abs(found.boxes_xyxy - box).max(axis=1)
        off_score = np.abs(found.scores - score)
        fits = free & (found.class_ids == class_id)
        fits &= (off_box <= BOX_TOLERANCE) & (off_score <= SCORE_TOLERANCE)
        if fits.any():
            partner = int(np.where(fits, off_box, np.inf).argmin())
            free[partner] = False
            worst, paired = max(worst, float(off_score[partner])), paired + 1
    return Pairing(len(expected) + len(found) - 2 * paired, worst)


def pipeline_parameters(model: DetectionModel) -> Mapping[str, Any]:
    """Returns the default thresholds, which are in the graph already, for the record."""
    return {name: float(value) for name, value in model.defaults.items()}
