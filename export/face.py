"""Export of the face recogniser: SavedModel, ONNX and warm-up requests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.onnx_graph import Part, count_operators, from_tensorflow, join, small_model
from export.parity import Parity, check_parity, largest_difference
from export.samples import CALIBRATION_IMAGES, spread, write_samples
from export.saved_model import write_signatures
from models.common.backends import Backend
from models.common.run_folder import RunFolder
from models.common.splits import ALL, TRAIN
from models.face.augmentation import thousandths
from models.face.config import EMBEDDING_UNITS, TINY
from models.face.data import Face, FaceSet, load_source
from models.face.evaluate import embed
from models.face.metrics import BEST_ACCURACY, accuracy_at, squared_distances
from models.face.network import EMBEDDING
from models.face.pairs import as_arrays, balanced_pairs
from models.face.signature import THRESHOLD, FaceModel, load_model, make_module
from models.face.synthetic import draw_face, make_faces, make_person, make_source
from models.face.train import train
from protocol.contracts import FACE, SERVING_DEFAULT, TENSORS
from protocol.images import encode_png
from protocol.messages import ModelSpec, PredictRequest
from protocol.tensors import to_tensor_proto

# Largest difference of any of the 128 numbers, all of them between -1 and 1.
TOLERANCE = 1e-3
METRIC_TOLERANCE = 0.002
# Sizes, height by width, of the pictures made up to compare on.
SAMPLE_SIZES = ((96, 96), (112, 92), (64, 200), (31, 17), (1, 1), (500, 400))
DRAWN_PEOPLE = ("anna", "boris", "chloe", "dmitri")
WARM_SIZES = ((96, 96), (112, 92), (250, 250))
IMAGES, SQUARES = "image", "squares"
OUTPUTS = (EMBEDDING, THRESHOLD)


def model_to_export(run: Path | None, scratch: Path) -> FaceModel:
    """Loads a run, else a TINY model trained here on drawn faces.

    Args:
        run: run folder, or None.
        scratch: empty folder for the TINY run; must outlive the model.
    """
    if run is None:
        train(TINY, make_source(TINY.training), RunFolder(scratch))
    return load_model(run or scratch)


def sample_examples() -> list[Face]:
    """Returns drawn faces of many sizes, to compare engines on where no data is given."""
    random = np.random.default_rng(11)
    faces = list(make_faces(identities=8, images=4, seed=12, side=96))
    for height, width in SAMPLE_SIZES:
        picture = draw_face(make_person(random), random, max(height, width))[:height, :width]
        faces.append(Face(f"size_{height}x{width}", picture, f"size_{height}x{width}"))
    return faces


def load_examples(data: Path, model: FaceModel) -> list[Face]:
    """Reads the test or dev part of a data folder, or all of it where it has no lists."""
    return list(load_source(data, model.config.training).choose(None)[1].faces)


def calibration_images(data: Path, model: FaceModel) -> list[np.ndarray]:
    """Reads the training pictures of a data folder, uint8 [H, W, 3] each."""
    splits = load_source(data, model.config.training).splits
    faces = splits.get(TRAIN, splits[ALL]).faces
    return [face.pixels() for face in spread(faces, CALIBRATION_IMAGES)]


def sample_images(model: FaceModel) -> list[np.ndarray]:
    """Draws faces to calibrate on where no data is given."""
    return [face.pixels() for face in make_faces(16, images=4, seed=13, side=96)]


def write_saved_model(model: FaceModel, folder: Path) -> None:
    """Writes `saved_model.pb` and variables to `folder`."""
    write_signatures(make_module(model), FACE, folder)


def write_onnx(model: FaceModel, path: Path) -> None:
    """Writes the graph of the signature `tensors`; see `onnx_model`.

    Raises:
        ValueError: if conversion left a loop in the graph.
    """
    graph = onnx_model(model)
    if count_operators(graph, "Loop"):
        raise ValueError("expected no Loop in the ONNX graph")
    onnx.save(graph, path)


def onnx_model(model: FaceModel) -> onnx.ModelProto:
    """Builds the ONNX model: crop, resizing, network, mirror image.

    Returns:
        `image` uint8 [N, H, W, 3] -> `embedding` float32 [N, 128], `threshold` float32 [N, 2].
    """
    import tensorflow as tf

    module, size = make_module(model), model.config.network.image_size
    squares = {SQUARES: tf.TensorSpec([None, size, size, 3], tf.float32)}
    embed_squares = from_tensorflow(
        lambda images: tuple(module.embed(images)[name] for name in OUTPUTS), squares, OUTPUTS
    )
    return join(
        [
            Part(
                "crop",
                crop_graph(model.config.network.central, size),
                {IMAGES: IMAGES},
                {SQUARES: SQUARES},
            ),
            Part("embed", embed_squares, {SQUARES: SQUARES}, {name: name for name in OUTPUTS}),
        ],
        {IMAGES: (TensorProto.UINT8, ["N", "H", "W", 3])},
        {
            EMBEDDING: (TensorProto.FLOAT, ["N", EMBEDDING_UNITS]),
            THRESHOLD: (TensorProto.FLOAT, ["N", 2]),
        },
        name="face",
    )


def crop_graph(central: float, size: int) -> onnx.ModelProto:
    """Cuts out the central square and resizes it.

    tf2onnx does not convert a resize that widens its filter when shrinking; ONNX has one since
    opset 18.

    Args:
        central: share of the shorter side to keep.
        size: side of the result, pixels.

    Returns:
        `image` uint8 [N, H, W, 3] -> `squares` float32 [N, size, size, 3].
    """
    node = helper.make_node
    constants: dict[str, np.ndarray] = {
        "share": np.array(thousandths(central), np.int64),
        "half": np.array(500, np.int64),
        "thousand": np.array(1000, np.int64),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
        "rows_and_columns": np.array([1, 2], np.int64),
        "size": np.array([size, size], np.int64),
    }
    nodes = [
        node("Shape", [IMAGES], ["sides"], start=1, end=3),
        node("ReduceMin", ["sides"], ["shorter"], keepdims=0),
        node("Mul", ["shorter", "share"], ["scaled"]),
        node("Add", ["scaled", "half"], ["rounded"]),
        node("Div", ["rounded", "thousand"], ["whole"]),
        node("Max", ["whole", "one"], ["side"]),
        node("Sub", ["sides", "side"], ["margin"]),
        node("Div", ["margin", "two"], ["start"]),
        node("Add", ["start", "side"], ["end"]),
        node("Slice", [IMAGES, "start", "end", "rows_and_columns"], ["square"]),
        node("Cast", ["square"], ["values"], to=TensorProto.FLOAT),
        node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
        node("Shape", ["planes"], ["rows_and_channels"], start=0, end=2),
        node("Concat", ["rows_and_channels", "size"], ["sizes"], axis=0),
        node(
            "Resize",
            ["planes", "", "", "sizes"],
            ["resized"],
            mode="linear",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        ),
        node("Transpose", ["resized"], [SQUARES], perm=[0, 2, 3, 1]),
    ]
    return small_model(
        "crop",
        nodes,
        {IMAGES: (TensorProto.UINT8, ["N", "H", "W", 3])},
        {SQUARES: (TensorProto.FLOAT, ["N", size, size, 3])},
        constants,
    )


def write_assets(model: FaceModel, folder: Path) -> None:
    """Writes sample images; the graph and the manifest are enough otherwise."""
    write_samples(sample_files(model), folder)


def sample_files(model: FaceModel) -> dict[str, bytes]:
    """Draws three pictures of each of four people, as `<person>_<number>.png`."""
    random = np.random.default_rng(22)
    files: dict[str, bytes] = {}
    for name in DRAWN_PEOPLE:
        person = make_person(random)
        for number in range(3):
            files[f"{name}_{number}.png"] = encode_png(draw_face(person, random, 112))
    return files


def warmup_requests(model_name: str) -> list[PredictRequest]:
    """Returns requests of several sizes, as files and as pixels, so that no caller is the first."""
    random = np.random.default_rng(3)
    pictures = [draw_face(make_person(random), random, max(size)) for size in WARM_SIZES]
    pictures = [p[:height, :width] for p, (height, width) in zip(pictures, WARM_SIZES, strict=True)]
    files = np.array([encode_png(picture) for picture in pictures], dtype=object)
    inputs = [
        *((SERVING_DEFAULT, "image_bytes", files[i : i + 1]) for i in range(len(files))),
        (SERVING_DEFAULT, "image_bytes", files),
        (SERVING_DEFAULT, "image_bytes", np.repeat(files[:1], 8)),
        (TENSORS, "image", pictures[0][None]),
    ]
    requests = []
    for signature, name, values in inputs:
        request = PredictRequest(model_spec=ModelSpec(name=model_name, signature_name=signature))
        request.inputs[name].CopyFrom(to_tensor_proto(values))
        requests.append(request)
    return requests


def compare(model: FaceModel, backend: Backend, engine: str, examples: Sequence[Face]) -> Parity:
    """Runs an engine and Keras on the same pictures.

    Raises:
        ParityError: if an embedding differs by more than `TOLERANCE`, or the verification
            accuracy by more than `METRIC_TOLERANCE`.
    """
    faces = FaceSet(tuple(examples))
    of_keras, of_engine = embed(model, faces), embed(backend, faces)
    worst = largest_difference({"embedding": of_keras}, {"embedding": of_engine}, engine)
    parity = Parity(
        engine=engine,
        examples=len(examples),
        max_difference=worst,
        metric="accuracy",
        metric_keras=verification_accuracy(model, faces, of_keras),
        metric_engine=verification_accuracy(model, faces, of_engine),
    )
    check_parity(parity, TOLERANCE, METRIC_TOLERANCE)
    return parity


def verification_accuracy(model: FaceModel, faces: FaceSet, embeddings: np.ndarray) -> float:
    """Returns the share of pairs that the model's own threshold judges rightly."""
    rows, same = as_arrays(balanced_pairs(faces))
    distances = squared_distances(embeddings, rows)
    return accuracy_at(distances, same, model.thresholds[BEST_ACCURACY])


def pipeline_parameters(model: FaceModel) -> Mapping[str, Any]:
    """Returns the thresholds, squared distances, by which callers compare two embeddings."""
    return {"thresholds": model.thresholds}
