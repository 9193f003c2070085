"""Published vision models that cost next to nothing to run; they only know how red a pixel is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from protocol.contracts import CONTRACTS, DETECTION, FACE, SEGMENTATION
from protocol.version_folder import ASSETS_FOLDER, ONNX_FILE, Manifest
from tests.clients.fake_models import SCORE, THRESHOLDS, plain, png, red_box

LABELS = {"detection": ("image",), "segmentation": ("background", "nucleus"), "face": ()}


def publish_tiny_vision(repository: Path) -> None:
    """Writes version 1 of the models detection, segmentation and face, with samples."""
    graphs = {"detection": detection_graph(), "segmentation": mask_graph(), "face": colour_graph()}
    for task, graph in graphs.items():
        folder = repository / task / "1"
        samples = folder / ASSETS_FOLDER / "samples"
        samples.mkdir(parents=True)
        for name, pixels in _samples(task).items():
            (samples / f"{name}.png").write_bytes(png(pixels))
        (folder / ONNX_FILE).write_bytes(graph)
        Manifest(
            task=task,
            model_name=task,
            created="2025-01-01T00:00:00+00:00",
            labels=LABELS[task],
            signatures=CONTRACTS[task].signatures,
        ).write(folder)


def _samples(task: str) -> dict[str, Any]:
    if task != FACE.task:
        return {"box": red_box(60, 80, (10, 10, 30, 40)), "other": red_box(40, 40)}
    people = {"ruby": (200, 20, 20), "olive": (20, 200, 20)}
    return {
        f"{name}_{number}": plain(red + number, green, blue)
        for name, (red, green, blue) in people.items()
        for number in range(3)
    }


def colour_graph() -> bytes:
    """Builds image -> embedding (the mean colour, of length 1) and threshold."""
    projection = np.eye(3, 128, dtype=np.float32)
    return _graph(
        [
            helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["values", "pixels"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "projection"], ["wide"]),
            helper.make_node("ReduceL2", ["wide", "last"], ["length"], keepdims=1),
            helper.make_node("Div", ["wide", "length"], ["embedding"]),
            helper.make_node("Mul", ["length", "nothing"], ["zeros"]),
            helper.make_node("Add", ["zeros", "thresholds"], ["threshold"]),
        ],
        {
            "pixels": np.array([1, 2]),
            "last": np.array([1]),
            "projection": projection,
            "nothing": np.zeros((1, 1), np.float32),
            "thresholds": np.array([THRESHOLDS], np.float32),
        },
        FACE,
    )


def mask_graph() -> bytes:
    """Builds image -> mask (1 where red is above 128) and probability (red / 255)."""
    return _graph(
        [
            helper.make_node("Gather", ["image", "red"], ["channel"], axis=3),
            helper.make_node("Cast", ["channel"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Greater", ["values", "half"], ["above"]),
            helper.make_node("Cast", ["above"], ["mask"], to=TensorProto.UINT8),
            helper.make_node("Div", ["values", "full"], ["flat"]),
            helper.make_node("Unsqueeze", ["flat", "last"], ["nucleus"]),
            helper.make_node("Sub", ["one", "nucleus"], ["background"]),
            helper.make_node("Concat", ["background", "nucleus"], ["probability"], axis=3),
        ],
        {
            "red": np.array(0),
            "half": np.array(128, np.float32),
            "full": np.array(255, np.float32),
            "last": np.array([3]),
            "one": np.array(1, np.float32),
        },
        SEGMENTATION,
    )


def detection_graph() -> bytes:
    """Builds image -> one box around the whole image, if its score is above the threshold."""
    return _graph(
        [
            helper.make_node("Shape", ["image"], ["shape"]),
            helper.make_node("Gather", ["shape", "height_width"], ["corner"]),
            helper.make_node("Concat", ["origin", "corner"], ["box"], axis=0),
            helper.make_node("Gather", ["shape", "first"], ["rows"]),
            helper.make_node("Concat", ["rows", "ones"], ["rows_1_1"], axis=0),
            helper.make_node("Reshape", ["box", "box_shape"], ["box_of_one"]),
            helper.make_node("Cast", ["box_of_one"], ["box_values"], to=TensorProto.FLOAT),
            helper.make_node("Expand", ["box_values", "rows_1_1"], ["boxes_xyxy"]),
            helper.make_node("Concat", ["rows", "one"], ["rows_1"], axis=0),
            helper.make_node("Expand", ["score", "rows_1"], ["scores"]),
            helper.make_node("Mul", ["iou_threshold", "zero"], ["unused"]),
            helper.make_node("Sub", ["score_threshold", "unused"], ["limit"]),
            helper.make_node("GreaterOrEqual", ["score", "limit"], ["found"]),
            helper.make_node("Cast", ["found"], ["found_number"], to=TensorProto.INT32),
            helper.make_node("Reshape", ["found_number", "one"], ["found_row"]),
            helper.make_node("Expand", ["found_row", "rows"], ["num_detections"]),
            helper.make_node("Expand", ["class", "rows_1"], ["class_ids"]),
            helper.make_node("Gather", ["names", "class_ids"], ["labels"]),
        ],
        {
            "height_width": np.array([2, 1]),
            "first": np.array([0]),
            "one": np.array([1]),
            "ones": np.array([1, 1]),
            "origin": np.array([0, 0]),
            "box_shape": np.array([1, 1, 4]),
            "score": np.array([[SCORE]], np.float32),
            "zero": np.array(0, np.float32),
            "class": np.array([[0]], np.int32),
            "names": np.array(["image"], object),
            "score_threshold": np.array(0.25, np.float32),
            "iou_threshold": np.array(0.5, np.float32),
        },
        DETECTION,
    )


def _graph(
    nodes: Sequence[NodeProto], constants: dict[str, np.ndarray[Any, Any]], task: Any
) -> bytes:
    """Builds a graph with the inputs of `tensors` and all outputs that the nodes compute."""
    types = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
    types |= {"int32": TensorProto.INT32, "string": TensorProto.STRING}
    computed = {name for node in nodes for name in node.output}
    specs = {spec.name: spec for signature in task.signatures for spec in signature.outputs}
    inputs, outputs = (
        [
            helper.make_tensor_value_info(
                spec.name,
                types[spec.dtype],
                [size or f"{spec.name}_{axis}" for axis, size in enumerate(spec.shape)],
            )
            for spec in chosen
        ]
        for chosen in (
            task.signature("tensors").inputs,
            [spec for spec in specs.values() if spec.name in computed],
        )
    )
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, task.task, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized
